/** A model's weights as its passes take them, from the places of its tensors. */
import type { GpuMemory } from '../gpu/arena';
import type { MatrixDtype } from '../kernels/dense-layout';
import { packGather } from '../kernels/packing';
import type { LayerTensors } from './layer-tensors';
import type { WeightBuffers } from './weight-buffers';
import {
  type DenseMatrix,
  type GridMatrix,
  type LayerWeights,
  type Matrix,
  type ModelWeights,
  type NormWeights,
  WeightsError,
} from './weights';

/** Bytes of gather indices and of their offsets, by tensor. */
export type Gathers = ReadonlyMap<string, Uint8Array<ArrayBuffer>>;

/** Uploads the gathers, too. @throws WeightsError when one is missing, or a grid is more than a binding */
export function assembleWeights(
  buffers: WeightBuffers,
  gathers: Gathers,
  checked: LayerTensors | null,
): ModelWeights {
  const { layout, arena } = buffers;
  const { numLayers, tieWordEmbeddings } = layout.config;
  const embed = dense(buffers, 'embed');
  return {
    layout,
    arena,
    checked,
    embed,
    layers: Array.from({ length: numLayers }, (_, layer) => layerWeights(buffers, gathers, layer)),
    finalNorm: vector(buffers, 'final_norm.weight'),
    head: tieWordEmbeddings ? embed : dense(buffers, 'head'),
  };
}

function layerWeights(buffers: WeightBuffers, gathers: Gathers, layer: number): LayerWeights {
  const prefix = `layers.${layer}.`;
  return {
    attnNorm: norm(buffers, gathers, `${prefix}attn_norm`),
    qkv: matrix(buffers, `${prefix}qkv`),
    o: matrix(buffers, `${prefix}o`),
    mlpNorm: norm(buffers, gathers, `${prefix}mlp_norm`),
    gateUp: matrix(buffers, `${prefix}gate_up`),
    down: matrix(buffers, `${prefix}down`),
    prefix: optionalVector(buffers, `${prefix}prefix`),
  };
}

function norm(buffers: WeightBuffers, gathers: Gathers, name: string): NormWeights {
  const { places, layout } = buffers;
  if (places.has(`${name}.weight`)) return { kind: 'plain', weight: vector(buffers, `${name}.weight`) };
  const mult = places.get(`${name}.mult`)!;
  const gather = gathers.get(`${name}.gather`);
  if (!gather) throw new WeightsError(`${name}.gather: missing`);
  const offset = gathers.get(`${name}.offset`);
  const indices = new Uint32Array(gather.buffer);
  const offsets = offset ? new Int32Array(offset.buffer) : null;
  const packed = packGather(indices, offsets, layout.config.hiddenSize);
  return {
    kind: 'merged',
    inputs: mult.spec.shape[0]!,
    gather: buffers.uploadGather(`${name}.gather`, packed),
    mult: vector(buffers, `${name}.mult`),
  };
}

function matrix(buffers: WeightBuffers, name: string): Matrix {
  const { spec, blocks } = buffers.places.get(`${name}.weight`)!;
  if (spec.dtype !== 'U32') return dense(buffers, name);
  const [outputs, words] = spec.shape as [number, number];
  const { weightBits: bits, weightGrid: groups } = buffers.layout.quant!;
  const inputs = (words * 32) / bits;
  const bias = optionalVector(buffers, `${name}.bias`);
  if (!groups)
    return { kind: 'int4', inputs, outputs, blocks, scale: vector(buffers, `${name}.scale`), bias };
  return { kind: 'grid', bits, groups, inputs, outputs, blocks, grid: grid(buffers, name), bias };
}

/** Steps and zero points of all rows. */
function grid({ places }: WeightBuffers, name: string): GridMatrix['grid'] {
  const { blocks } = places.get(`${name}.grid`)!;
  if (blocks.length === 1) return blocks[0]!.weight;
  throw new WeightsError(`${name}.grid: expected one buffer, found ${blocks.length}`);
}

function dense(buffers: WeightBuffers, name: string): DenseMatrix {
  const { spec, blocks } = buffers.places.get(`${name}.weight`)!;
  const [outputs, inputs] = spec.shape as [number, number];
  const scale = spec.dtype === 'I8' ? vector(buffers, `${name}.scale`) : null;
  const bias = optionalVector(buffers, `${name}.bias`);
  return { kind: 'dense', dtype: spec.dtype as MatrixDtype, inputs, outputs, blocks, scale, bias };
}

/** A vector's only memory. */
function vector({ places }: WeightBuffers, name: string): GpuMemory {
  return places.get(name)!.blocks[0]!.weight;
}

function optionalVector(buffers: WeightBuffers, name: string): GpuMemory | null {
  return buffers.places.has(name) ? vector(buffers, name) : null;
}

/** One decoded token in two dispatches, embedding and all layers: the pass of `forward-decode.ts`, bit for bit. */
import { schemeModes } from '../format/scheme';
import { type BufferSlice, type GpuMemory, placeOf } from '../gpu/arena';
import { fitsAttentionDecode } from '../kernels/attention-decode';
import { embed } from '../kernels/embed';
import type { KernelContext, Op } from '../kernels/op';
import {
  type CrossingShape,
  fitsPersistentToken,
  freshCrossing,
  type PersistentSite,
  type PersistentTuning,
  persistentToken,
} from '../kernels/persistent-token';
import type { Scratch } from './scratch';
import type { Matrix, ModelWeights, NormWeights } from './weights';

/** A model or a device that {@link buildPersistentLayers} cannot take; the message says why. */
export class PersistentUnfitError extends Error {
  override readonly name = 'PersistentUnfitError';
}

/** The operations of a token's layers. */
export interface PersistentLayers {
  readonly ops: readonly Op[];
  /** What the kernel's workgroups share; tells whether they have given up. See `freshCrossing`. */
  readonly crossing: GPUBuffer;
  /** The same on another number of workgroups. Nothing is compiled or allocated. */
  withGroups(groups: number): PersistentLayers;
  /** Lets the kernel run again after it has given up. */
  restart(): void;
}

/** The buffers that the layers' slices lie in, in order of first use. */
interface Places {
  readonly weights: GPUBuffer[];
  readonly tables: GPUBuffer[];
}

/**
 * All operations of the layers for one token: `scratch.ids` → `scratch.x`, keys and values appended.
 * @param context.arena gets the kernel's own buffers
 * @throws PersistentUnfitError where weights or cache are not packed or the kernel has no such model
 */
export async function buildPersistentLayers(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  tuning: PersistentTuning = {},
): Promise<PersistentLayers> {
  const { config, quant, scheme } = weights.layout;
  const { step, ids, x, rope, contextLength } = scratch;
  const projection = schemeModes[scheme].projection;
  if (!quant || schemeModes[scheme].norm !== 'static' || projection === 'float') {
    throw new PersistentUnfitError(`scheme ${scheme}: the whole-token kernel wants static norms`);
  }
  if (quant.zeroPoints) throw new PersistentUnfitError('zero points: biases on two of four products');
  if (!fitsAttentionDecode(config)) throw new PersistentUnfitError(`head size ${config.headDim}`);
  const places: Places = { weights: [], tables: [] };
  const sites = layerSites(weights, places);
  const inputs = Math.max(...sites.map((site) => site.inputs));
  const downBlock = quant.hadamard?.downBlock ?? null;
  const shape = { config, contextLength, downBlock };
  if (!fitsPersistentToken(context.gpu, shape, inputs, tuning)) {
    throw new PersistentUnfitError('a token does not fit the workgroup memory of this GPU');
  }
  const cache = packedCache(scratch);
  const crossing = context.arena.upload('crossing', freshCrossing(shape), { category: 'scratch' });
  const token = persistentToken(context, {
    ...{ ...shape, ...cache, actBits: quant.actBits, projection, sites, tuning },
    ...{ weights: places.weights, tables: places.tables[0]!, step, angles: rope, x, crossing },
  });
  const { dtype, blocks, scale } = weights.embed;
  const { hiddenSize } = config;
  const embeds = blocks.map(({ rowStart, rows, weight: table }) =>
    embed(context, { hiddenSize, rowStart, rows, dtype, step, ids, table, scale, x }),
  );
  return persistentLayers(context, await Promise.all(embeds), await token, shape, crossing);
}

function persistentLayers(
  context: KernelContext,
  embeds: readonly Op[],
  token: Op,
  shape: CrossingShape,
  crossing: GPUBuffer,
): PersistentLayers {
  const withGroups = (groups: number) => {
    const count = Math.min(groups, shape.config.hiddenSize / 2);
    return persistentLayers(context, embeds, { ...token, grid: () => [count, 1, 1] }, shape, crossing);
  };
  const restart = () => context.gpu.device.queue.writeBuffer(crossing, 0, freshCrossing(shape));
  return { ops: [...embeds, token], crossing, withGroups, restart };
}

/** qkv, o, gate and up, down of each layer. */
function layerSites({ layers, layout }: ModelWeights, places: Places): PersistentSite[] {
  const sites = layers.flatMap((layer, i) => {
    const spec = layout.quant!.layers[i]!;
    return [
      site(layer.qkv, normInput(layer.attnNorm, places), places),
      site(layer.o, { act: spec.oAct }, places),
      site(layer.gateUp, normInput(layer.mlpNorm, places), places),
      site(layer.down, { act: spec.downAct }, places),
    ];
  });
  if (places.weights.length > 2 || places.tables.length > 1) {
    const found = `${places.weights.length} buffers of weights, ${places.tables.length} of vectors`;
    throw new PersistentUnfitError(`the model takes more than the kernel's bindings: ${found}`);
  }
  return sites;
}

function site(matrix: Matrix, input: PersistentSite['input'], places: Places): PersistentSite {
  if (matrix.kind !== 'int4') throw new PersistentUnfitError(`weights of kind ${matrix.kind}`);
  const { inputs, outputs: rows, blocks, scale, bias } = matrix;
  if (blocks.length !== 1) throw new PersistentUnfitError(`a matrix in ${blocks.length} row blocks`);
  const weight = sliceIn(places.weights, blocks[0]!.weight);
  return {
    ...{ arena: weight.index, weightBytes: weight.offset, inputs, rows, input },
    scaleBytes: sliceIn(places.tables, scale).offset,
    biasBytes: bias ? sliceIn(places.tables, bias).offset : 0,
  };
}

function normInput(norm: NormWeights, { tables }: Places): PersistentSite['input'] {
  if (norm.kind !== 'merged') throw new PersistentUnfitError('a norm without merged scales');
  return { gatherBytes: sliceIn(tables, norm.gather).offset, multBytes: sliceIn(tables, norm.mult).offset };
}

/** Which of the buffers memory lies in, and where. A buffer that is new is added. */
function sliceIn(
  buffers: GPUBuffer[],
  memory: GpuMemory,
): { readonly index: number; readonly offset: number } {
  const { buffer, offset } = placeOf(memory);
  if (!buffers.includes(buffer)) buffers.push(buffer);
  return { index: buffers.indexOf(buffer), offset };
}

interface PackedCache {
  readonly keys: GPUBuffer;
  readonly values: GPUBuffer;
  readonly layerBytes: number;
}

function packedCache({ kvCache, kvCacheKind }: Scratch): PackedCache {
  if (kvCacheKind !== 'f16') throw new PersistentUnfitError(`a KV cache of kind ${kvCacheKind}`);
  const keys = kvCache.map((layer) => placeOf(layer.keys));
  const values = kvCache.map((layer) => placeOf(layer.values));
  const isWhole = (slices: readonly BufferSlice[]) =>
    slices.every(({ buffer }) => buffer === slices[0]!.buffer);
  if (!isWhole(keys) || !isWhole(values)) {
    throw new PersistentUnfitError('a KV cache of more than one binding for keys and one for values');
  }
  const layerBytes = keys.length > 1 ? keys[1]!.offset : keys[0]!.size;
  return { keys: keys[0]!.buffer, values: values[0]!.buffer, layerBytes };
}

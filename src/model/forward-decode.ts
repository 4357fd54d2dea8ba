/**
 * One decoded token in five dispatches a layer (six with a Hadamard rotation): the pass of `forward.ts` with quantizers as
 * prologues and residual, SiLU and KV append as epilogues of the products. Bit for bit the same results.
 */
import { type ActBits, schemeModes } from '../format/scheme';
import type { Gpu } from '../gpu/gpu';
import { attentionDecode, fitsAttentionDecode } from '../kernels/attention-decode';
import {
  type DecodeInput,
  type DecodeLinearTuning,
  type DecodeOutput,
  decodeLinear,
  fitsDecodeLinear,
  type Quantizer,
} from '../kernels/decode-linear';
import { embed } from '../kernels/embed';
import { completing, type KernelContext, type Op } from '../kernels/op';
import { siluHadamard } from '../kernels/silu-hadamard';
import { kvCacheArgs, type Scratch } from './scratch';
import type { Int4Matrix, Matrix, ModelWeights, NormWeights } from './weights';

/** The products of a layer. */
export const layerProductNames = ['qkv', 'o', 'gateUp', 'down'] as const;
export type LayerProduct = (typeof layerProductNames)[number];

/** What each product is tuned to. */
export type DecodeTuning = Readonly<Partial<Record<LayerProduct, DecodeLinearTuning>>>;

/** One product of one layer, with its input. */
interface Product {
  readonly matrix: Matrix;
  readonly input: DecodeInput;
  readonly output: DecodeOutput;
  readonly y: GPUBuffer;
}

/** Whether every layer of this model fits the fused kernels on this device. */
export function canFuseDecode(gpu: Gpu, weights: ModelWeights, scratch: Scratch): boolean {
  if (gpu.caps.software || !fitsAttentionDecode(weights.layout.config)) return false;
  return weights.layers.every((_, layer) =>
    Object.values(layerProducts(weights, scratch, layer)).every(
      ({ matrix, input, output }) =>
        matrix.kind === 'int4' &&
        fitsDecodeLinear(gpu, matrix.inputs, input) &&
        (output !== 'silu-mul' || matrix.blocks.every(({ rowStart, rows }) => (rowStart | rows) % 2 === 0)),
    ),
  );
}

/**
 * All operations of the layers for one token: `scratch.ids` → `scratch.x`, keys and values appended. Only where
 * {@link canFuseDecode}.
 */
export async function buildDecodeLayers(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  tuning: DecodeTuning = {},
): Promise<Op[]> {
  const { config, quant } = weights.layout;
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim } = config;
  const { step, ids, x, qkv, gateUp, activated, rope: table, partials, contextLength } = scratch;
  const actBits = quant!.actBits;
  const { dtype, scale } = weights.embed;
  const embedding = weights.embed.blocks.map(({ rowStart, rows, weight }) =>
    embed(context, { hiddenSize, rowStart, rows, dtype, scale, step, ids, table: weight, x }),
  );
  const ops: Promise<Op | readonly Op[]>[] = [completing(embedding, -1, 'output')];
  const product = (name: LayerProduct, of: Product) => productOps(context, actBits, of, tuning[name]);
  weights.layers.forEach((_, layer) => {
    const products = layerProducts(weights, scratch, layer);
    const heads = { numHeads, numKvHeads, headDim, contextLength };
    ops.push(completing(product('qkv', products.qkv), layer, 'qkv'));
    ops.push(
      attentionDecode(context, { ...heads, step, qkv, table, ...kvCacheArgs(scratch, layer), partials }),
    );
    ops.push(completing(product('o', products.o), layer, 'attention'));
    const gated: Promise<Op>[] = product('gateUp', products.gateUp);
    if (quant?.hadamard) {
      const { downBlock: block } = quant.hadamard;
      gated.push(siluHadamard(context, { ffnSize: intermediateSize, block, step, gateUp, y: activated }));
    }
    ops.push(completing(gated, layer, 'gated'));
    ops.push(completing(product('down', products.down), layer, 'output'));
  });
  return (await Promise.all(ops)).flat();
}

/** One operation per row block. */
function productOps(
  context: KernelContext,
  actBits: ActBits,
  { matrix, input, output, y }: Product,
  tuning: DecodeLinearTuning | undefined,
): Promise<Op>[] {
  const { inputs, outputs, scale, bias, blocks } = matrix as Int4Matrix;
  return blocks.map((block) =>
    decodeLinear(context, {
      ...{ input, actBits, inputs, outputs, scale, bias, y, output },
      ...block,
      tuning,
    }),
  );
}

function layerProducts(
  weights: ModelWeights,
  scratch: Scratch,
  index: number,
): Record<LayerProduct, Product> {
  const { config, quant, scheme } = weights.layout;
  const { numHeads, headDim, intermediateSize } = config;
  const { step, x, partials, activated, contextLength } = scratch;
  const layer = weights.layers[index]!;
  const spec = quant?.layers[index];
  const isStatic = schemeModes[scheme].projection === 'static';
  const quantizer = (act: number): Quantizer =>
    isStatic ? { kind: 'static', stepSize: act } : { kind: 'dynamic', ratio: act };
  const norm = (norms: NormWeights, ratio: number): DecodeInput => {
    const shared = { x, hiddenSize: config.hiddenSize, eps: config.rmsNormEps };
    if (norms.kind === 'plain')
      return { kind: 'rmsnorm_quant_dynamic', ...shared, weight: norms.weight, ratio };
    return { kind: 'rmsnorm_quant_static', ...shared, gather: norms.gather, mult: norms.mult };
  };
  const attended: DecodeInput = {
    kind: 'attention',
    ...{ partials, step, heads: { numHeads, headDim, contextLength } },
    quantizer: quantizer(spec?.oAct ?? 1),
  };
  const gated: DecodeInput = {
    kind: 'floats',
    ...{ x: activated, length: intermediateSize, quantizer: quantizer(spec?.downAct ?? 1) },
  };
  return {
    qkv: {
      matrix: layer.qkv,
      input: norm(layer.attnNorm, spec?.attnAct ?? 1),
      output: 'store',
      y: scratch.qkv,
    },
    o: { matrix: layer.o, input: attended, output: 'accumulate', y: x },
    gateUp: {
      matrix: layer.gateUp,
      input: norm(layer.mlpNorm, spec?.mlpAct ?? 1),
      ...(quant?.hadamard ? { output: 'store', y: scratch.gateUp } : { output: 'silu-mul', y: activated }),
    },
    down: { matrix: layer.down, input: gated, output: 'accumulate', y: x },
  };
}

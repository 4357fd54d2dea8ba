/** The straight-line description of one pass through a Llama: ids in, residual stream out, KV cache appended. */
import { type ActBits, type ActivationMode, schemeModes } from '../format/scheme';
import { type AttentionArgs, attention, attentionSplit, pieceCount } from '../kernels/attention';
import { embed } from '../kernels/embed';
import { linearDense } from '../kernels/linear-dense';
import { linearGrid } from '../kernels/linear-grid';
import { linearW4 } from '../kernels/linear-w4';
import { completing, type KernelContext, type Op } from '../kernels/op';
import { quantDynamic } from '../kernels/quant-dynamic';
import { quantStatic } from '../kernels/quant-static';
import { rmsnorm } from '../kernels/rmsnorm';
import { rmsnormQuantDynamic } from '../kernels/rmsnorm-quant-dynamic';
import { rmsnormQuantStatic } from '../kernels/rmsnorm-quant-static';
import { ropeAppend } from '../kernels/rope-append';
import { siluHadamard } from '../kernels/silu-hadamard';
import { type SiluMulArgs, siluMul } from '../kernels/silu-mul';
import { matrixAttention, matrixGateUp, matrixLinear } from './matrix-ops';
import { kvCacheArgs, type Scratch } from './scratch';
import type { DenseMatrix, GridMatrix, Int4Matrix, Matrix, ModelWeights, NormWeights } from './weights';

/** `vector` reads each weight once for one token (decode); `matrix` tiles over many tokens (prefill). */
export type PassKind = 'vector' | 'matrix';

/** `few`: as `vector`, its int4 products made for passes of up to `fewTokens`, of which `scratch.gateUp` holds a row each. */
export type LayersKind = PassKind | 'few';

/** What the builders below share. */
interface Pass {
  readonly context: KernelContext;
  readonly scratch: Scratch;
  readonly kind: PassKind;
  readonly isFew: boolean;
  readonly eps: number;
  readonly hiddenSize: number;
  readonly actBits: ActBits;
  readonly projection: ActivationMode;
}

/** Operations being compiled; some builders give several at once. */
type Ops = Promise<Op | readonly Op[]>[];

/**
 * All operations of one pass over `step.num_tokens` tokens in `ids`: embedding, layers, KV cache. The residual stream of
 * each token is left in `scratch.x`. Pipelines compile in parallel.
 */
export async function buildLayers(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  layersKind: LayersKind,
): Promise<Op[]> {
  const { config, quant, scheme } = weights.layout;
  const { hiddenSize, intermediateSize, numHeads, numKvHeads, headDim, rmsNormEps: eps } = config;
  const { step, x, qkv, attended, gateUp, activated, rope, contextLength } = scratch;
  const projection = schemeModes[scheme].projection;
  const isFew = layersKind === 'few';
  const kind = layersKind === 'few' ? 'vector' : layersKind;
  const actBits = quant?.actBits ?? 8;
  const pass: Pass = { context, scratch, kind, isFew, eps, hiddenSize, actBits, projection };
  const heads = { numHeads, numKvHeads, headDim, contextLength };
  const embedding = weights.embed.blocks.map(({ rowStart, rows, weight }) =>
    embed(context, {
      hiddenSize,
      rowStart,
      rows,
      dtype: weights.embed.dtype,
      scale: weights.embed.scale,
      step,
      ids: scratch.ids,
      table: weight,
      x,
    }),
  );
  const ops: Ops = [completing(embedding, -1, 'output')];
  weights.layers.forEach((layer, index) => {
    const cache = kvCacheArgs(scratch, index);
    const spec = quant?.layers[index];
    ops.push(...norm(pass, layer.attnNorm, layer.qkv, spec?.attnAct ?? 1));
    ops.push(completing(linear(pass, layer.qkv, scratch.normed, qkv, false), index, 'qkv'));
    ops.push(ropeAppend(context, { ...heads, step, qkv, table: rope, ...cache }));
    ops.push(...attend(pass, { ...heads, step, qkv, ...cache, out: attended }));
    ops.push(...quantize(pass, layer.o, attended, numHeads * headDim, spec?.oAct ?? 1));
    ops.push(completing(linear(pass, layer.o, attended, x, true), index, 'attention'));
    ops.push(...norm(pass, layer.mlpNorm, layer.gateUp, spec?.mlpAct ?? 1));
    const gate = { ffnSize: intermediateSize, step, gateUp, y: activated };
    ops.push(completing(gatedInput(pass, layer.gateUp, gate, quant?.hadamard?.downBlock), index, 'gated'));
    ops.push(...quantize(pass, layer.down, activated, intermediateSize, spec?.downAct ?? 1));
    ops.push(completing(linear(pass, layer.down, activated, x, true), index, 'output'));
  });
  return (await Promise.all(ops)).flat();
}

/** Final norm and head of the last token only: `scratch.x` → `scratch.logits` [V]. */
export async function buildHead(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
): Promise<Op[]> {
  const { hiddenSize, rmsNormEps: eps } = weights.layout.config;
  const { step, x, lastNormed, logits } = scratch;
  const weight = weights.finalNorm;
  return Promise.all([
    rmsnorm(context, { hiddenSize, eps, step, x, weight, y: lastNormed, lastRowOnly: true }),
    ...denseOps(context, weights.head, 'vector', scratch, lastNormed, logits, { singleRow: true }),
  ]);
}

/** Final norm and head of every token of the pass: `scratch.x` → `logits` [T, V]. For perplexity; `vector`: decode's bits. */
export function buildFullHead(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  logits: GPUBuffer,
  kind: PassKind = 'matrix',
): Promise<Op[]> {
  const { hiddenSize, rmsNormEps: eps } = weights.layout.config;
  const { step, x, normed } = scratch;
  return Promise.all([
    rmsnorm(context, { hiddenSize, eps, step, x, weight: weights.finalNorm, y: normed, lastRowOnly: false }),
    ...denseOps(context, weights.head, kind, scratch, normed, logits, {}),
  ]);
}

/** RMSNorm towards `linear`: floats into `normed`, or integers into `q` with the quantization step merged (Eq. 4, 6). */
function norm(pass: Pass, weights: NormWeights, linear: Matrix, ratio: number): Ops {
  const { context, scratch, eps, hiddenSize, actBits } = pass;
  const { step, x, normed, q, qmeta } = scratch;
  if (weights.kind === 'merged') {
    const { inputs, gather, mult } = weights;
    return [
      rmsnormQuantStatic(context, { hiddenSize, inputs, eps, actBits, step, x, gather, mult, q, qmeta }),
    ];
  }
  const { weight } = weights;
  if (linear.kind === 'dense') {
    return [rmsnorm(context, { hiddenSize, eps, step, x, weight, y: normed, lastRowOnly: false })];
  }
  const { inputs } = linear;
  return [
    rmsnormQuantDynamic(context, { hiddenSize, inputs, eps, actBits, ratio, step, x, weight, q, qmeta }),
  ];
}

/** Quantizes the input of o or down; a float linear needs nothing. `act` is the clip ratio or the static step. */
function quantize(pass: Pass, linear: Matrix, x: GPUBuffer, inputs: number, act: number): Ops {
  if (linear.kind === 'dense') return [];
  const { context, scratch, actBits } = pass;
  const { step, q, qmeta } = scratch;
  const shared = { inputs, paddedInputs: linear.inputs, actBits, step, x, q, qmeta };
  if (pass.projection === 'static') return [quantStatic(context, { ...shared, stepSize: act })];
  return [quantDynamic(context, { ...shared, ratio: act })];
}

/** y = W·input (or y += W·input), one operation per row block. Int4 linears read `q`, dense ones `floats`. */
function linear(pass: Pass, matrix: Matrix, floats: GPUBuffer, y: GPUBuffer, accumulate: boolean): Ops {
  const { context, scratch, kind, isFew } = pass;
  if (matrix.kind === 'dense') return denseOps(context, matrix, kind, scratch, floats, y, { accumulate });
  if (matrix.kind === 'grid') return gridBlocks(pass, matrix, y, accumulate);
  const blocks = int4Blocks(pass, matrix, y, accumulate);
  if (kind === 'matrix') return blocks.flatMap((args) => matrixLinear(context, args));
  return blocks.map((args) => linearW4(context, { ...args, kind: isFew ? 'few' : 'vector' }));
}

/** What {@link linearW4} needs for each row block of an int4 linear over `q`. */
function int4Blocks({ scratch }: Pass, matrix: Int4Matrix, y: GPUBuffer, accumulate: boolean) {
  const { step, q, qmeta } = scratch;
  const { inputs, outputs, scale, bias } = matrix;
  return matrix.blocks.map(({ rowStart, rows, weight }) => ({
    ...{ inputs, rows, rowStart, outputs, step, q, qmeta, weight, scale, bias, y, accumulate },
  }));
}

/** One operation per row block of a linear on grids over `q`. */
function gridBlocks(
  { context, scratch, kind }: Pass,
  matrix: GridMatrix,
  y: GPUBuffer,
  accumulate: boolean,
): Ops {
  const { step, q, qmeta } = scratch;
  const { bits, groups, inputs, outputs, grid, bias } = matrix;
  return matrix.blocks.map((block) =>
    linearGrid(context, {
      ...{ kind, bits, groups, inputs, outputs, step, q, qmeta, grid, bias, y, accumulate },
      ...block,
    }),
  );
}

/** gate and up, then silu(gate)·up into `gate.y`, with a Walsh–Hadamard transform where the model has one. */
function gatedInput(pass: Pass, matrix: Matrix, gate: SiluMulArgs, block: number | undefined): Ops {
  const { context, scratch, kind } = pass;
  if (kind === 'matrix' && matrix.kind === 'int4' && !block) {
    return [...matrixGateUp(context, int4Blocks(pass, matrix, gate.gateUp, false), gate)];
  }
  const products = linear(pass, matrix, scratch.normed, gate.gateUp, false);
  return [...products, block ? siluHadamard(context, { ...gate, block }) : siluMul(context, gate)];
}

/** Queries share keys in a prefill; a decoded token spreads a long context over workgroups. Same bits either way. */
function attend(pass: Pass, args: AttentionArgs): Ops {
  if (pass.kind === 'matrix') return [...matrixAttention(pass.context, args)];
  // `partials` are one token's.
  const isLong = pieceCount(args) > 1 && !pass.isFew && !pass.context.gpu.caps.software;
  if (!isLong) return [attention(pass.context, args)];
  return [attentionSplit(pass.context, { ...args, partials: pass.scratch.partials })];
}

function denseOps(
  context: KernelContext,
  matrix: DenseMatrix,
  kind: PassKind,
  scratch: Scratch,
  x: GPUBuffer,
  y: GPUBuffer,
  options: { readonly accumulate?: boolean; readonly singleRow?: boolean },
): Promise<Op>[] {
  const { dtype, scale, inputs, outputs, bias } = matrix;
  const { accumulate = false, singleRow = false } = options;
  return matrix.blocks.map(({ rowStart, rows, weight }) =>
    linearDense(context, {
      ...{ kind, dtype, inputs, rows, rowStart, outputs, step: scratch.step },
      ...{ x, weight, scale, bias, y, accumulate, singleRow },
    }),
  );
}

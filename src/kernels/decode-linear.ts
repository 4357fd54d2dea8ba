import joinSource from '../../shaders/attention_join.wgsl?raw';
import joinWordSource from '../../shaders/attention_join_word.wgsl?raw';
import combineSource from '../../shaders/decode_combine.wgsl?raw';
import inputSource from '../../shaders/decode_input.wgsl?raw';
import normSource from '../../shaders/decode_norm.wgsl?raw';
import normDynamicSource from '../../shaders/decode_norm_dynamic.wgsl?raw';
import normStaticSource from '../../shaders/decode_norm_static.wgsl?raw';
import productSource from '../../shaders/decode_product.wgsl?raw';
import quantizePrologue from '../../shaders/decode_quantize.wgsl?raw';
import reduceSource from '../../shaders/decode_reduce.wgsl?raw';
import stageSource from '../../shaders/decode_stage.wgsl?raw';
import quantizeSource from '../../shaders/quantize.wgsl?raw';
import siluSource from '../../shaders/silu.wgsl?raw';
import dotSource from '../../shaders/w4_dot.wgsl?raw';
import { type ActBits, qMax } from '../format/scheme';
import type { GpuMemory } from '../gpu/arena';
import { type Gpu, hasOneSubgroupSize } from '../gpu/gpu';
import { type AttentionArgs, pieceCount, pieceKeys } from './attention';
import { type KernelContext, makeOp, type Op, requireShape } from './op';

/** What the product reads and how it makes integers of it, each as the kernel of that name does. */
export type DecodeInput =
  | {
      readonly kind: 'rmsnorm_quant_static';
      readonly x: GPUBuffer; // [D] f32
      readonly hiddenSize: number;
      readonly eps: number;
      readonly gather: GpuMemory; // [K'] u32
      readonly mult: GpuMemory; // [K'] f32
    }
  | {
      readonly kind: 'rmsnorm_quant_dynamic';
      readonly x: GPUBuffer; // [D] f32
      readonly hiddenSize: number;
      readonly eps: number;
      readonly weight: GpuMemory; // [D] f32
      readonly ratio: number;
    }
  | { readonly kind: 'floats'; readonly x: GPUBuffer; readonly length: number; readonly quantizer: Quantizer }
  | {
      /** The pieces that `attentionDecode` left, joined. */
      readonly kind: 'attention';
      readonly partials: GPUBuffer; // [H, pieces, Dh + 2] f32
      readonly step: GPUBuffer;
      readonly heads: Pick<AttentionArgs, 'numHeads' | 'headDim' | 'contextLength'>;
      readonly quantizer: Quantizer;
    };

/** Per-token dynamic with a clip ratio, or one static step for all channels. */
export type Quantizer =
  | { readonly kind: 'dynamic'; readonly ratio: number }
  | { readonly kind: 'static'; readonly stepSize: number };

/** What happens to a row's result: stored, added to what y holds, or gate and up joined to `silu(gate)·up`. */
export type DecodeOutput = 'store' | 'accumulate' | 'silu-mul';

/** Choices that change speed, never bits. */
export interface DecodeLinearTuning {
  /** Invocations per workgroup: a multiple of 128, 256 or more, that the device allows. */
  readonly threads?: number;
  /** Workgroups at most. */
  readonly groups?: number;
  /** 16-byte weight loads in flight per invocation and row, 1 to 6. */
  readonly pieces?: number;
}

export interface DecodeLinearArgs {
  readonly input: DecodeInput;
  readonly actBits: ActBits;
  /** K', a multiple of 32. */
  readonly inputs: number;
  /** Rows of this block of the matrix, and the output column of its first one; even numbers with `silu-mul`. */
  readonly rows: number;
  readonly rowStart: number;
  /** N. */
  readonly outputs: number;
  readonly weight: GpuMemory; // [rows, K'/8] u32: offset-binary nibbles
  readonly scale: GpuMemory; // [N] f32
  readonly bias: GpuMemory | null; // [N] f32
  readonly y: GPUBuffer; // [N] f32, or [N/2] with silu-mul
  readonly output: DecodeOutput;
  readonly tuning?: DecodeLinearTuning;
}

/** Changes with the kernels' text: what was measured of another text is out of date. */
export const decodeLinearBuild = fingerprint(
  [
    productSource,
    reduceSource,
    stageSource,
    normSource,
    normStaticSource,
    normDynamicSource,
    quantizePrologue,
  ].join(),
);

/** FNV-1a, 32 bits. */
function fingerprint(text: string): string {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return (hash >>> 0).toString(16);
}

/** Invocations of a workgroup that suit each input: joining attention's pieces wants one for every four floats. */
const wantedThreads: Readonly<Record<DecodeInput['kind'], number>> = {
  ...{ rmsnorm_quant_static: 384, rmsnorm_quant_dynamic: 384, floats: 512, attention: 1024 },
};

/**
 * Large workgroups, one or two for each core of a large GPU: a token is quantized once in each, and two overlap one's quantization with
 * the other's rows, where registers let them run side by side. Measured on an H200 at 7B shape (docs/LOG.md).
 */
function defaultTuning(gpu: Gpu, input: DecodeInput, inputs: number): Required<DecodeLinearTuning> {
  const most = Math.floor(gpu.device.limits.maxComputeInvocationsPerWorkgroup / 256) * 256;
  const threads = Math.min(most, wantedThreads[input.kind]);
  const rounds = Math.floor(inputs / 32 / 32); // of subgroups of 32
  const inTwos = rounds % 2 === 0 || rounds % 3 !== 0;
  return { threads, groups: threads < 512 ? 264 : 132, pieces: inTwos ? 2 : 3 };
}

/** Subgroups of 32 share pairs of rows in the grid; larger ones find fewer rows, smaller ones walk more. */
const rowsPerWorkgroup = (threads: number) => (2 * threads) / 32;

/** Rounds of 4-byte words behind whole rounds of 16-byte pieces, for the subgroup size that needs most. */
function tailRounds({ caps }: Gpu, inputs: number): number {
  let most = 0;
  for (let lanes = caps.subgroupMinSize; lanes <= caps.subgroupMaxSize; lanes *= 2) {
    most = Math.max(most, Math.ceil((((inputs / 32) % lanes) * 4) / lanes));
  }
  return most;
}

/** Whole rounds of a subgroup's lanes in a row, where that is no number of its own on each device. */
function roundsOf(gpu: Gpu, inputs: number): Readonly<Record<string, number>> {
  if (!hasOneSubgroupSize(gpu)) return {};
  const lanes = gpu.caps.subgroupMaxSize;
  return { LANES: lanes, ROUNDS: Math.floor(inputs / 32 / lanes) };
}

/** K' up to which a token fits, in steps so that layers of slightly different K' share a pipeline. */
function capacityPieces(inputs: number): number {
  return Math.ceil(inputs / 1024) * 32;
}

function floatCount(input: DecodeInput): number {
  if (input.kind === 'attention') return input.heads.numHeads * input.heads.headDim;
  return input.kind === 'floats' ? input.length : input.hiddenSize;
}

/** Words of four floats that fit, in such steps, too. */
function stagedWords(length: number): number {
  return Math.ceil(length / 1024) * 256;
}

/** Bytes of workgroup memory of one kernel: the token's integers, reductions, and the token's floats. */
function workgroupBytes(inputs: number, input: DecodeInput, threads: number): number {
  const staged =
    input.kind === 'floats' || input.kind === 'attention' ? 0 : 16 * (stagedWords(floatCount(input)) + 8);
  return 32 * capacityPieces(inputs) + 4 * 256 + threads + staged;
}

/** Whether {@link decodeLinear} can take this input on this device; otherwise its parts run one after the other. */
export function fitsDecodeLinear(gpu: Gpu, inputs: number, input: DecodeInput): boolean {
  const limit = gpu.device.limits.maxComputeWorkgroupStorageSize;
  const fourAligned = floatCount(input) % 4 === 0;
  const wholeHeads = input.kind !== 'attention' || input.heads.headDim % 4 === 0;
  return gpu.caps.subgroups && fourAligned && wholeHeads && workgroupBytes(inputs, input, 1024) <= limit;
}

/**
 * Quantization, int4 product and what follows it of one token in one dispatch: the same bits as the kernels in a row.
 * Needs subgroups; see {@link fitsDecodeLinear}.
 * @throws KernelShapeError
 */
export async function decodeLinear(context: KernelContext, args: DecodeLinearArgs): Promise<Op> {
  const { input, inputs, rows, rowStart, outputs, output } = args;
  const { threads, groups, pieces } = { ...defaultTuning(context.gpu, input, inputs), ...args.tuning };
  requireDecodeLinear(context, args, threads, pieces);
  const factor = context.arena.uniform('decode_linear.quantizer', {
    factor: { f32: factorOf(input, args.actBits) },
  });
  const prologue = prologueOf(input, factor, threads, inputs / 4 / threads);
  const params = context.arena.uniform('decode_linear.params', {
    kPieces: inputs / 32,
    ...{ rows, rowStart, N: outputs, tokenLength: floatCount(input) },
    eps: { f32: 'eps' in input ? input.eps : 0 },
    qMax: { f32: qMax(args.actBits) },
    attentionPieces: input.kind === 'attention' ? pieceCount(input.heads) : 0,
  });
  const most = Math.ceil(rows / rowsPerWorkgroup(threads));
  return makeOp(context, {
    label: `decode_${input.kind}_${output}`,
    source: [quantizeSource, dotSource, siluSource, reduceSource, ...prologue.sources, productSource].join(
      '\n',
    ),
    enables: ['subgroups'],
    constants: {
      ...{
        WORKGROUP: threads,
        PIECES: pieces,
        CAPACITY: capacityPieces(inputs),
        TAIL: tailRounds(context.gpu, inputs),
        K: floatCount(input),
      },
      ...roundsOf(context.gpu, inputs),
      ...{ HAS_BIAS: Number(args.bias !== null), ACCUMULATE: Number(output === 'accumulate') },
      GATED: Number(output === 'silu-mul'),
      ...prologue.constants,
    },
    // The layout wants a bias buffer even where the kernel reads none.
    bindings: [params, args.weight, args.scale, args.bias ?? args.scale, args.y, ...prologue.bindings],
    grid: () => [Math.min(groups, most), 1, 1],
  });
}

interface Prologue {
  readonly sources: readonly string[];
  readonly constants: Readonly<Record<string, number>>;
  readonly bindings: readonly GpuMemory[];
}

/**
 * The first weights' loads in front of the token's, and nothing more of a pair of rows ahead: only attention's pieces, two round trips to
 * memory, gain by the other order. Measured on an H200 (docs/LOG.md).
 */
const weightsFirst = { TOKEN_FIRST: 0, ENDS_AHEAD: 0 };

/** `words`: of four integers that an invocation makes, rounded up where that is no whole number. */
function prologueOf(input: DecodeInput, factor: GPUBuffer, threads: number, words: number): Prologue {
  const stageLoads = Math.min(4, Math.ceil(floatCount(input) / 4 / threads));
  const norm = {
    ...{ STAGED: stagedWords(floatCount(input)), STAGE_LOADS: stageLoads },
    EARLY_WORDS: Math.min(5, Math.ceil(words)),
    ...weightsFirst,
  };
  const batch = Math.min(6, Math.ceil(words));
  const quantizer = { BATCH: batch, HELD: Number(batch >= words) };
  switch (input.kind) {
    case 'rmsnorm_quant_static':
      return {
        sources: [stageSource, normSource, normStaticSource],
        constants: norm,
        bindings: [input.x, input.gather, input.mult],
      };
    case 'rmsnorm_quant_dynamic':
      return {
        sources: [stageSource, normSource, normDynamicSource],
        constants: norm,
        bindings: [input.x, input.weight, factor],
      };
    case 'floats':
      return {
        sources: [inputSource, quantizePrologue],
        constants: { ...quantizer, ...weightsFirst, DYNAMIC: Number(input.quantizer.kind === 'dynamic') },
        bindings: [input.x, factor],
      };
    case 'attention': {
      const { contextLength, headDim } = input.heads;
      const isDynamic = input.quantizer.kind === 'dynamic';
      return {
        sources: [joinSource, joinWordSource, combineSource, quantizePrologue],
        constants: {
          ...quantizer,
          ...{ DYNAMIC: Number(isDynamic), Dh: headDim, PIECE_KEYS: pieceKeys(contextLength, headDim) },
        },
        bindings: [input.step, input.partials, factor],
      };
    }
  }
}

/** Dynamic: what turns a maximum into a scale; static: the inverse of the step. */
function factorOf(input: DecodeInput, actBits: ActBits): number {
  if (input.kind === 'rmsnorm_quant_static') return 0;
  if (input.kind === 'rmsnorm_quant_dynamic') return input.ratio / qMax(actBits);
  const { quantizer } = input;
  return quantizer.kind === 'dynamic' ? quantizer.ratio / qMax(actBits) : 1 / quantizer.stepSize;
}

function requireDecodeLinear(
  context: KernelContext,
  args: DecodeLinearArgs,
  threads: number,
  pieces: number,
): void {
  const { input, inputs, rows, rowStart, outputs, weight, scale, bias, y, output } = args;
  const label = 'decode_linear';
  const { maxComputeInvocationsPerWorkgroup: most } = context.gpu.device.limits;
  requireShape(inputs > 0 && inputs % 32 === 0, label, `inputs a positive multiple of 32, not ${inputs}`);
  const fits = fitsDecodeLinear(context.gpu, inputs, input);
  requireShape(
    fits,
    label,
    `subgroups and a token that fits workgroup memory, not ${input.kind} of ${inputs}`,
  );
  requireShape(
    rows > 0 && rowStart >= 0 && rowStart + rows <= outputs,
    label,
    `rows within ${outputs} outputs, not ${rows} from ${rowStart}`,
  );
  const paired = output !== 'silu-mul' || (rows % 2 === 0 && rowStart % 2 === 0);
  requireShape(paired, label, `even rows for silu-mul, not ${rows} from ${rowStart}`);
  requireShape(
    threads % 128 === 0 && threads >= 256 && threads <= most,
    label,
    `threads a multiple of 128 from 256 to ${most}, not ${threads}`,
  );
  requireShape(pieces >= 1 && pieces <= 6, label, `pieces 1 to 6, not ${pieces}`);
  const weightBytes = (rows * inputs) / 2;
  requireShape(weight.size >= weightBytes, label, `weight of ${weightBytes} bytes, not ${weight.size}`);
  requireShape(scale.size >= 4 * outputs, label, `scale of ${4 * outputs} bytes, not ${scale.size}`);
  requireShape(!bias || bias.size >= 4 * outputs, label, `bias of ${4 * outputs} bytes, not ${bias?.size}`);
  const yBytes = output === 'silu-mul' ? 2 * outputs : 4 * outputs;
  requireShape(y.size >= yBytes, label, `y of ${yBytes} bytes, not ${y.size}`);
}

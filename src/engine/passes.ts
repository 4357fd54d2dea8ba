/** The operations of every kind of pass over one model. */
import { fewTokens } from '../format/plan-buffers';
import { argmax } from '../kernels/argmax';
import type { KernelContext, Op } from '../kernels/op';
import { sample } from '../kernels/sample';
import { buildHead, buildLayers } from '../model/forward';
import { buildDecodeLayers, canFuseDecode, type DecodeTuning } from '../model/forward-decode';
import type { Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';
import type { DrawArgs } from './sampler';

/** Built once per model. */
export interface Passes {
  readonly prefill: readonly Op[];
  /** The same bits for short passes, where tiles would be empty for the most part; null where they gain nothing. */
  readonly few: readonly Op[] | null;
  /** Tokens up to which a pass is short. */
  readonly fewTokens: number;
  readonly decode: readonly Op[];
  readonly head: readonly Op[];
  readonly greedy: readonly Op[];
  readonly sampled: readonly Op[];
}

/** @throws ShaderError */
export async function buildPasses(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  draw: DrawArgs,
  tuning: DecodeTuning = {},
): Promise<Passes> {
  const fuses = canFuseDecode(context.gpu, weights, scratch);
  const [prefill, few, decode, head, greedy, sampled] = await Promise.all([
    buildLayers(context, weights, scratch, 'matrix'),
    hasFew(context, weights) ? buildLayers(context, weights, scratch, 'few') : null,
    fuses
      ? buildDecodeLayers(context, weights, scratch, tuning)
      : buildLayers(context, weights, scratch, 'vector'),
    buildHead(context, weights, scratch),
    argmax(context, draw),
    sample(context, draw),
  ]);
  return { prefill, few, fewTokens: mostTokens(context), decode, head, greedy, sampled };
}

/** Layers of a prefill pass over `numTokens` tokens. */
export function prefillLayers(
  { prefill, few, fewTokens: most, decode }: Pick<Passes, 'prefill' | 'few' | 'fewTokens' | 'decode'>,
  numTokens: number,
): readonly Op[] {
  if (numTokens === 1) return decode;
  return few && numTokens <= most ? few : prefill;
}

/** As {@link fewTokens}, where tiles run on subgroup matrices. */
const fewTokensBesideMatrices = 18;

/** From one token more, tiles are faster than vector products: figures of an H200 at 7B shape, docs/LOG.md. */
function mostTokens({ gpu }: KernelContext): number {
  return gpu.caps.subgroupMatrixI8 ? fewTokensBesideMatrices : fewTokens;
}

function hasFew({ gpu }: KernelContext, { layers }: ModelWeights): boolean {
  if (gpu.caps.software || !gpu.caps.subgroups) return false;
  return layers.every(({ qkv, o, gateUp, down }) =>
    [qkv, o, gateUp, down].every(({ kind }) => kind === 'int4'),
  );
}

/** One reply in the making: what its passes share. */
import type { Op } from '../kernels/op';
import type { PassRunner } from './pass-runner';
import type { Passes } from './passes';
import type { Sampler } from './sampler';
import type { GenerateOptions } from './types';

export interface Reply {
  readonly promptIds: readonly number[];
  readonly options: GenerateOptions;
  readonly runner: PassRunner;
  readonly sampler: Sampler;
  readonly passes: Passes;
  /** What follows the layers of a pass that draws a token: the head, and the sampler's operations for this reply. */
  readonly draw: readonly Op[];
  /** Token ids whose keys and values are in the engine's cache, in order; grows as passes are submitted. */
  readonly cached: number[];
}

/** Tokens a reply can have: a pass at position p needs p < contextLength; the last token drawn need not be fed again. */
export function mostTokens({ promptIds, options, runner }: Reply): number {
  return Math.min(options.maxTokens, runner.scratch.contextLength - promptIds.length + 1);
}

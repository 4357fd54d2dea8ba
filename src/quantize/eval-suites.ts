/** What `mergequant eval` compares: named rows of options, in the order of the paper's tables (arXiv 2503.07654). */
import { clippingRows, gptqRows, ladderRows } from './suite-ladder';
import { beyondRows, outlierRows } from './suite-outliers';
import type { EvalRow } from './suite-row';
import { schemeRows, threeBitRows } from './suite-schemes';

export type { EvalRow, GammaInjection, Injection } from './suite-row';

export const suiteNames = ['ladder', 'schemes', 'w3', 'clipping', 'outliers', 'beyond', 'gptq'] as const;
export type SuiteName = (typeof suiteNames)[number];

const suites: Readonly<Record<SuiteName, readonly EvalRow[]>> = {
  ladder: ladderRows,
  schemes: schemeRows,
  w3: threeBitRows,
  clipping: clippingRows,
  outliers: outlierRows,
  beyond: beyondRows,
  gptq: gptqRows,
};

/** The rows of a suite. */
export function suiteRows(suite: SuiteName): readonly EvalRow[] {
  return suites[suite];
}

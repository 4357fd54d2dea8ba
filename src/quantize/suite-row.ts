/** A row of an evaluation: the options of one measured model, and the budgets that rows share. */
import { compensationDefaults } from './compensate';
import type { PrepareOptions } from './prepare-options';

/** Strong norm channels, a change of the checkpoint that leaves its function alone. */
export interface GammaInjection {
  readonly kind: 'gamma';
  /** Factor of the chosen norm channels; their columns are divided by it. */
  readonly factor: number;
  /** Part of the channels. */
  readonly share: number;
}

/** Changes of the checkpoint that leave its function alone; `concentrate` rotates the residual stream, see concentrate.ts. */
export type Injection = GammaInjection | { readonly kind: 'concentrate' };

export interface EvalRow {
  readonly label: string;
  readonly options: Partial<PrepareOptions>;
  /** Leave weights, or activations, as floats. */
  readonly float?: 'weights' | 'activations';
  readonly inject?: Injection;
}

/** GPTQ as published, on the float model's activations. */
export const published = { weights: 'gptq', gptqTarget: 'weights', propagate: 'float' } as const;

/** GPTQ on the float model's outputs and the quantized stream, the default. */
export const fitted = { weights: 'gptq', gptqTarget: 'outputs', propagate: 'quantized' } as const;

/**
 * Half the epochs of `prepare` and gentle: a table's rows have few sequences, so few steps, and GPTQ's 3-bit levels are far apart. At
 * the default rate with four rows a step every layer of 32 sequences stayed as GPTQ made it.
 */
export const compensation = {
  settings: { ...compensationDefaults, epochs: 3, rate: 0.005, batchRows: 1 },
};

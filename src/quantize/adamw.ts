/** AdamW (arXiv 1711.05101): Adam with weight decay apart from the gradient, on the array library. */
import { numpy as np } from '@jax-js/jax';

/** Named trainable arrays. */
export type Parameters = { [name: string]: np.Array };

export type AdamState = {
  first: Parameters; // m
  second: Parameters; // v
};

export interface AdamOptions {
  readonly beta1: number;
  readonly beta2: number;
  readonly epsilon: number;
  /** λ: each step takes rate·λ of the parameter away. */
  readonly decay: number;
}

export const adamDefaults: AdamOptions = { beta1: 0.9, beta2: 0.95, epsilon: 1e-8, decay: 0 };

/** m = v = 0. Leaves the parameters alive. */
export function adamState(parameters: Parameters): AdamState {
  const zeros = () =>
    Object.fromEntries(Object.entries(parameters).map(([name, { shape }]) => [name, np.zeros(shape)]));
  return { first: zeros(), second: zeros() };
}

/** What changes per step, as arrays, so that one compiled step serves all: the rate and 1 − β^step. */
export type AdamSchedule = { rate: np.Array; correction1: np.Array; correction2: np.Array };

/** @param step 1 for the first */
export function adamSchedule(rate: number, step: number, { beta1, beta2 }: AdamOptions): AdamSchedule {
  return {
    rate: np.array(rate),
    correction1: np.array(1 - beta1 ** step),
    correction2: np.array(1 - beta2 ** step),
  };
}

/**
 * θ ← θ − rate·(m̂ / (√v̂ + ε) + λ·θ). Consumes parameters, gradients and state; leaves the schedule alive.
 * @param factor of the rate, per parameter name
 */
export function adamStep(
  parameters: Parameters,
  gradients: Parameters,
  state: AdamState,
  schedule: AdamSchedule,
  factor: (name: string) => number,
  options: AdamOptions,
): { parameters: Parameters; state: AdamState } {
  const { beta1, beta2, epsilon, decay } = options;
  const next: Parameters = {};
  const first: Parameters = {};
  const second: Parameters = {};
  for (const [name, value] of Object.entries(parameters)) {
    const gradient = gradients[name]!;
    const rate = schedule.rate.ref.mul(factor(name));
    const m = state.first[name]!.mul(beta1).add(gradient.ref.mul(1 - beta1));
    const v = state.second[name]!.mul(beta2).add(np.square(gradient).mul(1 - beta2));
    const root = np.sqrt(v.ref.div(schedule.correction2.ref)).add(epsilon);
    const move = m.ref.div(schedule.correction1.ref).div(root).add(value.ref.mul(decay));
    next[name] = value.sub(move.mul(rate));
    first[name] = m;
    second[name] = v;
  }
  return { parameters: next, state: { first, second } };
}

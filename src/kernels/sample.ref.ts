/** Sampling in float64 by sorting, with the GPU's hash mirrored exactly. */
import { fixedTopP, type SamplingParameters } from './sample';

/** pcg3d's third output (Jarzynski & Olano 2020). */
export function hashRef(seed: number, generated: number, token: number): number {
  let [x, y, z] = [seed, generated, token].map((v) => (Math.imul(v, 1664525) + 1013904223) >>> 0) as [
    number,
    number,
    number,
  ];
  const mix = () => {
    x = (x + Math.imul(y, z)) >>> 0;
    y = (y + Math.imul(z, x)) >>> 0;
    z = (z + Math.imul(x, y)) >>> 0;
  };
  mix();
  x = (x ^ (x >>> 16)) >>> 0;
  y = (y ^ (y >>> 16)) >>> 0;
  z = (z ^ (z >>> 16)) >>> 0;
  mix();
  return z;
}

/** Standard Gumbel noise of one token at one step: −ln(−ln(1 − v)), v = (hash + ½) / 2³². */
export function gumbelRef(seed: number, generated: number, token: number): number {
  return -Math.log(-Math.log1p(-(hashRef(seed, generated, token) + 0.5) / 2 ** 32));
}

/** logits [V], counts [V] (bit 31: in the prompt; low bits: occurrences in the reply) -> penalized logits [V]. */
export function penalizeRef(
  logits: ArrayLike<number>,
  counts: ArrayLike<number>,
  p: SamplingParameters,
): Float64Array {
  return Float64Array.from({ length: logits.length }, (_, i) => {
    const logit = logits[i]!;
    if (counts[i] === 0) return logit;
    const repeated = logit > 0 ? logit / p.repetitionPenalty : logit * p.repetitionPenalty;
    const occurrences = counts[i]! & 0x7fffffff;
    return occurrences === 0 ? repeated : repeated - p.presencePenalty - p.frequencyPenalty * occurrences;
  });
}

export interface Survivors {
  /** Most probable first, among equals the lowest id first. */
  readonly tokens: number[];
  /** By how much of the top-k mass the nearest decision of top-p is away from p: a float error below it changes nothing. */
  readonly margin: number;
}

/** Top-k, top-p, min-p on penalized logits. Tokens of logit −∞ never survive. */
export function filterRef(penalized: ArrayLike<number>, p: SamplingParameters): Survivors {
  const ranked = Array.from(penalized, (_, i) => i)
    .filter((i) => penalized[i]! > -Infinity)
    .sort((a, b) => penalized[b]! - penalized[a]! || a - b)
    .slice(0, p.topK || undefined);
  const max = penalized[ranked[0]!]!;
  const weight = (i: number) => Math.exp((penalized[i]! - max) / p.temperature);
  const total = ranked.reduce((sum, i) => sum + weight(i), 0);
  const share = fixedTopP(p.topP) / 2 ** 32;
  let kept = ranked.length;
  let margin = 1;
  if (share > 0) {
    let mass = 0;
    kept = 0;
    while (kept < ranked.length && (kept === 0 || mass < share * total)) {
      margin = Math.min(margin, Math.abs(mass / total - share));
      mass += weight(ranked[kept++]!);
    }
    margin = Math.min(margin, Math.abs(mass / total - share));
  }
  const tokens = ranked.slice(0, kept).filter((i) => p.minP === 0 || weight(i) >= p.minP);
  return { tokens, margin };
}

export interface Draw {
  readonly token: number;
  /** How far the best score is above the second: a float error below it changes nothing. */
  readonly lead: number;
}

/** Gumbel-max over the survivors. */
export function drawRef(
  penalized: ArrayLike<number>,
  survivors: readonly number[],
  p: SamplingParameters,
  generated: number,
): Draw {
  const scored = survivors
    .map((token) => ({
      token,
      score: penalized[token]! / p.temperature + gumbelRef(p.seed, generated, token),
    }))
    .sort((a, b) => b.score - a.score || a.token - b.token);
  return {
    token: scored[0]!.token,
    lead: scored.length > 1 ? scored[0]!.score - scored[1]!.score : Infinity,
  };
}

/** Log-probabilities out of logits that were read back, in float64. */

/** ln p of one token. */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** The drawn token's log-probability and the most probable ones, best first, among equals the lowest id first. */
export interface DrawnLogprobs extends TokenLogprob {
  readonly top: readonly TokenLogprob[];
}

/** Most `top` tokens that can be asked for: OpenAI's limit. */
export const mostTopLogprobs = 20;

/**
 * Log-softmax of one row of logits [V] at the drawn token `id` and at the `count` most probable ones. Of the model's own
 * logits: temperature, penalties, bias and mask do not enter. A logit of −∞ is an impossible token: −Infinity.
 */
export function drawnLogprobs(logits: Float32Array, id: number, count: number): DrawnLogprobs {
  const best = mostProbable(logits, Math.max(1, count));
  const max = logits[best[0]!]!;
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - max);
  const logSum = max + Math.log(sum);
  const logprob = (token: number): TokenLogprob => ({ id: token, logprob: logits[token]! - logSum });
  return { ...logprob(id), top: best.slice(0, count).map(logprob) };
}

/** The ids of the `count` largest values, by insertion into a short sorted list: few values get past its last one. */
function mostProbable(logits: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let id = 0; id < logits.length; id++) {
    const logit = logits[id]!;
    if (best.length === count && logit <= logits[best[count - 1]!]!) continue;
    let place = best.length;
    while (place > 0 && logits[best[place - 1]!]! < logit) place--;
    best.splice(place, 0, id);
    if (best.length > count) best.pop();
  }
  return best;
}

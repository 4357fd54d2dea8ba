/** How far one model's next-token distributions are from another's and from the text. */
import { setImmediate } from 'node:timers/promises';
import type { Reference } from './float-reference';
import { rmsNorm } from './forward';
import type { LayerDevice } from './layer-device';
import { type Matrix, matrix } from './matrix';
import { LinearMap } from './products';
import type { WeightSource } from './rotate';

/** What makes logits of hidden states: the final norm and the head. */
export interface Head {
  readonly weight: Matrix; // [V, D]
  readonly gamma: Float32Array; // [D]
  readonly eps: number;
}

/** Sums over positions. */
export interface ScoreSums {
  /** Negative log likelihood of the text's next token, in nats. */
  readonly nll: number;
  /** KL divergence from the reference's distribution, in nats. */
  readonly kl: number;
  /** Positions whose most likely token is the reference's. */
  readonly same: number;
}

export interface LogitScorer {
  /** @param hidden, reference [T, D] in front of the final norms. @param ids the window's T tokens: T − 1 are predicted */
  score(hidden: Matrix, reference: Matrix, ids: readonly number[]): Promise<ScoreSums>;
  dispose(): void;
}

async function readHead(source: WeightSource): Promise<Head> {
  const { vocabSize, hiddenSize, tieWordEmbeddings, rmsNormEps: eps } = source.config;
  const values = await source.tensor(tieWordEmbeddings ? 'embed.weight' : 'head.weight');
  return {
    weight: matrix(vocabSize, hiddenSize, values),
    gamma: await source.tensor('final_norm.weight'),
    eps,
  };
}

/** Logarithm of Σ exp and the largest entry of a row of logits. */
export function logSumExp(row: Float32Array): { readonly log: number; readonly top: number } {
  let top = 0;
  for (let v = 1; v < row.length; v++) if (row[v]! > row[top]!) top = v;
  let sum = 0;
  for (const value of row) sum += Math.exp(value - row[top]!);
  return { log: row[top]! + Math.log(sum), top };
}

/** One position: q and p are the model's and the reference's logits [V]. */
export function scorePosition(q: Float32Array, p: Float32Array, next: number): ScoreSums {
  const [own, reference] = [logSumExp(q), logSumExp(p)];
  let kl = 0;
  for (let v = 0; v < p.length; v++) {
    const logP = p[v]! - reference.log;
    kl += Math.exp(logP) * (logP - (q[v]! - own.log));
  }
  return { nll: own.log - q[next]!, kl, same: own.top === reference.top ? 1 : 0 };
}

function addScores(a: ScoreSums, b: ScoreSums): ScoreSums {
  return { nll: a.nll + b.nll, kl: a.kl + b.kl, same: a.same + b.same };
}

const noScores: ScoreSums = { nll: 0, kl: 0, same: 0 };

/** On the host, sums in float64. `reference` may be `own`. */
export async function hostScorer(own: Head, reference: Head): Promise<LogitScorer> {
  const map = await LinearMap.load(own.weight);
  const referenceMap = reference === own ? map : await LinearMap.load(reference.weight);
  const logits = (head: Head, product: LinearMap, x: Matrix) =>
    product.apply(rmsNorm(x, head.gamma, head.eps));
  return {
    score: async (hidden, referenceHidden, ids) => {
      await setImmediate();
      const q = await logits(own, map, hidden);
      const isSame = hidden === referenceHidden && own === reference;
      const p = isSame ? q : await logits(reference, referenceMap, referenceHidden);
      const row = ({ data, cols }: Matrix, t: number) => data.subarray(t * cols, (t + 1) * cols);
      return ids
        .slice(1)
        .map((next, t) => scorePosition(row(q, t), row(p, t), next))
        .reduce(addScores, noScores);
    },
    dispose: () => {
      map.dispose();
      if (referenceMap !== map) referenceMap.dispose();
    },
  };
}

export interface Scores {
  readonly ppl: number;
  /** Mean KL divergence from the float model's next-token distribution, in nats. */
  readonly kl: number;
  /** Part of positions with the float model's most likely token. */
  readonly top1: number;
}

/** Scores the last layer's outputs [T, D] per window against the windows' tokens and the float model's distributions. */
export async function scoreHidden(
  source: WeightSource,
  { source: floatSource, windows, hidden: float }: Pick<Reference, 'source' | 'windows' | 'hidden'>,
  hidden: readonly Matrix[],
  device?: LayerDevice,
): Promise<Scores> {
  const own = await readHead(source);
  const reference = floatSource === source ? own : await readHead(floatSource);
  const scorer = await (device ? device.scorer(own, reference) : hostScorer(own, reference));
  let sums = noScores;
  let count = 0;
  for (const [i, ids] of windows.entries()) {
    sums = addScores(sums, await scorer.score(hidden[i]!, float[i]!, ids));
    count += ids.length - 1;
  }
  scorer.dispose();
  return { ppl: Math.exp(sums.nll / count), kl: sums.kl / count, top1: sums.same / count };
}

/** What every configuration must satisfy, wherever it was read from. */
import type { LlamaConfig } from './config';

/**
 * Caps that no published Llama comes near. They keep every product of sizes a safe integer and a manifest that lies from
 * asking for absurd amounts of work before its files have been looked at.
 */
export const configLimits = {
  hiddenSize: 65_536,
  intermediateSize: 524_288,
  numLayers: 1_024,
  numHeads: 1_024,
  numKvHeads: 1_024,
  headDim: 256, // what the attention kernel takes
  vocabSize: 2_097_152,
  maxPositionEmbeddings: 16_777_216,
} as const satisfies Partial<Record<keyof LlamaConfig, number>>;

export interface ConfigProblem {
  /** A key of {@link LlamaConfig}. */
  readonly field: keyof LlamaConfig;
  readonly expected: string;
  readonly found: unknown;
}

/** The first thing wrong with a configuration whose fields have the right types, or null. */
export function configProblem(config: LlamaConfig): ConfigProblem | null {
  return sizeProblem(config) ?? shapeProblem(config) ?? numberProblem(config) ?? tokenProblem(config);
}

function sizeProblem(config: LlamaConfig): ConfigProblem | null {
  for (const [key, limit] of Object.entries(configLimits)) {
    const field = key as keyof typeof configLimits;
    const found = config[field];
    if (!Number.isInteger(found) || found < 1 || found > limit) {
      return { field, expected: `an integer from 1 to ${limit}`, found };
    }
  }
  return null;
}

function shapeProblem({ hiddenSize, numHeads, numKvHeads, headDim }: LlamaConfig): ConfigProblem | null {
  // float16 rows of an odd length would leave the tensors after them unaligned
  if (hiddenSize % 2 !== 0) return { field: 'hiddenSize', expected: 'an even number', found: hiddenSize };
  if (headDim % 2 !== 0) {
    return { field: 'headDim', expected: 'an even number, as RoPE turns pairs', found: headDim };
  }
  if (numHeads % numKvHeads !== 0) {
    return { field: 'numKvHeads', expected: `a divisor of the ${numHeads} heads`, found: numKvHeads };
  }
  return null;
}

function numberProblem({ rmsNormEps, ropeTheta, ropeScaling }: LlamaConfig): ConfigProblem | null {
  if (!(rmsNormEps > 0 && rmsNormEps < 1)) {
    return { field: 'rmsNormEps', expected: 'a number between 0 and 1', found: rmsNormEps };
  }
  if (!(ropeTheta > 1 && Number.isFinite(ropeTheta))) {
    return { field: 'ropeTheta', expected: 'a finite number above 1', found: ropeTheta };
  }
  if (ropeScaling === null) return null;
  const { factor } = ropeScaling;
  if (!(factor >= 1 && Number.isFinite(factor))) {
    return { field: 'ropeScaling', expected: 'a finite factor of at least 1', found: factor };
  }
  if (ropeScaling.type === 'linear') return null;
  const { lowFreqFactor: low, highFreqFactor: high, originalMaxPositionEmbeddings: original } = ropeScaling;
  if (!(low > 0 && high > low && Number.isFinite(high))) {
    return { field: 'ropeScaling', expected: 'frequency factors 0 < low < high', found: [low, high] };
  }
  if (!Number.isInteger(original) || original < 1 || original > configLimits.maxPositionEmbeddings) {
    return { field: 'ropeScaling', expected: 'a positive original context length', found: original };
  }
  return null;
}

function tokenProblem({ bosTokenId, eosTokenIds, vocabSize }: LlamaConfig): ConfigProblem | null {
  const isToken = (id: number) => Number.isInteger(id) && id >= 0 && id < vocabSize;
  const expected = `token ids from 0 to ${vocabSize - 1}`;
  if (bosTokenId !== null && !isToken(bosTokenId))
    return { field: 'bosTokenId', expected, found: bosTokenId };
  if (!eosTokenIds.every(isToken)) return { field: 'eosTokenIds', expected, found: eosTokenIds };
  return null;
}

import type { LlamaConfig } from '../format/config';

export type RopeConfig = Pick<LlamaConfig, 'headDim' | 'ropeTheta' | 'ropeScaling'>;

/** Angle per position of each of the Dh/2 pairs, in radians, scaling applied. Float64. */
export function ropeFrequencies({ headDim, ropeTheta, ropeScaling }: RopeConfig): Float64Array {
  return Float64Array.from({ length: headDim / 2 }, (_, i) =>
    scaledFrequency(ropeTheta ** ((-2 * i) / headDim), ropeScaling),
  );
}

/**
 * Llama-3.1 keeps frequencies whose wavelength is far below the original context, divides those far above it by `factor`,
 * and blends in between; `linear` divides all (position interpolation: Chen et al., 2023).
 */
function scaledFrequency(frequency: number, scaling: RopeConfig['ropeScaling']): number {
  if (!scaling) return frequency;
  const interpolated = frequency / scaling.factor;
  if (scaling.type === 'linear') return interpolated;
  const { lowFreqFactor, highFreqFactor, originalMaxPositionEmbeddings } = scaling;
  const turns = (originalMaxPositionEmbeddings * frequency) / (2 * Math.PI); // within the original context
  if (turns > highFreqFactor) return frequency;
  if (turns < lowFreqFactor) return interpolated;
  const blend = (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor);
  return (1 - blend) * interpolated + blend * frequency;
}

/** Cosine and sine of every pair at positions 0 … contextLength − 1: f32 [contextLength, Dh/2, 2], computed in float64. */
export function ropeTable(config: RopeConfig, contextLength: number): Float32Array<ArrayBuffer> {
  const frequencies = ropeFrequencies(config);
  const table = new Float32Array(contextLength * frequencies.length * 2);
  let next = 0;
  for (let position = 0; position < contextLength; position++) {
    for (const frequency of frequencies) {
      table[next++] = Math.cos(position * frequency);
      table[next++] = Math.sin(position * frequency);
    }
  }
  return table;
}

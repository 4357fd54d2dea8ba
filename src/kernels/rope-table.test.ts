import { describe, expect, test } from 'vitest';
import { ropeFrequencies, ropeTable } from './rope-table';

/** Table of the last position of a context, as float64. */
function lastRow(config: Parameters<typeof ropeTable>[0], contextLength: number): number[] {
  return [...ropeTable(config, contextLength).slice(-config.headDim)];
}

/** Cosines and sines are at most 1, so rounding them to float32 costs at most 2^-25; 2^-24 leaves room for libm. */
function expectRow(actual: number[], expected: number[]): void {
  expect(actual.length).toBe(expected.length);
  actual.forEach((value, i) => {
    expect(Math.abs(value - expected[i]!)).toBeLessThan(2 ** -24);
  });
}

// Expected values were computed by hand from the formulas (θ^(-2i/Dh); Llama-3.1's bands), outside this code.
describe('ropeTable', () => {
  test('plain: pairs turn by 1 and 0.01 a position for θ = 10000 and Dh = 4', () => {
    const config = { headDim: 4, ropeTheta: 10000, ropeScaling: null };
    expectRow([...ropeTable(config, 1)], [1, 0, 1, 0]);
    expectRow(
      lastRow(config, 2),
      [0.5403023058681398, 0.8414709848078965, 0.9999500004166653, 0.009999833334],
    );
  });

  test('linear: factor 2 halves every angle', () => {
    const config = { headDim: 2, ropeTheta: 10000, ropeScaling: { type: 'linear', factor: 2 } as const };
    expectRow(lastRow(config, 2), [0.8775825618903728, 0.479425538604203]);
  });

  describe('llama3', () => {
    const config = {
      headDim: 128,
      ropeTheta: 500000,
      ropeScaling: {
        type: 'llama3',
        factor: 8,
        lowFreqFactor: 1,
        highFreqFactor: 4,
        originalMaxPositionEmbeddings: 8192,
      },
    } as const;

    test.each([
      { pair: 0, frequency: 1, why: 'kept' },
      { pair: 28, frequency: 0.003211445994752591, why: 'wavelength 1956 < 8192/4: kept' },
      { pair: 30, frequency: 0.0013718935677611381, why: 'wavelength 2948: blended' },
      { pair: 34, frequency: 0.0001785078127679964, why: 'wavelength 6695: blended' },
      { pair: 35, frequency: 9.556212353964683e-5, why: 'wavelength 8219 > 8192: divided by 8' },
      { pair: 63, frequency: 3.068925988914511e-7, why: 'divided by 8' },
    ])('pair $pair: $why', ({ pair, frequency }) => {
      expect(Math.abs(ropeFrequencies(config)[pair]! / frequency - 1)).toBeLessThan(1e-12);
    });

    test('position 1000 in the table', () => {
      const row = lastRow(config, 1001);
      expectRow(row.slice(60, 62), [0.1975938422192489, 0.9802839759564749]);
      expectRow(row.slice(126), [0.9999999529084668, 0.0003068925940741034]);
    });
  });
});

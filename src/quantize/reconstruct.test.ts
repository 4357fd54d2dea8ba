import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { clamp, intRange, matrix } from './matrix';
import { mergeNorm, migrateWeights, siteIntegers } from './migrate';
import {
  maxSegments,
  outlierThreshold,
  prunedChannels,
  reconstruct,
  segmentOffsets,
  splitScale,
} from './reconstruct';

const noDiagonal = (length: number) => new Float32Array(length);

/** 64 equal scales and two outliers, 20 and 45 times as large. */
function outlierScales(): Float32Array {
  const scales = new Float32Array(64).fill(1);
  scales[7] = 20;
  scales[40] = 45;
  return scales;
}

describe('splitting', () => {
  test('pieces add up to the scale and none exceeds the threshold', () => {
    const positive = fc.double({ min: 1, max: 1e3, noNaN: true });
    fc.assert(
      fc.property(positive, positive, (scale, threshold) => {
        const pieces = splitScale(scale, threshold);
        const sum = pieces.reduce((a, b) => a + b, 0);
        // one rounding per added piece
        expect(Math.abs(sum - scale)).toBeLessThanOrEqual(scale * pieces.length * 2 ** -52);
        expect(Math.max(...pieces)).toBeLessThanOrEqual(threshold + scale * 2 ** -52);
        expect(pieces.length).toBe(Math.max(1, Math.ceil(scale / threshold)));
        expect(Math.min(...pieces)).toBeGreaterThan(0);
      }),
    );
  });

  test('the threshold is mean plus alpha population deviations', () => {
    // mean 3, deviation 2
    expect(outlierThreshold(Float32Array.of(1, 1, 5, 5), 1.5)).toBeCloseTo(6, 12);
  });

  test('a padded product is the unsplit one, with bounded columns', () => {
    const scales = outlierScales();
    const columns = reconstruct(scales, {
      mode: 'pad',
      alpha: 2,
      actBits: 4,
      hessianDiagonal: noDiagonal(64),
    });
    const threshold = outlierThreshold(scales, 2);
    expect(columns.gather.length % 32).toBe(0);
    expect(columns.gather.length).toBeGreaterThan(64);
    expect(columns.offsets).toBeNull();
    expect(Math.max(...columns.pieces)).toBeLessThanOrEqual(Math.fround(threshold));
    const weights = matrix(
      1,
      64,
      Float32Array.from({ length: 64 }, (_, k) => 1 + k / 64),
    );
    const migrated = migrateWeights(weights, columns);
    const perChannel = new Float64Array(64);
    columns.gather.forEach((k, j) => {
      perChannel[k]! += migrated.data[j]!;
    });
    perChannel.forEach((sum, k) => {
      // each of at most 10 pieces and products is rounded to float32
      const exact = scales[k]! * weights.data[k]!;
      expect(Math.abs(sum - exact)).toBeLessThanOrEqual(exact * 10 * 2 ** -23);
    });
  });

  test('copies of a channel carry the same integer and padding carries 0', () => {
    const scales = outlierScales();
    const columns = reconstruct(scales, {
      mode: 'pad',
      alpha: 2,
      actBits: 4,
      hessianDiagonal: noDiagonal(64),
    });
    const rows = matrix(
      2,
      64,
      Float32Array.from({ length: 128 }, (_, i) => ((i * 37) % 64) - 30),
    );
    const integers = siteIntegers(rows, columns, 4);
    const byChannel = new Map<number, number>();
    columns.gather.forEach((k, j) => {
      if (columns.steps[j] === 0) expect(integers.data[j]).toBe(0);
      else expect(integers.data[j]).toBe(byChannel.set(k, byChannel.get(k) ?? integers.data[j]!).get(k));
    });
    expect(byChannel.size).toBe(64);
    const padding = columns.steps.indexOf(0);
    expect(padding).toBeGreaterThan(64);
    expect(mergeNorm(new Float32Array(64).fill(1), columns)[padding]).toBe(0);
  });
});

describe.each([4, 8] as ActBits[])('segments of %i bits', (actBits) => {
  const { min, max } = intRange(actBits);

  test.each([1, 2, 3, 7])('%i segments sum exactly on their range and saturate outside', (count) => {
    const sum = (value: number) =>
      segmentOffsets(count, actBits).reduce((total, b) => total + clamp(value + b, min, max), 0);
    for (let value = count * min; value <= count * max; value++) expect(sum(value)).toBe(value);
    expect(sum(count * max + 1000)).toBe(count * max);
    expect(sum(count * min - 1000)).toBe(count * min);
  });

  test('offsets stay below the kernels limit up to the cap and not beyond', () => {
    const largest = (count: number) => Math.max(...segmentOffsets(count, actBits).map(Math.abs));
    expect(largest(maxSegments(actBits))).toBeLessThan(2048);
    expect(largest(maxSegments(actBits) + 1)).toBeGreaterThanOrEqual(2048);
  });

  test('a segmented channel is quantized with the finer step', () => {
    const scales = outlierScales();
    const options = { mode: 'segment', alpha: 2, actBits, hessianDiagonal: noDiagonal(64) } as const;
    const columns = reconstruct(scales, options);
    const own = [...columns.gather.keys()].filter((j) => columns.gather[j] === 40 && columns.steps[j]! > 0);
    expect(own.length).toBe(splitScale(45, outlierThreshold(scales, 2)).length);
    const value = 45 * (max - 0.37);
    const rows = matrix(1, 64);
    rows.data[40] = value;
    const integers = siteIntegers(rows, columns, actBits);
    const restored = own.reduce((sum, j) => sum + integers.data[j]! * columns.pieces[j]!, 0);
    expect(Math.abs(restored - value)).toBeLessThanOrEqual((45 / own.length) * 0.5001);
  });
});

describe('pruning', () => {
  // outliers 3 and 5: neighbours 2, 4 (shared), 6
  const diagonal = Float32Array.of(1, 9, 8, 0, 2, 0, 5, 7, 3, 6);

  test('more neighbours than needed: those of least diagonal', () => {
    expect(prunedChannels([3, 5], 2, diagonal)).toEqual([4, 6]);
  });

  test('as many neighbours as needed: all of them', () => {
    expect(prunedChannels([3, 5], 3, diagonal).sort()).toEqual([2, 4, 6]);
  });

  test('too few neighbours: all, and the least of the rest, never an outlier', () => {
    expect(prunedChannels([3, 5], 5, diagonal).sort()).toEqual([0, 2, 4, 6, 8]);
  });

  test('neighbours beyond the ends and neighbouring outliers do not count', () => {
    expect(prunedChannels([0, 1], 1, diagonal)).toEqual([2]);
    expect(prunedChannels([9], 2, diagonal)).toEqual([8, 3]);
  });

  test('the reconstructed length is the original one', () => {
    const columns = reconstruct(outlierScales(), {
      mode: 'prune',
      alpha: 2,
      actBits: 4,
      hessianDiagonal: new Float32Array(64).fill(1),
    });
    expect(columns.gather.length).toBe(64);
    expect(columns.steps.every((step) => step > 0)).toBe(true);
    for (const neighbour of [6, 8, 39, 41]) expect(columns.gather).not.toContain(neighbour);
  });
});

test('none keeps every channel in its place and pads to 32', () => {
  const scales = outlierScales().slice(0, 50);
  const columns = reconstruct(scales, {
    mode: 'none',
    alpha: 5,
    actBits: 4,
    hessianDiagonal: noDiagonal(50),
  });
  expect([...columns.gather]).toEqual([...Array.from({ length: 50 }, (_, k) => k), ...new Array(14).fill(0)]);
  expect([...columns.pieces]).toEqual([...scales, ...new Array(14).fill(0)]);
});

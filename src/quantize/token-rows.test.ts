import { expect, test } from 'vitest';
import { matrix } from './matrix';
import { gatherRow, packSequences, rowAngles, rowPrefix, rowStarts, rowWeights } from './token-rows';
import { autoBatchRows } from './training-batches';

test('sequences are packed first fit, longest first, each once', () => {
  const rows = packSequences([3, 8, 5, 2], 8);
  expect(rows).toEqual([
    [{ sequence: 1, from: 0, tokens: 8 }],
    [
      { sequence: 2, from: 0, tokens: 5 },
      { sequence: 0, from: 5, tokens: 3 },
    ],
    [{ sequence: 3, from: 0, tokens: 2 }],
  ]);
  expect(() => packSequences([9], 8)).toThrow(/9 tokens in rows of 8/);
});

test('a row holds its sequences with starts, positions and weights of their own', () => {
  const row = packSequences([2, 1], 4)[0]!;
  const sequences = [matrix(2, 1, Float32Array.of(10, 11)), matrix(1, 1, Float32Array.of(20))];
  expect([...gatherRow(row, sequences, 4).data]).toEqual([10, 11, 20, 0]);
  expect([...rowStarts(row, 4)]).toEqual([0, 0, 2, 3]);
  const table = { cos: Float32Array.of(1, 2), sin: Float32Array.of(3, 4) };
  expect([...rowAngles(row, 4, table, 1).cos]).toEqual([1, 2, 1, 0]);
  expect([...rowWeights(row, 4)]).toEqual([1, 1, 1, 0]);
  expect([...rowWeights(row, 4, 1)]).toEqual([0, 1, 0, 0]);
  expect([...rowPrefix(packSequences([3], 3)[0]!, 3, 2)]).toEqual([1, 0, 0, 1, 0, 0]);
});

test('rows in one step grow with the rows there are, up to four', () => {
  expect([1, 16, 31, 32, 63, 64, 1000].map(autoBatchRows)).toEqual([1, 1, 1, 2, 3, 4, 4]);
});

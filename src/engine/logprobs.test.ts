import fc from 'fast-check';
import { expect, test } from 'vitest';
import { drawnLogprobs } from './logprobs';

/** By sorting everything, with the sum in another order. */
function reference(logits: readonly number[], id: number, count: number) {
  const max = Math.max(...logits);
  const total = logits.reduceRight((sum, logit) => sum + Math.exp(logit - max), 0);
  const logprob = (token: number) => ({ id: token, logprob: logits[token]! - max - Math.log(total) });
  const ranked = logits.map((_, token) => token).sort((a, b) => logits[b]! - logits[a]! || a - b);
  return { ...logprob(id), top: ranked.slice(0, count).map(logprob) };
}

/** Few values, so that ties are common, and wide ones, so that sums span many orders of magnitude. */
const logit = fc.oneof(fc.constantFrom(-2, 0, 1.5), fc.float({ min: -60, max: 60, noNaN: true }));

test('as the reference, for every row, token and count', () => {
  fc.assert(
    fc.property(
      fc.array(logit, { minLength: 1, maxLength: 60 }),
      fc.nat(),
      fc.nat(20),
      (row, pick, count) => {
        const id = pick % row.length;
        const actual = drawnLogprobs(Float32Array.from(row), id, count);
        const expected = reference(row, id, count);
        expect(actual.top.map((token) => token.id)).toEqual(expected.top.map((token) => token.id));
        // Sums of up to 60 terms in two orders: 60·2⁻⁵³ relative; the subtractions at magnitudes up to 125 add 2⁻⁴⁶ each.
        [actual, ...actual.top].forEach(({ logprob }, i) => {
          expect(Math.abs(logprob - [expected, ...expected.top][i]!.logprob)).toBeLessThan(1e-13);
        });
      },
    ),
    { numRuns: 1000 },
  );
});

test('impossible tokens, and logits too large for exp', () => {
  const { logprob, top } = drawnLogprobs(Float32Array.of(1e30, -Infinity, 1e30), 1, 2);
  expect(logprob).toBe(-Infinity);
  expect(top.map(({ id }) => id)).toEqual([0, 2]);
});

import { describe, expect, test } from 'vitest';
import { argmaxRef } from './argmax.ref';
import { KernelShapeError } from './op';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';
import { tokenNll } from './token-nll';
import { tokenNllRef } from './token-nll.ref';

const noTarget = 0xffffffff;

describe.each(capabilitySets)('token_nll with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function run(logits: Float32Array<ArrayBuffer>, targets: Uint32Array<ArrayBuffer>) {
    const numTokens = targets.length;
    const [nll, top] = [bench.output(numTokens), bench.output(numTokens)];
    const op = await tokenNll(bench, {
      vocabSize: logits.length / numTokens,
      step: bench.step(numTokens),
      logits: bench.input(logits),
      targets: bench.input(targets),
      nll,
      top,
    });
    await bench.run([op], numTokens);
    return {
      nll: new Float32Array((await bench.readOutput(nll, numTokens)).buffer),
      top: await bench.readOutput(top, numTokens),
    };
  }

  test.each([
    { numTokens: 1, vocabSize: 1, scale: 3 },
    { numTokens: 5, vocabSize: 512, scale: 3 },
    { numTokens: 3, vocabSize: 1000, scale: 30 },
    { numTokens: 2, vocabSize: 32000, scale: 1e-3 },
    { numTokens: 1, vocabSize: 128256, scale: 5 },
  ])('T=$numTokens V=$vocabSize scale $scale', async ({ numTokens, vocabSize, scale }) => {
    const logits = normals(numTokens * vocabSize, vocabSize, scale);
    const targets = Uint32Array.from({ length: numTokens }, (_, t) =>
      t === 3 ? noTarget : (t * 7919) % vocabSize,
    );
    const result = await run(logits, targets);
    // Relative error of the sum: ⌈V/64⌉ + 30 roundings of 2⁻²⁴, and of its terms by weight: exp's 3 + 2|x| ULP at
    // x = l − m and x's own rounding; the weighted mean of |x| is below 20 for all of these. ln adds 2⁻²¹ or 3 ULP, and
    // (m − l) and the last sum half a ULP each.
    const sumError = 2 ** -24 * (Math.ceil(vocabSize / 64) + 30) + 2 ** -23 * (3 + 3 * 20);
    expectClose(
      result.nll,
      tokenNllRef(logits, targets, vocabSize),
      (value) => sumError + 2 ** -21 + 2 ** -21 * Math.abs(value),
    );
    const tops = Array.from({ length: numTokens }, (_, t) =>
      argmaxRef(logits.subarray(t * vocabSize, (t + 1) * vocabSize)),
    );
    expectEqualInts(result.top, tops as number[]);
  });

  test('a token gives the same bits whatever T is', async () => {
    const logits = normals(4 * 1000, 5, 4);
    const all = await run(logits, new Uint32Array(4).fill(9));
    const alone = await run(logits.slice(2000, 3000), Uint32Array.of(9));
    expect(alone.nll[0]).toBe(all.nll[2]);
  });

  test('huge logits do not overflow; −∞ is an impossible token; NaN, +∞ and unknown targets are told', async () => {
    const row = (...values: number[]) => values;
    const logits = Float32Array.of(
      ...row(1e30, 1e30, -1e30, -Infinity),
      ...row(0, -Infinity, 0, 0),
      ...row(1, Number.NaN, 2, 3),
      ...row(1, Infinity, 2, 3),
      ...row(-Infinity, -Infinity, -Infinity, -Infinity),
      ...row(1, 2, 2, 0),
    );
    const result = await run(logits, Uint32Array.of(1, 1, 0, 0, 0, 4));
    expect(result.nll[0]).toBeCloseTo(Math.LN2, 6);
    expect([...result.nll].slice(1)).toEqual([Infinity, Number.NaN, Number.NaN, Number.NaN, Number.NaN]);
    expect([...result.top]).toEqual([0, 0, noTarget, noTarget, noTarget, 1]);
  });

  test('logits smaller than one row are refused', async () => {
    const small = bench.output(1);
    const args = { step: bench.step(1), logits: small, targets: small, nll: small, top: small };
    expect(() => tokenNll(bench, { vocabSize: 1000, ...args })).toThrow(KernelShapeError);
  });
});

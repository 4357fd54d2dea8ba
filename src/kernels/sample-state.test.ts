import { describe, expect, test } from 'vitest';
import { noToken } from './argmax';
import type { Op } from './op';
import { gumbelRef } from './sample.ref';
import { buildSample, plain, runSample, type SampleCase } from './sample.testing';
import { KernelBench, normals } from './testing';

describe('sample', async () => {
  const bench = await KernelBench.openPlain();
  const run = (testCase: SampleCase, steps: number) => runSample(bench, testCase, steps);

  test('frequencies follow the softmax', async () => {
    const [vocabSize, draws] = [20, 2000];
    const logits = normals(vocabSize, 14, 0.8);
    const tokens = await run({ logits, parameters: { ...plain, temperature: 0.9 } }, draws);
    const weights = Array.from(logits, (logit) => Math.exp(logit / 0.9));
    const total = weights.reduce((a, b) => a + b, 0);
    const observed = new Array<number>(vocabSize).fill(0);
    for (const token of tokens) observed[token]!++;
    let chiSquare = 0;
    weights.forEach((weight, i) => {
      const expected = (draws * weight) / total;
      expect(expected).toBeGreaterThan(5);
      chiSquare += (observed[i]! - expected) ** 2 / expected;
    });
    // Chi-square of 19 degrees of freedom exceeds 58 with probability 1e-5 and is below 3 with 2e-5; too small is as suspicious.
    expect(chiSquare).toBeLessThan(58);
    expect(chiSquare).toBeGreaterThan(3);
    // Independence of neighbours: equal pairs are binomial with Σp²; 4.5 standard deviations (7e-6).
    const same = weights.reduce((sum, weight) => sum + (weight / total) ** 2, 0);
    const pairs = tokens.filter((token, i) => i > 0 && token === tokens[i - 1]).length;
    const deviation = Math.sqrt((draws - 1) * same * (1 - same));
    expect(Math.abs(pairs - (draws - 1) * same)).toBeLessThan(4.5 * deviation);
  });

  test('same seed, same tokens; another seed, others; a step’s draw does not depend on the steps before', async () => {
    const logits = normals(32000, 15, 2);
    const parameters = { ...plain, topK: 2000, topP: 0.95, temperature: 1.3 };
    const first = await run({ logits, parameters }, 10);
    expect(await run({ logits, parameters }, 10)).toEqual(first);
    expect(await run({ logits, parameters, generated: 6 }, 4)).toEqual(first.slice(6));
    expect(await run({ logits, parameters: { ...parameters, seed: 1235 } }, 10)).not.toEqual(first);
  });

  test('advances the state, counts, and wraps the history', async () => {
    const logits = normals(512, 16, 1);
    const all = await run({ logits, parameters: plain }, 7);
    const built = await buildSample(bench, { logits, parameters: plain }, 3);
    await bench.run(Array<Op[]>(7).fill(built.ops).flat(), 1);
    expect([...(await bench.readOutput(built.history, 3))]).toEqual([all[6], all[4], all[5]]);
    expect((await bench.readOutput(built.ids, 2))[0]).toBe(all[6]);
    expect([...new Uint32Array(await bench.read(built.step))]).toEqual([1, 17, 7, 0]);
    const expected = new Uint32Array(512);
    for (const token of all) expected[token]!++;
    expect(new Uint32Array(await bench.read(built.counts)).slice(0, 512)).toEqual(expected);
  });

  test.each([Number.NaN, Infinity])('a logit of %d yields no token, whatever the filters', async (bad) => {
    for (const parameters of [
      plain,
      { ...plain, topK: 5, topP: 0.5, repetitionPenalty: 1.3, frequencyPenalty: 0.4 },
      { ...plain, temperature: 0 },
    ]) {
      const logits = normals(1500, 17);
      logits[1300] = bad;
      const ones = new Uint32Array(1500).fill(1);
      expect([...(await run({ logits, parameters, counts: ones }, 2))]).toEqual([noToken, noToken]);
    }
    const none = new Float32Array(300).fill(-Infinity);
    expect((await run({ logits: none, parameters: { ...plain, topK: 5 } }, 1))[0]).toBe(noToken);
  });
});

test('Gumbel noise is standard over seeds, steps and tokens', () => {
  // Mean 0.5772, variance π²/6; with n draws the mean deviates by 1.2825/√n: 4.5 of these are allowed.
  const count = 40000;
  const axes = [
    (i: number) => gumbelRef(i, 0, 5),
    (i: number) => gumbelRef(7, i, 5),
    (i: number) => gumbelRef(7, 3, i),
  ];
  for (const axis of axes) {
    const noise = Array.from({ length: count }, (_, i) => axis(i));
    const mean = noise.reduce((a, b) => a + b, 0) / count;
    expect(Math.abs(mean - 0.5772157)).toBeLessThan((4.5 * 1.2825) / Math.sqrt(count));
    // The lag-1 correlation of independent draws deviates by 1/√n.
    const product = noise.reduce((sum, g, i) => sum + (i > 0 ? (g - mean) * (noise[i - 1]! - mean) : 0), 0);
    expect(Math.abs(product / count / (Math.PI ** 2 / 6))).toBeLessThan(4.5 / Math.sqrt(count));
  }
});

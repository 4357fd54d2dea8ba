import { describe, expect, test } from 'vitest';
import { argmaxRef } from './argmax.ref';
import { encodeSampling, SamplingParameterError, type SamplingParameters } from './sample';
import { drawRef, filterRef, penalizeRef } from './sample.ref';
import { plain, runSample, type SampleCase } from './sample.testing';
import { KernelBench, normals } from './testing';

/**
 * Float error of the difference of two scores g − t that can win (t < 27). Per token: −ln's 3 ULP at most 22.9 and 2⁻²¹
 * elsewhere, its argument's relative error (2⁻²¹ / 0.2877 where the inner ln gives it): 8e-6 in all; t: three roundings
 * of 2⁻²⁴·27: 5e-6; their difference 2e-6. Twice 15e-6.
 */
const scoreError = 3e-5;

/**
 * Float error of a share of the mass: the terms' exp (3 + 2t ULP) and t's own roundings (1.5t·2⁻²³), at mean t < 10:
 * 38·2⁻²³ = 4.6e-6; half a unit of mass (2⁻³²) per token over a total of at least 1 adds V·2⁻³² (3e-5 at V = 128,256).
 */
const shareError = (vocabSize: number) => 5e-6 + vocabSize * 2 ** -32;

/** A top-p that keeps the `kept` best tokens, half a token's mass away from keeping one more or less. */
function topPKeeping(kept: number, logits: Float32Array, p: SamplingParameters): number {
  const ranked = filterRef(logits, { ...p, topP: 1, minP: 0 }).tokens;
  const weights = ranked.map((i) => Math.exp((logits[i]! - logits[ranked[0]!]!) / p.temperature));
  const total = weights.reduce((a, b) => a + b, 0);
  return (weights.slice(0, kept).reduce((a, b) => a + b, 0) - weights[kept - 1]! / 2) / total;
}

describe('sample', async () => {
  const bench = await KernelBench.openPlain();
  const run = (testCase: SampleCase, steps: number) => runSample(bench, testCase, steps);

  /** Every drawn token must be the reference's, but where the reference's two best are within the score's float error. */
  async function expectReferenceTokens(testCase: SampleCase, steps: number): Promise<Uint32Array> {
    const { logits, parameters } = testCase;
    const tokens = await run(testCase, steps);
    const counts = testCase.counts?.slice() ?? new Uint32Array(logits.length);
    const filtered = () => {
      const penalized = penalizeRef(logits, counts, parameters);
      const survivors = filterRef(penalized, parameters);
      expect(survivors.margin).toBeGreaterThan(shareError(logits.length));
      return { penalized, survivors: survivors.tokens };
    };
    const fixed = testCase.counts ? undefined : filtered();
    const wrong: unknown[] = [];
    let undecided = 0;
    tokens.forEach((token, i) => {
      const { penalized, survivors } = fixed ?? filtered();
      const draw = drawRef(penalized, survivors, parameters, (testCase.generated ?? 0) + i);
      if (draw.lead <= scoreError) undecided++;
      else if (token !== draw.token) wrong.push({ step: i, token, expected: draw.token });
      counts[token]!++;
    });
    expect(wrong).toEqual([]);
    expect(undecided).toBeLessThanOrEqual(1);
    return tokens;
  }

  test.each([
    { vocabSize: 1, steps: 4 },
    { vocabSize: 512, steps: 300 },
    { vocabSize: 1000, steps: 100 },
    { vocabSize: 32000, steps: 8 },
    { vocabSize: 128256, steps: 2 },
  ])('without filters, V=$vocabSize', async ({ vocabSize, steps }) => {
    await expectReferenceTokens({ logits: normals(vocabSize, 2, 3), parameters: plain }, steps);
  });

  test.each([
    { vocabSize: 512, topK: 1, steps: 20 },
    { vocabSize: 512, topK: 7, steps: 200 },
    { vocabSize: 512, topK: 511, steps: 60 },
    { vocabSize: 512, topK: 512, steps: 20 },
    { vocabSize: 512, topK: 4294967295, steps: 20 },
    { vocabSize: 32000, topK: 40, steps: 12 },
    { vocabSize: 128256, topK: 50, steps: 2 },
  ])('top-k $topK of V=$vocabSize', async ({ vocabSize, topK, steps }) => {
    const logits = normals(vocabSize, 3, 3);
    const tokens = await expectReferenceTokens(
      { logits, parameters: { ...plain, topK, temperature: 3 } },
      steps,
    );
    if (topK === 1) expect(new Set(tokens)).toEqual(new Set([argmaxRef(logits)]));
  });

  test.each([
    { vocabSize: 512, kept: 1, steps: 20 },
    { vocabSize: 512, kept: 2, steps: 60 },
    { vocabSize: 512, kept: 30, steps: 200 },
    { vocabSize: 1000, kept: 100, steps: 100 },
    { vocabSize: 32000, kept: 300, steps: 8 },
    { vocabSize: 128256, kept: 100, steps: 2 },
  ])('top-p that keeps $kept of V=$vocabSize', async ({ vocabSize, kept, steps }) => {
    const logits = normals(vocabSize, 4, 3);
    const parameters = { ...plain, topP: topPKeeping(kept, logits, plain) };
    expect(filterRef(logits, parameters).tokens.length).toBe(kept);
    await expectReferenceTokens({ logits, parameters }, steps);
  });

  test.each([0, 1e-12, 1e-4])('top-p %d keeps the most probable alone', async (topP) => {
    const logits = normals(700, 5, 0.5);
    const tokens = await run({ logits, parameters: { ...plain, topP, temperature: 10 } }, 30);
    expect(new Set(tokens)).toEqual(new Set([argmaxRef(logits)]));
  });

  test('the survivors of top-k, then top-p, then min-p are exactly the reference’s', async () => {
    const logits = normals(1000, 6, 2);
    const base = { ...plain, temperature: 1.5, topK: 60 };
    const parameters = { ...base, topP: topPKeeping(40, logits, base), minP: 0.2 };
    const survivors = filterRef(logits, parameters).tokens;
    expect(survivors.length).toBeGreaterThan(5);
    expect(survivors.length).toBeLessThan(40);
    const tokens = await expectReferenceTokens({ logits, parameters }, 600);
    expect(new Set(tokens)).toEqual(new Set(survivors));
  });

  test.each([
    { topK: 25, kept: 1 },
    { topK: 25, kept: 24 },
    { topK: 400, kept: 390 },
  ])('top-p takes its share of what top-k $topK leaves: $kept tokens', async ({ topK, kept }) => {
    const logits = normals(512, 7, 0.2);
    const base = { ...plain, topK };
    const parameters = { ...base, topP: topPKeeping(kept, logits, base) };
    expect(filterRef(logits, parameters).tokens.length).toBe(kept);
    await expectReferenceTokens({ logits, parameters }, 100);
  });

  test.each([0.01, 0.3, 1, 10])('temperature %d', async (temperature) => {
    const logits = normals(512, 8, 2);
    await expectReferenceTokens({ logits, parameters: { ...plain, temperature, minP: 0.05 } }, 100);
  });

  test('min-p alone', async () => {
    const logits = normals(512, 9, 1);
    const parameters = { ...plain, temperature: 2, minP: 0.4 };
    const tokens = await expectReferenceTokens({ logits, parameters }, 400);
    expect(new Set(tokens)).toEqual(new Set(filterRef(logits, parameters).tokens));
  });

  test.each([
    { topK: 5, topP: 1 },
    { topK: 0, topP: 0.0105 },
    { topK: 300, topP: 0.9005 },
    { topK: 0, topP: 1 },
  ])(
    'equal logits: ties at the cut keep the lowest ids (top-k $topK, top-p $topP)',
    async ({ topK, topP }) => {
      const logits = new Float32Array(1000).fill(-3.5);
      const parameters = { ...plain, topK, topP };
      const tokens = await expectReferenceTokens({ logits, parameters }, 100);
      const kept = filterRef(logits, parameters).tokens.length;
      expect(Math.max(...tokens)).toBeLessThan(kept);
      if (kept < 20) expect(new Set(tokens).size).toBe(kept);
    },
  );

  test('ties at the k-th value among others', async () => {
    const logits = normals(3000, 10, 1);
    for (const i of [2999, 1500, 40, 1023, 1024, 2047]) logits[i] = 6;
    logits[77] = 6.5;
    const tokens = await expectReferenceTokens({ logits, parameters: { ...plain, topK: 4 } }, 60);
    expect(new Set(tokens)).toEqual(new Set([77, 40, 1023, 1024]));
  });

  test('a logit of −∞ is never drawn, even when the filters are wide', async () => {
    const logits = Float32Array.of(0, -Infinity, 0.1, 0.2, -Infinity);
    for (const parameters of [plain, { ...plain, topK: 4 }, { ...plain, topP: 0.9999 }]) {
      const tokens = await expectReferenceTokens({ logits, parameters }, 80);
      expect(new Set(tokens)).toEqual(new Set([0, 2, 3]));
    }
  });

  test('logits near the ends of the float range', async () => {
    const logits = Float32Array.of(-3e38, 10, 9, -1e30, 8.5);
    for (const temperature of [0.01, 1, 1e30]) {
      const tokens = await run({ logits, parameters: { ...plain, temperature, topP: 0.99999 } }, 20);
      expect(tokens.every((token) => token < 5)).toBe(true);
      if (temperature === 0.01) expect(new Set(tokens)).toEqual(new Set([1]));
    }
  });

  const penalties = { repetitionPenalty: 1.3, presencePenalty: 0.7, frequencyPenalty: 0.4 };
  const counts = () => {
    const initial = new Uint32Array(512);
    for (let i = 0; i < 512; i += 3) initial[i] = 0x80000000;
    for (let i = 0; i < 512; i += 5) initial[i]! += i % 7;
    return initial;
  };

  test('penalties on prompt and reply, with the counts of the reply growing', async () => {
    const parameters = { ...plain, ...penalties, temperature: 0.8, topK: 30 };
    await expectReferenceTokens({ logits: normals(512, 11, 3), parameters, counts: counts() }, 150);
  });

  test('greedy after penalties', async () => {
    const logits = normals(512, 12, 3);
    const parameters = { ...plain, ...penalties, temperature: 0, topK: 3, topP: 0.5 };
    const tokens = await run({ logits, parameters, counts: counts() }, 60);
    const simulated = counts();
    const expected = Array.from(tokens, () => {
      const token = argmaxRef(penalizeRef(logits, simulated, parameters))!;
      simulated[token]!++;
      return token;
    });
    expect([...tokens]).toEqual(expected);
    expect(new Set(tokens).size).toBeGreaterThan(5);
  });

  test('greedy without penalties is argmax', async () => {
    const logits = normals(5000, 13, 3);
    const tokens = await run({ logits, parameters: { ...plain, temperature: 0 }, counts: undefined }, 3);
    expect(new Set(tokens)).toEqual(new Set([argmaxRef(logits)]));
  });
});

test.each([
  ['temperature', -1],
  ['temperature', Number.NaN],
  ['topK', 1.5],
  ['topP', 1.01],
  ['minP', -0.1],
  ['repetitionPenalty', 0],
  ['presencePenalty', Infinity],
  ['seed', -1],
] as const)('encodeSampling refuses %s = %d', (parameter, value) => {
  expect(() => encodeSampling({ ...plain, [parameter]: value })).toThrow(SamplingParameterError);
  expect(() => encodeSampling({ ...plain, [parameter]: value })).toThrow(parameter);
});

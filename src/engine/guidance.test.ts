import { afterAll, describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { openTestGpu } from '../gpu/testing';
import { maskWords } from '../kernels/logit-adjust';
import { randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import { LogitBiasError } from './errors';
import { Evaluator } from './evaluate';
import type { DrawnLogprobs } from './logprobs';
import { type GenerateOptions, greedy, type TokenConstraint } from './types';

const config: LlamaConfig = {
  ...{ hiddenSize: 40, intermediateSize: 64, numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 8 },
  ...{ vocabSize: 500, maxPositionEmbeddings: 120, rmsNormEps: 1e-5, ropeTheta: 10000, ropeScaling: null },
  ...{ tieWordEmbeddings: false, attentionBias: false, mlpBias: false, bosTokenId: 1, eosTokenIds: [2] },
};
const model = randomModel({ config, scheme: 'fp16', quant: null, denseDtype: 'F16' }, 5);
const prompt = Array.from({ length: 21 }, (_, i) => (i * 131 + 7) % config.vocabSize);
const drawn = { ...greedy, temperature: 1.2, topP: 0.9, seed: 3 };

/** Lets the tokens of residue 0, 1, …, 6 modulo 7 follow each other, and is complete after `length` tokens. */
class Residues implements TokenConstraint {
  readonly accepted: number[] = [];
  constructor(readonly length: number) {}

  allows(id: number): boolean {
    return id % 7 === this.accepted.length % 7;
  }

  mask(): Uint32Array<ArrayBuffer> {
    const mask = new Uint32Array(maskWords(config.vocabSize));
    for (let id = 0; id < config.vocabSize; id++) if (this.allows(id)) mask[id >> 5]! |= 1 << (id & 31);
    return mask;
  }

  accept(id: number): void {
    expect(this.allows(id), `token ${id} after ${this.accepted.length}`).toBe(true);
    this.accepted.push(id);
  }

  get isComplete(): boolean {
    return this.accepted.length === this.length;
  }
}

describe('a guided reply', async () => {
  const gpu = await openTestGpu();
  const open = async () => Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 16 });
  const engine = await open();
  afterAll(() => engine.destroy());

  async function reply(
    changes: Partial<GenerateOptions>,
    { ids = prompt, on = engine }: { ids?: readonly number[]; on?: Engine } = {},
  ) {
    const tokens: number[] = [];
    const stream = on.generate(ids, { sampling: greedy, maxTokens: 12, stopTokenIds: [], ...changes });
    for (;;) {
      const { value, done } = await stream.next();
      if (done) return { tokens, ...value };
      tokens.push(value);
    }
  }

  const plain = await reply({});

  test.each([greedy, drawn])('a bias forces a token, another forbids one', async (sampling) => {
    const free = await reply({ sampling });
    expect((await reply({ sampling, logitBias: new Map([[77, 100]]) })).tokens).toEqual(Array(12).fill(77));
    const forbidden = new Map(free.tokens.map((id) => [id, -100]));
    const others = await reply({ sampling, logitBias: forbidden });
    expect(others.tokens.filter((id) => forbidden.has(id))).toEqual([]);
    expect((await reply({ sampling })).tokens).toEqual(free.tokens); // nothing of it stays
  });

  test('a bias shifts a logit by exactly its amount', async () => {
    const seen: DrawnLogprobs[] = [];
    await reply({ maxTokens: 1, topLogprobs: 2, onLogprobs: (logprobs) => seen.push(logprobs) });
    const [first, second] = seen[0]!.top as [
      { id: number; logprob: number },
      { id: number; logprob: number },
    ];
    const gap = first.logprob - second.logprob;
    const firstUnder = async (bias: number) =>
      (await reply({ maxTokens: 1, logitBias: new Map([[second.id, bias]]) })).tokens[0];
    // The gap is known to float32's rounding of logits below 64: 2⁻¹⁸ each.
    expect(await firstUnder(gap - 1e-4)).toBe(first.id);
    expect(await firstUnder(gap + 1e-4)).toBe(second.id);
  });

  test('log-probabilities are those of the evaluator, token by token, however many are in flight', async () => {
    const seen: DrawnLogprobs[] = [];
    const onLogprobs = (logprobs: DrawnLogprobs) => seen.push(logprobs);
    const { tokens } = await reply({ sampling: drawn, maxTokens: 60, topLogprobs: 5, onLogprobs });
    expect(seen.map(({ id }) => id)).toEqual(tokens);
    const other = await open();
    const nll = await (await Evaluator.create(other)).window([...prompt, ...tokens]);
    other.destroy();
    seen.forEach(({ id, logprob, top }, i) => {
      // The evaluator's float32 sum of 500 terms, 500·2⁻²⁴ = 3e-5, and the rounding of ln p itself, 2⁻²¹·10.
      expect(Math.abs(logprob + nll[prompt.length - 1 + i]!)).toBeLessThan(5e-5);
      expect(top.length).toBe(5);
      expect(top.every((token, k) => k === 0 || token.logprob <= top[k - 1]!.logprob)).toBe(true);
      const listed = top.find((token) => token.id === id);
      expect(listed?.logprob ?? logprob).toBe(logprob);
      if (!listed) expect(logprob).toBeLessThanOrEqual(top[4]!.logprob);
    });
    expect(new Set(tokens).size).toBeGreaterThan(20);
  });

  test('log-probabilities are the model’s own, under a bias and a constraint, too', async () => {
    const collect = async (changes: Partial<GenerateOptions>) => {
      const seen: DrawnLogprobs[] = [];
      await reply({ maxTokens: 1, topLogprobs: 20, onLogprobs: (one) => seen.push(one), ...changes });
      return seen[0]!;
    };
    const free = await collect({});
    const biased = await collect({ logitBias: new Map([[77, 100]]) });
    expect(biased.top).toEqual(free.top);
    expect(biased.id).toBe(77);
    expect(biased.logprob).toBeLessThan(free.logprob);
    expect((await collect({ constraint: new Residues(9) })).top).toEqual(free.top);
  });

  test.each([
    { name: 'greedy', sampling: greedy },
    { name: 'drawn', sampling: drawn },
    { name: 'penalized', sampling: { ...drawn, repetitionPenalty: 1.3, presencePenalty: -1, topK: 30 } },
  ])('a constraint decides which tokens come, $name, and ends the reply', async ({ sampling }) => {
    const constraint = new Residues(10);
    const { tokens, finishReason } = await reply({ sampling, maxTokens: 50, constraint });
    expect(finishReason).toBe('stop');
    expect(tokens).toEqual(constraint.accepted);
    expect(tokens.length).toBe(10);
  });

  test('what a constrained reply leaves in the cache serves the next turn', async () => {
    const { tokens } = await reply({ constraint: new Residues(9) });
    const next = [...prompt, ...tokens, 4, 5, 6];
    const second = await reply({}, { ids: next });
    expect(second.stats.cachedTokens).toBe(prompt.length + tokens.length - 1);
    const other = await open();
    expect(second.tokens).toEqual((await reply({}, { ids: next, on: other })).tokens);
    other.destroy();
  });

  test('a constrained reply is cut by its length, left early, or cancelled like any other', async () => {
    expect(await reply({ maxTokens: 4, constraint: new Residues(9) })).toMatchObject({
      finishReason: 'length',
    });
    const controller = new AbortController();
    const constraint = new Residues(9);
    const onLogprobs = () => constraint.accepted.length === 3 && controller.abort();
    const { signal } = controller;
    expect((await reply({ constraint, onLogprobs, signal })).finishReason).toBe('cancelled');
    expect((await reply({})).tokens).toEqual(plain.tokens);
  });

  test.each([
    [500, 1, /logit_bias of token 500: expected a token of the vocabulary of 500, got 500/],
    [1.5, 1, /expected a token/],
    [3, Number.NaN, /token 3: expected a finite number, got NaN/],
  ])('a bias of token %d by %d is refused by name', async (id, bias, words) => {
    const refused = reply({ logitBias: new Map([[id, bias]]) });
    await expect(refused).rejects.toThrow(LogitBiasError);
    await expect(refused).rejects.toThrow(words);
  });
});

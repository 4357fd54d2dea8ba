import { afterAll, describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import type { SchemeName } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';
import { openTestGpu } from '../gpu/testing';
import { capabilitySets } from '../kernels/testing';
import { forwardRef } from '../model/forward.ref';
import { randomModel, uploadModel } from '../model/reference-model';
import { raggedConfig, raggedLayout } from '../model/testing';
import { Engine } from './engine';
import { ContextFullError, EngineBusyError, InvalidRequestError } from './errors';
import { Evaluator } from './evaluate';
import { type GenerateOptions, greedy } from './types';

/** A larger vocabulary and context; tensors come in many row blocks. */
const config: LlamaConfig = {
  ...raggedConfig,
  ...{ vocabSize: 500, maxPositionEmbeddings: 300, attentionBias: false },
};

function layout(scheme: SchemeName, actBits: 4 | 8 = 8, overrides: Partial<LlamaConfig> = {}): ModelLayout {
  return raggedLayout(scheme, { actBits }, { ...config, ...overrides });
}

/** The same with a Walsh–Hadamard transform in front of down_proj. */
function rotated(of: ModelLayout): ModelLayout {
  return { ...of, quant: { ...of.quant!, hadamard: { downBlock: 4 } } };
}

/** The same with weights on asymmetric levels. */
function onGrid(of: ModelLayout, weightBits: 3 | 4, groupSize: number | null): ModelLayout {
  return { ...of, quant: { ...of.quant!, weightBits, weightGrid: { groupSize } } };
}

const options = (changes: Partial<GenerateOptions> = {}): GenerateOptions => ({
  ...{ sampling: greedy, maxTokens: 8, stopTokenIds: [] },
  ...changes,
});

async function collect(engine: Engine, ids: readonly number[], changes: Partial<GenerateOptions> = {}) {
  const tokens: number[] = [];
  const stream = engine.generate(ids, options(changes));
  for (;;) {
    const { value, done } = await stream.next();
    if (done) return { tokens, ...value };
    tokens.push(value);
  }
}

/** −log softmax(logits)[target] in float64. */
function nllRef(logits: Float64Array, target: number): number {
  const largest = logits.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
  const total = logits.reduce((sum, value) => sum + Math.exp(value - largest), 0);
  return Math.log(total) + largest - logits[target]!;
}

const ids = Array.from({ length: 37 }, (_, i) => (i * 131 + 7) % config.vocabSize);

describe.each(capabilitySets)('whole passes with $name', async ({ options: gpuOptions }) => {
  const gpu = await openTestGpu(gpuOptions);

  test.each([
    // float16 KV cache: relative error 2^-11 a value, through two layers; measured 4e-4, allowed five times that.
    { name: 'fp16', of: layout('fp16'), allowed: 2e-3 },
    {
      name: 'fp16 tied, biased',
      of: layout('fp16', 8, { tieWordEmbeddings: true, attentionBias: true, mlpBias: true }),
      allowed: 2e-3,
    },
    // A float32 error may move an activation integer by one step of 1/127, or 1/7, of its range: loose, but a wrong
    // scale, nibble, gather or offset is off by far more. The kernels' own tests are exact.
    { name: 'rtn-dynamic 8', of: layout('rtn-dynamic', 8), allowed: 0.05 },
    { name: 'tensor-static 8', of: layout('tensor-static', 8), allowed: 0.05 },
    { name: 'mergequant 8', of: layout('mergequant', 8), allowed: 0.05 },
    { name: 'mergequant-static 8', of: layout('mergequant-static', 8), allowed: 0.05 },
    { name: 'mergequant 4', of: layout('mergequant', 4), allowed: 0.3 },
    { name: 'mergequant 8 hadamard', of: rotated(layout('mergequant', 8)), allowed: 0.05 },
    { name: 'mergequant 8, 3-bit groups', of: onGrid(layout('mergequant', 8), 3, 64), allowed: 0.05 },
    {
      name: 'mergequant 8, 4-bit groups',
      of: onGrid(rotated(layout('mergequant', 8)), 4, 32),
      allowed: 0.05,
    },
  ])('$name: every token’s NLL as in the float64 reference', async ({ of, allowed }) => {
    const model = randomModel(of, 3);
    const engine = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 16 });
    const evaluator = await Evaluator.create(engine);
    const nll = await evaluator.window(ids);
    const logits = forwardRef(of, model.reference, ids);
    const expected = ids.slice(1).map((target, i) => nllRef(logits[i]!, target));
    const spread = Math.max(...expected) - Math.min(...expected);
    expect(spread).toBeGreaterThan(0.5); // the logits say something, so that an error would show
    nll.forEach((value, i) => {
      expect(Math.abs(value - expected[i]!), `token ${i}`).toBeLessThan(allowed);
    });
    engine.destroy();
  });
});

describe('generation', async () => {
  const gpu = await openTestGpu();
  const of = layout('mergequant', 4);
  const model = randomModel(of, 3);
  const engine = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 16 });
  afterAll(() => engine.destroy());

  /** What a fresh engine answers: the standard every reuse of the cache is held to. */
  const fresh = async (prompt: readonly number[], changes: Partial<GenerateOptions> = {}) => {
    const other = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 16 });
    const reply = await collect(other, prompt, changes);
    other.destroy();
    return reply;
  };

  test('greedy tokens are the reference’s argmax, while its margin is clear', async () => {
    engine.reset();
    const { tokens, finishReason } = await collect(engine, ids);
    expect(finishReason).toBe('length');
    const logits = forwardRef(of, model.reference, [...ids, ...tokens]);
    tokens.forEach((token, i) => {
      const row = logits[ids.length - 1 + i]!;
      const best = row.reduce((most, value) => Math.max(most, value), Number.NEGATIVE_INFINITY);
      expect(best - row[token]!).toBeLessThan(0.3);
    });
  });

  test('chunk size does not change a token', async () => {
    const other = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 5 });
    const reply = await collect(other, ids, { maxTokens: 20 });
    other.destroy();
    expect(reply.tokens).toEqual((await fresh(ids, { maxTokens: 20 })).tokens);
  });

  test('a following turn prefills only what is new and answers like a fresh engine', async () => {
    engine.reset();
    const first = await collect(engine, ids);
    const next = [...ids, ...first.tokens, 4, 5, 6];
    const second = await collect(engine, next);
    expect(second.stats.cachedTokens).toBeGreaterThanOrEqual(ids.length + first.tokens.length - 1);
    expect(second.tokens).toEqual((await fresh(next)).tokens);
  });

  test('a changed history is computed again from where it differs', async () => {
    engine.reset();
    await collect(engine, ids);
    const changed = [...ids.slice(0, 10), 9, ...ids.slice(11)];
    const reply = await collect(engine, changed);
    expect(reply.stats.cachedTokens).toBe(10);
    expect(reply.tokens).toEqual((await fresh(changed)).tokens);
  });

  test('a stop token ends the reply and is its last token', async () => {
    const { tokens } = await fresh(ids, { maxTokens: 30 });
    const stop = tokens[5]!;
    engine.reset();
    const reply = await collect(engine, ids, { maxTokens: 30, stopTokenIds: [stop] });
    expect(reply.finishReason).toBe('stop');
    expect(reply.tokens).toEqual(tokens.slice(0, tokens.indexOf(stop) + 1));
  });

  test('same seed, same text; another seed, another', async () => {
    const sampling = { ...greedy, temperature: 1.5, topP: 0.95, seed: 11 };
    const [a, b] = [
      await fresh(ids, { sampling, maxTokens: 16 }),
      await collect(engine, ids, { sampling, maxTokens: 16 }),
    ];
    expect(b.tokens).toEqual(a.tokens);
    const c = await collect(engine, ids, { sampling: { ...sampling, seed: 12 }, maxTokens: 16 });
    expect(c.tokens).not.toEqual(a.tokens);
  });

  test('penalties see the tokens of the reply', async () => {
    const { tokens } = await fresh(ids, { maxTokens: 12 });
    expect(new Set(tokens).size).toBeGreaterThan(6);
    const rewarded = { ...greedy, presencePenalty: -50 }; // repeating the first token pays more than any logit
    const repeated = await collect(engine, ids, { maxTokens: 12, sampling: rewarded });
    expect(repeated.tokens).toEqual(tokens.map(() => tokens[0]));
    const banned = { ...greedy, presencePenalty: 50 };
    const varied = await collect(engine, ids, { maxTokens: 12, sampling: banned });
    expect(new Set(varied.tokens).size).toBe(12);
  });

  test.each([0, 1, 3])('cancelled after %i tokens, the next reply equals a fresh engine’s', async (after) => {
    engine.reset();
    const controller = new AbortController();
    if (after === 0) controller.abort();
    const stream = engine.generate(ids, options({ maxTokens: 50, signal: controller.signal }));
    let received = 0;
    let result = await stream.next();
    while (!result.done) {
      if (++received === after) controller.abort();
      result = await stream.next();
    }
    expect(result.value.finishReason).toBe('cancelled');
    expect(received).toBe(after);
    const next = [...ids, 3, 3];
    expect((await collect(engine, next)).tokens).toEqual((await fresh(next)).tokens);
  });

  test('leaving the loop early frees the engine', async () => {
    for await (const _ of engine.generate(ids, options({ maxTokens: 50 }))) break;
    expect((await collect(engine, ids)).tokens).toEqual((await fresh(ids)).tokens);
  });

  test('the context’s end is said, not overrun', async () => {
    const other = await Engine.create(gpu, await uploadModel(gpu, model), {
      contextLength: 40,
      chunkTokens: 16,
    });
    const reply = await collect(other, ids, { maxTokens: 100 });
    expect(reply.finishReason).toBe('context');
    expect(reply.tokens).toHaveLength(40 - ids.length + 1);
    expect(reply.tokens).toEqual((await fresh(ids, { maxTokens: 4 })).tokens);
    await expect(collect(other, [...ids, 1, 2, 3, 4])).rejects.toThrow(ContextFullError);
    other.destroy();
  });

  test('bad requests are refused by name and leave the engine usable', async () => {
    await expect(collect(engine, [])).rejects.toThrow(/no tokens/);
    await expect(collect(engine, [1, 500])).rejects.toThrow(/500 is outside the vocabulary of 500/);
    await expect(collect(engine, ids, { maxTokens: 0 })).rejects.toThrow(InvalidRequestError);
    await expect(collect(engine, ids, { sampling: { ...greedy, topP: 2 } })).rejects.toThrow(/topP/);
    await expect(Engine.create(gpu, engine.weights, { chunkTokens: 0 })).rejects.toThrow(/chunkTokens/);
    const running = engine.generate(ids, options());
    await running.next();
    await expect(collect(engine, ids)).rejects.toThrow(EngineBusyError);
    await running.return(undefined as never);
    expect((await collect(engine, ids)).tokens).toEqual((await fresh(ids)).tokens);
  });
});

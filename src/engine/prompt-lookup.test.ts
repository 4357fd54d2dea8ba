import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import type { ModelLayout } from '../format/tensors';
import { openTestGpu } from '../gpu/testing';
import { randomModel, uploadModel } from '../model/reference-model';
import { mostVerified } from './draft-verifier';
import { draftedDecode } from './drafted-decode';
import { Engine } from './engine';
import { InvalidRequestError } from './errors';
import type { EngineOptions } from './options';
import { acceptedTokens, draftTokens } from './prompt-lookup';
import { greedy, type ReplyStats } from './types';

describe('draftTokens', () => {
  test('what followed the last tokens the last time', () => {
    expect(draftTokens([1, 2, 3, 4, 9, 1, 2, 3, 5, 9, 7, 1, 2, 3], 3)).toEqual([5, 9, 7]);
  });

  test('a longer match wins over a later one', () => {
    expect(draftTokens([8, 1, 2, 3, 4, 9, 2, 3, 5, 8, 1, 2, 3], 2)).toEqual([4, 9]);
  });

  test('a run of one token drafts itself', () => {
    expect(draftTokens([7, 7, 7], 4)).toEqual([7]);
  });

  test.each([[[]], [[1]], [[1, 2]], [[1, 2, 3, 4]], [[1, 2, 3, 2]]])('nothing to draft in %j', (ids) => {
    expect(draftTokens(ids, 4)).toEqual([]);
  });

  test('room for nothing', () => {
    expect(draftTokens([1, 2, 3, 1, 2], 0)).toEqual([]);
  });
});

test('acceptedTokens counts the common beginning', () => {
  expect(acceptedTokens([1, 2, 3], [1, 2, 4, 5])).toBe(2);
  expect(acceptedTokens([1, 2], [3, 1, 2])).toBe(0);
  expect(acceptedTokens([], [3])).toBe(0);
});

describe('draftedDecode', () => {
  /** A model that recites 0 1 2 … period − 1 for ever. */
  async function recite(period: number, most: number, stop: number[] = []) {
    const positions: number[] = [];
    const kept: number[] = [];
    const stats = { passes: 0, drafted: 0, accepted: 0 };
    const tokens = draftedDecode({
      ...{ promptIds: [0], first: 1 % period, most, mostDrafted: 7, contextLength: 100 },
      ...{ stopTokenIds: new Set(stop), signal: undefined, stats },
      draw: async (ids, position) => {
        positions.push(position);
        expect(position + ids.length).toBeLessThanOrEqual(100);
        return ids.map((id) => (id + 1) % period);
      },
      onKept: (ids) => kept.push(...ids),
    });
    const ids: number[] = [];
    for (;;) {
      const { value, done } = await tokens.next();
      if (done) return { ids, reason: value, positions, kept, stats };
      ids.push(value!);
    }
  }

  test('the tokens one by one would give, in fewer passes, the cache as far as it was right', async () => {
    const { ids, reason, positions, kept, stats } = await recite(5, 40);
    expect(ids).toEqual(Array.from({ length: 40 }, (_, i) => (i + 1) % 5));
    expect(reason).toBe(null);
    expect(kept).toEqual(ids.slice(0, -1)); // the last token is not fed
    expect(positions).toHaveLength(stats.passes);
    expect(stats.passes + stats.accepted).toBe(39);
    expect(stats.passes).toBeLessThan(15);
  });

  test('a stop token in the middle of an accepted draft ends the reply there', async () => {
    const { ids, reason } = await recite(5, 40, [4]);
    expect(ids).toEqual([1, 2, 3, 4]);
    expect(reason).toBe('stop');
  });

  test('the context is never overfilled', async () => {
    const { ids } = await recite(3, 100);
    expect(ids).toHaveLength(100); // 99 fed behind the prompt, and one more drawn
  });
});

/** Small and with few words, so that greedy replies soon repeat themselves. */
const config: LlamaConfig = {
  ...{ hiddenSize: 40, intermediateSize: 172, numLayers: 2, numHeads: 4, numKvHeads: 2, headDim: 8 },
  ...{ vocabSize: 50, maxPositionEmbeddings: 300, rmsNormEps: 1e-5, ropeTheta: 10000, ropeScaling: null },
  ...{ tieWordEmbeddings: false, attentionBias: false, mlpBias: false, bosTokenId: 1, eosTokenIds: [2] },
};

const spec = {
  ...{ attnInputs: 64, mlpInputs: 96, attnOffsets: true, mlpOffsets: false },
  ...{ attnAct: 0.9, oAct: 0.95, mlpAct: 0.9, downAct: 0.8 },
};

function layout(): ModelLayout {
  const layers = [spec, spec];
  const quant = {
    ...{ actBits: 8 as const, weightBits: 4 as const, weightGrid: null, reconstruct: 'segment' as const },
    ...{ alpha: 5, hadamard: null, layers },
  };
  return { config, scheme: 'mergequant', quant, denseDtype: 'F16' };
}

describe.each([
  { adapter: 'all the adapter has', software: false },
  { adapter: 'a software adapter', software: true },
])('an engine with prompt lookup, $adapter', ({ software }) => {
  const engines: Engine[] = [];
  let plain: Engine;
  let drafting: Engine;

  async function open(options: EngineOptions): Promise<Engine> {
    const gpu = await openTestGpu({ software });
    const weights = await uploadModel(gpu, randomModel(layout(), 5));
    const engine = await Engine.create(gpu, weights, { contextLength: 64, ...options });
    engines.push(engine);
    return engine;
  }

  beforeAll(async () => {
    plain = await open({});
    drafting = await open({ promptLookup: mostVerified - 1 });
  });
  afterAll(() => {
    for (const engine of engines) engine.destroy();
  });

  async function reply(engine: Engine, promptIds: number[], maxTokens: number, sampling = greedy) {
    const ids: number[] = [];
    const stream = engine.generate(promptIds, { sampling, maxTokens, stopTokenIds: [] });
    for (;;) {
      const { value, done } = await stream.next();
      if (done) return { ids, finishReason: value.finishReason, stats: value.stats as ReplyStats };
      ids.push(value);
    }
  }

  const prompt = [3, 14, 15, 9, 26, 5, 3, 14, 15, 9];

  test('draws the tokens that plain greedy decoding draws', async () => {
    const expected = await reply(plain, prompt, 24);
    const actual = await reply(drafting, prompt, 24);
    expect(actual.ids).toEqual(expected.ids);
    expect(actual.finishReason).toBe('length');
    const { passes, drafted, accepted } = actual.stats.promptLookup!;
    expect(passes + accepted).toBe(23);
    expect(drafted).toBeGreaterThan(0); // otherwise this test would test nothing
    expect(drafted).toBeGreaterThanOrEqual(accepted);
  });

  test('goes on with its cache, and fills the context as plain decoding does', async () => {
    const first = await reply(plain, prompt, 24);
    await reply(drafting, prompt, 24);
    const longer = [...prompt, ...first.ids, 7, 8];
    const expected = await reply(plain, longer, 200);
    const actual = await reply(drafting, longer, 200);
    expect(actual.stats.cachedTokens).toBeGreaterThan(prompt.length);
    expect(actual.ids).toEqual(expected.ids);
    expect(actual.finishReason).toBe('context');
  });

  test('leaves sampled replies to plain decoding', async () => {
    const sampling = { ...greedy, temperature: 1, seed: 4 };
    const actual = await reply(drafting, prompt, 10, sampling);
    expect(actual.ids).toEqual((await reply(plain, prompt, 10, sampling)).ids);
    expect(actual.stats.promptLookup).toBeUndefined();
  });

  test.each([-1, 1.5, mostVerified])('promptLookup %d is refused', async (promptLookup) => {
    const { gpu, weights } = plain;
    await expect(Engine.create(gpu, weights, { promptLookup })).rejects.toThrow(InvalidRequestError);
  });
});

import { afterAll, describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { kvCacheKinds } from '../format/kv-cache';
import type { ModelLayout } from '../format/tensors';
import { openNodeGpu } from '../gpu/node';
import { forwardRef } from '../model/forward.ref';
import { randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import { Evaluator } from './evaluate';
import { greedy } from './types';

const config: LlamaConfig = {
  hiddenSize: 32,
  intermediateSize: 48,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 8,
  vocabSize: 120,
  maxPositionEmbeddings: 64,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tieWordEmbeddings: true,
  attentionBias: false,
  mlpBias: false,
  bosTokenId: 1,
  eosTokenIds: [2],
};
const spec = {
  ...{ attnInputs: 32, mlpInputs: 32, attnOffsets: true, mlpOffsets: true },
  ...{ attnAct: 1, oAct: 0.95, mlpAct: 1, downAct: 0.8 },
};
const prefixIds = [1, 57, 3];

function layout(ids: readonly number[] | null): ModelLayout {
  const quant = {
    ...{ actBits: 8 as const, weightBits: 4 as const, weightGrid: null, reconstruct: 'pad' as const },
    ...{ alpha: 5, hadamard: null, zeroPoints: true as const, layers: [spec, spec] },
    ...(ids && { prefix: { ids } }),
  };
  return { config, scheme: 'mergequant', quant, denseDtype: 'F16' };
}

const gpu = await openNodeGpu();
const model = randomModel(layout(prefixIds), 4);
const sequence = [...prefixIds, ...Array.from({ length: 21 }, (_, i) => (i * 31 + 7) % config.vocabSize)];

/** −log softmax(logits)[target]. */
function nllRef(logits: Float64Array, target: number): number {
  const largest = Math.max(...logits);
  return Math.log(logits.reduce((sum, l) => sum + Math.exp(l - largest), 0)) + largest - logits[target]!;
}

test.each(kvCacheKinds)(
  'with zero points and a %s cache: each NLL as in the float64 reference',
  async (kvCache) => {
    // passes of 2: the prefix is loaded in two pieces, and begins in the middle of none
    const engine = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 2, kvCache });
    const evaluator = await Evaluator.create(engine);
    const other = sequence.with(1, 58);
    for (const ids of [sequence, other]) {
      const logits = forwardRef(model.layout, model.reference, ids, kvCache);
      const nll = await evaluator.window(ids);
      // a float32 error may move an 8-bit integer by one step; codes of the cache likewise
      nll.forEach((value, i) => {
        expect(Math.abs(value - nllRef(logits[i]!, ids[i + 1]!)), `token ${i}`).toBeLessThan(0.05);
      });
    }
    const plain = forwardRef(layout(null), model.reference, sequence, kvCache);
    const moved = (await evaluator.window(sequence)).map((v, i) =>
      Math.abs(v - nllRef(plain[i]!, sequence[i + 1]!)),
    );
    expect(Math.max(...moved.slice(prefixIds.length))).toBeGreaterThan(0.2);
    engine.destroy();
  },
);

describe('generation', async () => {
  const engine = await Engine.create(gpu, await uploadModel(gpu, model), { chunkTokens: 16 });
  afterAll(() => engine.destroy());

  async function reply(ids: readonly number[], maxTokens = 6) {
    const tokens: number[] = [];
    const stream = engine.generate(ids, { sampling: greedy, maxTokens, stopTokenIds: [] });
    for (;;) {
      const { value, done } = await stream.next();
      if (done) return { tokens, cached: value.stats.cachedTokens };
      tokens.push(value);
    }
  }

  test('a new sequence takes the prefix from the artifact, whatever the cache held before', async () => {
    const first = await reply(sequence);
    expect(first.cached).toBe(3);
    const histories = [
      [9, 8, 7, 6, 5], // another beginning
      sequence.with(1, 58), // another from the second token on
      prefixIds, // the prefix alone: its last token is computed
      prefixIds.slice(0, 1),
      sequence.slice(0, 10), // the same sequence: more than the prefix is there
    ];
    for (const before of histories) {
      await reply(before);
      const again = await reply(sequence);
      expect(again.tokens, before.join(' ')).toEqual(first.tokens);
      expect(again.cached).toBe(before.length === 10 ? 10 : 3);
    }
    engine.reset();
    expect(await reply(sequence)).toEqual(first);
  });

  test('a conversation goes on behind its own cache', async () => {
    engine.reset();
    const { tokens } = await reply(sequence);
    const next = [...sequence, ...tokens, 11, 12];
    const onCache = await reply(next);
    expect(onCache.cached).toBeGreaterThanOrEqual(sequence.length);
    engine.reset();
    expect((await reply(next)).tokens).toEqual(onCache.tokens);
  });

  test('greedy tokens are the reference’s', async () => {
    engine.reset();
    const { tokens } = await reply(sequence, 4);
    const expected = [...sequence];
    for (let i = 0; i < 4; i++) {
      const logits = forwardRef(model.layout, model.reference, expected).at(-1)!;
      expected.push(logits.indexOf(Math.max(...logits)));
    }
    expect(tokens).toEqual(expected.slice(sequence.length));
  });
});

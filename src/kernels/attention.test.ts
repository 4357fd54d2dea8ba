import { describe, expect, test } from 'vitest';
import { type KvCacheKind, kvCacheKinds, kvRowBytes } from '../format/kv-cache';
import {
  type AttentionSplitArgs,
  attention,
  attentionPartialsBytes,
  attentionSplit,
  attentionTiled,
  isTileable,
} from './attention';
import { attentionRef } from './attention.ref';
import { decodeKvRef, randomKvCache } from './kv-cache.ref';
import { KernelShapeError, type Op } from './op';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';

interface Shape {
  readonly numTokens: number;
  readonly position: number;
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly contextLength: number;
}

const shapes: Shape[] = [
  { numTokens: 1, position: 0, numHeads: 4, numKvHeads: 4, headDim: 8, contextLength: 1 },
  { numTokens: 5, position: 0, numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 37 },
  { numTokens: 65, position: 0, numHeads: 4, numKvHeads: 4, headDim: 64, contextLength: 70 },
  { numTokens: 2, position: 254, numHeads: 8, numKvHeads: 1, headDim: 64, contextLength: 1025 },
  { numTokens: 1, position: 700, numHeads: 4, numKvHeads: 2, headDim: 128, contextLength: 1000 },
  { numTokens: 37, position: 243, numHeads: 2, numKvHeads: 1, headDim: 128, contextLength: 600 },
  { numTokens: 70, position: 90, numHeads: 2, numKvHeads: 1, headDim: 128, contextLength: 200 },
  { numTokens: 2, position: 511, numHeads: 2, numKvHeads: 2, headDim: 256, contextLength: 513 },
  { numTokens: 3, position: 300, numHeads: 4, numKvHeads: 2, headDim: 6, contextLength: 333 },
  { numTokens: 3, position: 20, numHeads: 2, numKvHeads: 1, headDim: 20, contextLength: 25 },
  { numTokens: 2, position: 270, numHeads: 2, numKvHeads: 2, headDim: 2, contextLength: 301 },
  { numTokens: 2, position: 270, numHeads: 2, numKvHeads: 2, headDim: 24, contextLength: 301 },
  { numTokens: 1, position: 70, numHeads: 1, numKvHeads: 1, headDim: 96, contextLength: 100 },
];

/** Random queries and a full random cache; positions that must not be seen hold NaN. */
function makeInputs(shape: Shape, queryScale: number, kvCache: KvCacheKind = 'f16') {
  const { numTokens, position, numHeads, numKvHeads, headDim, contextLength } = shape;
  const rows = numKvHeads * contextLength;
  const cache = randomKvCache(kvCache, rows, headDim, 1);
  const rowWords = kvRowBytes(headDim, kvCache) / 4;
  const seen = (row: number) => row % contextLength < position + numTokens;
  const hidden = (words: Uint32Array<ArrayBuffer>) =>
    kvCache === 'f16' ? words.map((word, i) => (seen(Math.floor(i / rowWords)) ? word : 0x7e007e00)) : words;
  return {
    kvCache,
    qkv: normals(numTokens * (numHeads + 2 * numKvHeads) * headDim, 3, queryScale),
    keyCache: hidden(cache.keys),
    valueCache: hidden(cache.values),
    kvScales: cache.scales.map((bits, row) => (seen(row % rows) ? bits : 0x7fc07fc0)),
    keys: decodeKvRef(kvCache, cache.keys, cache.scales, headDim),
    values: decodeKvRef(kvCache, cache.values, cache.scales.subarray(rows), headDim),
  };
}

type Inputs = Omit<ReturnType<typeof makeInputs>, 'keys' | 'values'>;

describe.each(capabilitySets)('attention with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function run(shape: Shape, inputs: Inputs, way: 'looped' | 'split' | 'tiled') {
    const count = shape.numTokens * shape.numHeads * shape.headDim;
    const args = {
      ...shape,
      step: bench.step(shape.numTokens, shape.position),
      qkv: bench.input(inputs.qkv),
      keyCache: bench.input(inputs.keyCache),
      valueCache: bench.input(inputs.valueCache),
      kvCache: inputs.kvCache,
      kvScales: inputs.kvCache === 'f16' ? null : bench.input(inputs.kvScales),
      out: bench.output(count),
    };
    const words = attentionPartialsBytes(shape, shape.numTokens) / 4;
    const partials = bench.output(words);
    const ops = await build(way, { ...args, partials });
    await bench.run(ops, shape.numTokens);
    await bench.readOutput(partials, words);
    return bench.readFloats(args.out, count);
  }

  async function build(way: 'looped' | 'split' | 'tiled', args: AttentionSplitArgs): Promise<readonly Op[]> {
    if (way === 'split') return attentionSplit(bench, args);
    return [await (way === 'tiled' ? attentionTiled : attention)(bench, args)];
  }

  function check(actual: Float32Array, shape: Shape, inputs: ReturnType<typeof makeInputs>) {
    const { numHeads, headDim } = shape;
    const { keys, values } = inputs;
    const ref = attentionRef({
      ...shape,
      qkv: inputs.qkv,
      keys: keys.elements,
      values: values.elements,
      keyMagnitudes: keys.magnitudes,
      valueMagnitudes: values.magnitudes,
    });
    // A score's error is at most (Dh/8 + 12) · 2^-24 of its magnitude (dots, four parts, scaled q), and so is the relative
    // error of exp(s - m) beside exp's own 3 + 2|x| ULP on |x| ≤ 2·magnitude; it counts twice, in l and in o. Then a piece
    // adds at most 256 terms in two stages, pieces (of 64 keys or more) join with a few operations each, and one division
    // ends it. Codes and minima are added up apart, so that errors are relative to step·u + |minimum|.
    const pieces = Math.ceil((shape.position + shape.numTokens) / 64);
    expectClose(actual, ref.out, (_, i) => {
      const score = ref.scoreMagnitude[Math.floor(i / headDim)]!;
      const exponentials = 2 * (score * (headDim / 8 + 12) + 2 * (3 + 4 * score));
      return ref.magnitude[i]! * 2 ** -24 * (exponentials + 2 * 256 + 16 * pieces) + 1e-37;
    });
    expect(actual.length).toBe(shape.numTokens * numHeads * headDim);
  }

  const cases = kvCacheKinds.flatMap((kvCache) => shapes.map((shape) => ({ ...shape, kvCache })));
  test.each(cases)(
    '$kvCache T=$numTokens at $position H=$numHeads/$numKvHeads Dh=$headDim context=$contextLength',
    async ({ kvCache, ...shape }) => {
      const inputs = makeInputs(shape, 1, kvCache);
      const looped = await run(shape, inputs, 'looped');
      check(looped, shape, inputs);
      expectEqualInts(await run(shape, inputs, 'split'), looped);
      if (isTileable(shape)) expectEqualInts(await run(shape, inputs, 'tiled'), looped);
    },
  );

  test.each(kvCacheKinds)(
    '%s: logits far apart (beyond ±60) stay finite and exact enough',
    async (kvCache) => {
      const shape = { ...shapes[4]!, numTokens: 2 };
      const inputs = makeInputs(shape, 80, kvCache);
      const looped = await run(shape, inputs, 'looped');
      check(looped, shape, inputs);
      expectEqualInts(await run(shape, inputs, 'split'), looped);
      expectEqualInts(await run(shape, inputs, 'tiled'), looped);
    },
  );

  test.each(kvCacheKinds)('%s: a token has the same bits alone and in a chunk', async (kvCache) => {
    const chunk = { ...shapes[4]!, numTokens: 5, position: 253 };
    const inputs = makeInputs(chunk, 1, kvCache);
    const among = await run(chunk, inputs, 'looped');
    const qkvRow = (chunk.numHeads + 2 * chunk.numKvHeads) * chunk.headDim;
    const outRow = chunk.numHeads * chunk.headDim;
    for (const t of [0, 4]) {
      const alone = { ...chunk, numTokens: 1, position: chunk.position + t };
      const qkv = inputs.qkv.slice(t * qkvRow, (t + 1) * qkvRow);
      expectEqualInts(
        await run(alone, { ...inputs, qkv }, 'split'),
        among.slice(t * outRow, (t + 1) * outRow),
      );
    }
  });

  test('an odd or too large head size and heads that do not divide are refused', () => {
    const buffer = bench.output(4);
    const buffers = { step: buffer, qkv: buffer, keyCache: buffer, valueCache: buffer, out: buffer };
    const shape = { ...shapes[0]!, ...buffers };
    expect(() => attention(bench, { ...shape, headDim: 7 })).toThrow(KernelShapeError);
    expect(() => attention(bench, { ...shape, headDim: 258 })).toThrow(KernelShapeError);
    expect(() => attention(bench, { ...shape, numKvHeads: 3 })).toThrow(KernelShapeError);
  });
});

import { describe, expect, test } from 'vitest';
import { storageUsage } from '../gpu/arena';
import { argmax, argmaxPartialsBytes, argmaxRows, noToken } from './argmax';
import { argmaxRef } from './argmax.ref';
import { KernelShapeError } from './op';
import { capabilitySets, KernelBench, normals } from './testing';

describe.each(capabilitySets)('argmax with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function build(logits: Float32Array<ArrayBuffer>, stepWords = [1, 0, 0, 7], historyCapacity = 4) {
    const vocabSize = logits.length;
    const state = {
      step: bench.arena.upload('step', Uint32Array.from(stepWords), {
        category: 'uniforms',
        usage: storageUsage | 0x40,
      }),
      ids: bench.output(3),
      history: bench.output(historyCapacity),
      historyCapacity,
      counts: bench.input(new Uint32Array(vocabSize).fill(0x80000000)),
    };
    const partials = bench.output(argmaxPartialsBytes(vocabSize) / 4);
    const ops = await argmax(bench, { vocabSize, logits: bench.input(logits), partials, ...state });
    return { ...state, partials, ops };
  }

  async function choose(logits: Float32Array<ArrayBuffer>): Promise<number> {
    const built = await build(logits);
    await bench.run(built.ops, 1);
    await bench.readOutput(built.partials, argmaxPartialsBytes(logits.length) / 4);
    return (await bench.readOutput(built.history, 4))[0]!;
  }

  test.each([1, 512, 1000, 1025, 32000, 128256])('V=%i', async (vocabSize) => {
    for (let seed = 0; seed < 4; seed++) {
      const logits = normals(vocabSize, seed, 3);
      expect(await choose(logits)).toBe(argmaxRef(logits));
    }
  });

  test('ties go to the lowest id, and −0 equals +0', async () => {
    const logits = new Float32Array(5000).fill(-2);
    for (const i of [4999, 3000, 1700, 1444]) logits[i] = 7;
    expect(await choose(logits)).toBe(1444);
    expect(await choose(new Float32Array(3000).fill(-5))).toBe(0);
    expect(await choose(Float32Array.of(-1, -0, 0))).toBe(1);
    expect(await choose(Float32Array.of(-1, 0, -0))).toBe(1);
  });

  test('negative, tiny, huge and −∞ logits are ordered', async () => {
    expect(await choose(Float32Array.of(-3, -2, -1e30, -2.5))).toBe(1);
    expect(await choose(Float32Array.of(-1e-38, 1e-38, 0))).toBe(1);
    expect(await choose(Float32Array.of(3e38, 3.4e38, -Infinity))).toBe(1);
  });

  test.each([
    ['NaN', Number.NaN],
    ['negative NaN', new Float32Array(Uint32Array.of(0xffc00000).buffer)[0]!],
    ['+∞', Infinity],
  ])('a %s logit anywhere yields no token', async (_, bad) => {
    for (const place of [0, 1023, 1999]) {
      const logits = normals(2000, 1);
      logits[place] = bad;
      expect(await choose(logits)).toBe(noToken);
    }
  });

  test('a row of −∞ yields no token, id 0, no count, and still advances', async () => {
    const built = await build(new Float32Array(600).fill(-Infinity), [5, 20, 1, 7]);
    await bench.run(built.ops, 5);
    expect((await bench.readOutput(built.history, 4))[1]).toBe(noToken);
    expect((await bench.readOutput(built.ids, 3))[0]).toBe(0);
    expect([...new Uint32Array(await bench.read(built.step))]).toEqual([1, 25, 2, 7]);
    expect(new Uint32Array(await bench.read(built.counts)).every((count) => count === 0x80000000)).toBe(true);
  });

  test('advances the state, counts the token, and wraps the history', async () => {
    const logits = normals(700, 3);
    const token = argmaxRef(logits)!;
    const built = await build(logits, [9, 100, 3, 7], 4);
    await bench.run(built.ops, 9);
    await bench.run(built.ops, 1);
    expect([...new Uint32Array(await bench.read(built.step))]).toEqual([1, 110, 5, 7]);
    const history = await bench.readOutput(built.history, 4);
    const untouched = history[1];
    expect([...history]).toEqual([token, untouched, untouched, token]);
    expect(untouched).not.toBe(token);
    expect((await bench.readOutput(built.ids, 3))[0]).toBe(token);
    const counts = new Uint32Array(await bench.read(built.counts)).slice(0, 700);
    expect(counts[token]).toBe(0x80000002);
    expect(counts.filter((count) => count === 0x80000000).length).toBe(699);
  });

  test('buffers that are too small are refused', async () => {
    const small = bench.input(new Uint32Array(4));
    const args = { logits: small, partials: small, step: small, ids: small, history: small, counts: small };
    await expect(argmax(bench, { vocabSize: 100, historyCapacity: 1, ...args })).rejects.toThrow(
      KernelShapeError,
    );
  });
});

describe.each(capabilitySets)('argmax of rows with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  /** Ids of the first `numTokens` rows; the buffers hold all of them. */
  async function choose(rows: readonly Float32Array[], numTokens: number): Promise<Uint32Array> {
    const vocabSize = rows[0]!.length;
    const logits = new Float32Array(rows.length * vocabSize);
    for (const [t, row] of rows.entries()) logits.set(row, t * vocabSize);
    const step = bench.step(numTokens);
    const ids = bench.output(numTokens);
    const op = await argmaxRows(bench, { vocabSize, step, logits: bench.input(logits), ids });
    await bench.run([op], numTokens);
    return bench.readOutput(ids, numTokens);
  }

  test.each([1, 63, 257, 1000])(
    'V=%i: each row its own largest logit, as the reference',
    async (vocabSize) => {
      const rows = Array.from({ length: 5 }, (_, seed) => normals(vocabSize, seed, 3));
      expect([...(await choose(rows, 5))]).toEqual(rows.map((row) => argmaxRef(row)));
    },
  );

  test('ties, −0, NaN, +∞ and rows of −∞ as in a single row; rows behind the pass stay unwritten', async () => {
    const ties = new Float32Array(300).fill(-2);
    for (const i of [299, 270, 41]) ties[i] = 7;
    const nan = normals(300, 1);
    nan[299] = Number.NaN;
    const infinite = normals(300, 2);
    infinite[64] = Infinity;
    const zeros = new Float32Array(300).fill(-1);
    zeros.set([-0, 0], 5);
    const rows = [ties, nan, zeros, infinite, new Float32Array(300).fill(-Infinity), normals(300, 3)];
    expect([...(await choose(rows, 5))]).toEqual([41, noToken, 5, noToken, noToken]);
  });

  test('a buffer of logits that is too small is refused', () => {
    const small = bench.input(new Uint32Array(4));
    const args = { step: bench.step(1), logits: small, ids: small };
    expect(() => argmaxRows(bench, { vocabSize: 100, ...args })).toThrow(KernelShapeError);
  });
});

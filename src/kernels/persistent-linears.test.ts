import { describe, expect, test } from 'vitest';
import { linearW4Sums, packNibblesRef } from './linear-w4.ref';
import { KernelShapeError } from './op';
import { type LinearSite, persistentLinears } from './persistent-linears';
import { expectEqualInts, KernelBench, random } from './testing';

/** K' of less than a subgroup's round, of rounds and a rest, and of several chunks; fewer and more rows than a turn has. */
const shapes = [
  { inputs: 32, rows: 2 },
  { inputs: 544, rows: 38 },
  { inputs: 3104, rows: 6 },
] as const;
const sentinel = 12345;

describe('products of several matrices in one dispatch', async () => {
  const bench = await KernelBench.open({ software: false });
  const next = random(3);
  const integers = (count: number, bits: number) =>
    Int8Array.from({ length: count }, () => Math.floor(next() * 2 ** bits) - 2 ** (bits - 1));
  const bytes = (arrays: readonly ArrayBufferView<ArrayBuffer>[], label: string) => {
    const whole = new Uint8Array(
      arrays.reduce((sum, { byteLength }) => sum + Math.ceil(byteLength / 16) * 16, 0),
    );
    const starts = arrays.map(({ buffer, byteOffset, byteLength }, i) => {
      const at = arrays.slice(0, i).reduce((sum, of) => sum + Math.ceil(of.byteLength / 16) * 16, 0);
      whole.set(new Uint8Array(buffer, byteOffset, byteLength), at);
      return at;
    });
    return { buffer: bench.arena.upload(label, whole, { category: 'scratch' }), starts };
  };

  test.each([1, 3])(
    'every row of every product is the exact sum times its scale, %i workgroups',
    async (groups) => {
      const data = shapes.map(({ inputs, rows }) => ({
        q: integers(inputs, 8),
        weight: integers(inputs * rows, 4),
        scale: Float32Array.from({ length: rows }, () => 0.5 + next()),
      }));
      // The last matrix lies in the second buffer.
      const weights = data.map(({ weight }) => packNibblesRef(weight));
      const first = bytes(weights.slice(0, 2), 'first');
      const second = bytes(weights.slice(2), 'second');
      const tables = bytes(
        data.map(({ scale }) => scale),
        'scales',
      );
      const tokens = bytes(
        data.map(({ q }) => q),
        'tokens',
      );
      const yStarts = shapes.map(
        (_, i) => 1 + shapes.slice(0, i).reduce((sum, { rows }) => sum + rows + 1, 0),
      );
      const y = bench.arena.upload('y', new Float32Array(60).fill(sentinel), { category: 'scratch' });
      const sites = shapes.map(
        (shape, i): LinearSite => ({
          ...{ ...shape, arena: i < 2 ? 0 : 1, weightBytes: [...first.starts, ...second.starts][i]! },
          ...{
            scaleBytes: tables.starts[i]!,
            biasBytes: 0,
            tokenBytes: tokens.starts[i]!,
            yStart: yStarts[i]!,
          },
        }),
      );
      const buffers = {
        weights: [first.buffer, second.buffer],
        tables: tables.buffer,
        tokens: tokens.buffer,
        y,
      };
      const op = await persistentLinears(bench, { sites, ...buffers, groups, threads: 256 });
      await bench.run([op], 1);
      const expected = new Float32Array(60).fill(sentinel);
      data.forEach(({ q, weight, scale }, i) => {
        const { inputs, rows } = shapes[i]!;
        const sums = linearW4Sums({ numTokens: 1, inputs, rows, q, weight });
        // A sum of fewer than 2^24 is an exact float, so one rounding is left.
        scale.forEach((factor, n) => {
          expected[yStarts[i]! + n] = sums[n]! * factor;
        });
      });
      expectEqualInts(new Uint32Array(await bench.read(y)), new Uint32Array(expected.buffer));
    },
  );

  test('rows that are not even are refused', async () => {
    const buffer = bench.arena.create('none', 64, { category: 'scratch' });
    const site = {
      arena: 0,
      weightBytes: 0,
      inputs: 32,
      rows: 3,
      scaleBytes: 0,
      biasBytes: 0,
      tokenBytes: 0,
      yStart: 0,
    };
    const args = { sites: [site], weights: [buffer], tables: buffer, tokens: buffer, y: buffer };
    expect(() => persistentLinears(bench, { ...args, groups: 1, threads: 256 })).toThrow(KernelShapeError);
  });
});

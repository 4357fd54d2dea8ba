import { describe, expect, test } from 'vitest';
import type { Gpu, GpuCaps } from '../gpu/gpu';
import { type LinearW4Args, type LinearW4Tuning, linearW4 } from './linear-w4';
import { linearW4Sums, packNibblesRef, tokenMetaRef } from './linear-w4.ref';
import { matrixTiles } from './matrix-tile';
import { KernelShapeError } from './op';
import { siluMul } from './silu-mul';
import {
  capabilitySets,
  expectClose,
  expectEqualInts,
  experimentalSet,
  KernelBench,
  normals,
  random,
  withAnySubgroup,
} from './testing';

interface Case {
  readonly numTokens: number;
  readonly inputs: number;
  readonly rows: number;
  readonly rowStart?: number;
  readonly outputs?: number;
  readonly actBits: 4 | 8;
  readonly bias?: boolean;
  readonly accumulate?: boolean;
  readonly silu?: boolean;
}

interface Data {
  readonly q: Int8Array<ArrayBuffer>; // [T, K']
  readonly weight: Int8Array<ArrayBuffer>; // [rows, K']
  readonly tokenScale: Float32Array<ArrayBuffer>; // [T]
  readonly scale: Float32Array<ArrayBuffer>; // [N]
  readonly bias: Float32Array<ArrayBuffer>; // [N]
  readonly before: Float32Array<ArrayBuffer>; // [T, N], what y holds before
}

interface Variant {
  readonly kind: LinearW4Args['kind'];
  readonly tuning?: LinearW4Tuning;
  /** As on a device whose subgroups may have other sizes, too. */
  readonly anySubgroup?: boolean;
}

/** Every kernel and a range of tunings: all must give the same bits. Without subgroups some of them coincide. */
const variants: readonly Variant[] = [
  { kind: 'vector' },
  { kind: 'vector', tuning: { threads: 64, unroll: 1 } },
  { kind: 'vector', tuning: { threads: 128, unroll: 4, rows: 2, subgroups: true }, anySubgroup: true },
  { kind: 'vector', tuning: { threads: 64, rows: 1, split: 2, subgroups: true } },
  { kind: 'vector', tuning: { unroll: 1, rows: 2, split: 4, subgroups: true }, anySubgroup: true },
  { kind: 'vector', tuning: { threads: 2, unroll: 2, lanesPerRow: 1 } }, // fewer invocations than a subgroup
  { kind: 'vector', tuning: { subgroups: false } },
  { kind: 'vector', tuning: { subgroups: false, threads: 128, lanesPerRow: 128, unroll: 2 } },
  { kind: 'vector', tuning: { subgroups: false, threads: 64, lanesPerRow: 1, unroll: 1 } },
  { kind: 'few' },
  { kind: 'few', tuning: { groupTokens: 3 } },
  { kind: 'matrix', tuning: { subgroupMatrix: false } },
  { kind: 'matrix', tuning: { tileTokens: 32 } },
  { kind: 'matrix', tuning: { tileTokens: 16 } },
  ...matrixTiles.map(
    (matrixTile) => ({ kind: 'matrix', tuning: { subgroupMatrix: true, matrixTile } }) as const,
  ),
];

/** Those that the device has: subgroups are optional, their matrices experimental and nowhere to be had without a GPU. */
function variantsOf(caps: GpuCaps): readonly Variant[] {
  return variants.filter(
    ({ tuning = {} }) =>
      (!tuning.subgroupMatrix || caps.subgroupMatrixI8) && (!tuning.subgroups || caps.subgroups),
  );
}

/** Leaves out what a software GPU is slow at: many workgroup barriers, and compiling kernels with large tiles. */
function variantsFor({ caps }: Gpu, { numTokens, rows, bias, accumulate }: Case): readonly Variant[] {
  const short = numTokens * rows <= 1000;
  return variantsOf(caps).filter(({ kind, tuning = {} }) =>
    kind === 'matrix'
      ? !tuning.tileTokens || (bias && accumulate)
      : short || (tuning.lanesPerRow ?? 32) === 1,
  );
}

function integers(count: number, seed: number, bits: number): Int8Array<ArrayBuffer> {
  const next = random(seed);
  return Int8Array.from({ length: count }, () => Math.floor(next() * 2 ** bits) - 2 ** (bits - 1));
}

/** Scales that are powers of two and small integers elsewhere: float32 holds every step of the epilogue exactly. */
function exactData({ numTokens, inputs, rows, outputs = rows, actBits }: Case): Data {
  const next = random(20);
  const powers = (count: number) => Float32Array.from({ length: count }, () => 2 ** -Math.floor(next() * 3));
  const small = (count: number) => Float32Array.from({ length: count }, () => Math.floor(next() * 200) - 100);
  const q = integers(numTokens * inputs, 21, actBits);
  const weight = integers(rows * inputs, 22, 4);
  q.fill(-(2 ** (actBits - 1)), 0, inputs); // the first token at one end of its range,
  weight.fill(-8, 0, inputs); // the first row at nibble 0,
  weight.fill(7, (rows - 1) * inputs); // the last at nibble 15,
  for (let n = 0; n < rows; n++) weight[n * inputs + 3] = 0; // a zero channel,
  if (numTokens > 1) q.fill(0, inputs, 2 * inputs); // an all-zero token,
  if (numTokens > 2) q.fill(2 ** (actBits - 1) - 1, 2 * inputs, 3 * inputs); // and one at the other end
  const tokenScale = powers(numTokens);
  if (numTokens > 1) tokenScale[1] = 0;
  return {
    q,
    weight,
    tokenScale,
    scale: powers(outputs),
    bias: small(outputs),
    before: small(numTokens * outputs),
  };
}

/** y in float64; columns outside the block keep what they had. */
function reference(shape: Case, data: Data): Float64Array {
  const { numTokens, rows, rowStart = 0, outputs = rows } = shape;
  const sums = linearW4Sums({ ...shape, ...data });
  const y = Float64Array.from(data.before);
  for (let t = 0; t < numTokens; t++) {
    for (let r = 0; r < rows; r++) {
      const n = rowStart + r;
      const at = t * outputs + n;
      const product = sums[t * rows + r]! * data.scale[n]! * data.tokenScale[t]!;
      y[at] = product + (shape.bias ? data.bias[n]! : 0) + (shape.accumulate ? data.before[at]! : 0);
    }
  }
  return y;
}

async function runVariant(bench: KernelBench, shape: Case, data: Data, variant: Variant) {
  const { kind, tuning = {}, anySubgroup = false } = variant;
  const { numTokens, inputs, rows, rowStart = 0, outputs = rows, accumulate = false, silu = false } = shape;
  const words = (numTokens * outputs) / (silu ? 2 : 1);
  const y = bench.output(words);
  bench.gpu.device.queue.writeBuffer(y, 0, data.before, 0, words);
  const op = await linearW4(anySubgroup ? withAnySubgroup(bench) : bench, {
    ...{ kind, tuning, inputs, rows, rowStart, outputs, accumulate, silu, y, step: bench.step(numTokens) },
    q: bench.input(data.q),
    qmeta: bench.input(tokenMetaRef(data.q, inputs, data.tokenScale)),
    weight: bench.input(packNibblesRef(data.weight)),
    scale: bench.input(data.scale),
    bias: shape.bias ? bench.input(data.bias) : null,
  });
  await bench.run([op], numTokens + 3); // a grid larger than the step: nothing behind T is written
  return bench.readFloats(y, words);
}

const cases: readonly Case[] = [
  { numTokens: 1, inputs: 32, rows: 1, actBits: 4 },
  { numTokens: 1, inputs: 4160, rows: 1000, actBits: 4, bias: true },
  { numTokens: 2, inputs: 4160, rows: 512, actBits: 8, accumulate: true },
  { numTokens: 5, inputs: 192, rows: 172, actBits: 4, bias: true, accumulate: true },
  { numTokens: 5, inputs: 32, rows: 7, rowStart: 165, outputs: 172, actBits: 8, bias: true },
  { numTokens: 63, inputs: 192, rows: 172, actBits: 4 },
  { numTokens: 64, inputs: 224, rows: 64, rowStart: 128, outputs: 512, actBits: 8, accumulate: true },
  { numTokens: 65, inputs: 32, rows: 1000, actBits: 4, bias: true },
  { numTokens: 130, inputs: 192, rows: 129, actBits: 8, bias: true, accumulate: true },
];

const title =
  'T=$numTokens K=$inputs rows $rows from $rowStart, A$actBits, bias $bias, accumulate $accumulate: exact in every kernel';

describe.each([...capabilitySets, experimentalSet])('linear_w4 with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each(cases)(title, async (shape) => {
    const data = exactData(shape);
    const expected = reference(shape, data);
    for (const variant of variantsFor(bench.gpu, shape)) {
      expectEqualInts(await runVariant(bench, shape, data, variant), expected);
    }
  });

  test('real scales: close to the reference, and the same bits in every kernel', async () => {
    const shape: Case = { numTokens: 5, inputs: 1120, rows: 173, actBits: 8, bias: true, accumulate: true };
    const data: Data = {
      ...exactData(shape),
      tokenScale: normals(5, 30, 0.02).map(Math.abs),
      scale: normals(173, 31, 0.01).map(Math.abs),
      bias: normals(173, 32),
      before: normals(5 * 173, 33),
    };
    const expected = reference(shape, data);
    const first = await runVariant(bench, shape, data, variants[0]!);
    // Two products round once each, two sums once each, relative to the largest term.
    const products = reference({ ...shape, bias: false, accumulate: false }, data);
    const tolerance = (_: number, i: number) =>
      4 * 2 ** -24 * (Math.abs(products[i]!) + Math.abs(data.bias[i % 173]!) + Math.abs(data.before[i]!)) +
      1e-30;
    expectClose(first, expected, tolerance);
    const bits = new Uint32Array(first.buffer);
    for (const variant of variantsOf(bench.gpu.caps).slice(1)) {
      expectEqualInts(new Uint32Array((await runVariant(bench, shape, data, variant)).buffer), bits);
    }
  });

  test.skipIf(bench.gpu.caps.software)(
    'silu over pairs of rows: the bits of the product, then silu_mul',
    async () => {
      const shape: Case = { numTokens: 131, inputs: 96, rows: 134, actBits: 4, bias: true };
      const data: Data = {
        ...exactData(shape),
        tokenScale: normals(131, 30, 0.02).map(Math.abs),
        scale: normals(134, 31).map(Math.abs),
        bias: normals(134, 32),
      };
      const gateUp = bench.input(await runVariant(bench, shape, data, { kind: 'matrix' }));
      const y = bench.output(131 * 67);
      await bench.run([await siluMul(bench, { ffnSize: 67, step: bench.step(131), gateUp, y })], 131);
      const expected = new Uint32Array((await bench.readFloats(y, 131 * 67)).buffer);
      for (const variant of variantsOf(bench.gpu.caps)) {
        if (variant.kind !== 'matrix') continue;
        const fused = await runVariant(bench, { ...shape, silu: true }, data, variant);
        expectEqualInts(new Uint32Array(fused.buffer), expected);
      }
    },
  );

  test('refuses shapes and tunings that kernels cannot run', async () => {
    const buffer = bench.output(64);
    const fits = { inputs: 32, rows: 4, rowStart: 0, outputs: 4, accumulate: false, bias: null } as const;
    const buffers = {
      step: bench.step(1),
      q: buffer,
      qmeta: buffer,
      weight: buffer,
      scale: buffer,
      y: bench.output(4),
    };
    const attempt = (wrong: Partial<LinearW4Args>) =>
      linearW4(bench, { kind: 'vector', ...fits, ...buffers, ...wrong });
    await expect(attempt({})).resolves.toBeDefined();
    await expect(attempt({ inputs: 40 })).rejects.toThrow(KernelShapeError);
    await expect(attempt({ rowStart: 1 })).rejects.toThrow('rows within 4 outputs, not 4 from 1');
    await expect(attempt({ inputs: 1024 })).rejects.toThrow('weight of 2048 bytes, not 512');
    await expect(attempt({ tuning: { threads: 96 } })).rejects.toThrow(KernelShapeError);
    await expect(attempt({ tuning: { subgroups: false, threads: 32, lanesPerRow: 64 } })).rejects.toThrow(
      KernelShapeError,
    );
  });
});

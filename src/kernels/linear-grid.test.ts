import { describe, expect, test } from 'vitest';
import { type LinearGridArgs, type LinearGridTuning, linearGrid } from './linear-grid';
import { gridWordsRef, linearGridSums, packLevelsRef } from './linear-grid.ref';
import { tokenMetaRef } from './linear-w4.ref';
import { KernelShapeError } from './op';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals, random } from './testing';

interface Case {
  readonly bits: 3 | 4;
  readonly numTokens: number;
  readonly inputs: number;
  readonly groupSize: number | null;
  readonly rows: number;
  readonly rowStart?: number;
  readonly outputs?: number;
  readonly actBits: 4 | 8;
  readonly bias?: boolean;
  readonly accumulate?: boolean;
}

interface Data {
  readonly q: Int8Array<ArrayBuffer>; // [T, K']
  readonly levels: Uint8Array<ArrayBuffer>; // [rows, K']
  readonly steps: Float32Array<ArrayBuffer>; // [N, G]
  readonly zeros: Uint8Array<ArrayBuffer>; // [N, G]
  readonly tokenScale: Float32Array<ArrayBuffer>; // [T]
  readonly bias: Float32Array<ArrayBuffer>; // [N]
  readonly before: Float32Array<ArrayBuffer>; // [T, N], what y holds before
}

type Variant = { readonly kind: LinearGridArgs['kind']; readonly tuning?: LinearGridTuning };

/** Every kernel and a range of tunings: all must give the same bits. */
const variants: readonly Variant[] = [
  { kind: 'vector' },
  { kind: 'vector', tuning: { threads: 64, lanesPerRow: 1 } },
  { kind: 'vector', tuning: { threads: 8, lanesPerRow: 4 } },
  { kind: 'matrix', tuning: { alwaysTiled: true } },
];

/** Leaves out what a software GPU is slow at: many workgroup barriers. */
function variantsFor({ numTokens, rows }: Case): readonly Variant[] {
  const short = numTokens * rows <= 1000;
  return variants.filter(({ kind, tuning }) => short || kind === 'matrix' || tuning?.lanesPerRow === 1);
}

const groupsOf = ({ inputs, groupSize }: Case) => (groupSize === null ? 1 : Math.ceil(inputs / groupSize));

/** Steps and scales that are powers of two and small integers elsewhere: float32 holds every step of the sum exactly. */
function exactData(shape: Case): Data {
  const { bits, numTokens, inputs, rows, outputs = rows, actBits } = shape;
  const next = random(20);
  const below = (count: number, limit: number) => () => Math.floor(next() * limit) + count;
  const powers = (count: number) => Float32Array.from({ length: count }, () => 2 ** -Math.floor(next() * 3));
  const small = (count: number) => Float32Array.from({ length: count }, below(-100, 200));
  const least = -(2 ** (actBits - 1));
  const q = Int8Array.from({ length: numTokens * inputs }, below(least, 2 ** actBits));
  const levels = Uint8Array.from({ length: rows * inputs }, below(0, 2 ** bits));
  const zeros = Uint8Array.from({ length: outputs * groupsOf(shape) }, below(0, 128));
  q.fill(least, 0, inputs); // the first token at one end of its range,
  levels.fill(0, 0, inputs); // the first row at level 0 with the largest zero point,
  levels.fill(2 ** bits - 1, (rows - 1) * inputs); // the last at the highest level with none
  zeros.fill(127, 0, groupsOf(shape));
  zeros.fill(0, (outputs - 1) * groupsOf(shape));
  if (numTokens > 1) q.fill(0, inputs, 2 * inputs); // an all-zero token,
  if (numTokens > 2) q.fill(-least - 1, 2 * inputs, 3 * inputs); // and one at the other end
  const tokenScale = powers(numTokens);
  if (numTokens > 1) tokenScale[1] = 0;
  return {
    ...{ q, levels, zeros, steps: powers(zeros.length), tokenScale },
    ...{ bias: small(outputs), before: small(numTokens * outputs) },
  };
}

/** y in float64 and what its rounding errors are measured by; columns outside the block keep what they had. */
function reference(shape: Case, data: Data) {
  const { bits, inputs, numTokens, rows, rowStart = 0, outputs = rows } = shape;
  const groups = groupsOf(shape);
  const own = <T extends Float32Array | Uint8Array>(all: T) =>
    all.subarray(rowStart * groups, (rowStart + rows) * groups) as T;
  const { sums, magnitudes } = linearGridSums({
    ...{ numTokens, inputs, rows, groupSize: shape.groupSize ?? inputs, distance: 2 ** (7 - bits) },
    ...{ q: data.q, levels: data.levels, steps: own(data.steps), zeros: own(data.zeros) },
  });
  const y = Float64Array.from(data.before);
  const size = new Float64Array(y.length);
  for (let t = 0; t < numTokens; t++) {
    for (let r = 0; r < rows; r++) {
      const at = t * outputs + rowStart + r;
      const bias = shape.bias ? data.bias[rowStart + r]! : 0;
      const before = shape.accumulate ? data.before[at]! : 0;
      y[at] = sums[t * rows + r]! * data.tokenScale[t]! + bias + before;
      size[at] = magnitudes[t * rows + r]! * data.tokenScale[t]! + Math.abs(bias) + Math.abs(before);
    }
  }
  return { y, size };
}

async function runVariant(bench: KernelBench, shape: Case, data: Data, { kind, tuning = {} }: Variant) {
  const {
    bits,
    numTokens,
    inputs,
    groupSize,
    rows,
    rowStart = 0,
    outputs = rows,
    accumulate = false,
  } = shape;
  const y = bench.output(numTokens * outputs);
  bench.gpu.device.queue.writeBuffer(y, 0, data.before);
  const op = await linearGrid(bench, {
    ...{ kind, bits, groups: { groupSize }, inputs, rows, rowStart, outputs, accumulate, y, tuning },
    step: bench.step(numTokens),
    q: bench.input(data.q),
    qmeta: bench.input(tokenMetaRef(data.q, inputs, data.tokenScale)),
    weight: bench.input(packLevelsRef(data.levels, bits)),
    grid: bench.input(gridWordsRef(data.steps, data.zeros)),
    bias: shape.bias ? bench.input(data.bias) : null,
  });
  await bench.run([op], numTokens + 3); // a grid larger than the step: nothing behind T is written
  return bench.readFloats(y, numTokens * outputs);
}

/** 2^(actBits − 1)·127·K' in quarters stays below 2^24. Bias and accumulation together: each flag is a pipeline more. */
const cases: readonly Case[] = [
  { bits: 3, numTokens: 1, inputs: 32, groupSize: 32, rows: 1, actBits: 4 },
  { bits: 3, numTokens: 1, inputs: 4096, groupSize: 128, rows: 21, actBits: 4, bias: true, accumulate: true },
  { bits: 3, numTokens: 2, inputs: 4096, groupSize: null, rows: 10, actBits: 4 },
  { bits: 3, numTokens: 5, inputs: 288, groupSize: 128, rows: 172, actBits: 4, bias: true, accumulate: true },
  { bits: 3, numTokens: 5, inputs: 96, groupSize: 64, rows: 7, rowStart: 165, outputs: 172, actBits: 8 },
  { bits: 3, numTokens: 66, inputs: 224, groupSize: 96, rows: 65, actBits: 8 },
  {
    bits: 3,
    numTokens: 130,
    inputs: 64,
    groupSize: 4096,
    rows: 66,
    actBits: 8,
    bias: true,
    accumulate: true,
  },
  { bits: 4, numTokens: 1, inputs: 160, groupSize: 128, rows: 40, actBits: 8 },
  { bits: 4, numTokens: 66, inputs: 224, groupSize: 32, rows: 7, rowStart: 2, outputs: 80, actBits: 8 },
];

const title =
  'W$bits T=$numTokens K=$inputs in $groupSize, rows $rows from $rowStart, A$actBits, bias $bias, accumulate $accumulate';

describe.each(capabilitySets)('linear_grid with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each(cases)(`${title}: exact in every kernel`, async (shape) => {
    const data = exactData(shape);
    const { y } = reference(shape, data);
    for (const variant of variantsFor(shape)) {
      expectEqualInts(await runVariant(bench, shape, data, variant), y);
    }
  });

  test('real scales: within float32 of the reference, and the same bits from every kernel', async () => {
    const shape: Case = {
      ...{ bits: 3, numTokens: 6, inputs: 352, groupSize: 64, rows: 40, rowStart: 3, outputs: 45 },
      ...{ actBits: 8, bias: true, accumulate: true },
    };
    const groups = groupsOf(shape);
    // rounded to what a grid word holds: float32 without its 8 low bits
    const steps = normals(45 * groups, 31, 0.001).map((v) => Math.abs(v) + 1e-5);
    new Uint32Array(steps.buffer).forEach((word, i, all) => {
      all[i] = word & 0xffffff00;
    });
    const data: Data = {
      ...exactData(shape),
      ...{ steps, tokenScale: normals(6, 30, 0.02).map(Math.abs) },
      ...{ bias: normals(45, 32), before: normals(6 * 45, 33) },
    };
    const { y, size } = reference(shape, data);
    const first = await runVariant(bench, shape, data, variants[0]!);
    // a rounding for each of 6 groups' sums (and their product, where fma is two operations), one for the bias and one at
    // the end, each 2^-24 of at most the sum of all magnitudes
    expectClose(first, y, (_, i) => 14 * 2 ** -24 * size[i]! + 1e-30);
    const bits = new Uint32Array(first.buffer);
    for (const variant of variants.slice(1)) {
      expectEqualInts(new Uint32Array((await runVariant(bench, shape, data, variant)).buffer), bits);
    }
    const alone = await runVariant(
      bench,
      { ...shape, numTokens: 1 },
      { ...data, before: data.before.slice(0, 45) },
      variants[1]!,
    );
    expectEqualInts(new Uint32Array(alone.buffer), bits.subarray(0, 45));
  });

  test('refuses shapes and tunings that kernels cannot run', async () => {
    const buffer = bench.output(64);
    const fits = {
      bits: 3,
      inputs: 32,
      rows: 4,
      rowStart: 0,
      outputs: 4,
      accumulate: false,
      bias: null,
    } as const;
    const buffers = {
      step: bench.step(1),
      q: buffer,
      qmeta: buffer,
      weight: buffer,
      grid: buffer,
      y: bench.output(4),
    };
    const attempt = (wrong: Partial<LinearGridArgs>) =>
      linearGrid(bench, { kind: 'vector', groups: { groupSize: 128 }, ...fits, ...buffers, ...wrong });
    await expect(attempt({})).resolves.toBeDefined();
    await expect(attempt({ inputs: 40 })).rejects.toThrow(KernelShapeError);
    await expect(attempt({ groups: { groupSize: 48 } })).rejects.toThrow(
      'groups of a multiple of 32, not 48',
    );
    await expect(attempt({ rowStart: 1 })).rejects.toThrow('rows within 4 outputs, not 4 from 1');
    await expect(attempt({ inputs: 1024 })).rejects.toThrow('weight of 1536 bytes, not 512');
    await expect(attempt({ inputs: 1024, rows: 1, outputs: 200 })).rejects.toThrow(
      'grid of 6400 bytes, not 512',
    );
    await expect(attempt({ tuning: { threads: 96 } })).rejects.toThrow(KernelShapeError);
    await expect(attempt({ tuning: { threads: 32, lanesPerRow: 64 } })).rejects.toThrow(KernelShapeError);
  });
});

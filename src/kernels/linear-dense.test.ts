import { describe, expect, test } from 'vitest';
import { padRows } from './dense-layout';
import { type DenseMatrix, randomDense } from './dense-layout.ref';
import { type LinearDenseArgs, linearDense } from './linear-dense';
import { linearDenseRef } from './linear-dense.ref';
import { KernelShapeError } from './op';
import { capabilitySets, expectClose, expectEqualInts, KernelBench, normals } from './testing';

interface Shape {
  readonly numTokens: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly blockRows?: number;
  readonly bias?: boolean;
  readonly accumulate?: boolean;
}

type Kind = Pick<LinearDenseArgs, 'kind' | 'dtype' | 'singleRow'>;

const shapes: Shape[] = [
  { numTokens: 1, inputs: 4096, outputs: 512 },
  { numTokens: 1, inputs: 256, outputs: 1000, blockRows: 300, bias: true },
  { numTokens: 2, inputs: 172, outputs: 24, accumulate: true },
  { numTokens: 5, inputs: 24, outputs: 172, blockRows: 100, bias: true, accumulate: true },
  { numTokens: 65, inputs: 256, outputs: 172, blockRows: 100 },
  { numTokens: 130, inputs: 36, outputs: 130, bias: true },
  { numTokens: 3, inputs: 7, outputs: 5, bias: true },
  { numTokens: 2, inputs: 1, outputs: 1 },
];
const kinds: Kind[] = (['vector', 'matrix'] as const).flatMap((kind) =>
  (['F16', 'F32', 'I8'] as const).map((dtype) => ({ kind, dtype })),
);

describe.each(capabilitySets)('linear_dense with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  /** Runs all row blocks of one product. `y` must have been filled where the product accumulates. */
  async function run(
    kind: Kind,
    shape: Shape,
    x: Float32Array<ArrayBuffer>,
    weight: DenseMatrix,
    y: GPUBuffer,
  ) {
    const { numTokens, inputs, outputs, blockRows = outputs, accumulate = false } = shape;
    const rowBytes = weight.bytes.byteLength / outputs;
    const shared = {
      ...kind,
      inputs,
      outputs,
      accumulate,
      y,
      x: bench.input(x),
      step: bench.step(numTokens),
    };
    const bias = shape.bias ? bench.input(normals(outputs, 4)) : null;
    const scale = weight.scales && bench.input(weight.scales);
    const ops = [];
    for (let rowStart = 0; rowStart < outputs; rowStart += blockRows) {
      const rows = Math.min(blockRows, outputs - rowStart);
      const bytes = weight.bytes.slice(rowStart * rowBytes, (rowStart + rows) * rowBytes);
      const block = bench.input(padRows(bytes, rows, inputs, kind.dtype));
      ops.push(await linearDense(bench, { ...shared, rows, rowStart, weight: block, scale, bias }));
    }
    await bench.run(ops, numTokens);
  }

  function check(
    actual: Float32Array,
    shape: Shape,
    x: Float32Array,
    weight: DenseMatrix,
    initial: Float32Array,
  ) {
    const bias = shape.bias ? normals(shape.outputs, 4) : null;
    const start = shape.accumulate ? initial : null;
    const ref = linearDenseRef(x, weight.values, shape.inputs, bias, start);
    // An element passes at most K/4 additions (matrix: one per dot of four; vector: fewer, at least 16 chains) and about 20
    // of dots, accumulators, lanes, scale, bias and y, each with an error of 2^-24 of the sum of magnitudes.
    const additions = shape.inputs / 4 + 20;
    expectClose(actual, ref.y, (_, i) => ref.magnitude[i]! * 2 ** -24 * additions + 1e-37);
  }

  test.each(kinds.flatMap((kind) => shapes.map((shape) => ({ ...kind, ...shape }))))(
    '$kind $dtype T=$numTokens K=$inputs N=$outputs blocks=$blockRows bias=$bias accumulate=$accumulate',
    async ({ kind, dtype, ...shape }) => {
      const x = normals(shape.numTokens * shape.inputs, 1);
      // Rows beyond T hold NaN: reading them would show.
      const padded = new Float32Array(x.length + 4 * shape.inputs).fill(Number.NaN);
      padded.set(x);
      const weight = randomDense(shape.outputs, shape.inputs, dtype, 2);
      const count = shape.numTokens * shape.outputs;
      const y = bench.output(count);
      const initial = normals(count, 3);
      if (shape.accumulate) bench.gpu.device.queue.writeBuffer(y, 0, initial);
      await run({ kind, dtype }, shape, padded, weight, y);
      check(await bench.readFloats(y, count), shape, x, weight, initial);
    },
  );

  test.each(kinds)('$kind $dtype: a token has the same bits alone and among others', async (kind) => {
    const [inputs, outputs] = [172, 100];
    const weight = randomDense(outputs, inputs, kind.dtype, 2);
    const x = normals(5 * inputs, 1);
    const among = bench.output(5 * outputs);
    await run(kind, { numTokens: 5, inputs, outputs }, x, weight, among);
    const alone = bench.output(outputs);
    await run(kind, { numTokens: 1, inputs, outputs }, x.slice(3 * inputs, 4 * inputs), weight, alone);
    const row = (await bench.readFloats(among, 5 * outputs)).slice(3 * outputs, 4 * outputs);
    expectEqualInts(await bench.readFloats(alone, outputs), row);
  });

  test('singleRow computes row 0 alone, whatever T is', async () => {
    const shape = { numTokens: 5, inputs: 256, outputs: 512 };
    const weight = randomDense(512, 256, 'F16', 2);
    const x = normals(256, 1);
    const y = bench.output(512);
    await run({ kind: 'vector', dtype: 'F16', singleRow: true }, shape, x, weight, y);
    check(await bench.readFloats(y, 512), { ...shape, numTokens: 1 }, x, weight, x);
  });

  test('a block outside the outputs is refused', () => {
    const buffer = bench.output(64);
    const buffers = { step: buffer, x: buffer, weight: buffer, bias: null, y: buffer };
    const shape = { inputs: 4, rows: 3, rowStart: 6, outputs: 8, accumulate: false };
    expect(() => linearDense(bench, { kind: 'vector', dtype: 'F32', ...shape, ...buffers })).toThrow(
      KernelShapeError,
    );
    const within = { ...shape, rowStart: 0, dtype: 'I8' as const };
    expect(() => linearDense(bench, { kind: 'vector', ...within, ...buffers })).toThrow('expected scales');
  });
});

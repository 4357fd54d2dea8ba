import { describe, expect, test } from 'vitest';
import { openNodeGpu } from '../gpu/node';
import { KernelShapeError } from '../kernels/op';
import { expectClose, normals } from '../kernels/testing';
import { gemm, type Operand } from './gemm';
import { GpuWork } from './gpu-work';

const works = [
  { name: 'tiles', work: new GpuWork(await openNodeGpu({ software: false })), tile: 64 },
  { name: 'own', work: new GpuWork(await openNodeGpu({ software: true })), tile: 32 },
];
const sentinel = 12345;

interface Case {
  readonly name: string;
  readonly sizes: readonly [M: number, N: number, K: number];
  readonly transposed?: readonly [a: boolean, b: boolean];
  readonly alpha?: number;
  readonly accumulate?: boolean;
  readonly bias?: boolean;
  readonly lower?: boolean;
  readonly batches?: number;
  readonly batchesPerB?: number;
  /** Elements in front of each operand, and behind each line. */
  readonly offset?: number;
  readonly slack?: number;
}

const cases: Case[] = [
  { name: 'one element', sizes: [1, 1, 1] },
  { name: 'ragged everywhere', sizes: [67, 70, 19], offset: 3, slack: 1, bias: true },
  { name: 'whole tiles, fours', sizes: [64, 128, 32], offset: 4, slack: 4 },
  { name: 'nothing to add up', sizes: [5, 6, 0], accumulate: true },
  { name: 'aᵀ·b of rows', sizes: [68, 36, 21], transposed: [true, true], accumulate: true, slack: 4 },
  { name: 'ragged aᵀ·b', sizes: [65, 3, 5], transposed: [true, true], slack: 1 },
  { name: 'b transposed', sizes: [9, 66, 33], transposed: [false, true], alpha: -1, accumulate: true },
  { name: 'a transposed', sizes: [66, 9, 16], transposed: [true, false], alpha: 0.5 },
  { name: 'lower triangle of many tiles', sizes: [130, 130, 8], lower: true, slack: 2 },
  { name: 'heads that share a key', sizes: [7, 5, 12], batches: 6, batchesPerB: 3 },
];

/** A buffer of random lines, and where each element of (batch, line, k) lies in it. */
function operand(
  work: GpuWork,
  lines: number,
  K: number,
  transposed: boolean,
  batches: number,
  test: Case,
  seed: number,
) {
  const { offset = 0, slack = 0 } = test;
  const stride = (transposed ? lines : K) + slack;
  const batch = stride * (transposed ? K : lines);
  const values = normals(offset + batches * batch + 64, seed);
  const at = (b: number, line: number, k: number) =>
    values[offset + b * batch + (transposed ? k * stride + line : line * stride + k)]!;
  const spec: Operand = { buffer: work.upload('operand', values), stride, offset, batch, transposed };
  return { at, spec };
}

describe.each(works)('gemm, $name', ({ work, tile }) => {
  test.each(cases)('$name', async (test) => {
    const [M, N, K] = test.sizes;
    const { transposed = [false, false], batches = 1, batchesPerB = 1, offset = 0, slack = 0 } = test;
    const { alpha = 1, accumulate = false, lower = false } = test;
    const a = operand(work, M, K, transposed[0], batches, test, 1);
    const b = operand(work, N, K, transposed[1], batches / batchesPerB, test, 2);
    const stride = N + slack;
    const initial = new Float32Array(offset + batches * M * stride + 64).fill(sentinel);
    const bias = test.bias ? normals(N, 3) : null;
    const c = { buffer: work.upload('c', initial), stride, offset, batch: M * stride };
    await gemm(work, {
      ...{ M, N, K, a: a.spec, b: b.spec, c, alpha, accumulate, lower, batches, batchesPerB },
      bias: bias && work.upload('bias', bias),
    });
    const actual = await work.readFloats(c.buffer, initial.length);
    const expected = Float64Array.from(initial);
    const size = new Float64Array(initial.length);
    for (let z = 0; z < batches; z++) {
      for (let m = 0; m < M; m++) {
        for (let n = 0; n < N; n++) {
          if (lower && Math.floor(n / tile) > Math.floor(m / tile)) continue;
          const i = offset + z * M * stride + m * stride + n;
          let [sum, magnitude] = [0, 0];
          for (let k = 0; k < K; k++) {
            const product = a.at(z, m, k) * b.at(Math.floor(z / batchesPerB), n, k);
            sum += product;
            magnitude += Math.abs(product);
          }
          expected[i] = alpha * sum + (bias ? bias[n]! : 0) + (accumulate ? sentinel : 0);
          size[i] = Math.abs(alpha) * magnitude + Math.abs(expected[i]!);
        }
      }
    }
    // K products in one chain of fma, a product with alpha and two sums: (K + 3) roundings of 2^-24; untouched elements are exact
    expectClose(actual, expected, (_, i) => size[i]! * (K + 3) * 2 ** -24 || Number.MIN_VALUE);
  });
});

test('an output that is an input is refused', () => {
  const { work } = works[0]!;
  const buffer = work.create('both', 16);
  const line = { buffer, stride: 4 };
  expect(() => gemm(work, { M: 4, N: 4, K: 4, a: line, b: line, c: line })).toThrow(KernelShapeError);
});

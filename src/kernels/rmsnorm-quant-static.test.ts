import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { packGather } from './packing';
import { checkToken, quantizedOutput, readQuantized } from './quantizer-testing';
import { rmsnormQuantStatic } from './rmsnorm-quant-static';
import { rmsnormQuantStaticRef } from './rmsnorm-quant-static.ref';
import { capabilitySets, KernelBench, normals, random } from './testing';

interface Case {
  readonly numTokens: number;
  readonly hiddenSize: number;
  readonly inputs: number;
  readonly actBits: ActBits;
  readonly offsets?: boolean;
  readonly threads?: number;
}

interface Site {
  readonly gather: Uint32Array<ArrayBuffer>;
  readonly mult: Float32Array<ArrayBuffer>;
  readonly offset: Int32Array<ArrayBuffer>;
}

const eps = 1e-6;

/** All channels once, then repeated ones (duplicates of strong channels), then padding of up to 20 elements. */
function site({ hiddenSize, inputs, actBits, offsets }: Case): Site {
  const next = random(10);
  const real = Math.max(1, inputs - 20);
  const gather = Uint32Array.from({ length: inputs }, (_, k) =>
    k < hiddenSize ? k : k < real ? Math.floor(next() * hiddenSize) : 0,
  );
  const range = actBits === 4 ? 3 : 50;
  const mult = Float32Array.from({ length: inputs }, (_, k) => (k < real ? (0.2 + next()) * range : 0));
  const offset = Int32Array.from({ length: inputs }, (_, k) =>
    offsets && k < real ? Math.floor(next() * 41) - 20 : 0,
  );
  return { gather, mult, offset };
}

describe.each(capabilitySets)('rmsnorm_quant_static with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function quantize(shape: Case, { gather, mult, offset }: Site, x: Float32Array<ArrayBuffer>) {
    const { numTokens, hiddenSize, inputs, actBits, threads = 256 } = shape;
    const output = quantizedOutput(bench, numTokens, inputs);
    const packed = packGather(gather, offset, hiddenSize);
    const op = await rmsnormQuantStatic(bench, {
      ...{ hiddenSize, inputs, eps, actBits, step: bench.step(numTokens), x: bench.input(x) },
      ...{ gather: bench.input(packed), mult: bench.input(mult), ...output, tuning: { threads } },
    });
    await bench.run([op], numTokens + 2); // a grid larger than the step: nothing behind T is written
    return readQuantized(bench, output, numTokens, inputs);
  }

  test.each<Case>([
    { numTokens: 1, hiddenSize: 1, inputs: 32, actBits: 4 },
    { numTokens: 3, hiddenSize: 172, inputs: 192, actBits: 4 },
    { numTokens: 3, hiddenSize: 172, inputs: 320, actBits: 4, offsets: true },
    { numTokens: 65, hiddenSize: 192, inputs: 256, actBits: 8, threads: 64 },
    { numTokens: 2, hiddenSize: 4096, inputs: 4160, actBits: 8, offsets: true },
    { numTokens: 2, hiddenSize: 1030, inputs: 1088, actBits: 4, threads: 1 },
    { numTokens: 2, hiddenSize: 1030, inputs: 512, actBits: 4, threads: 128 }, // pruned: fewer than D
  ])('T=$numTokens D=$hiddenSize K=$inputs, $actBits bits, offsets $offsets', async (shape) => {
    const { numTokens, hiddenSize, actBits, threads = 256 } = shape;
    const x = normals(numTokens * hiddenSize, 11, 4);
    const channels = site(shape);
    const tokens = await quantize(shape, channels, x);
    // Sum of squares: D / threads roundings in a lane, 8 in the tree, 1 for the square, halved by the root; division 2.5
    // and inverseSqrt 2 ULP; two products.
    const valueError = ((hiddenSize / threads + 9) / 2 + 2.5 / 2 + 2 + 2) * 2 ** -23;
    let neighbours = 0;
    tokens.forEach((token, t) => {
      const row = x.subarray(t * hiddenSize, (t + 1) * hiddenSize);
      const values = rmsnormQuantStaticRef(row, channels.gather, channels.mult, eps);
      const expected = { values, offsets: channels.offset, scale: 1, scaleError: 0, valueError };
      neighbours += checkToken(token, expected, actBits);
    });
    expect(neighbours).toBeLessThanOrEqual(Math.max(1, tokens.length * shape.inputs * 3e-4));
  });

  test('pieces of a segmented channel add up to one finer integer', async () => {
    // P pieces with offsets b_j = -8 + 8P - 15j cover round(X / t) from -8P to 7P exactly.
    const pieces = 4;
    const hiddenSize = 64;
    const gather = Uint32Array.from({ length: hiddenSize * pieces }, (_, k) => Math.floor(k / pieces));
    const offset = Int32Array.from(gather, (_, k) => -8 + 8 * pieces - 15 * (k % pieces));
    const mult = new Float32Array(gather.length).fill(9);
    const x = normals(hiddenSize, 12);
    const shape = { numTokens: 1, hiddenSize, inputs: gather.length, actBits: 4 } as const;
    const [segmented] = await quantize(shape, { gather, mult, offset }, x);
    const none = new Int32Array(gather.length);
    const [fine] = await quantize({ ...shape, actBits: 8 }, { gather, mult, offset: none }, x);
    for (let channel = 0; channel < hiddenSize; channel++) {
      const sum = segmented!.q.slice(channel * pieces, (channel + 1) * pieces).reduce((a, b) => a + b, 0);
      const whole = fine!.q[channel * pieces]!;
      expect(sum).toBe(Math.min(7 * pieces, Math.max(-8 * pieces, whole)));
    }
  });

  test('an all-zero token and a token are what they are alone, wherever they stand in a chunk', async () => {
    const shape = { numTokens: 5, hiddenSize: 1030, inputs: 1088, actBits: 8, offsets: true } as const;
    const channels = site(shape);
    const x = normals(shape.numTokens * shape.hiddenSize, 13, 4);
    x.fill(0, 2 * shape.hiddenSize, 3 * shape.hiddenSize);
    const chunk = await quantize(shape, channels, x);
    expect([...chunk[2]!.q]).toEqual([...channels.offset]);
    for (let t = 0; t < shape.numTokens; t++) {
      const row = x.slice(t * shape.hiddenSize, (t + 1) * shape.hiddenSize);
      const [alone] = await quantize({ ...shape, numTokens: 1 }, channels, row);
      expect(alone).toEqual(chunk[t]);
    }
  });
});

import { describe, expect, test } from 'vitest';
import type { ActBits } from '../format/scheme';
import { attentionPartialsBytes, attentionSplit } from './attention';
import {
  type DecodeInput,
  type DecodeLinearTuning,
  type DecodeOutput,
  decodeLinear,
  fitsDecodeLinear,
  type Quantizer,
} from './decode-linear';
import { linearW4 } from './linear-w4';
import { KernelShapeError, type Op } from './op';
import { packGather } from './packing';
import { quantDynamic } from './quant-dynamic';
import { quantStatic } from './quant-static';
import { rmsnormQuantDynamic } from './rmsnorm-quant-dynamic';
import { rmsnormQuantStatic } from './rmsnorm-quant-static';
import { siluMul } from './silu-mul';
import { expectEqualInts, KernelBench, normals, random, withAnySubgroup } from './testing';

interface Shape {
  readonly kind: DecodeInput['kind'];
  readonly output: DecodeOutput;
  /** Floats of the token, K', and rows. */
  readonly length: number;
  readonly inputs: number;
  readonly rows: number;
  readonly actBits: ActBits;
  readonly rowStart?: number;
  readonly outputs?: number;
  readonly bias?: boolean;
  readonly quantizer?: Quantizer;
  readonly zero?: boolean;
}

const dynamic: Quantizer = { kind: 'dynamic', ratio: 0.9 };
const fixed: Quantizer = { kind: 'static', stepSize: 0.3 };
const eps = 1e-5;
/** Heads of the attention case: the pieces of two long heads with grouped keys, position 300. */
const heads = { numHeads: 4, numKvHeads: 2, headDim: 8, contextLength: 400 };
const position = 300;

const shapes: readonly Shape[] = [
  { kind: 'rmsnorm_quant_static', output: 'store', length: 40, inputs: 64, rows: 64, actBits: 8 },
  { kind: 'rmsnorm_quant_static', output: 'silu-mul', length: 44, inputs: 96, rows: 344, actBits: 4 },
  { kind: 'rmsnorm_quant_dynamic', output: 'store', length: 40, inputs: 64, rows: 65, actBits: 8 },
  { kind: 'rmsnorm_quant_dynamic', output: 'silu-mul', length: 520, inputs: 544, rows: 88, actBits: 4 },
  { kind: 'rmsnorm_quant_dynamic', output: 'store', length: 40, inputs: 64, rows: 9, actBits: 4, zero: true },
  {
    kind: 'floats',
    output: 'accumulate',
    length: 172,
    inputs: 192,
    rows: 40,
    actBits: 8,
    quantizer: dynamic,
  },
  {
    kind: 'floats',
    output: 'accumulate',
    length: 64,
    inputs: 64,
    rows: 3,
    actBits: 4,
    quantizer: dynamic,
    zero: true,
  },
  {
    ...{ kind: 'floats', output: 'accumulate', length: 64, inputs: 64, rows: 30, rowStart: 20, outputs: 64 },
    ...{ actBits: 8, quantizer: dynamic, bias: true },
  },
  {
    ...{ kind: 'rmsnorm_quant_static', output: 'silu-mul', length: 64, inputs: 64, rows: 30, rowStart: 20 },
    ...{ outputs: 64, actBits: 8, bias: true },
  },
  // More words than an invocation takes at once, of the token and of what a norm needs beside it.
  {
    ...{ kind: 'rmsnorm_quant_static', output: 'store', length: 4104, inputs: 5152, rows: 7, actBits: 4 },
    bias: true,
  },
  {
    ...{ kind: 'floats', output: 'accumulate', length: 6200, inputs: 6208, rows: 5, actBits: 8 },
    quantizer: dynamic,
  },
  {
    kind: 'attention',
    output: 'accumulate',
    length: 32,
    inputs: 32,
    rows: 40,
    actBits: 8,
    quantizer: dynamic,
  },
  { kind: 'attention', output: 'accumulate', length: 32, inputs: 64, rows: 40, actBits: 4, quantizer: fixed },
];

interface Variant {
  readonly tuning: DecodeLinearTuning;
  /** As on a device whose subgroups may have other sizes, too. */
  readonly anySubgroup?: boolean;
}

const variants: readonly Variant[] = [
  { tuning: {} },
  { tuning: { groups: 1, pieces: 1 } },
  { tuning: { groups: 3, pieces: 5 }, anySubgroup: true },
];

/** The token's source, and the plain kernels that quantize it. */
interface Source {
  readonly input: DecodeInput;
  readonly plain: readonly Op[];
}

async function source(bench: KernelBench, shape: Shape, q: GPUBuffer, qmeta: GPUBuffer): Promise<Source> {
  const { kind, length, inputs, actBits, quantizer = dynamic } = shape;
  const step = bench.step(1, position);
  const x = bench.input(shape.zero ? new Float32Array(length) : normals(length, 40, 2));
  const shared = { hiddenSize: length, eps };
  const out = { inputs, actBits, step, q, qmeta };
  if (kind === 'rmsnorm_quant_static') {
    const index = Uint32Array.from({ length: inputs }, (_, k) => (k * 7) % length);
    const offset = Int32Array.from({ length: inputs }, (_, k) => (k % 3) - 1);
    const gather = bench.input(packGather(index, offset));
    const mult = bench.input(normals(inputs, 41).map((value) => 2.5 + value));
    const input = { kind, x, gather, mult, ...shared };
    return { input, plain: [await rmsnormQuantStatic(bench, { ...shared, ...out, x, gather, mult })] };
  }
  if (kind === 'rmsnorm_quant_dynamic') {
    const weight = bench.input(normals(length, 42).map((value) => 1 + 0.2 * value));
    const input = { kind, x, weight, ratio: 0.9, ...shared };
    return { input, plain: [await rmsnormQuantDynamic(bench, { ...shared, ...out, x, weight, ratio: 0.9 })] };
  }
  const quantize = (from: GPUBuffer) => {
    const args = { ...out, inputs: length, paddedInputs: inputs, x: from };
    return quantizer.kind === 'dynamic'
      ? quantDynamic(bench, { ...args, ratio: quantizer.ratio })
      : quantStatic(bench, { ...args, stepSize: quantizer.stepSize });
  };
  if (kind === 'floats') return { input: { kind, x, length, quantizer }, plain: [await quantize(x)] };
  const { numHeads, numKvHeads, headDim, contextLength } = heads;
  const cache = () => {
    const next = random(43);
    const words = (numKvHeads * contextLength * headDim) / 2;
    // halves of magnitude around 1: random sign and mantissa, exponent 0
    return bench.input(
      Uint32Array.from({ length: words }, () => (next() * 2 ** 32) & 0x83ff83ff).map(
        (word) => word | 0x3c003c00,
      ),
    );
  };
  const partials = bench.output(attentionPartialsBytes(heads, 1) / 4);
  const attended = bench.output(length);
  const qkv = bench.input(normals((numHeads + 2 * numKvHeads) * headDim, 44));
  const split = await attentionSplit(bench, {
    ...{ ...heads, step, qkv, keyCache: cache(), valueCache: cache(), out: attended, partials },
  });
  return { input: { kind, partials, step, heads, quantizer }, plain: [...split, await quantize(attended)] };
}

const title =
  '$kind of $length to $inputs, $rows rows, A$actBits, $output, bias $bias: bits of the plain kernels';

describe('decode_linear', async () => {
  const bench = await KernelBench.open({ software: false });

  test.each(shapes)(title, async (shape) => {
    const { inputs, rows, rowStart = 0, outputs = rows, output } = shape;
    const next = random(45);
    const weight = bench.input(Uint32Array.from({ length: (rows * inputs) / 8 }, () => next() * 2 ** 32));
    const scale = bench.input(normals(outputs, 46, 0.01).map(Math.abs));
    const bias = shape.bias ? bench.input(normals(outputs, 47)) : null;
    const q = bench.output(inputs / 4);
    const qmeta = bench.output(2);
    const { input, plain } = await source(bench, shape, q, qmeta);
    const before = normals(outputs, 48);
    const fresh = () => {
      const y = bench.output(outputs);
      bench.gpu.device.queue.writeBuffer(y, 0, before);
      return y;
    };
    const product = fresh();
    const gated = fresh();
    const block = { inputs, rows, rowStart, outputs, weight, scale, bias };
    const step = bench.step(1);
    const reference = await linearW4(bench, {
      ...{ kind: 'vector', ...block, step, q, qmeta, y: product, accumulate: output === 'accumulate' },
    });
    const gate = await siluMul(bench, { ffnSize: outputs / 2, step, gateUp: product, y: gated });
    await bench.run([...plain, reference, ...(output === 'silu-mul' ? [gate] : [])], 1);
    const all = new Uint32Array(await bench.read(output === 'silu-mul' ? gated : product));
    const [from, to] =
      output === 'silu-mul' ? [rowStart / 2, (rowStart + rows) / 2] : [rowStart, rowStart + rows];
    const expected = new Uint32Array(before.slice().buffer);
    expected.set(all.slice(from, to), from);
    expect(new Set(all.slice(from, to)).size).toBeGreaterThan(shape.zero ? 0 : 2);
    for (const { tuning, anySubgroup = false } of variants) {
      const y = fresh();
      const op = await decodeLinear(anySubgroup ? withAnySubgroup(bench) : bench, {
        ...block,
        input,
        actBits: shape.actBits,
        y,
        output,
        tuning,
      });
      await bench.run([op], 1);
      expectEqualInts(await bench.readOutput(y, outputs), expected);
    }
  });

  test('what does not fit is said, and refused', async () => {
    const x = bench.output(64);
    const input = { kind: 'floats', x, length: 62, quantizer: dynamic } as const;
    expect(fitsDecodeLinear(bench.gpu, 64, { ...input, length: 64 })).toBe(true);
    expect(fitsDecodeLinear(bench.gpu, 64, input)).toBe(false); // not whole vectors
    const limit = bench.gpu.device.limits.maxComputeWorkgroupStorageSize;
    expect(fitsDecodeLinear(bench.gpu, 4096 * Math.ceil(limit / 4096), { ...input, length: 64 })).toBe(false);
    const args = {
      ...({ actBits: 4, inputs: 64, rows: 3, rowStart: 0, outputs: 3, output: 'silu-mul' } as const),
      ...{ input: { ...input, length: 64 }, weight: x, scale: x, bias: null, y: x },
    };
    await expect(decodeLinear(bench, args)).rejects.toThrow('even rows for silu-mul, not 3 from 0');
    await expect(decodeLinear(bench, { ...args, output: 'store', input })).rejects.toThrow(KernelShapeError);
    const tuning = { threads: 128 };
    await expect(decodeLinear(bench, { ...args, output: 'store', tuning })).rejects.toThrow(
      'multiple of 128',
    );
  });
});

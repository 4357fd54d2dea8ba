/** Each product of a shape: decode in GB/s against the read ceiling, prefill in TOPS, for int4 and float16 weights. */
import type { LlamaConfig } from '../../src/format/config';
import { paddedInputs, qkvRows } from '../../src/format/tensors';
import { denseStride } from '../../src/kernels/dense-layout';
import { linearDense } from '../../src/kernels/linear-dense';
import { linearW4 } from '../../src/kernels/linear-w4';
import type { Op } from '../../src/kernels/op';
import { matrixLinear } from '../../src/model/matrix-ops';
import { type BenchContext, encodeOps, Workbench } from '../bench-context';
import { shapeOf } from '../shapes';
import { exactly, rateOf, scaled, summarize } from '../statistics';
import { type Timed, timePass, timePasses } from '../timing';
import { randomFloats, randomIntegers, tokenMeta, verifyDense, verifyInt4 } from '../verify';
import { benchInputs } from './layout';
import { type ReadCeiling, readCeiling } from './read-ceiling';

/** One of a layer's four products. */
export interface Product {
  readonly name: 'qkv' | 'o' | 'gate_up' | 'down';
  readonly inputs: number; // K
  /** K' of the int4 version: reconstruction's columns and padding included. */
  readonly int4Inputs: number;
  readonly outputs: number; // N
}

export function productsOf(config: LlamaConfig): readonly Product[] {
  const { hiddenSize: D, intermediateSize: F, numHeads, headDim } = config;
  const merged = benchInputs(D);
  return [
    { name: 'qkv', inputs: D, int4Inputs: merged, outputs: qkvRows(config) },
    { name: 'o', inputs: numHeads * headDim, int4Inputs: paddedInputs(numHeads * headDim), outputs: D },
    { name: 'gate_up', inputs: D, int4Inputs: merged, outputs: 2 * F },
    { name: 'down', inputs: F, int4Inputs: paddedInputs(F), outputs: D },
  ];
}

type Dtype = 'int4' | 'f16';

/** Bytes of weights and scales that one decoded token reads. */
export function productBytes({ inputs, int4Inputs, outputs }: Product, dtype: Dtype): number {
  return dtype === 'int4' ? outputs * (int4Inputs / 2 + 4) : outputs * denseStride(inputs, 'F16') * 2;
}

/** Weights to cycle through, so that no cache holds them. */
const uncachedBytes = 384 * 2 ** 20;

export async function runKernels(bench: BenchContext): Promise<void> {
  const { shape } = bench.request;
  const config = shapeOf(shape);
  await Workbench.use(bench.gpu, async (workbench) => {
    bench.step('read bandwidth');
    const ceiling = await readCeiling(bench, workbench);
    for (const product of productsOf(config)) {
      for (const dtype of ['int4', 'f16'] as const) {
        const id = `${shape}/${product.name}/${dtype}`;
        bench.step(`${id}, 1 token`);
        await decodeProduct(bench, ceiling, product, dtype, id);
        for (const numTokens of prefillTokens(bench)) {
          bench.step(`${id}, ${numTokens} tokens`);
          await prefillProduct(bench, product, dtype, numTokens, `${id}/prefill-${numTokens}`);
        }
      }
    }
    if (bench.gpu.caps.software) bench.note('all linears in one pass: left out on a software adapter');
    else await allLinears(bench, ceiling, config);
  });
}

function prefillTokens({ gpu }: BenchContext): readonly number[] {
  return gpu.caps.software ? [32] : [256, 2048];
}

export interface ProductOp {
  readonly op: Op;
  /** The same kernel, grid and buffers with no token to work on: what its dispatch alone costs. */
  readonly idle: Op;
  /** Checks a few outputs. @throws VerificationError */
  readonly verify: (workbench: Workbench) => Promise<void>;
}

/**
 * What a product reads and writes besides its weights. The copies of a product that are timed one behind the other share it, as
 * a model's layers do: the operation in front has just written it, so it comes from a cache, and memory is read for weights.
 */
type ProductIo = {
  readonly numTokens: number;
  readonly step: GPUBuffer;
  /** Of a pass without tokens. */
  readonly idleStep: GPUBuffer;
  readonly y: GPUBuffer;
} & (
  | {
      readonly dtype: 'int4';
      readonly integers: Int8Array<ArrayBuffer>;
      readonly q: GPUBuffer;
      readonly qmeta: GPUBuffer;
    }
  | { readonly dtype: 'f16'; readonly floats: Float32Array<ArrayBuffer>; readonly x: GPUBuffer }
);

function productIo(workbench: Workbench, product: Product, dtype: Dtype, numTokens: number): ProductIo {
  const common = {
    numTokens,
    step: workbench.step(numTokens),
    idleStep: workbench.step(0),
    y: workbench.buffer('y', 4 * numTokens * product.outputs),
  };
  if (dtype === 'f16') {
    const floats = randomFloats(numTokens * product.inputs, 1);
    return { ...common, dtype, floats, x: workbench.upload('x', floats) };
  }
  const integers = randomIntegers(numTokens * product.int4Inputs, 1, 7);
  const qmeta = workbench.upload('qmeta', tokenMeta(integers, product.int4Inputs));
  return { ...common, dtype, integers, q: workbench.upload('q', integers), qmeta };
}

interface ProductArgs {
  readonly product: Product;
  readonly kind: 'vector' | 'matrix';
  readonly io: ProductIo;
  /** Of the weights. */
  readonly seed: number;
}

function productOp(workbench: Workbench, args: ProductArgs): Promise<ProductOp> {
  return args.io.dtype === 'int4' ? int4Op(workbench, args, args.io) : denseOp(workbench, args, args.io);
}

type Int4Io = Extract<ProductIo, { dtype: 'int4' }>;

async function int4Op(
  workbench: Workbench,
  { product, kind, seed }: ProductArgs,
  io: Int4Io,
): Promise<ProductOp> {
  const { int4Inputs: inputs, outputs } = product;
  const { numTokens, integers, q, qmeta, y } = io;
  const weight = await workbench.random('weight', (outputs * inputs) / 2, { kind: 'int4' }, seed);
  const content = { kind: 'f32', center: 0.01, spread: 0.002 } as const;
  const scale = await workbench.random('scale', 4 * outputs, content, seed + 1);
  const linear = {
    ...{ inputs, rows: outputs, rowStart: 0, outputs },
    ...{ q, qmeta, weight, scale, y, bias: null, accumulate: false },
  };
  const build = async (step: GPUBuffer) => {
    if (kind === 'vector') return linearW4(workbench, { ...linear, kind, step });
    const ops = await Promise.all(matrixLinear(workbench, { ...linear, step }));
    return ops.find(({ grid }) => grid(numTokens)[0] > 0)!; // the one that a pass of so many tokens records
  };
  const op = await build(io.step);
  const idle = await build(io.idleStep);
  const verify = (bench: Workbench) =>
    verifyInt4(bench, { q: integers, weight, scale, y, inputs, outputs, numTokens });
  return { op, idle, verify };
}

type DenseIo = Extract<ProductIo, { dtype: 'f16' }>;

async function denseOp(
  workbench: Workbench,
  { product, kind, seed }: ProductArgs,
  io: DenseIo,
): Promise<ProductOp> {
  const { inputs, outputs } = product;
  const { numTokens, floats, x, y } = io;
  const stride = denseStride(inputs, 'F16');
  const content = { kind: 'f16', center: 0, spread: 1 } as const;
  const weight = await workbench.random('weight', outputs * stride * 2, content, seed);
  const linear = {
    ...({ kind, dtype: 'F16', inputs, rows: outputs, rowStart: 0, outputs } as const),
    ...{ x, weight, bias: null, y, accumulate: false },
  };
  const op = await linearDense(workbench, { ...linear, step: io.step });
  const idle = await linearDense(workbench, { ...linear, step: io.idleStep });
  const verify = (bench: Workbench) =>
    verifyDense(bench, { x: floats, weight, stride, y, inputs, outputs, numTokens });
  return { op, idle, verify };
}

async function decodeProduct(
  bench: BenchContext,
  ceiling: ReadCeiling,
  product: Product,
  dtype: Dtype,
  id: string,
): Promise<void> {
  const bytes = productBytes(product, dtype);
  const copies = bench.gpu.caps.software ? 1 : Math.max(1, Math.ceil(uncachedBytes / bytes));
  await Workbench.use(bench.gpu, async (workbench) => {
    const io = productIo(workbench, product, dtype, 1);
    const ops: ProductOp[] = [];
    for (let copy = 0; copy < copies; copy++) {
      ops.push(await productOp(workbench, { product, kind: 'vector', io, seed: 1 + copy }));
    }
    workbench.submit(encodeOps([ops[0]!.op], 1));
    await ops[0]!.verify(workbench);
    await measureBandwidth(bench, ceiling, `${id}/decode`, ops, copies * bytes);
  });
}

/**
 * GB/s and share of the ceiling, dispatch cost included (gross) and subtracted (net). The ceiling and the dispatches alone
 * are timed in turn with the products: shares are those of one and the same moment. Returns the products' time.
 */
export async function measureBandwidth(
  bench: BenchContext,
  ceiling: ReadCeiling,
  id: string,
  products: readonly ProductOp[],
  bytes: number,
): Promise<Timed> {
  const work = encodeOps(
    products.map(({ op }) => op),
    1,
  );
  const dispatches = encodeOps(
    products.map(({ idle }) => idle),
    1,
  );
  const [timed, alone, read] = await timePasses(bench.gpu, [work, dispatches, ceiling.encode], bench.timing);
  const { us, each, clock } = timed!;
  bench.add(id, 'GB/s', rateOf(us, bytes / 1e3), clock);
  const share = (cost: (sample: number) => number) =>
    summarize(each.map((time, i) => (100 * bytes * read!.each[i]!) / (ceiling.bytes * (time - cost(i)))));
  bench.add(
    `${id}/ceiling-gross`,
    '%',
    share(() => 0),
    clock,
  );
  bench.add(`${id}/dispatch`, 'us', scaled(alone!.us, 1 / products.length), clock);
  // On a software adapter a dispatch costs what its work does: nothing is left.
  if (alone!.us.most < 0.9 * us.least) {
    bench.add(
      `${id}/ceiling-net`,
      '%',
      share((i) => alone!.each[i]!),
      clock,
    );
  }
  return timed!;
}

async function prefillProduct(
  bench: BenchContext,
  product: Product,
  dtype: Dtype,
  numTokens: number,
  id: string,
): Promise<void> {
  await Workbench.use(bench.gpu, async (workbench) => {
    const io = productIo(workbench, product, dtype, numTokens);
    const { op, verify } = await productOp(workbench, { product, kind: 'matrix', io, seed: 1 });
    workbench.submit(encodeOps([op], numTokens));
    await verify(workbench);
    const timed = await timePass(bench.gpu, encodeOps([op], numTokens), bench.timing);
    const inputs = dtype === 'int4' ? product.int4Inputs : product.inputs;
    bench.add(id, 'TOPS', rateOf(timed.us, (2 * numTokens * inputs * product.outputs) / 1e6), timed.clock);
  });
}

/** Every linear of the model once, each with its own weights, in the order a token meets them. */
async function allLinears(bench: BenchContext, ceiling: ReadCeiling, config: LlamaConfig): Promise<void> {
  const products = productsOf(config);
  const id = `${bench.request.shape}/all-linears/int4/decode`;
  bench.step(`${id}: ${config.numLayers * products.length} linears`);
  await Workbench.use(bench.gpu, async (workbench) => {
    const ios = products.map((product) => productIo(workbench, product, 'int4', 1));
    const ops: ProductOp[] = [];
    for (let layer = 0; layer < config.numLayers; layer++) {
      for (const [i, product] of products.entries()) {
        const seed = 1 + layer * products.length + i;
        ops.push(await productOp(workbench, { product, kind: 'vector', io: ios[i]!, seed }));
      }
    }
    const layerBytes = products.reduce((sum, product) => sum + productBytes(product, 'int4'), 0);
    const timed = await measureBandwidth(bench, ceiling, id, ops, config.numLayers * layerBytes);
    bench.addTime(`${id}/time`, timed);
    bench.add(`${id}/dispatches`, 'dispatches', exactly(ops.length), 'count');
  });
}

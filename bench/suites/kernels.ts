/** Each product of a shape: decode in GB/s against the read ceiling, prefill in TOPS, for int4 and float16 weights. */
import type { LlamaConfig } from '../../src/format/config';
import { paddedInputs, qkvRows } from '../../src/format/tensors';
import { denseStride } from '../../src/kernels/dense-layout';
import { linearDense } from '../../src/kernels/linear-dense';
import { linearW4 } from '../../src/kernels/linear-w4';
import type { Op } from '../../src/kernels/op';
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

interface ProductArgs {
  readonly product: Product;
  readonly dtype: Dtype;
  readonly kind: 'vector' | 'matrix';
  readonly numTokens: number;
  readonly seed: number;
}

function productOp(workbench: Workbench, args: ProductArgs): Promise<ProductOp> {
  return args.dtype === 'int4' ? int4Op(workbench, args) : denseOp(workbench, args);
}

async function int4Op(workbench: Workbench, args: ProductArgs): Promise<ProductOp> {
  const { product, kind, numTokens, seed } = args;
  const { int4Inputs: inputs, outputs } = product;
  const q = randomIntegers(numTokens * inputs, seed, 7);
  const qmeta = tokenMeta(q, inputs);
  const weight = await workbench.random('weight', (outputs * inputs) / 2, { kind: 'int4' }, seed);
  const content = { kind: 'f32', center: 0.01, spread: 0.002 } as const;
  const scale = await workbench.random('scale', 4 * outputs, content, seed + 1);
  const y = workbench.buffer('y', 4 * numTokens * outputs);
  const linear = {
    ...{ kind, inputs, rows: outputs, rowStart: 0, outputs },
    ...{ q: workbench.upload('q', q), qmeta: workbench.upload('qmeta', qmeta), weight, scale, y },
    ...{ bias: null, accumulate: false },
  };
  const op = await linearW4(workbench, { ...linear, step: workbench.step(numTokens) });
  const idle = await linearW4(workbench, { ...linear, step: workbench.step(0) });
  const verify = (bench: Workbench) => verifyInt4(bench, { q, weight, scale, y, inputs, outputs, numTokens });
  return { op, idle, verify };
}

async function denseOp(workbench: Workbench, args: ProductArgs): Promise<ProductOp> {
  const { product, kind, numTokens, seed } = args;
  const { inputs, outputs } = product;
  const stride = denseStride(inputs, 'F16');
  const x = randomFloats(numTokens * inputs, seed);
  const content = { kind: 'f16', center: 0, spread: 1 } as const;
  const weight = await workbench.random('weight', outputs * stride * 2, content, seed);
  const y = workbench.buffer('y', 4 * numTokens * outputs);
  const linear = {
    ...({ kind, dtype: 'F16', inputs, rows: outputs, rowStart: 0, outputs } as const),
    ...{ x: workbench.upload('x', x), weight, bias: null, y, accumulate: false },
  };
  const op = await linearDense(workbench, { ...linear, step: workbench.step(numTokens) });
  const idle = await linearDense(workbench, { ...linear, step: workbench.step(0) });
  const verify = (bench: Workbench) =>
    verifyDense(bench, { x, weight, stride, y, inputs, outputs, numTokens });
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
    const ops: ProductOp[] = [];
    for (let copy = 0; copy < copies; copy++) {
      const args = { product, dtype, kind: 'vector', numTokens: 1, seed: 1 + copy } as const;
      ops.push(await productOp(workbench, args));
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
    const { op, verify } = await productOp(workbench, { product, dtype, kind: 'matrix', numTokens, seed: 1 });
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
    const ops: ProductOp[] = [];
    for (let layer = 0; layer < config.numLayers; layer++) {
      for (const [i, product] of products.entries()) {
        const seed = 1 + layer * products.length + i;
        const args = { product, dtype: 'int4', kind: 'vector', numTokens: 1, seed } as const;
        ops.push(await productOp(workbench, args));
      }
    }
    const layerBytes = products.reduce((sum, product) => sum + productBytes(product, 'int4'), 0);
    const timed = await measureBandwidth(bench, ceiling, id, ops, config.numLayers * layerBytes);
    bench.addTime(`${id}/time`, timed);
    bench.add(`${id}/dispatches`, 'dispatches', exactly(ops.length), 'count');
  });
}

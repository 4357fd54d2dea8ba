/** All int4 linears of a shape in one dispatch: what the whole-token kernel's products reach when nothing waits for anything. */
import type { LlamaConfig } from '../../src/format/config';
import { type LinearSite, persistentLinears } from '../../src/kernels/persistent-linears';
import { type BenchContext, encodeOps, Workbench } from '../bench-context';
import { VerificationError } from '../figures';
import { timePasses } from '../timing';
import { randomIntegers, verifyInt4 } from '../verify';
import { measureBandwidth, type ProductOp, productBytes, productsOf } from './kernels';
import { readCeiling } from './read-ceiling';

/** Workgroups and their invocations that are tried: which ones suit a device is not known beforehand. */
const groupCounts = [66, 128, 132, 264, 528] as const;
const threadCounts = [256, 512] as const;

/** The matrices' parts, and the token that each product reads. */
interface Linears {
  readonly sites: readonly LinearSite[];
  readonly tokens: readonly Int8Array<ArrayBuffer>[];
  readonly buffers: {
    readonly weights: readonly GPUBuffer[];
    readonly tables: GPUBuffer;
    readonly tokens: GPUBuffer;
    readonly y: GPUBuffer;
  };
}

/**
 * GB/s and share of the read ceiling of the same moment, of the fastest workgroup shape.
 * @throws VerificationError
 */
export async function measureOneDispatch(bench: BenchContext, config: LlamaConfig): Promise<void> {
  const { gpu, request } = bench;
  const id = `${request.shape}/all-linears/one-dispatch`;
  if (gpu.caps.software || !gpu.caps.subgroups) {
    bench.note(`${id}: left out, it takes subgroups and a GPU`);
    return;
  }
  await Workbench.use(gpu, async (workbench) => {
    bench.step(`${id}: weights`);
    const linears = await placeLinears(workbench, config);
    if (linears.buffers.weights.length > 2) {
      bench.note(`${id}: left out, the weights take more than two bindings`);
      return;
    }
    bench.step(`${id}: workgroup shapes`);
    const { shape, op, idle } = await fastest(bench, workbench, linears);
    bench.note(`${id}: ${shape}`);
    bench.step(id);
    const ceiling = await readCeiling(bench, workbench);
    const layerBytes = productsOf(config).reduce((sum, product) => sum + productBytes(product, 'int4'), 0);
    const product: ProductOp = { op, idle, verify: (of) => verifyLinears(of, linears) };
    const timed = await measureBandwidth(bench, ceiling, id, [product], config.numLayers * layerBytes);
    bench.addTime(`${id}/time`, timed);
  });
}

async function placeLinears(workbench: Workbench, config: LlamaConfig): Promise<Linears> {
  const products = productsOf(config);
  const most = workbench.gpu.device.limits.maxStorageBufferBindingSize;
  const tokens = products.map(({ int4Inputs }, i) => randomIntegers(int4Inputs, 1 + i, 7));
  const tokenBytes = tokens.map((_, i) => tokens.slice(0, i).reduce((sum, { length }) => sum + length, 0));
  const sizes = [0];
  let rowsSoFar = 0;
  const sites: LinearSite[] = [];
  for (let layer = 0; layer < config.numLayers; layer++) {
    for (const [i, { int4Inputs: inputs, outputs: rows }] of products.entries()) {
      const bytes = (rows * inputs) / 2;
      if (sizes.at(-1)! + bytes > most) sizes.push(0);
      const place = { arena: sizes.length - 1, weightBytes: sizes.at(-1)!, inputs, rows };
      sites.push({
        ...{ ...place, scaleBytes: 4 * rowsSoFar, biasBytes: 0 },
        ...{ tokenBytes: tokenBytes[i]!, yStart: rowsSoFar },
      });
      sizes[sizes.length - 1] = place.weightBytes + bytes;
      rowsSoFar += rows;
    }
  }
  const weights = [];
  for (const [i, size] of sizes.entries()) {
    weights.push(await workbench.random(`weights ${i}`, size, { kind: 'int4' }, 1 + i));
  }
  const content = { kind: 'f32', center: 0.01, spread: 0.002 } as const;
  const tables = await workbench.random('scales', 4 * rowsSoFar, content, 7);
  const whole = new Int8Array(tokens.reduce((sum, { length }) => sum + length, 0));
  tokens.forEach((token, i) => {
    whole.set(token, tokenBytes[i]!);
  });
  const y = workbench.buffer('y', 4 * rowsSoFar);
  return { sites, tokens, buffers: { weights, tables, tokens: workbench.upload('tokens', whole), y } };
}

/** Every shape is held against the references before it is timed. @throws VerificationError */
async function fastest(
  bench: BenchContext,
  workbench: Workbench,
  linears: Linears,
): Promise<Omit<ProductOp, 'verify'> & { readonly shape: string }> {
  const { sites, buffers } = linears;
  const most = bench.gpu.device.limits.maxComputeInvocationsPerWorkgroup;
  const shapes = threadCounts
    .filter((threads) => threads <= most)
    .flatMap((threads) => groupCounts.map((groups) => ({ groups, threads })));
  const build = (count: number) =>
    Promise.all(shapes.map((shape) => persistentLinears(workbench, { sites, ...buffers, ...shape, count })));
  const ops = await build(sites.length);
  const idle = await build(0);
  for (const op of ops) {
    bench.gpu.device.queue.writeBuffer(buffers.y, 0, new Uint8Array(buffers.y.size));
    workbench.submit(encodeOps([op], 1));
    await verifyLinears(workbench, linears);
  }
  const times = await timePasses(
    bench.gpu,
    ops.map((op) => encodeOps([op], 1)),
    { ...bench.timing, samples: 3 },
  );
  const best = times.reduce((found, { us }, i) => (us.median < times[found]!.us.median ? i : found), 0);
  const { groups, threads } = shapes[best]!;
  return { op: ops[best]!, idle: idle[best]!, shape: `${groups} workgroups of ${threads}` };
}

/** Rows of the first, a middle and the last layer's products, and that no other is left out. @throws VerificationError */
async function verifyLinears(workbench: Workbench, { sites, tokens, buffers }: Linears): Promise<void> {
  const { weights, tables, y } = buffers;
  const layers = sites.length / tokens.length;
  for (const layer of new Set([0, Math.floor(layers / 2), layers - 1])) {
    for (const [i, q] of tokens.entries()) {
      const {
        arena,
        weightBytes,
        inputs,
        rows: outputs,
        scaleBytes,
        yStart,
      } = sites[tokens.length * layer + i]!;
      const matrix = { weight: weights[arena]!, weightBytes, scale: tables, scaleBytes };
      await verifyInt4(workbench, { ...matrix, q, y, yStart, inputs, outputs, numTokens: 1 });
    }
  }
  const values = new Float32Array(await workbench.read(y, 0, y.size));
  const zeros = values.reduce((count, value) => count + Number(value === 0), 0);
  // A sum of thousands of random terms is exactly 0 once in a few thousand rows.
  if (!(zeros < values.length / 50)) {
    throw new VerificationError(`persistent_linears: ${zeros} of ${values.length} rows are 0`);
  }
}

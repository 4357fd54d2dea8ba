/** The quantization step alone (the paper's Table 6): three dynamic passes, one fused, and the static one merged into the norm. */
import { qMax } from '../../src/format/scheme';
import { makeOp, type Op } from '../../src/kernels/op';
import { packGather } from '../../src/kernels/packing';
import { tokenThreads } from '../../src/kernels/quantizer';
import { rmsnorm } from '../../src/kernels/rmsnorm';
import { rmsnormQuantDynamic } from '../../src/kernels/rmsnorm-quant-dynamic';
import { rmsnormQuantStatic } from '../../src/kernels/rmsnorm-quant-static';
import { type BenchContext, encodeOps, Workbench } from '../bench-context';
import quantizeSource from '../shaders/quantize_rows.wgsl?raw';
import absmaxSource from '../shaders/row_absmax.wgsl?raw';
import { summarize } from '../statistics';
import { timePasses } from '../timing';
import { randomFloats, verifyRounded } from '../verify';
import { benchInputs } from './layout';

const actBits = 4;
const eps = 1e-5;
/** Of the static multipliers γ/s: spreads a normalized uniform input over the integers. */
const multiplier = 3;
/** A float32 value before rounding, up to about 10, against float64: sums of 8192 squares and three products. */
const slack = 1e-3;

/** One row of the table. */
export interface QuantStepShape {
  readonly hiddenSize: number;
  readonly tokens: number;
  readonly batch: number;
}

/** The paper's shapes; on a software adapter only what it finishes in seconds. */
export function quantStepShapes(software: boolean): readonly QuantStepShape[] {
  const hidden = software ? [4096] : [4096, 5120, 8192];
  const tokens = software ? [1, 128] : [1, 128, 256];
  const batches = software ? [1] : [1, 16, 32];
  return hidden.flatMap((hiddenSize) =>
    tokens.flatMap((count) => batches.map((batch) => ({ hiddenSize, tokens: count, batch }))),
  );
}

export function quantStepId({ hiddenSize, tokens, batch }: QuantStepShape): string {
  return `h${hiddenSize}/t${tokens}/b${batch}`;
}

export async function runQuantStep(bench: BenchContext): Promise<void> {
  const { maxStorageBufferBindingSize } = bench.gpu.device.limits;
  for (const shape of quantStepShapes(bench.gpu.caps.software)) {
    const id = quantStepId(shape);
    if (4 * shape.hiddenSize * shape.tokens * shape.batch > maxStorageBufferBindingSize) {
      bench.note(`${id}: left out, one binding holds ${maxStorageBufferBindingSize} bytes here`);
      continue;
    }
    bench.step(id);
    await Workbench.use(bench.gpu, (workbench) => measure(bench, workbench, shape, id));
  }
}

/** How one way to quantize is checked: its output length and the float64 values before rounding of a token. */
interface Candidate {
  readonly name: 'naive' | 'fused' | 'static';
  readonly ops: readonly Op[];
  readonly q: GPUBuffer;
  readonly inputs: number;
  readonly reference: (x: Float32Array, inverseRms: number) => Float64Array;
}

async function measure(
  bench: BenchContext,
  workbench: Workbench,
  shape: QuantStepShape,
  id: string,
): Promise<void> {
  const T = shape.tokens * shape.batch;
  const x = randomFloats(T * shape.hiddenSize, shape.hiddenSize);
  const data = { x: workbench.upload('x', x), step: workbench.step(T), numTokens: T, ...shape };
  const candidates: Candidate[] = [];
  for (const build of [naive, fused, merged]) {
    const candidate = await build(workbench, data);
    workbench.submit(encodeOps(candidate.ops, T));
    for (const t of new Set([0, T - 1])) await verify(workbench, candidate, x, shape.hiddenSize, t);
    candidates.push(candidate);
  }
  const passes = candidates.map(({ ops }) => encodeOps(ops, T));
  const times = await timePasses(bench.gpu, passes, bench.timing);
  candidates.forEach(({ name }, i) => {
    bench.addTime(`${id}/${name}`, times[i]!);
  });
  const statics = times[2]!;
  for (const [i, name] of ['naive', 'fused'].entries()) {
    const ratios = times[i]!.each.map((us, sample) => us / statics.each[sample]!);
    bench.add(`${id}/static-vs-${name}`, 'x', summarize(ratios), statics.clock);
  }
}

interface StepData extends QuantStepShape {
  readonly numTokens: number;
  readonly x: GPUBuffer;
  readonly step: GPUBuffer;
}

/** γ of every channel. */
function gammas(hiddenSize: number): Float32Array<ArrayBuffer> {
  return randomFloats(hiddenSize, 2 * hiddenSize).map((value) => 1 + 0.2 * value);
}

function outputs(workbench: Workbench, { numTokens }: StepData, inputs: number) {
  return { q: workbench.buffer('q', numTokens * inputs), qmeta: workbench.buffer('qmeta', 8 * numTokens) };
}

function dynamicReference(gamma: Float32Array): Candidate['reference'] {
  return (x, inverseRms) => {
    const y = Float64Array.from(x, (value, k) => value * gamma[k]! * inverseRms);
    const largest = y.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return y.map((value) => (value * qMax(actBits)) / largest);
  };
}

/** RMSNorm, largest magnitude, rounding: a kernel each, as a framework without fusion runs them. */
async function naive(workbench: Workbench, data: StepData): Promise<Candidate> {
  const { hiddenSize, numTokens, x, step } = data;
  const gamma = gammas(hiddenSize);
  const weight = workbench.upload('weight', gamma);
  const y = workbench.buffer('y', 4 * numTokens * hiddenSize);
  const scale = workbench.buffer('scale', 4 * numTokens);
  const { q, qmeta } = outputs(workbench, data, hiddenSize);
  const params = workbench.arena.uniform('naive.params', { K: hiddenSize, qMax: { f32: qMax(actBits) } });
  const shared = {
    constants: { WORKGROUP: tokenThreads(workbench) },
    grid: (tokens: number) => [tokens, 1, 1] as const,
  };
  const ops = [
    await rmsnorm(workbench, { hiddenSize, eps, step, x, weight, y, lastRowOnly: false }),
    await makeOp(workbench, {
      ...{ label: 'row_absmax', source: absmaxSource, bindings: [params, y, scale], ...shared },
    }),
    await makeOp(workbench, {
      ...{
        label: 'quantize_rows',
        source: quantizeSource,
        bindings: [params, y, scale, q, qmeta],
        ...shared,
      },
    }),
  ];
  return { name: 'naive', ops, q, inputs: hiddenSize, reference: dynamicReference(gamma) };
}

/** The same in one kernel, tuned like the static one. */
async function fused(workbench: Workbench, data: StepData): Promise<Candidate> {
  const { hiddenSize, x, step } = data;
  const gamma = gammas(hiddenSize);
  const weight = workbench.upload('weight', gamma);
  const out = outputs(workbench, data, hiddenSize);
  const shared = { hiddenSize, inputs: hiddenSize, eps, actBits, step, x, ...out } as const;
  const op = await rmsnormQuantDynamic(workbench, { ...shared, ratio: 1, weight });
  return { name: 'fused', ops: [op], q: out.q, inputs: hiddenSize, reference: dynamicReference(gamma) };
}

/** The step merged into the norm's multiplier, with the gather and the added columns of reconstruction. */
async function merged(workbench: Workbench, data: StepData): Promise<Candidate> {
  const { hiddenSize, x, step } = data;
  const inputs = benchInputs(hiddenSize);
  const index = Uint32Array.from({ length: inputs }, (_, k) => (k < hiddenSize ? k : (k * 7) % hiddenSize));
  const mult = gammas(inputs).map((value) => multiplier * value);
  const gather = workbench.upload('gather', packGather(index, null, hiddenSize));
  const out = outputs(workbench, data, inputs);
  const op = await rmsnormQuantStatic(workbench, {
    ...{ hiddenSize, inputs, eps, actBits, step, x, gather, ...out },
    mult: workbench.upload('mult', mult),
  });
  const reference: Candidate['reference'] = (row, inverseRms) =>
    Float64Array.from(mult, (m, k) => row[index[k]!]! * m * inverseRms);
  return { name: 'static', ops: [op], q: out.q, inputs, reference };
}

async function verify(
  workbench: Workbench,
  { name, q, inputs, reference }: Candidate,
  x: Float32Array,
  hiddenSize: number,
  t: number,
): Promise<void> {
  const row = x.subarray(t * hiddenSize, (t + 1) * hiddenSize);
  const meanSquare = row.reduce((sum, value) => sum + value * value, 0) / hiddenSize;
  const integers = new Int8Array(await workbench.read(q, t * inputs, inputs));
  const values = reference(row, 1 / Math.sqrt(meanSquare + eps));
  verifyRounded(`quantization step, ${name}`, integers, values, qMax(actBits), slack);
}

/** Engines for benchmarks, the checks they must pass, and what is measured of one. */
import { Engine } from '../../src/engine/engine';
import { greedy, type ReplyStats } from '../../src/engine/types';
import type { LlamaConfig } from '../../src/format/config';
import { planMemory } from '../../src/format/memory-plan';
import { encodeOp, type Op } from '../../src/kernels/op';
import { randomWeights } from '../../src/model/random-weights';
import type { BenchContext } from '../bench-context';
import { VerificationError } from '../figures';
import type { BenchScheme } from '../shapes';
import { summarize } from '../statistics';
import { benchLayout } from './layout';

/** GPU memory that a shape needs under a scheme, before anything is allocated. */
export function plannedBytes(
  config: LlamaConfig,
  { scheme, actBits, kvCache, tableBits }: BenchScheme,
  contextLength: number,
): number {
  const tables = { embeddingBits: tableBits, headBits: tableBits };
  return planMemory({ config, scheme, actBits, kvCache, ...tables, contextLength }).gpuBytes;
}

/** A model of random weights, made on the GPU. The caller destroys it. @throws GpuMemoryError, ShaderError */
export async function randomEngine(
  bench: BenchContext,
  config: LlamaConfig,
  { scheme, actBits, kvCache, tableBits, chunkTokens }: BenchScheme,
  contextLength: number,
  persistentDecode = false,
): Promise<Engine> {
  const layout = benchLayout(config, scheme, actBits, tableBits);
  const weights = await randomWeights(bench.gpu, layout, 1, persistentDecode);
  return Engine.create(bench.gpu, weights, {
    contextLength,
    kvCache,
    persistentDecode,
    ...(chunkTokens ? { chunkTokens } : {}),
  });
}

/** Reproducible prompt of `count` valid tokens. */
export function promptOf(count: number, vocabSize: number): number[] {
  return Array.from({ length: Math.max(1, count) }, (_, i) => (i * 7919 + 13) % vocabSize);
}

/** Decodes greedily; `ids` are the reply. @throws VerificationError when tokens are missing */
export async function reply(
  engine: Engine,
  promptIds: readonly number[],
  tokens: number,
): Promise<{ readonly ids: readonly number[]; readonly stats: ReplyStats }> {
  const ids: number[] = [];
  const stream = engine.generate(promptIds, { sampling: greedy, maxTokens: tokens, stopTokenIds: [] });
  for (;;) {
    const { value, done } = await stream.next();
    if (!done) {
      ids.push(value);
      continue;
    }
    if (ids.length !== tokens) throw new VerificationError(`decoded ${ids.length} of ${tokens} tokens`);
    return { ids, stats: value.stats };
  }
}

/**
 * Two runs draw the same tokens, logits are finite and not all alike. Whether prefill draws what decode drew is noted
 * where it does not: their float sums may differ in order.
 * @throws VerificationError, NonFiniteLogitsError
 */
export async function verifyEngine(bench: BenchContext, engine: Engine, id: string): Promise<void> {
  const prompt = promptOf(Math.min(24, engine.contextLength - 8), engine.weights.layout.config.vocabSize);
  engine.reset();
  const { ids } = await reply(engine, prompt, 4);
  engine.reset();
  const again = await reply(engine, prompt, 4);
  if (ids.join() !== again.ids.join()) {
    throw new VerificationError(`${id}: the same prompt gave ${ids.join()} and ${again.ids.join()}`);
  }
  const logits = await readFloats(engine, engine.scratch.logits);
  const [least, most] = logits.reduce(
    ([low, high], value) => [Math.min(low, value), Math.max(high, value)],
    [Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY],
  );
  if (!(most! > least!)) throw new VerificationError(`${id}: logits lie between ${least} and ${most}`);
  engine.reset();
  const prefilled = await reply(engine, [...prompt, ...ids.slice(0, 3)], 1);
  if (prefilled.ids[0] !== ids[3]) {
    bench.note(`${id}: prefill draws token ${prefilled.ids[0]} where decode drew ${ids[3]}`);
  }
  engine.reset();
}

async function readFloats({ gpu: { device } }: Engine, buffer: GPUBuffer): Promise<Float32Array> {
  const staging = device.createBuffer({ size: buffer.size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, buffer.size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(0x1);
  const values = new Float32Array(staging.getMappedRange().slice(0));
  staging.destroy();
  return values;
}

/** Wall-clock rates of prefill and decode after `context` tokens of prompt. */
export async function measureReplies(
  bench: BenchContext,
  engine: Engine,
  id: string,
  promptIds: readonly number[],
  tokens: number,
): Promise<void> {
  const runs: ReplyStats[] = [];
  for (let run = 0; run <= bench.request.samples; run++) {
    bench.step(`${id}, run ${run} of ${bench.request.samples}`);
    engine.reset();
    const { stats } = await reply(engine, promptIds, tokens);
    if (run > 0) runs.push(stats); // the first warms up
  }
  const add = (name: string, unit: 'tok/s' | 'ms', pick: (stats: ReplyStats) => number) =>
    bench.add(`${id}/${name}`, unit, summarize(runs.map(pick)), 'wall');
  if (promptIds.length > 1) add('prefill', 'tok/s', (stats) => stats.prefillTokensPerSecond);
  add('first-token', 'ms', (stats) => stats.timeToFirstTokenMs);
  add('decode', 'tok/s', (stats) => stats.decodeTokensPerSecond);
}

/** The CPU's time to record and submit one token, without waiting for it. */
export async function encodeMs(bench: BenchContext, engine: Engine, id: string): Promise<void> {
  const { device } = engine.gpu;
  const ops = tokenOps(engine);
  const batch = 8;
  const values: number[] = [];
  for (let sample = 0; sample < bench.request.samples; sample++) {
    device.queue.writeBuffer(engine.scratch.step, 0, new Uint32Array([1, 0, 0, 0]));
    const start = performance.now();
    for (let i = 0; i < batch; i++) {
      const encoder = device.createCommandEncoder();
      const pass = encoder.beginComputePass();
      for (const op of ops) encodeOp(pass, op, 1);
      pass.end();
      device.queue.submit([encoder.finish()]);
    }
    values.push((performance.now() - start) / batch);
    await device.queue.onSubmittedWorkDone();
  }
  bench.add(`${id}/encode`, 'ms', summarize(values), 'wall');
}

/** Every operation of one decoded token. */
export function tokenOps(engine: Engine): readonly Op[] {
  const { decode, head, greedy: draw } = engine.passes;
  return [...decode, ...head, ...draw];
}

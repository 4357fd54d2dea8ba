/** Decode and prefill of one shape under several schemes, with random weights made on the GPU. */
import type { Engine } from '../../src/engine/engine';
import type { LlamaConfig } from '../../src/format/config';
import { GpuMemoryError } from '../../src/gpu/arena';
import { profileOps } from '../../src/gpu/profiler';
import { encodeOp } from '../../src/kernels/op';
import type { BenchContext } from '../bench-context';
import { type BenchScheme, parseScheme, shapeOf } from '../shapes';
import { summarize } from '../statistics';
import {
  encodeMs,
  measureReplies,
  plannedBytes,
  promptOf,
  randomEngine,
  reply,
  tokenOps,
  verifyEngine,
} from './model';

/** Tokens decoded in one measurement; few on an adapter that takes long for each. */
const decodedTokens = { hardware: 64, software: 8 };
/** Position of the token whose operations are timed one by one. */
const profiledPosition = 512;
/** Context that `device-bytes` is stated for. */
const memoryContext = 2048;

export async function runDecode(bench: BenchContext): Promise<void> {
  const config = shapeOf(bench.request.shape);
  for (const name of bench.request.schemes) {
    const scheme = parseScheme(name);
    const id = `${bench.request.shape}/${name}`;
    try {
      await measureScheme(bench, config, scheme, id);
    } catch (error) {
      if (!(error instanceof GpuMemoryError)) throw error;
      bench.note(`${id}: left out, ${error.message}`);
    }
  }
}

async function measureScheme(
  bench: BenchContext,
  config: LlamaConfig,
  scheme: BenchScheme,
  id: string,
): Promise<void> {
  const { software } = bench.gpu.caps;
  const tokens = software ? decodedTokens.software : decodedTokens.hardware;
  const contexts = bench.request.contexts.filter(
    (context) => context + tokens < config.maxPositionEmbeddings,
  );
  const contextLength = Math.max(...contexts, 32) + tokens + 1;
  bench.step(`${id}: weights, ${(plannedBytes(config, scheme, contextLength) / 2 ** 30).toFixed(2)} GiB`);
  const start = performance.now();
  const engine = await randomEngine(bench, config, scheme, contextLength);
  try {
    bench.add(`${id}/create`, 'ms', summarize([performance.now() - start]), 'wall');
    bench.note(`${id}: ${engine.scratch.kvCacheKind} key-value cache, context of ${contextLength} tokens`);
    await verifyEngine(bench, engine, id);
    for (const context of contexts) {
      const prompt = promptOf(context, config.vocabSize);
      await measureReplies(bench, engine, `${id}/context-${context}`, prompt, tokens);
    }
    addMemory(bench, engine, config, scheme, id);
    await addSubmission(bench, engine, id, tokens);
    if (bench.gpu.caps.timestampQuery) await profileToken(bench, engine, id);
    else bench.note(`${id}: no timeline, the device has no timestamp queries`);
  } finally {
    engine.destroy();
  }
}

function addMemory(
  bench: BenchContext,
  engine: Engine,
  config: LlamaConfig,
  scheme: BenchScheme,
  id: string,
): void {
  for (const [category, bytes] of Object.entries(engine.memory)) {
    bench.addCount(`${id}/memory/${category}`, 'bytes', bytes);
  }
  const total = Object.values(engine.memory).reduce((sum, bytes) => sum + bytes, 0);
  bench.addCount(`${id}/memory/total`, 'bytes', total);
  if (config.maxPositionEmbeddings < memoryContext) return;
  // What the cache and the tables of a context of 2048 take, from what was allocated for this one.
  const planned =
    plannedBytes(config, scheme, memoryContext) - plannedBytes(config, scheme, engine.contextLength);
  bench.addCount(`${id}/memory/total-${memoryContext}`, 'bytes', total + planned);
}

/** Dispatches, submits and the CPU's share of a token. */
async function addSubmission(bench: BenchContext, engine: Engine, id: string, tokens: number): Promise<void> {
  bench.step(`${id}: submits`);
  bench.addCount(`${id}/dispatches`, 'dispatches', engine.dispatchesPerToken);
  const { queue } = engine.gpu.device;
  const submit = queue.submit.bind(queue);
  let submits = 0;
  queue.submit = (buffers) => {
    submits++;
    return submit(buffers);
  };
  try {
    engine.reset();
    await reply(engine, promptOf(1, engine.weights.layout.config.vocabSize), tokens);
  } finally {
    queue.submit = submit;
  }
  bench.addCount(`${id}/submits`, 'submits', submits / tokens);
  await encodeMs(bench, engine, id);
}

/** Every operation of one decoded token in a timed pass of its own. */
async function profileToken(bench: BenchContext, engine: Engine, id: string): Promise<void> {
  bench.step(`${id}: timeline`);
  const position = Math.min(profiledPosition, engine.contextLength - 2);
  engine.gpu.device.queue.writeBuffer(engine.scratch.step, 0, new Uint32Array([1, position, 0, 0]));
  // The last operation advances the position; the profile stays where it is.
  const ops = tokenOps(engine).slice(0, -1);
  const timed = ops.map((op) => ({
    label: op.label,
    encode: (pass: GPUComputePassEncoder) => encodeOp(pass, op, 1),
  }));
  const timings = await profileOps(engine.gpu, timed, Math.max(5, bench.request.samples));
  bench.timelines.push({ id: `${bench.suite}/${id}`, ops: timings });
  engine.reset();
}

/** Benchmarks of a stored model: how fast it comes onto the GPU, and how fast it runs there. */
import { Engine } from '../../src/engine/engine';
import type { Gpu } from '../../src/gpu/gpu';
import type { ModelWeights } from '../../src/model/weights';
import type { BenchContext } from '../bench-context';
import { rateOf } from '../statistics';
import { timeWall } from '../timing';
import { encodeMs, measureReplies, promptOf, verifyEngine } from './model';

/** An artifact and the way it comes from where it is. */
export interface ModelSource {
  readonly name: string;
  /** All files. */
  readonly bytes: number;
  /** Forgets what an earlier visit stored; null where nothing is stored between visits. */
  readonly forget: (() => Promise<void>) | null;
  /** Verified, on the GPU. The caller destroys the weights. */
  readonly load: (gpu: Gpu, signal: AbortSignal | undefined) => Promise<ModelWeights>;
}

const loadSamples = 3;
const demoContext = 512;
const demoTokens = 32;

/** The model's name as part of a figure's id: `demo-chat-8m-w4a4`. */
function idOf({ name }: ModelSource): string {
  return name
    .toLowerCase()
    .replace(/[^a-z0-9.]+/g, '-')
    .replace(/^-|-$/g, '');
}

/** Artifact to GPU in MB/s: on a first visit from the network through the store, on a second from the store alone. */
export async function runLoad(bench: BenchContext, source: ModelSource | null): Promise<void> {
  if (!source) return bench.note('no model to load');
  const { forget, bytes } = source;
  const name = idOf(source);
  const load = async () => {
    const weights = await source.load(bench.gpu, bench.signal);
    await bench.gpu.device.queue.onSubmittedWorkDone();
    weights.arena.destroy();
  };
  const samples = Math.min(loadSamples, bench.request.samples);
  const timing = { samples, signal: bench.signal };
  bench.addCount(`${name}/bytes`, 'bytes', bytes);
  if (forget) {
    bench.step(`${name}, first visit`);
    const first = await timeWall(async () => {
      await forget();
      await load();
    }, timing);
    bench.add(`${name}/first-visit`, 'MB/s', rateOf(first, bytes / 1e3), 'wall');
  }
  bench.step(`${name}, ${forget ? 'second visit' : 'from disk'}`);
  const again = await timeWall(load, timing);
  bench.add(`${name}/${forget ? 'second-visit' : 'from-disk'}`, 'MB/s', rateOf(again, bytes / 1e3), 'wall');
  await forget?.();
}

/** Prefill and decode of a real model, so that a machine without a large GPU has figures, too. */
export async function runDemo(bench: BenchContext, source: ModelSource | null): Promise<void> {
  if (!source) return bench.note('no model to run');
  const name = idOf(source);
  bench.step(`${name}: loading`);
  const weights = await source.load(bench.gpu, bench.signal);
  const { vocabSize } = weights.layout.config;
  const engine = await Engine.create(bench.gpu, weights, { contextLength: demoContext });
  try {
    await verifyEngine(bench, engine, name);
    for (const context of [16, 256]) {
      const prompt = promptOf(context, vocabSize);
      await measureReplies(bench, engine, `${name}/context-${context}`, prompt, demoTokens);
    }
    bench.addCount(`${name}/dispatches`, 'dispatches', engine.dispatchesPerToken);
    await encodeMs(bench, engine, name);
  } finally {
    engine.destroy();
  }
}

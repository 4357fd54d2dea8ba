/** One transformer layer under each scheme: GPU time, dispatches and bytes, for one token and for a prefill chunk. */
import type { Engine } from '../../src/engine/engine';
import type { LlamaConfig } from '../../src/format/config';
import { type BenchContext, encodeOps } from '../bench-context';
import { type BenchScheme, parseScheme, shapeOf } from '../shapes';
import { scaled } from '../statistics';
import { timePass } from '../timing';
import { randomEngine, verifyEngine } from './model';

/** Enough of them that the embedding does not count; their weights are too large for a cache at published shapes. */
const layers = 4;
const position = { hardware: 512, software: 16 };
const chunk = { hardware: 256, software: 16 };

export async function runLayer(bench: BenchContext): Promise<void> {
  const { shape, schemes } = bench.request;
  const config: LlamaConfig = { ...shapeOf(shape), numLayers: layers };
  for (const name of schemes) {
    const id = `${shape}/${name}`;
    bench.step(`${id}: weights`);
    const engine = await randomEngine(bench, config, parseScheme(name), contextLength(bench));
    try {
      await verifyEngine(bench, engine, id);
      await measureLayer(bench, engine, parseScheme(name), id);
    } finally {
      engine.destroy();
    }
  }
}

function contextLength({ gpu }: BenchContext): number {
  return gpu.caps.software ? 64 : position.hardware + 64;
}

async function measureLayer(
  bench: BenchContext,
  engine: Engine,
  { name }: BenchScheme,
  id: string,
): Promise<void> {
  const { decode, prefill } = engine.passes;
  const { step } = engine.scratch;
  const kind = bench.gpu.caps.software ? 'software' : 'hardware';
  const [at, chunkTokens] = [position[kind], chunk[kind]];
  const { queue } = engine.gpu.device;
  bench.step(`${name}: one layer, one token after ${at}`);
  queue.writeBuffer(step, 0, new Uint32Array([1, at, 0, 0]));
  const one = await timePass(bench.gpu, encodeOps(decode, 1), bench.timing);
  bench.addTime(`${id}/decode`, { ...one, us: scaled(one.us, 1 / layers) });
  bench.step(`${name}: one layer, ${chunkTokens} tokens`);
  queue.writeBuffer(step, 0, new Uint32Array([chunkTokens, 0, 0, 0]));
  const many = await timePass(bench.gpu, encodeOps(prefill, chunkTokens), bench.timing);
  bench.addTime(`${id}/prefill-${chunkTokens}`, { ...many, us: scaled(many.us, 1 / layers) });
  bench.addCount(`${id}/dispatches`, 'dispatches', Math.floor(decode.length / layers));
  bench.addCount(`${id}/weight-bytes`, 'bytes', (engine.memory.weights ?? 0) / layers);
}

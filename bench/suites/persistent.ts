/**
 * Decoding with all layers of a token in one dispatch, against the operations it stands for: one engine, one run. And the
 * kernel's products alone.
 */
import type { Engine } from '../../src/engine/engine';
import type { LlamaConfig } from '../../src/format/config';
import { schemeModes } from '../../src/format/scheme';
import { GpuMemoryError } from '../../src/gpu/arena';
import type { BenchContext } from '../bench-context';
import { VerificationError } from '../figures';
import { type BenchScheme, parseScheme, shapeOf } from '../shapes';
import { measureReplies, promptOf, randomEngine, reply } from './model';
import { measureOneDispatch } from './one-dispatch';

/** Tokens decoded in one measurement. */
const decodedTokens = 64;
/** Tokens of the reply that both must draw alike. */
const comparedTokens = 24;

export async function runPersistent(bench: BenchContext): Promise<void> {
  const config = shapeOf(bench.request.shape);
  await measureOneDispatch(bench, config);
  for (const name of bench.request.schemes) {
    const id = `${bench.request.shape}/${name}`;
    const scheme = parseScheme(name);
    if (schemeModes[scheme.scheme].norm !== 'static') {
      bench.note(`${id}: left out, the kernel wants static norms`);
      continue;
    }
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
  const contexts = bench.request.contexts.filter(
    (context) => context + decodedTokens < config.maxPositionEmbeddings,
  );
  const contextLength = Math.max(...contexts, 32) + decodedTokens + 1;
  bench.step(`${id}: weights, and workgroup counts tried`);
  const engine = await randomEngine(bench, config, scheme, contextLength, true);
  try {
    const state = engine.persistent!;
    if (!state.isOn) {
      bench.note(`${id}: left out, ${state.reason}`);
      return;
    }
    bench.note(`${id}: ${state.groups} workgroups`);
    await verifyReplies(engine, id);
    for (const context of contexts) {
      const prompt = promptOf(context, config.vocabSize);
      for (const kind of ['fused', 'persistent'] as const) {
        engine.usePersistent(kind === 'persistent');
        await measureReplies(bench, engine, `${id}/${kind}/context-${context}`, prompt, decodedTokens);
      }
    }
    for (const kind of ['fused', 'persistent'] as const) {
      engine.usePersistent(kind === 'persistent');
      bench.addCount(`${id}/${kind}/dispatches`, 'dispatches', engine.dispatchesPerToken);
    }
  } finally {
    engine.destroy();
  }
}

/** @throws VerificationError when the two draw different tokens */
async function verifyReplies(engine: Engine, id: string): Promise<void> {
  const prompt = promptOf(24, engine.weights.layout.config.vocabSize);
  const drawn: string[] = [];
  for (const isUsed of [false, true]) {
    engine.usePersistent(isUsed);
    engine.reset();
    const { ids } = await reply(engine, prompt, comparedTokens);
    drawn.push(ids.join());
  }
  if (drawn[0] !== drawn[1]) {
    throw new VerificationError(`${id}: the fused operations drew ${drawn[0]}, one dispatch ${drawn[1]}`);
  }
}

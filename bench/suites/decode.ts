/** Decode and prefill of one shape under one scheme, with random weights made on the GPU. */

import { Engine } from '../../src/engine/engine';
import { greedy } from '../../src/engine/types';
import type { LlamaConfig } from '../../src/format/config';
import type { ActBits, SchemeName } from '../../src/format/scheme';
import type { Gpu } from '../../src/gpu/gpu';
import { median, type OpTiming, profileOps } from '../../src/gpu/profiler';
import { encodeOp } from '../../src/kernels/op';
import { randomWeights } from '../../src/model/random-weights';
import { benchLayout } from './layout';

export interface DecodeOptions {
  readonly config: LlamaConfig;
  readonly scheme: SchemeName;
  readonly actBits: ActBits;
  /** Prompt lengths to decode after. */
  readonly contexts: readonly number[];
  /** Tokens to decode per measurement. */
  readonly tokens: number;
  readonly repetitions: number;
  readonly profile: boolean;
}

export interface DecodeFigures {
  readonly context: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeTokensPerSecond: number;
  readonly decodeSpread: readonly [least: number, most: number];
  readonly timeToFirstTokenMs: number;
}

export interface DecodeResult {
  readonly scheme: SchemeName;
  readonly actBits: ActBits | null;
  readonly deviceBytes: Readonly<Record<string, number>>;
  readonly dispatchesPerToken: number;
  readonly loadMs: number;
  readonly compileMs: number;
  readonly contexts: readonly DecodeFigures[];
  /** GPU time of one decoded token by kernel, summed over layers; null without timestamps. */
  readonly usByKernel: Readonly<Record<string, number>> | null;
}

/** Measures wall-clock rates; every reply is checked to be complete and made of valid tokens by the engine itself. */
export async function benchDecode(gpu: Gpu, options: DecodeOptions): Promise<DecodeResult> {
  const { config, scheme, actBits, contexts, tokens } = options;
  const start = performance.now();
  const weights = await randomWeights(gpu, benchLayout(config, scheme, actBits));
  const loaded = performance.now();
  const contextLength = Math.max(...contexts) + tokens + 1;
  const engine = await Engine.create(gpu, weights, { contextLength });
  const compiled = performance.now();
  try {
    const figures: DecodeFigures[] = [];
    for (const context of contexts) figures.push(await measure(engine, context, options));
    return {
      scheme,
      actBits: scheme === 'fp16' ? null : actBits,
      deviceBytes: engine.memory,
      dispatchesPerToken: engine.dispatchesPerToken,
      loadMs: loaded - start,
      compileMs: compiled - loaded,
      contexts: figures,
      usByKernel: options.profile && gpu.caps.timestampQuery ? await profileToken(engine) : null,
    };
  } finally {
    engine.destroy();
  }
}

async function measure(engine: Engine, context: number, options: DecodeOptions): Promise<DecodeFigures> {
  const { vocabSize } = options.config;
  const promptIds = Array.from({ length: Math.max(1, context) }, (_, i) => (i * 7919 + 13) % vocabSize);
  const rates: { prefill: number; decode: number; first: number }[] = [];
  for (let run = 0; run <= options.repetitions; run++) {
    engine.reset();
    const reply = engine.generate(promptIds, {
      sampling: greedy,
      maxTokens: options.tokens,
      stopTokenIds: [],
    });
    let result = await reply.next();
    while (!result.done) result = await reply.next();
    const { stats } = result.value;
    if (stats.replyTokens !== options.tokens)
      throw new Error(`decoded ${stats.replyTokens} of ${options.tokens} tokens`);
    if (run === 0) continue; // warm-up
    rates.push({
      prefill: stats.prefillTokensPerSecond,
      decode: stats.decodeTokensPerSecond,
      first: stats.timeToFirstTokenMs,
    });
  }
  const decode = rates.map((rate) => rate.decode);
  return {
    context,
    prefillTokensPerSecond: median(rates.map((rate) => rate.prefill)),
    decodeTokensPerSecond: median(decode),
    decodeSpread: [Math.min(...decode), Math.max(...decode)],
    timeToFirstTokenMs: median(rates.map((rate) => rate.first)),
  };
}

/** Every operation of one decoded token in a timed pass of its own. */
async function profileToken(engine: Engine): Promise<Record<string, number>> {
  const { decode, head, greedy: draw } = engine.passes;
  const step = new Uint32Array([1, Math.min(512, engine.contextLength - 1), 0, 0]);
  engine.gpu.device.queue.writeBuffer(engine.scratch.step, 0, step);
  const ops = [...decode, ...head, ...draw.slice(0, -1)].map((op) => ({
    label: op.label,
    encode: (pass: GPUComputePassEncoder) => encodeOp(pass, op, 1),
  }));
  const timings = await profileOps(engine.gpu, ops, 10);
  return sumByLabel(timings);
}

function sumByLabel(timings: readonly OpTiming[]): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { label, us } of timings) sums[label] = (sums[label] ?? 0) + us;
  return sums;
}

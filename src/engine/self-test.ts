/**
 * A test of the user's own GPU at load: a model of a few thousand weights, with the loaded model's scheme, types and head
 * size, is run through the same kernels and held against a float64 reference. A driver that computes wrongly is found before
 * it writes a plausible-looking wrong reply.
 */
import type { LlamaConfig } from '../format/config';
import type { KvCacheKind } from '../format/kv-cache';
import type { LayerSpec, QuantSpec } from '../format/manifest';
import { fewTokens } from '../format/plan-buffers';
import { schemeModes } from '../format/scheme';
import { type ModelLayout, paddedInputs } from '../format/tensors';
import { gridStep, gridWord, gridZero, storableStep } from '../format/weight-grid';
import type { Gpu } from '../gpu/gpu';
import { forwardRef } from '../model/forward.ref';
import { type RandomModel, randomModel, uploadModel } from '../model/reference-model';
import { Engine } from './engine';
import { greedy, type SamplingOptions } from './types';

/** This GPU's results differ from the reference: nothing it says could be trusted. */
export class SelfTestError extends Error {
  override readonly name = 'SelfTestError';
  constructor(
    /** What was compared. */
    readonly what: string,
    readonly expected: string,
    readonly found: string,
  ) {
    super(`the self-test of this GPU failed: ${what}: expected ${expected}, found ${found}`);
  }
}

/** A prompt of several tokens, and the tokens decoded after it. */
const promptIds = [5, 61, 17, 96, 33, 2, 77] as const;
const decodedTokens = 4;
/** A prompt that is too long for the passes for a few tokens, where there are such. */
const longPromptIds = Array.from({ length: fewTokens + 2 }, (_, i) => (37 * i + 5) % 128);

/**
 * Runs prefill, decode and the samplers of a small model like `layout` on this GPU.
 * @param contextLength of the engine that will be used: it decides between attention kernels.
 * @param kvCache of that engine
 * @throws SelfTestError naming what differs
 */
export async function selfTest(
  gpu: Gpu,
  layout: ModelLayout,
  contextLength: number,
  kvCache: KvCacheKind = 'f16',
): Promise<void> {
  const small = smallLayout(layout, contextLength);
  const model = loudModel(small);
  const engine = await Engine.create(gpu, await uploadModel(gpu, model), {
    chunkTokens: longPromptIds.length,
    kvCache,
  });
  try {
    const first = await generate(engine, promptIds, 1, greedy);
    await checkLogits('logits after a prompt', engine, model, promptIds, first);
    engine.reset();
    const decoded = await generate(engine, promptIds, decodedTokens, greedy);
    const fed = [...promptIds, ...decoded.slice(0, -1)];
    await checkLogits(`logits after ${fed.length} tokens, the last one decoded`, engine, model, fed, decoded);
    // with the one most probable token left to draw from, the sampler has to draw the greedy one
    const sampled = await generate(engine, promptIds, 2, { ...greedy, temperature: 1, topK: 1, seed: 7 });
    checkEqual('tokens sampled from the top 1', sampled, decoded.slice(0, 2));
    await crossCheck(engine);
  } finally {
    engine.destroy();
  }
}

/**
 * Runs a prompt through the loaded model twice, as a whole, and all but its end in a shorter pass and the rest one by one:
 * different kernels, the same result.
 * @throws SelfTestError
 */
export async function crossCheck(engine: Engine): Promise<void> {
  const { vocabSize } = engine.weights.layout.config;
  const length = engine.passes.few ? engine.passes.fewTokens + 2 : decodedTokens;
  const ids = longPromptIds.slice(0, Math.min(length, engine.contextLength)).map((id) => id % vocabSize);
  engine.reset();
  await generate(engine, ids, 1, greedy);
  const whole = await readLogits(engine);
  engine.reset();
  for (let length = Math.max(1, ids.length - decodedTokens); length <= ids.length; length++)
    await generate(engine, ids.slice(0, length), 1, greedy);
  const stepped = await readLogits(engine);
  engine.reset();
  // Integer products are the same bits in both; float ones are summed in another order over a few thousand terms.
  compare('logits of the model as a prompt and token by token', whole, stepped, 2e-2);
}

/**
 * Largest allowed difference of a logit, in standard deviations of the logits. Float models differ by the cache's float16 keys
 * and values (2^-11 each; measured 8e-4). In quantized ones that rounding may move single activation integers of the 4-bit
 * range by one step (measured 1e-5 without such a step; a step is about 5e-3). Rounding towards zero instead of to even, the
 * subtlest fault tried, is 7e-2.
 */
function toleranceOf({ quant }: ModelLayout): number {
  return quant === null ? 0.005 : 0.02;
}

async function checkLogits(
  what: string,
  engine: Engine,
  model: RandomModel,
  ids: readonly number[],
  drawn: readonly number[],
): Promise<void> {
  const found = await readLogits(engine);
  const expected = forwardRef(model.layout, model.reference, ids, engine.scratch.kvCacheKind).at(-1)!;
  compare(what, expected, found, toleranceOf(model.layout));
  checkEqual(`the greedy token of ${what}`, [drawn.at(-1)!], [indexOfLargest(found)]);
}

function compare(
  what: string,
  expected: ArrayLike<number>,
  found: ArrayLike<number>,
  tolerance: number,
): void {
  const values = Array.from(expected);
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
  const allowed = tolerance * Math.sqrt(variance / values.length);
  for (let i = 0; i < expected.length; i++) {
    const good = Math.abs(found[i]! - expected[i]!) <= allowed; // false for NaN, too
    if (good) continue;
    throw new SelfTestError(
      `${what} [${i}]`,
      `${expected[i]!.toPrecision(6)} ± ${allowed.toPrecision(2)}`,
      String(found[i]),
    );
  }
}

function checkEqual(what: string, found: readonly number[], expected: readonly number[]): void {
  if (found.join() !== expected.join()) throw new SelfTestError(what, expected.join(), found.join());
}

function indexOfLargest(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

async function generate(
  engine: Engine,
  ids: readonly number[],
  maxTokens: number,
  sampling: SamplingOptions,
): Promise<number[]> {
  const tokens: number[] = [];
  for await (const id of engine.generate(ids, { sampling, maxTokens, stopTokenIds: [] })) tokens.push(id);
  return tokens;
}

/** Logits [V] of the last pass. */
async function readLogits({ gpu: { device }, scratch: { logits }, weights }: Engine): Promise<Float32Array> {
  const staging = device.createBuffer({ size: logits.size, usage: 0x1 | 0x8 }); // MAP_READ | COPY_DST
  try {
    const encoder = device.createCommandEncoder();
    encoder.copyBufferToBuffer(logits, 0, staging, 0, logits.size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x1);
    return new Float32Array(staging.getMappedRange().slice(0, 4 * weights.layout.config.vocabSize));
  } finally {
    staging.destroy();
  }
}

/** Random weights large enough that softmax and SiLU leave their linear ranges, so that errors there show. */
function loudModel(layout: ModelLayout): RandomModel {
  const model = randomModel(layout, 11);
  for (const [name, values] of model.reference) {
    if (name.endsWith('.grid')) louderGrid(values as Uint32Array);
    if (!/^layers\..*\.scale$/.test(name)) continue;
    // these very arrays are uploaded, too: only float16 has a copy of its own
    for (let i = 0; i < values.length; i++) values[i] = 5 * values[i]!;
  }
  return model;
}

/** Steps five times as large, for the GPU and the reference alike: they share the array. */
function louderGrid(words: Uint32Array): void {
  for (let i = 0; i < words.length; i++) {
    words[i] = gridWord(storableStep(5 * gridStep(words[i]!)), gridZero(words[i]!));
  }
}

/** One layer with everything that chooses a kernel as in `layout`, and everything else small. */
function smallLayout(layout: ModelLayout, contextLength: number): ModelLayout {
  const { config, scheme, quant, denseDtype, embeddingBits, headBits } = layout;
  const numHeads = Math.min(2, config.numHeads / config.numKvHeads);
  const small: LlamaConfig = {
    ...config,
    hiddenSize: 64 + (config.hiddenSize % 8),
    // the online Hadamard transform works on whole blocks of the size the artifact names
    intermediateSize: quant?.hadamard ? 2 * quant.hadamard.downBlock : 96 + (config.intermediateSize % 8),
    numLayers: 1,
    numHeads,
    numKvHeads: 1,
    vocabSize: 128,
    // longer ones use the same kernels
    maxPositionEmbeddings: Math.max(longPromptIds.length, Math.min(contextLength, 1280)),
    bosTokenId: 1,
    eosTokenIds: [2],
  };
  const dtypes = { denseDtype, embeddingBits, headBits };
  return { config: small, scheme, ...dtypes, quant: quant && smallQuant(quant, scheme, small.hiddenSize) };
}

function smallQuant(quant: QuantSpec, scheme: ModelLayout['scheme'], hiddenSize: number): QuantSpec {
  const merged = schemeModes[scheme].norm === 'static';
  const inputs = paddedInputs(hiddenSize) + (merged ? 32 : 0);
  const step = schemeModes[scheme].projection === 'static' ? 0.15 / (quant.actBits === 8 ? 16 : 1) : 0.9;
  const [real] = quant.layers;
  const layer: LayerSpec = {
    attnInputs: inputs,
    mlpInputs: inputs,
    attnOffsets: quant.layers.some(({ attnOffsets }) => attnOffsets),
    mlpOffsets: quant.layers.some(({ mlpOffsets }) => mlpOffsets),
    attnAct: real?.attnAct ?? 1,
    oAct: step,
    mlpAct: real?.mlpAct ?? 1,
    downAct: step,
  };
  // groups of its own size where there are groups, so that a row has several
  const weightGrid = quant.weightGrid && { groupSize: quant.weightGrid.groupSize === null ? null : 64 };
  return { ...quant, weightGrid, layers: [layer] };
}

/** What the sampling tests share: a run of many passes over the same logits. */
import { storageUsage } from '../gpu/arena';
import type { Op } from './op';
import { createSampleScratch, encodeSampling, type SamplingParameters, sample } from './sample';
import type { KernelBench } from './testing';

export const plain: SamplingParameters = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1234,
};

export interface SampleCase {
  readonly logits: Float32Array<ArrayBuffer>;
  readonly parameters: SamplingParameters;
  readonly counts?: Uint32Array<ArrayBuffer>;
  readonly generated?: number;
}

/** The kernels and their state, before a pass of one token at position 10. */
export async function buildSample(bench: KernelBench, testCase: SampleCase, historyCapacity: number) {
  const { logits, parameters } = testCase;
  const vocabSize = logits.length;
  const state = {
    step: bench.arena.upload('step', Uint32Array.of(1, 10, testCase.generated ?? 0, 0), {
      category: 'uniforms',
      usage: storageUsage | 0x40,
    }),
    ids: bench.output(2),
    history: bench.output(historyCapacity),
    historyCapacity,
    counts: bench.input(testCase.counts ?? new Uint32Array(vocabSize)),
  };
  const sampling = bench.arena.upload('sampling', new Uint8Array(encodeSampling(parameters)), {
    category: 'uniforms',
    usage: 0x40 | 0x8,
  });
  const scratch = createSampleScratch(bench.arena, vocabSize);
  const ops = await sample(bench, { vocabSize, logits: bench.input(logits), sampling, scratch, ...state });
  return { ...state, ops };
}

/** Tokens of `steps` passes over the same logits. */
export async function runSample(
  bench: KernelBench,
  testCase: SampleCase,
  steps: number,
): Promise<Uint32Array> {
  const generated = testCase.generated ?? 0;
  const built = await buildSample(bench, testCase, steps + generated);
  await bench.run(Array<Op[]>(steps).fill(built.ops).flat(), 1);
  const history = await bench.readOutput(built.history, built.historyCapacity);
  return history.slice(generated);
}

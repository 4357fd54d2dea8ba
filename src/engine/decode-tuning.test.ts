import { describe, expect, test } from 'vitest';
import type { LlamaConfig } from '../format/config';
import type { ModelLayout } from '../format/tensors';
import { KernelBench } from '../kernels/testing';
import { randomModel, uploadModel } from '../model/reference-model';
import { createScratch } from '../model/scratch';
import { parseTuning, type TuningStore, tuneDecode } from './decode-tuning';

const config: LlamaConfig = {
  ...{ hiddenSize: 40, intermediateSize: 52, numLayers: 1, numHeads: 4, numKvHeads: 2, headDim: 8 },
  ...{ vocabSize: 100, maxPositionEmbeddings: 64, rmsNormEps: 1e-5, ropeTheta: 10000, ropeScaling: null },
  ...{ tieWordEmbeddings: false, attentionBias: true, mlpBias: false, bosTokenId: 1, eosTokenIds: [2] },
};

const inputs = { attnInputs: 64, mlpInputs: 96, attnOffsets: true, mlpOffsets: false };
const layout: ModelLayout = {
  config,
  scheme: 'mergequant',
  quant: {
    ...{ actBits: 4, weightBits: 4, weightGrid: null, reconstruct: 'pad', alpha: 5, hadamard: null },
    layers: [{ ...inputs, attnAct: 0.9, mlpAct: 0.9, oAct: 0.95, downAct: 0.8 }],
  },
  denseDtype: 'F16',
};

function memoryStore(): TuningStore & { readonly values: Map<string, string> } {
  const values = new Map<string, string>();
  return {
    values,
    get: async (key) => values.get(key),
    set: async (key, value) => void values.set(key, value),
  };
}

test('what is kept is read back, and nothing else', () => {
  const tuning = {
    qkv: { threads: 512, groups: 132, pieces: 2 },
    down: { threads: 256, groups: 8, pieces: 1 },
  };
  expect(parseTuning(JSON.stringify(tuning))).toEqual(tuning);
  expect(parseTuning('{}')).toEqual({});
  for (const text of [
    undefined,
    '',
    'null',
    '7',
    '{"o":{}}',
    '{"o":{"threads":0,"groups":1,"pieces":1}}',
    '{"o":null}',
  ]) {
    expect(parseTuning(text), text).toBeNull();
  }
});

describe('tuning', async () => {
  const bench = await KernelBench.open({ software: false });
  const weights = await uploadModel(bench.gpu, randomModel(layout, 3));
  const scratch = createScratch(bench.arena, weights, 64, 4);

  test('is done once: then it comes from the store, by device, shape and build; a broken store costs only time', async () => {
    const store = memoryStore();
    const first = await tuneDecode({ context: bench, weights, scratch }, store);
    expect(first.source).toBe('measured');
    const [[key, value] = ['', '']] = store.values;
    expect(parseTuning(value)).toEqual(first.tuning);
    expect(key).toContain(bench.gpu.adapter.description);
    const second = await tuneDecode({ context: bench, weights, scratch }, store);
    expect(second).toMatchObject({ source: 'kept', tuning: first.tuning });
    const broken: TuningStore = {
      get: async () => '{"o":{"threads":"many"}}',
      set: () => Promise.reject(new Error('full')),
    };
    expect((await tuneDecode({ context: bench, weights, scratch }, broken)).source).toBe('measured');
  });

  test('the fastest candidate is passed over where it leaves other bits', async () => {
    // A driver that makes nothing of gate and up with four loads: all that this adapter can run beside the default.
    let planted = 0;
    const get: typeof bench.pipelines.get = (spec) => {
      if (spec.constants?.PIECES !== 4 || !spec.label.endsWith('silu-mul')) return bench.pipelines.get(spec);
      const source = spec.source.replace(
        'let lanes = select(',
        'if (params.N > 0u) {\n    return;\n  }\n  let lanes = select(',
      );
      planted += Number(source !== spec.source);
      return bench.pipelines.get({ ...spec, source });
    };
    const pipelines = Object.assign(Object.create(bench.pipelines), { get });
    const context = { gpu: bench.gpu, arena: bench.arena, pipelines };
    const { tuning } = await tuneDecode({ context, weights, scratch }, null);
    expect(tuning.gateUp).toBeUndefined();
    expect(planted).toBeGreaterThan(0);
  });
});

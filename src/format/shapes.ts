/** Published model shapes, for planning without a checkpoint. Numbers: the models' config.json on Hugging Face. */
import type { LlamaConfig } from './config';

const llama2: Omit<LlamaConfig, 'hiddenSize' | 'intermediateSize' | 'numLayers' | 'numHeads' | 'numKvHeads'> =
  {
    headDim: 128,
    vocabSize: 32000,
    maxPositionEmbeddings: 4096,
    rmsNormEps: 1e-5,
    ropeTheta: 10000,
    ropeScaling: null,
    tieWordEmbeddings: false,
    attentionBias: false,
    mlpBias: false,
    bosTokenId: 1,
    eosTokenIds: [2],
  };

/** By the name that `mergequant plan --shape` takes. */
export const modelShapes = {
  'llama-2-7b': {
    ...llama2,
    hiddenSize: 4096,
    intermediateSize: 11008,
    numLayers: 32,
    numHeads: 32,
    numKvHeads: 32,
  },
  'llama-2-13b': {
    ...llama2,
    hiddenSize: 5120,
    intermediateSize: 13824,
    numLayers: 40,
    numHeads: 40,
    numKvHeads: 40,
  },
  'llama-3-8b': {
    ...llama2,
    hiddenSize: 4096,
    intermediateSize: 14336,
    numLayers: 32,
    numHeads: 32,
    numKvHeads: 8,
    vocabSize: 128256,
    maxPositionEmbeddings: 8192,
    ropeTheta: 500000,
    bosTokenId: 128000,
    eosTokenIds: [128001],
  },
} as const satisfies Record<string, LlamaConfig>;
export type ModelShapeName = keyof typeof modelShapes;

/** A small model for tests, ragged on purpose. */
import type { LlamaConfig } from '../format/config';
import type { LayerSpec, QuantSpec } from '../format/manifest';
import { type SchemeName, schemeModes } from '../format/scheme';
import type { ModelLayout } from '../format/tensors';

/** GQA 4:2, head dim 8, FFN 172; 80 positions are two pieces of attention. */
export const raggedConfig: LlamaConfig = {
  hiddenSize: 40,
  intermediateSize: 172,
  numLayers: 2,
  numHeads: 4,
  numKvHeads: 2,
  headDim: 8,
  vocabSize: 100,
  maxPositionEmbeddings: 80,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tieWordEmbeddings: false,
  attentionBias: true,
  mlpBias: false,
  bosTokenId: 1,
  eosTokenIds: [2],
};

/** Norms of different lengths, one of them with offsets. A4 in segments, unless `quant` says otherwise. */
export function raggedLayout(
  scheme: SchemeName,
  quant: Partial<QuantSpec> = {},
  config = raggedConfig,
): ModelLayout {
  if (scheme === 'fp16') return { config, scheme, quant: null, denseDtype: 'F16' };
  const steps = { oAct: 0.02, downAct: 0.01 };
  const ratios = { oAct: 0.95, downAct: 0.8 };
  const layer: LayerSpec = {
    ...{ attnInputs: 64, mlpInputs: 96, attnOffsets: true, mlpOffsets: false, attnAct: 0.9, mlpAct: 0.9 },
    ...(schemeModes[scheme].projection === 'static' ? steps : ratios),
  };
  const defaults: QuantSpec = {
    ...{ actBits: 4, weightBits: 4, weightGrid: null, reconstruct: 'segment', alpha: 5, hadamard: null },
    layers: Array.from({ length: config.numLayers }, () => layer),
  };
  return { config, scheme, quant: { ...defaults, ...quant }, denseDtype: 'F16' };
}

/** Model layouts for benchmarks: a published shape under a scheme, as `prepare --reconstruct pad` would store it. */
import type { LlamaConfig } from '../../src/format/config';
import type { LayerSpec } from '../../src/format/manifest';
import { type ActBits, type SchemeName, schemeModes } from '../../src/format/scheme';
import type { ModelLayout } from '../../src/format/tensors';

/** Columns that reconstruction adds, as a share of D: what Llama-2 needs with α = 5. */
const addedShare = 0.015;

/** K' of a merged site: D and what reconstruction adds, rounded up to 64. */
export function benchInputs(hiddenSize: number): number {
  return Math.ceil((hiddenSize * (1 + addedShare)) / 64) * 64;
}

/** The layout of a scheme; embedding and head as floats, or as bytes. */
export function benchLayout(
  config: LlamaConfig,
  scheme: SchemeName,
  actBits: ActBits,
  tableBits: 8 | 16 = 16,
): ModelLayout {
  const tables = tableBits === 8 ? { embeddingBits: tableBits, headBits: tableBits } : {};
  if (scheme === 'fp16') return { config, scheme, quant: null, denseDtype: 'F16', ...tables };
  const merged = scheme === 'mergequant' || scheme === 'mergequant-static';
  const inputs = merged ? benchInputs(config.hiddenSize) : Math.ceil(config.hiddenSize / 64) * 64;
  const layer: LayerSpec = {
    ...{ attnInputs: inputs, mlpInputs: inputs, attnOffsets: false, mlpOffsets: false },
    ...{ attnAct: 1, mlpAct: 1 },
    ...(schemeModes[scheme].projection === 'static' ? { oAct: 0.1, downAct: 0.1 } : { oAct: 1, downAct: 1 }),
  };
  const layers = Array.from({ length: config.numLayers }, () => layer);
  const quant = {
    actBits,
    weightBits: 4 as const,
    weightGrid: null,
    reconstruct: 'pad' as const,
    alpha: 5,
    hadamard: null,
    layers,
  };
  return { config, scheme, quant, denseDtype: 'F16', ...tables };
}

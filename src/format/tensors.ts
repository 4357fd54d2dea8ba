/** The exact set of tensors that a model consists of, in the artifact and on the GPU. */
import type { LlamaConfig } from './config';
import type { DenseDtype, LayerSpec, Manifest, QuantSpec } from './manifest';
import { type SchemeName, schemeModes, type WeightBits } from './scheme';
import { groupCount, levelWords } from './weight-grid';

export type TensorDtype = 'F16' | 'F32' | 'U32' | 'I32' | 'I8';

export interface TensorSpec {
  readonly name: string;
  readonly dtype: TensorDtype;
  readonly shape: readonly number[];
}

/** What {@link tensorSpecs} needs of a manifest. */
export type ModelLayout = Pick<
  Manifest,
  'config' | 'scheme' | 'quant' | 'denseDtype' | 'embeddingBits' | 'headBits'
>;

/** Bytes of one element. */
export const dtypeBytes: Readonly<Record<TensorDtype, number>> = { F16: 2, F32: 4, U32: 4, I32: 4, I8: 1 };

export function tensorBytes(spec: Pick<TensorSpec, 'dtype' | 'shape'>): number {
  return spec.shape.reduce((product, size) => product * size, dtypeBytes[spec.dtype]);
}

/** Rows of the fused q,k,v product: (H + 2·Hkv)·Dh. */
export function qkvRows(config: LlamaConfig): number {
  return (config.numHeads + 2 * config.numKvHeads) * config.headDim;
}

/** K' of o or down: K rounded up to a multiple of 32 (padding columns hold weight 0). */
export function paddedInputs(inputs: number): number {
  return Math.ceil(inputs / 32) * 32;
}

/**
 * All tensors of a model, unblocked, in storage order. Linears: `qkv` rows are q, then k, then v; `gate_up` interleaves its
 * rows (row 2f is gate f, row 2f + 1 is up f). Dense weights are [N, K]; packed weights are U32 [N, K'·bits/32] with F32
 * scales [N], or with U32 grid words [N, G] for G groups of a row. Embedding and head are dense, or I8 with F32 scales [V].
 */
export function tensorSpecs(layout: ModelLayout): TensorSpec[] {
  const { config, scheme, quant, denseDtype } = layout;
  const table = (name: string, bits: 8 | undefined): TensorSpec[] => {
    const weight = { name: `${name}.weight`, shape: [config.vocabSize, config.hiddenSize] };
    if (!bits) return [{ ...weight, dtype: denseDtype }];
    const scale = { name: `${name}.scale`, dtype: 'F32' as const, shape: [config.vocabSize] };
    return [{ ...weight, dtype: 'I8' }, scale];
  };
  const specs = table('embed', layout.embeddingBits);
  for (let layer = 0; layer < config.numLayers; layer++) {
    specs.push(...layerSpecs(config, scheme, quant, denseDtype, layer));
  }
  specs.push({ name: 'final_norm.weight', dtype: 'F32', shape: [config.hiddenSize] });
  if (!config.tieWordEmbeddings) specs.push(...table('head', layout.headBits));
  return specs;
}

function layerSpecs(
  config: LlamaConfig,
  scheme: SchemeName,
  quant: QuantSpec | null,
  dense: DenseDtype,
  layer: number,
): TensorSpec[] {
  const { hiddenSize: D, intermediateSize: F, numHeads, headDim } = config;
  const spec = quant?.layers[layer] ?? null;
  const at = (name: string) => `layers.${layer}.${name}`;
  const linear = (
    name: string,
    rows: number,
    inputs: number,
    padded: number,
    bias: boolean,
  ): TensorSpec[] => [
    ...(quant
      ? packedSpecs(at(name), quant, rows, padded)
      : [{ name: at(`${name}.weight`), dtype: dense, shape: [rows, inputs] }]),
    ...(bias ? [{ name: at(`${name}.bias`), dtype: 'F32' as const, shape: [rows] }] : []),
  ];
  const hasZeroPoints = quant?.zeroPoints ?? false;
  const attnInputs = normInputs(scheme, spec, 'attn', D);
  const mlpInputs = normInputs(scheme, spec, 'mlp', D);
  return [
    ...normSpecs(at('attn_norm'), scheme, D, attnInputs, spec?.attnOffsets ?? false),
    ...linear('qkv', qkvRows(config), D, attnInputs, config.attentionBias || hasZeroPoints),
    ...linear('o', D, numHeads * headDim, paddedInputs(numHeads * headDim), config.attentionBias),
    ...normSpecs(at('mlp_norm'), scheme, D, mlpInputs, spec?.mlpOffsets ?? false),
    ...linear('gate_up', 2 * F, D, mlpInputs, config.mlpBias || hasZeroPoints),
    ...linear('down', D, F, paddedInputs(F), config.mlpBias),
    ...prefixSpecs(at('prefix'), config, quant),
  ];
}

/** Keys and values of float prefix tokens before their rotation, token by token: a vector. */
function prefixSpecs(name: string, config: LlamaConfig, quant: QuantSpec | null): TensorSpec[] {
  if (!quant?.prefix) return [];
  const { numKvHeads, headDim } = config;
  return [{ name, dtype: 'F32', shape: [quant.prefix.ids.length * 2 * numKvHeads * headDim] }];
}

/** A quantized weight with its scales: one a row, or a word for each group. */
function packedSpecs(
  name: string,
  { weightBits, weightGrid }: QuantSpec,
  rows: number,
  padded: number,
): TensorSpec[] {
  return [
    { name: `${name}.weight`, dtype: 'U32', shape: [rows, levelWords(weightBits, padded)] },
    weightGrid
      ? { name: `${name}.grid`, dtype: 'U32', shape: [rows, groupCount(weightGrid, padded)] }
      : { name: `${name}.scale`, dtype: 'F32', shape: [rows] },
  ];
}

function normInputs(scheme: SchemeName, spec: LayerSpec | null, site: 'attn' | 'mlp', D: number): number {
  if (schemeModes[scheme].norm === 'static' && spec)
    return site === 'attn' ? spec.attnInputs : spec.mlpInputs;
  return paddedInputs(D);
}

/** A static norm is a gather and a multiplier per gathered channel (Eq. 4 and 6); any other keeps its weight γ. */
function normSpecs(
  name: string,
  scheme: SchemeName,
  D: number,
  inputs: number,
  offsets: boolean,
): TensorSpec[] {
  if (schemeModes[scheme].norm !== 'static') return [{ name: `${name}.weight`, dtype: 'F32', shape: [D] }];
  return [
    { name: `${name}.mult`, dtype: 'F32', shape: [inputs] },
    { name: `${name}.gather`, dtype: 'U32', shape: [inputs] },
    ...(offsets ? [{ name: `${name}.offset`, dtype: 'I32' as const, shape: [inputs] }] : []),
  ];
}

/** K' of a packed weight; null for any other tensor. */
export function linearInputs({ name, dtype, shape }: TensorSpec, weightBits: WeightBits): number | null {
  return dtype === 'U32' && name.endsWith('.weight') ? (shape[1]! * 32) / weightBits : null;
}

/** One stored piece of a tensor: rows `rowStart` to `rowStart + rows` under the name it has in a shard. */
export interface StoredTensor {
  readonly name: string;
  readonly tensor: TensorSpec;
  readonly rowStart: number;
  readonly rows: number;
  readonly bytes: number;
}

/** Splits what is larger than `maxTensorBytes` into row blocks named `<name>.rows.<rowStart>`. */
export function storedTensors(specs: readonly TensorSpec[], maxTensorBytes: number): StoredTensor[] {
  return specs.flatMap((tensor) => {
    const rows = tensor.shape[0]!;
    const rowBytes = tensorBytes(tensor) / rows;
    const rowsPerBlock = Math.max(1, Math.floor(maxTensorBytes / rowBytes));
    if (rowsPerBlock >= rows)
      return [{ name: tensor.name, tensor, rowStart: 0, rows, bytes: rows * rowBytes }];
    return Array.from({ length: Math.ceil(rows / rowsPerBlock) }, (_, block) => {
      const rowStart = block * rowsPerBlock;
      const count = Math.min(rowsPerBlock, rows - rowStart);
      return {
        name: `${tensor.name}.rows.${rowStart}`,
        tensor,
        rowStart,
        rows: count,
        bytes: count * rowBytes,
      };
    });
  });
}

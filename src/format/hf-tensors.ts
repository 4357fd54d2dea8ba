/** Which tensors a Hugging Face Llama checkpoint has, and where each goes in ours. */
import type { LlamaConfig } from './config';
import { SafetensorsError, shown } from './errors';
import type { SafetensorsDtype, SafetensorsTensor } from './safetensors';

/** Row r of `hf` is row `rowStart + r · rowStride` of `target`. */
export interface HfTensor {
  readonly hf: string;
  readonly shape: readonly number[];
  /** Name of the unquantized tensor of the `fp16` scheme that holds it, such as `layers.0.qkv.weight`. */
  readonly target: string;
  readonly rowStart: number;
  readonly rowStride: number;
}

/** A tensor of a checkpoint, and the file it is in. */
export type CheckpointTensor = Pick<SafetensorsTensor, 'name' | 'dtype' | 'shape'> & {
  readonly file: string;
};

const floatDtypes: ReadonlySet<SafetensorsDtype> = new Set(['F16', 'BF16', 'F32']);

/** Every tensor that a checkpoint of this config must have, in our storage order. */
export function hfTensors(config: LlamaConfig): HfTensor[] {
  const { hiddenSize: D, vocabSize: V } = config;
  const whole = (hf: string, target: string, shape: readonly number[]): HfTensor => ({
    hf,
    target,
    shape,
    rowStart: 0,
    rowStride: 1,
  });
  return [
    whole('model.embed_tokens.weight', 'embed.weight', [V, D]),
    ...Array.from({ length: config.numLayers }, (_, layer) => layerTensors(config, layer)).flat(),
    whole('model.norm.weight', 'final_norm.weight', [D]),
    ...(config.tieWordEmbeddings ? [] : [whole('lm_head.weight', 'head.weight', [V, D])]),
  ];
}

function layerTensors(config: LlamaConfig, layer: number): HfTensor[] {
  const { hiddenSize: D, intermediateSize: F, attentionBias, mlpBias } = config;
  const queryRows = config.numHeads * config.headDim;
  const kvRows = config.numKvHeads * config.headDim;
  const from = `model.layers.${layer}.`;
  const to = `layers.${layer}.`;
  const norm = (hf: string, target: string): HfTensor => ({
    hf: `${from}${hf}.weight`,
    target: `${to}${target}.weight`,
    shape: [D],
    rowStart: 0,
    rowStride: 1,
  });
  const linear = (
    bias: boolean,
    hf: string,
    target: string,
    rows: number,
    inputs: number,
    rowStart = 0,
    rowStride = 1,
  ) =>
    [
      { kind: 'weight', shape: [rows, inputs] },
      { kind: 'bias', shape: [rows] },
    ]
      .slice(0, bias ? 2 : 1)
      .map(({ kind, shape }): HfTensor => {
        return { hf: `${from}${hf}.${kind}`, target: `${to}${target}.${kind}`, shape, rowStart, rowStride };
      });
  return [
    norm('input_layernorm', 'attn_norm'),
    ...linear(attentionBias, 'self_attn.q_proj', 'qkv', queryRows, D),
    ...linear(attentionBias, 'self_attn.k_proj', 'qkv', kvRows, D, queryRows),
    ...linear(attentionBias, 'self_attn.v_proj', 'qkv', kvRows, D, queryRows + kvRows),
    ...linear(attentionBias, 'self_attn.o_proj', 'o', D, queryRows),
    norm('post_attention_layernorm', 'mlp_norm'),
    ...linear(mlpBias, 'mlp.gate_proj', 'gate_up', F, D, 0, 2),
    ...linear(mlpBias, 'mlp.up_proj', 'gate_up', F, D, 1, 2),
    ...linear(mlpBias, 'mlp.down_proj', 'down', D, F),
  ];
}

/** Buffers that older exports carry and nobody reads; a tied checkpoint may repeat its embedding as the head. */
function isIgnored(name: string, config: LlamaConfig): boolean {
  if (/^model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq$/.test(name)) return true;
  return name === 'lm_head.weight' && config.tieWordEmbeddings;
}

/**
 * Holds the tensors of a checkpoint against its config.
 * @param checkpoint names the folder or index in the error for a missing tensor.
 * @returns the found tensor for each name in {@link hfTensors}.
 * @throws SafetensorsError for a tensor that is missing, unknown, repeated, or of another shape or a dtype that is not
 * F16, BF16 or F32.
 */
export function matchHfTensors<T extends CheckpointTensor>(
  config: LlamaConfig,
  found: readonly T[],
  checkpoint: string,
): Map<string, T> {
  const expected = new Map(hfTensors(config).map((tensor) => [tensor.hf, tensor]));
  const matched = new Map<string, T>();
  for (const tensor of found) {
    if (isIgnored(tensor.name, config)) continue;
    checkTensor(tensor, expected.get(tensor.name), matched.get(tensor.name));
    matched.set(tensor.name, tensor);
  }
  const missing = [...expected.values()].filter(({ hf }) => !matched.has(hf));
  if (missing.length > 0) {
    throw new SafetensorsError({
      file: checkpoint,
      where: missing[0]!.hf,
      expected: `a tensor ${shown(missing[0]!.shape)}`,
      found: missing.length === 1 ? 'nothing' : `nothing (${missing.length} of ${expected.size} are missing)`,
    });
  }
  return matched;
}

function checkTensor(tensor: CheckpointTensor, expected?: HfTensor, earlier?: CheckpointTensor): void {
  const refuse: (wanted: string, found: string) => never = (wanted, found) => {
    throw new SafetensorsError({ file: tensor.file, where: tensor.name, expected: wanted, found });
  };
  if (!expected) refuse('only tensors of a Llama model with this config', 'an unknown tensor');
  if (earlier) refuse('each tensor once', `it again after ${earlier.file}`);
  if (!floatDtypes.has(tensor.dtype)) refuse('dtype F16, BF16 or F32', tensor.dtype);
  if (
    tensor.shape.length !== expected.shape.length ||
    tensor.shape.some((size, i) => size !== expected.shape[i])
  ) {
    refuse(`shape ${shown(expected.shape)}, as the config says`, shown(tensor.shape));
  }
}

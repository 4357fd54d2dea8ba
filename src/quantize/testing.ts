/** Random Llama checkpoints in Hugging Face's layout for tests. Node only. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { LlamaConfig } from '../format/config';
import { f32ToF16Bits } from '../format/half';
import { normalNumbers, seededRandom } from '../format/random';
import { buildSafetensorsHeader } from '../format/safetensors';

export type CheckpointDtype = 'F32' | 'F16' | 'BF16';

export interface RandomCheckpointOptions {
  /** Dtype of every tensor; default F16. */
  readonly dtype?: CheckpointDtype;
  /** 1 writes model.safetensors, more write shards and model.safetensors.index.json; default 1. */
  readonly shards?: number;
  readonly seed?: number;
  /** Channels whose norm weight is multiplied, and undone in the linears behind: `{ 3: 16 }` makes channel 3 an outlier. */
  readonly outliers?: Readonly<Record<number, number>>;
  /** Leave out tokenizer.json and tokenizer_config.json. */
  readonly withoutTokenizer?: boolean;
}

/** Two layers with ragged sizes: GQA 8/2, head dim 8, FFN 172, vocabulary 512. */
export const tinyConfig: LlamaConfig = {
  hiddenSize: 64,
  intermediateSize: 172,
  numLayers: 2,
  numHeads: 8,
  numKvHeads: 2,
  headDim: 8,
  vocabSize: 512,
  maxPositionEmbeddings: 256,
  rmsNormEps: 1e-5,
  ropeTheta: 10000,
  ropeScaling: null,
  tieWordEmbeddings: false,
  attentionBias: false,
  mlpBias: false,
  bosTokenId: 1,
  eosTokenIds: [2],
};

interface RandomTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

function* randomTensors(config: LlamaConfig, options: RandomCheckpointOptions): Generator<RandomTensor> {
  const next = seededRandom(options.seed ?? 1);
  const normal = normalNumbers(next);
  const filled = (name: string, shape: number[], value: () => number): RandomTensor => {
    const count = shape.reduce((a, b) => a * b, 1);
    return { name, shape, values: Float32Array.from({ length: count }, value) };
  };
  const linear = (name: string, rows: number, inputs: number, bias: boolean) => [
    filled(`${name}.weight`, [rows, inputs], () => normal() / Math.sqrt(inputs)),
    ...(bias ? [filled(`${name}.bias`, [rows], () => 0.1 * normal())] : []),
  ];
  const outliers = Object.entries(options.outliers ?? {});
  const norm = (name: string) => {
    const tensor = filled(`${name}.weight`, [config.hiddenSize], () => 0.5 + next());
    for (const [channel, factor] of outliers) tensor.values[Number(channel)]! *= factor;
    return tensor;
  };
  const behindNorm = (name: string, rows: number, bias: boolean) => {
    const [weight, ...rest] = linear(name, rows, config.hiddenSize, bias);
    for (const [channel, factor] of outliers) {
      for (let n = 0; n < rows; n++) weight!.values[n * config.hiddenSize + Number(channel)]! /= factor;
    }
    return [weight!, ...rest];
  };
  const { hiddenSize: D, intermediateSize: F, numHeads, numKvHeads, headDim: Dh } = config;
  yield filled('model.embed_tokens.weight', [config.vocabSize, D], normal);
  for (let layer = 0; layer < config.numLayers; layer++) {
    const at = `model.layers.${layer}`;
    yield norm(`${at}.input_layernorm`);
    yield* behindNorm(`${at}.self_attn.q_proj`, numHeads * Dh, config.attentionBias);
    yield* behindNorm(`${at}.self_attn.k_proj`, numKvHeads * Dh, config.attentionBias);
    yield* behindNorm(`${at}.self_attn.v_proj`, numKvHeads * Dh, config.attentionBias);
    yield* linear(`${at}.self_attn.o_proj`, D, numHeads * Dh, config.attentionBias);
    yield norm(`${at}.post_attention_layernorm`);
    yield* behindNorm(`${at}.mlp.gate_proj`, F, config.mlpBias);
    yield* behindNorm(`${at}.mlp.up_proj`, F, config.mlpBias);
    yield* linear(`${at}.mlp.down_proj`, D, F, config.mlpBias);
  }
  yield norm('model.norm');
  if (!config.tieWordEmbeddings) yield* behindNorm('lm_head', config.vocabSize, false);
}

function encode(values: Float32Array, dtype: CheckpointDtype): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (dtype === 'F16') return new Uint8Array(f32ToF16Bits(values).buffer);
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  return new Uint8Array(Uint16Array.from(words, (word) => word >>> 16).buffer);
}

/** Writes one safetensors file. */
export function writeSafetensors(
  path: string,
  tensors: readonly RandomTensor[],
  dtype: CheckpointDtype = 'F32',
): void {
  const header = buildSafetensorsHeader(tensors.map(({ name, shape }) => ({ name, shape, dtype })));
  writeFileSync(path, Buffer.concat([header, ...tensors.map(({ values }) => encode(values, dtype))]));
}

/**
 * Writes a Llama checkpoint with random weights into `dir`: config.json, safetensors, a byte-level tokenizer with a chat
 * template. Norm weights lie in [0.5, 1.5), linears keep their input's variance.
 * @param config overrides of {@link tinyConfig}. @returns the whole config.
 */
export function writeRandomCheckpoint(
  dir: string,
  config: Partial<LlamaConfig> = {},
  options: RandomCheckpointOptions = {},
): LlamaConfig {
  const whole = { ...tinyConfig, ...config };
  const { dtype = 'F16', shards = 1 } = options;
  mkdirSync(dir, { recursive: true });
  const writeJson = (name: string, value: unknown) =>
    writeFileSync(join(dir, name), JSON.stringify(value, null, 1));
  writeJson('config.json', hfConfig(whole, dtype));
  writeJson('generation_config.json', {
    bos_token_id: whole.bosTokenId,
    eos_token_id: [...whole.eosTokenIds],
  });
  if (!options.withoutTokenizer) {
    writeJson('tokenizer.json', byteTokenizer(whole.vocabSize));
    writeJson('tokenizer_config.json', tokenizerConfig);
  }
  const tensors = [...randomTensors(whole, options)];
  if (shards === 1) {
    writeSafetensors(join(dir, 'model.safetensors'), tensors, dtype);
    return whole;
  }
  const weightMap: Record<string, string> = {};
  for (let shard = 0; shard < shards; shard++) {
    const number = (n: number) => String(n).padStart(5, '0');
    const file = `model-${number(shard + 1)}-of-${number(shards)}.safetensors`;
    const own = tensors.filter((_, i) => Math.floor((i * shards) / tensors.length) === shard);
    for (const { name } of own) weightMap[name] = file;
    writeSafetensors(join(dir, file), own, dtype);
  }
  writeJson('model.safetensors.index.json', { metadata: {}, weight_map: weightMap });
  return whole;
}

export function hfConfig(config: LlamaConfig, dtype: CheckpointDtype): Record<string, unknown> {
  const { ropeScaling } = config;
  return {
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    hidden_act: 'silu',
    hidden_size: config.hiddenSize,
    intermediate_size: config.intermediateSize,
    num_hidden_layers: config.numLayers,
    num_attention_heads: config.numHeads,
    num_key_value_heads: config.numKvHeads,
    head_dim: config.headDim,
    vocab_size: config.vocabSize,
    max_position_embeddings: config.maxPositionEmbeddings,
    rms_norm_eps: config.rmsNormEps,
    rope_theta: config.ropeTheta,
    rope_scaling: ropeScaling && {
      rope_type: ropeScaling.type,
      factor: ropeScaling.factor,
      ...(ropeScaling.type === 'llama3' && {
        low_freq_factor: ropeScaling.lowFreqFactor,
        high_freq_factor: ropeScaling.highFreqFactor,
        original_max_position_embeddings: ropeScaling.originalMaxPositionEmbeddings,
      }),
    },
    tie_word_embeddings: config.tieWordEmbeddings,
    attention_bias: config.attentionBias,
    mlp_bias: config.mlpBias,
    bos_token_id: config.bosTokenId,
    eos_token_id: [...config.eosTokenIds],
    torch_dtype: { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }[dtype],
  };
}

/** SentencePiece-style BPE without merges: <unk>, <s>, </s>, 256 bytes, then printable ASCII and fillers up to V. */
export function byteTokenizer(vocabSize: number): Record<string, unknown> {
  const bytes = Array.from({ length: 256 }, (_, i) => `<0x${i.toString(16).toUpperCase().padStart(2, '0')}>`);
  const ascii = ['▁', ...Array.from({ length: 94 }, (_, i) => String.fromCharCode(33 + i))];
  const tokens = ['<unk>', '<s>', '</s>', ...bytes, ...ascii].slice(0, vocabSize);
  while (tokens.length < vocabSize) tokens.push(`<filler${tokens.length}>`);
  const special = (id: number) => ({
    id,
    content: tokens[id],
    special: true,
    single_word: false,
    lstrip: false,
    rstrip: false,
    normalized: false,
  });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [special(0), special(1), special(2)],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'Prepend', prepend: '▁' },
        { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
      ],
    },
    pre_tokenizer: null,
    post_processor: {
      type: 'TemplateProcessing',
      single: [{ SpecialToken: { id: '<s>', type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
      pair: [{ Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
      special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
    },
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: '<unk>',
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: true,
      byte_fallback: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges: [],
    },
  };
}

export const tokenizerConfig = {
  tokenizer_class: 'LlamaTokenizer',
  add_bos_token: true,
  add_eos_token: false,
  bos_token: '<s>',
  eos_token: '</s>',
  unk_token: '<unk>',
  chat_template:
    "{% for message in messages %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + ' ' + eos_token }}{% endif %}{% endfor %}",
};

/** Reads a Hugging Face config.json: what this engine computes exactly as Transformers does, and nothing else. */
import { configProblem } from './check-config';
import type { LlamaConfig } from './config';
import { ConfigError, shown } from './errors';

/** Transformers' names of our fields, for errors. */
const hfNames: Readonly<Record<keyof LlamaConfig, string>> = {
  hiddenSize: 'hidden_size',
  intermediateSize: 'intermediate_size',
  numLayers: 'num_hidden_layers',
  numHeads: 'num_attention_heads',
  numKvHeads: 'num_key_value_heads',
  headDim: 'head_dim',
  vocabSize: 'vocab_size',
  maxPositionEmbeddings: 'max_position_embeddings',
  rmsNormEps: 'rms_norm_eps',
  ropeTheta: 'rope_theta',
  ropeScaling: 'rope_scaling',
  tieWordEmbeddings: 'tie_word_embeddings',
  attentionBias: 'attention_bias',
  mlpBias: 'mlp_bias',
  bosTokenId: 'bos_token_id',
  eosTokenIds: 'eos_token_id',
};

/** Typed access to one JSON object; null counts as absent, as it does for Transformers. */
class Fields {
  constructor(
    readonly values: Readonly<Record<string, unknown>>,
    readonly fileName: string,
    readonly prefix = '',
  ) {}

  fail(field: string, expected: string, found: unknown): never {
    throw new ConfigError({ file: this.fileName, where: this.prefix + field, expected, found: shown(found) });
  }

  has(field: string): boolean {
    return this.get(field) !== null;
  }

  get(field: string): unknown {
    return (Object.hasOwn(this.values, field) ? this.values[field] : null) ?? null;
  }

  number(field: string, absent?: number): number {
    const value = this.get(field) ?? absent;
    if (typeof value !== 'number') return this.fail(field, 'a number', value);
    return value;
  }

  boolean(field: string): boolean {
    const value = this.get(field) ?? false;
    if (typeof value !== 'boolean') return this.fail(field, 'true or false', value);
    return value;
  }

  object(field: string): Fields {
    const value = this.get(field);
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      return this.fail(field, 'an object', value);
    }
    return new Fields(value as Record<string, unknown>, this.fileName, `${this.prefix}${field}.`);
  }
}

/**
 * The model's shape from a config.json. Defaults are Transformers': head_dim hidden/heads, num_key_value_heads as many as
 * heads, rope_theta 10000, no biases, untied head. Absent token ids stay absent.
 * @param json what JSON.parse made of the file.
 * @throws ConfigError naming file, field, what was expected and what was found.
 */
export function parseHfConfig(json: unknown, fileName: string): LlamaConfig {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) {
    throw new ConfigError({ file: fileName, where: '', expected: 'a JSON object', found: shown(json) });
  }
  const fields = new Fields(json as Record<string, unknown>, fileName);
  checkArchitecture(fields);
  const hiddenSize = fields.number('hidden_size');
  const numHeads = fields.number('num_attention_heads');
  const config: LlamaConfig = {
    hiddenSize,
    intermediateSize: fields.number('intermediate_size'),
    numLayers: fields.number('num_hidden_layers'),
    numHeads,
    numKvHeads: fields.number('num_key_value_heads', numHeads),
    headDim: fields.has('head_dim')
      ? fields.number('head_dim')
      : defaultHeadDim(fields, hiddenSize, numHeads),
    vocabSize: fields.number('vocab_size'),
    maxPositionEmbeddings: fields.number('max_position_embeddings'),
    rmsNormEps: fields.number('rms_norm_eps'),
    ...parseRope(fields),
    tieWordEmbeddings: fields.boolean('tie_word_embeddings'),
    attentionBias: fields.boolean('attention_bias'),
    mlpBias: fields.boolean('mlp_bias'),
    bosTokenId: fields.has('bos_token_id') ? fields.number('bos_token_id') : null,
    eosTokenIds: parseEos(fields),
  };
  const problem = configProblem(config);
  if (problem) fields.fail(hfNames[problem.field], problem.expected, problem.found);
  return config;
}

function defaultHeadDim(fields: Fields, hiddenSize: number, numHeads: number): number {
  if (hiddenSize % numHeads !== 0) {
    fields.fail('hidden_size', `a multiple of the ${numHeads} heads, as there is no head_dim`, hiddenSize);
  }
  return hiddenSize / numHeads;
}

/**
 * Llama, and Mistral where it is the same computation: without a sliding window, which Mistral has unless its config says
 * null.
 */
function checkArchitecture(fields: Fields): void {
  const modelType = fields.get('model_type');
  if (modelType !== 'llama' && modelType !== 'mistral') {
    fields.fail('model_type', '"llama" (or "mistral" without a sliding window)', modelType);
  }
  const wanted = modelType === 'llama' ? 'LlamaForCausalLM' : 'MistralForCausalLM';
  const architectures = fields.get('architectures') ?? [wanted];
  if (!Array.isArray(architectures) || architectures.length !== 1 || architectures[0] !== wanted) {
    fields.fail('architectures', `["${wanted}"]`, architectures);
  }
  if (modelType === 'mistral') {
    const window = Object.hasOwn(fields.values, 'sliding_window') ? fields.get('sliding_window') : undefined;
    if (window !== null) {
      fields.fail('sliding_window', 'null: attention within a sliding window is not supported', window);
    }
    for (const bias of ['attention_bias', 'mlp_bias']) {
      if (fields.boolean(bias)) fields.fail(bias, 'false for mistral', true);
    }
  }
  const activation = fields.get('hidden_act') ?? 'silu';
  if (activation !== 'silu') fields.fail('hidden_act', '"silu"', activation);
  if (fields.has('quantization_config')) {
    const found = fields.get('quantization_config');
    fields.fail('quantization_config', 'no such field: the checkpoint must not be quantized already', found);
  }
}

function parseEos(fields: Fields): number[] {
  const value = fields.get('eos_token_id');
  const ids: unknown[] = value === null ? [] : Array.isArray(value) ? value : [value];
  if (!ids.every((id) => typeof id === 'number')) {
    return fields.fail('eos_token_id', 'a token id or a list of them', value);
  }
  return ids;
}

/** `rope_parameters` (Transformers 5) holds theta and scaling together; before, `rope_theta` and `rope_scaling` did. */
function parseRope(fields: Fields): Pick<LlamaConfig, 'ropeTheta' | 'ropeScaling'> {
  const newer = fields.has('rope_parameters');
  if (newer && fields.has('rope_scaling')) {
    fields.fail('rope_scaling', 'nothing beside rope_parameters', fields.get('rope_scaling'));
  }
  const theta = fields.number('rope_theta', 10000);
  if (newer) {
    const rope = fields.object('rope_parameters');
    refusePartialRotation(fields, rope);
    return { ropeTheta: rope.number('rope_theta', theta), ropeScaling: parseScaling(rope) };
  }
  refusePartialRotation(fields);
  return {
    ropeTheta: theta,
    ropeScaling: fields.has('rope_scaling') ? parseScaling(fields.object('rope_scaling')) : null,
  };
}

function refusePartialRotation(...places: Fields[]): void {
  for (const place of places) {
    const factor = place.number('partial_rotary_factor', 1);
    if (factor !== 1) place.fail('partial_rotary_factor', '1: RoPE on whole heads', factor);
  }
}

/** `rope_type`, or `type` in older files; where both are given the newer one counts. */
function parseScaling(rope: Fields): LlamaConfig['ropeScaling'] {
  const field = rope.has('rope_type') || !rope.has('type') ? 'rope_type' : 'type';
  const type = rope.get(field);
  switch (type) {
    case 'default':
      return null;
    case 'linear':
      return { type, factor: rope.number('factor') };
    case 'llama3':
      return {
        type,
        factor: rope.number('factor'),
        lowFreqFactor: rope.number('low_freq_factor'),
        highFreqFactor: rope.number('high_freq_factor'),
        originalMaxPositionEmbeddings: rope.number('original_max_position_embeddings'),
      };
    default:
      return rope.fail(field, '"default", "linear" or "llama3"', type);
  }
}

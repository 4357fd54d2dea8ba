import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ConfigError } from './errors';
import { parseHfConfig } from './hf-config';

const llama2 = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  vocab_size: 32000,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  hidden_act: 'silu',
  rope_scaling: null,
  bos_token_id: 1,
  eos_token_id: 2,
  pretraining_tp: 1,
  torch_dtype: 'float16',
};

const llama3Scaling = {
  factor: 8.0,
  low_freq_factor: 1.0,
  high_freq_factor: 4.0,
  original_max_position_embeddings: 8192,
};
const llama3Parsed = {
  type: 'llama3',
  factor: 8,
  lowFreqFactor: 1,
  highFreqFactor: 4,
  originalMaxPositionEmbeddings: 8192,
};

const parse = (changes: Record<string, unknown>) => parseHfConfig({ ...llama2, ...changes }, 'config.json');

describe('a good config.json', () => {
  test('defaults are those of Transformers', () => {
    expect(parse({})).toEqual({
      hiddenSize: 4096,
      intermediateSize: 11008,
      numLayers: 32,
      numHeads: 32,
      numKvHeads: 32,
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
    });
  });

  test('what is given counts', () => {
    const config = parse({
      num_key_value_heads: 8,
      head_dim: 64,
      rope_theta: 500000.0,
      tie_word_embeddings: true,
      attention_bias: true,
      mlp_bias: true,
      eos_token_id: [2, 7],
      bos_token_id: null,
    });
    expect(config).toMatchObject({ numKvHeads: 8, headDim: 64, ropeTheta: 500000, tieWordEmbeddings: true });
    expect(config).toMatchObject({
      attentionBias: true,
      mlpBias: true,
      eosTokenIds: [2, 7],
      bosTokenId: null,
    });
  });

  test.each<[string, Record<string, unknown>, unknown, number]>([
    [
      'rope_type llama3',
      { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3Scaling } },
      llama3Parsed,
      5e5,
    ],
    ['type linear', { rope_scaling: { type: 'linear', factor: 4 } }, { type: 'linear', factor: 4 }, 1e4],
    ['rope_parameters', { rope_parameters: { rope_type: 'default', rope_theta: 3e4 } }, null, 3e4],
    [
      'rope_parameters without a theta',
      { rope_theta: 2e4, rope_parameters: { rope_type: 'default' } },
      null,
      2e4,
    ],
    [
      'rope_parameters llama3',
      { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3Scaling } },
      llama3Parsed,
      5e5,
    ],
    [
      'both names of the type',
      { rope_scaling: { type: 'x', rope_type: 'linear', factor: 2 } },
      { type: 'linear', factor: 2 },
      1e4,
    ],
  ])('%s', (_, changes, ropeScaling, ropeTheta) => {
    expect(parse(changes)).toMatchObject({ ropeScaling, ropeTheta });
  });

  test('Mistral without a sliding window is the same computation', () => {
    const mistral = { model_type: 'mistral', architectures: ['MistralForCausalLM'], sliding_window: null };
    expect(parse({ ...mistral, num_key_value_heads: 8 }).numKvHeads).toBe(8);
  });
});

const wrong: [changes: Record<string, unknown>, where: string, expected: RegExp, found: string][] = [
  [{ model_type: 'gemma' }, 'model_type', /"llama"/, '"gemma"'],
  [{ model_type: undefined }, 'model_type', /"llama"/, 'null'],
  [{ architectures: ['LlamaModel'] }, 'architectures', /LlamaForCausalLM/, '["LlamaModel"]'],
  [{ model_type: 'mistral' }, 'architectures', /MistralForCausalLM/, '["LlamaForCausalLM"]'],
  [{ model_type: 'mistral', architectures: undefined }, 'sliding_window', /null/, 'nothing'],
  [
    { model_type: 'mistral', architectures: null, sliding_window: 4096 },
    'sliding_window',
    /not supported/,
    '4096',
  ],
  [{ hidden_act: 'gelu' }, 'hidden_act', /"silu"/, '"gelu"'],
  [{ quantization_config: { bits: 4 } }, 'quantization_config', /not be quantized/, '{"bits":4}'],
  [{ hidden_size: '4096' }, 'hidden_size', /a number/, '"4096"'],
  [{ hidden_size: undefined }, 'hidden_size', /a number/, 'nothing'],
  [{ hidden_size: 4097 }, 'hidden_size', /a multiple of the 32 heads/, '4097'],
  [{ hidden_size: 4095, head_dim: 128 }, 'hidden_size', /an even number/, '4095'],
  [{ hidden_size: 2 ** 40 }, 'hidden_size', /from 1 to 65536/, String(2 ** 40)],
  [{ head_dim: 127 }, 'head_dim', /even number/, '127'],
  [{ head_dim: 258 }, 'head_dim', /from 1 to 256/, '258'],
  [{ num_key_value_heads: 5 }, 'num_key_value_heads', /a divisor of the 32 heads/, '5'],
  [{ num_hidden_layers: 0 }, 'num_hidden_layers', /from 1 to/, '0'],
  [{ rms_norm_eps: 0 }, 'rms_norm_eps', /between 0 and 1/, '0'],
  [{ rms_norm_eps: undefined }, 'rms_norm_eps', /a number/, 'nothing'],
  [{ rope_theta: '1e4' }, 'rope_theta', /a number/, '"1e4"'],
  [{ rope_theta: 0 }, 'rope_theta', /above 1/, '0'],
  [{ rope_scaling: 'linear' }, 'rope_scaling', /an object/, '"linear"'],
  [{ rope_scaling: { type: 'yarn', factor: 4 } }, 'rope_scaling.type', /"llama3"/, '"yarn"'],
  [{ rope_scaling: { factor: 4 } }, 'rope_scaling.rope_type', /"llama3"/, 'null'],
  [{ rope_scaling: { rope_type: 'linear' } }, 'rope_scaling.factor', /a number/, 'nothing'],
  [{ rope_scaling: { rope_type: 'linear', factor: 0.5 } }, 'rope_scaling', /at least 1/, '0.5'],
  [
    { rope_scaling: { rope_type: 'llama3', ...llama3Scaling, high_freq_factor: 1 } },
    'rope_scaling',
    /0 < low < high/,
    '[1,1]',
  ],
  [
    { rope_scaling: { type: 'linear', factor: 2 }, rope_parameters: {} },
    'rope_scaling',
    /nothing beside/,
    '{"type":"linear","factor":2}',
  ],
  [{ partial_rotary_factor: 0.5 }, 'partial_rotary_factor', /whole heads/, '0.5'],
  [
    { rope_parameters: { rope_type: 'default', partial_rotary_factor: 0.25 } },
    'rope_parameters.partial_rotary_factor',
    /whole heads/,
    '0.25',
  ],
  [{ tie_word_embeddings: 'no' }, 'tie_word_embeddings', /true or false/, '"no"'],
  [{ eos_token_id: '2' }, 'eos_token_id', /a token id/, '"2"'],
  [{ eos_token_id: [2, 32000] }, 'eos_token_id', /0 to 31999/, '[2,32000]'],
  [{ bos_token_id: -1 }, 'bos_token_id', /0 to 31999/, '-1'],
];

describe('what this engine would compute wrongly is refused', () => {
  test.each(wrong)('%j', (changes, where, expected, found) => {
    try {
      parse(changes);
      expect.fail('parsed');
    } catch (error) {
      expect(error).toBeInstanceOf(ConfigError);
      expect(error).toMatchObject({ file: 'config.json', where, found });
      expect((error as ConfigError).expected).toMatch(expected);
    }
  });

  test.each([null, [], 'llama', undefined])('%j is no config', (json) => {
    expect(() => parseHfConfig(json, 'config.json')).toThrow(/config.json: expected a JSON object/);
  });
});

test('whatever the JSON, nothing but a ConfigError, and what parses is consistent', () => {
  const keys = Object.keys(llama2).concat('rope_parameters', 'head_dim', 'num_key_value_heads');
  const value = fc.oneof(fc.jsonValue(), fc.integer(), fc.constant(undefined));
  fc.assert(
    fc.property(fc.constantFrom(...keys), value, (key, replacement) => {
      try {
        const config = parse({ [key]: replacement });
        expect(config.numHeads % config.numKvHeads).toBe(0);
        expect(config.headDim % 2).toBe(0);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
      }
    }),
    { numRuns: 2000 },
  );
});

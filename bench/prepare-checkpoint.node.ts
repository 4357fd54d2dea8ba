/** A one-layer checkpoint of any shape with random float16 weights, written to disk as Hugging Face has it. Node only. */
import { closeSync, mkdirSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import type { LlamaConfig } from '../src/format/config';
import { f32ToF16Bits } from '../src/format/half';
import { seededRandom } from '../src/format/random';
import { buildSafetensorsHeader } from '../src/format/safetensors';
import { byteTokenizer, hfConfig, tokenizerConfig } from '../src/quantize/testing';

/** Normals that all rows are cut from: making 2 · 10⁸ of them would take longer than what is measured. */
const poolValues = 1 << 22;

interface Tensor {
  readonly name: string;
  readonly rows: number;
  readonly cols: number;
  /** Standard deviation, and what a column's values are multiplied by. */
  readonly deviation: number;
  readonly columns?: Float32Array;
  readonly mean?: number;
}

/** Channels of the residual stream that are much larger than the others, as trained models have them. */
function strongChannels(D: number, random: () => number): Float32Array {
  const factors = Float32Array.from({ length: D }, () =>
    Math.exp(0.5 * (random() + random() + random() - 1.5)),
  );
  for (let i = 0; i < Math.max(1, D / 512); i++) factors[Math.floor(random() * D)]! *= 20 + 40 * random();
  return factors;
}

function layerTensors(config: LlamaConfig, random: () => number): Tensor[] {
  const { hiddenSize: D, intermediateSize: F, numHeads, numKvHeads, headDim, vocabSize } = config;
  const linear = (name: string, rows: number, cols: number): Tensor => ({
    name: `model.layers.0.${name}.weight`,
    rows,
    cols,
    deviation: 1 / Math.sqrt(cols),
  });
  const norm = (name: string): Tensor => ({
    name: `${name}.weight`,
    rows: 1,
    cols: D,
    deviation: 0.1,
    mean: 0.5,
  });
  const [q, kv] = [numHeads * headDim, numKvHeads * headDim];
  return [
    {
      name: 'model.embed_tokens.weight',
      rows: vocabSize,
      cols: D,
      deviation: 0.02,
      columns: strongChannels(D, random),
    },
    norm('model.layers.0.input_layernorm'),
    linear('self_attn.q_proj', q, D),
    linear('self_attn.k_proj', kv, D),
    linear('self_attn.v_proj', kv, D),
    linear('self_attn.o_proj', D, q),
    norm('model.layers.0.post_attention_layernorm'),
    linear('mlp.gate_proj', F, D),
    linear('mlp.up_proj', F, D),
    linear('mlp.down_proj', D, F),
    norm('model.norm'),
    { name: 'lm_head.weight', rows: vocabSize, cols: D, deviation: 1 / Math.sqrt(D) },
  ];
}

/** Rows of 16-bit floats, some at a time: each row a piece of the pool. */
function* encodedRows(tensor: Tensor, pool: Float32Array, random: () => number): Generator<Uint16Array> {
  const { rows, cols, deviation, columns, mean = 0 } = tensor;
  const plain = columns || mean !== 0 ? null : f32ToF16Bits(pool.map((value) => value * deviation));
  for (let n = 0; n < rows; n++) {
    const from = Math.floor(random() * (poolValues - cols));
    if (plain) yield plain.subarray(from, from + cols);
    else {
      const value = (v: number, k: number) => mean + v * deviation * (columns ? columns[k]! : 1);
      yield f32ToF16Bits(pool.slice(from, from + cols).map(value));
    }
  }
}

/** Writes the checkpoint and a tokenizer of single bytes into `folder`. @returns bytes of weights */
export function writeBenchCheckpoint(folder: string, config: LlamaConfig, seed: number): number {
  const random = seededRandom(seed);
  const pool = new Float32Array(poolValues);
  for (let i = 0; i < poolValues; i += 2) {
    const radius = Math.sqrt(-2 * Math.log(1 - random()));
    const angle = 2 * Math.PI * random();
    pool[i] = radius * Math.cos(angle);
    pool[i + 1] = radius * Math.sin(angle);
  }
  mkdirSync(folder, { recursive: true });
  const writeJson = (name: string, value: unknown) =>
    writeFileSync(join(folder, name), JSON.stringify(value, null, 1));
  writeJson('config.json', hfConfig(config, 'F16'));
  writeJson('tokenizer.json', byteTokenizer(config.vocabSize));
  writeJson('tokenizer_config.json', tokenizerConfig);
  const tensors = layerTensors(config, random);
  const shapeOf = ({ rows, cols, name }: Tensor) => (name.endsWith('norm.weight') ? [cols] : [rows, cols]);
  const specs = tensors.map((tensor) => ({
    name: tensor.name,
    dtype: 'F16' as const,
    shape: shapeOf(tensor),
  }));
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  let bytes = 0;
  try {
    writeSync(file, buildSafetensorsHeader(specs));
    for (const tensor of tensors) {
      for (const row of encodedRows(tensor, pool, random)) {
        bytes += writeSync(file, new Uint8Array(row.buffer, row.byteOffset, row.byteLength));
      }
    }
  } finally {
    closeSync(file);
  }
  return bytes;
}

/** Text that becomes `tokens` tokens or more of printable ASCII, one a character. */
export function writeBenchText(path: string, tokens: number, seed: number): void {
  const random = seededRandom(seed);
  const letter = () => String.fromCharCode(33 + Math.floor(94 * random() * random()));
  const words = Array.from({ length: Math.ceil(tokens / 6) + 4096 }, () =>
    Array.from({ length: 2 + Math.floor(8 * random()) }, letter).join(''),
  );
  writeFileSync(path, words.join(' '));
}

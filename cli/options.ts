/** Parsers of option values shared by the subcommands. */
import { InvalidArgumentError, Option } from 'commander';
import { type KvCacheChoice, kvCacheChoices } from '../src/format/kv-cache';

/** A whole number of at least `least`. */
export function wholeNumber(least: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!Number.isSafeInteger(value) || value < least) {
      throw new InvalidArgumentError(`expected a whole number of at least ${least}.`);
    }
    return value;
  };
}

/** A finite number from `least` to `most`. */
export function numberBetween(least: number, most: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (text.trim() === '' || !(value >= least && value <= most)) {
      throw new InvalidArgumentError(`expected a number from ${least} to ${most}.`);
    }
    return value;
  };
}

/** `--persistent` of the commands that decode. */
export function persistentOption(): Option {
  const text =
    'all layers of a decoded token in one dispatch, where the GPU can, the results are equal and it is faster';
  return new Option('--persistent', text);
}

/** `--kv-cache`: how keys and values of past tokens are kept. */
export function kvCacheOption(fallback: KvCacheChoice = 'auto'): Option {
  const text =
    'how keys and values are kept: int8 and int4 take a half and a quarter of the memory of f16; auto is f16 below 2048 tokens of context, int8 from there on';
  return new Option('--kv-cache <kind>', text).choices(kvCacheChoices).default(fallback);
}

/** `--chunk-tokens`: how long a prefill pass may get. */
export function chunkTokensOption(fallback?: number): Option {
  const text =
    'prompt tokens of the largest pass: fewer take less GPU memory and longer over a prompt; left to the engine: 1024 on large GPUs, else 256';
  const option = new Option('--chunk-tokens <n>', text).argParser(wholeNumber(1));
  return fallback === undefined ? option : option.default(fallback);
}

/** `--embedding-bits` or `--head-bits`. */
export function tableBitsOption(table: 'embedding' | 'head'): Option {
  const text = `bits of the ${table}: 16 (float16), or 8 with a scale a row`;
  const parse = (bits: string): 8 | 16 => {
    if (bits !== '8' && bits !== '16') throw new InvalidArgumentError('expected 8 or 16.');
    return bits === '8' ? 8 : 16;
  };
  return new Option(`--${table}-bits <bits>`, text).default(16).argParser(parse);
}

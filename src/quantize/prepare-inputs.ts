/** What preparing reads beside the weights: tokenizer files and calibration tokens. Node only. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError } from '../format/errors';
import { seededRandom } from '../format/random';
import { schemeModes } from '../format/scheme';
import { ChatTokenizer } from '../tokenizer';
import { type CalibrationSet, loadCalibration } from './calibration-data';
import type { PrepareOptions } from './prepare-options';
import { CalibrationMissingError } from './quantize-layer';
import type { WeightSource } from './rotate';

/** Tokenizer files that an artifact carries where the checkpoint has them; the first two must be there. */
const tokenizerFileNames = [
  'tokenizer.json',
  'tokenizer_config.json',
  'generation_config.json',
  'chat_template.jinja',
];

export async function readTokenizerFiles(
  folder: string,
  greedy = false,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of tokenizerFileNames) {
    if (existsSync(join(folder, name))) files.set(name, await readFile(join(folder, name)));
  }
  for (const name of tokenizerFileNames.slice(0, 2)) {
    if (!files.has(name)) throw new FormatError(`${folder}: expected ${name}, found none`);
  }
  const generation = files.get('generation_config.json');
  if (greedy) {
    const parsed = generation ? JSON.parse(new TextDecoder().decode(generation)) : {};
    const { temperature: _, top_p: __, top_k: ___, ...kept } = parsed as Record<string, unknown>;
    const text = `${JSON.stringify({ ...kept, do_sample: false }, null, 2)}\n`;
    files.set('generation_config.json', new TextEncoder().encode(text));
  }
  return files;
}

export function parseTokenizer(files: ReadonlyMap<string, Uint8Array>): ChatTokenizer {
  const texts = [...files].map(([name, bytes]) => [name, new TextDecoder().decode(bytes)] as const);
  return ChatTokenizer.fromFiles(new Map(texts));
}

const defaultSequence = 512;

/** @throws CalibrationMissingError where the scheme cannot do without */
function requireCalibration({ scheme, samples }: PrepareOptions): void {
  const modes = schemeModes[scheme];
  if (modes.norm !== 'static' && modes.projection !== 'static') return;
  throw new CalibrationMissingError(
    `scheme ${scheme} fixes activation scales in advance, from text like the model's own use: give --calibration with ` +
      '.txt files (plain text) or .jsonl files (one {"messages":[{"role":"user","content":"…"},…]} a line); ' +
      `about ${samples * defaultSequence} tokens are enough`,
  );
}

/** The calibration tokens, or null when no file was given and the scheme can do without. */
export async function readCalibration(
  options: PrepareOptions,
  tokenizer: ChatTokenizer,
  checkpoint: WeightSource,
): Promise<CalibrationSet | null> {
  if (options.calibration.length === 0) {
    requireCalibration(options);
    return null;
  }
  const { maxPositionEmbeddings, vocabSize } = checkpoint.config;
  const sequence = options.sequence ?? Math.min(defaultSequence, maxPositionEmbeddings);
  if (sequence > maxPositionEmbeddings || sequence < 2) {
    const expected = `2 to the model's ${maxPositionEmbeddings} tokens`;
    throw new RangeError(`calibration sequence: expected ${expected}, found ${sequence}`);
  }
  const random = seededRandom(options.seed);
  const set = await loadCalibration(options.calibration, tokenizer, {
    samples: options.samples,
    sequence,
    random,
  });
  const largest = set.sequences.flat().reduce((a, b) => Math.max(a, b), 0);
  if (largest >= vocabSize) {
    const expected = `token ids below ${vocabSize}, the vocabulary of config.json`;
    throw new FormatError(`tokenizer.json: expected ${expected}, found ${largest}`);
  }
  return set;
}

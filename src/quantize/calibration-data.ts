/** Token sequences from text (.txt) and conversations (.jsonl), chosen by a seed. Node only. */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { basename, extname } from 'node:path';
import type { ChatMessage, ChatTokenizer } from '../tokenizer';

/** A calibration file that cannot be read, is empty, or has a line that is no conversation. */
export class CalibrationDataError extends Error {
  override readonly name = 'CalibrationDataError';
}

export interface CalibrationOptions {
  /** The files together give at most samples·sequence tokens, each an equal part. */
  readonly samples: number;
  /** Longest sequence in tokens. */
  readonly sequence: number;
  readonly random: () => number;
}

export interface CalibrationSet {
  readonly sequences: readonly (readonly number[])[];
  readonly tokens: number;
  /** For the artifact's provenance. */
  readonly files: readonly { readonly name: string; readonly sha256: string }[];
}

/** More characters than this many per token no tokenizer is expected to swallow in prose. */
const charsPerToken = 12;

function shuffle<T>(items: T[], random: () => number): T[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [items[i], items[j]] = [items[j]!, items[i]!];
  }
  return items;
}

/** `count` windows of text behind a BOS: all of a short text, random places of a long one. */
function textSequences(
  text: string,
  count: number,
  tokenizer: ChatTokenizer,
  options: CalibrationOptions,
): number[][] {
  const bos = tokenizer.bosTokenId === null ? [] : [tokenizer.bosTokenId];
  const length = options.sequence - bos.length;
  const windowChars = options.sequence * charsPerToken;
  if (text.length <= count * windowChars) {
    const ids = tokenizer.encodeText(text, { addBos: false });
    const starts = Array.from({ length: Math.ceil(ids.length / length) }, (_, i) => i * length);
    return shuffle(starts, options.random)
      .slice(0, count)
      .map((start) => [...bos, ...ids.slice(start, start + length)]);
  }
  return Array.from({ length: count }, () => {
    const place = Math.floor(options.random() * (text.length - windowChars));
    const start = text.slice(place, place + windowChars).search(/\s/) + place + 1;
    const ids = tokenizer.encodeText(text.slice(start, start + windowChars), { addBos: false });
    return [...bos, ...ids.slice(0, length)];
  });
}

function parseMessages(line: string, place: string): ChatMessage[] {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new CalibrationDataError(`${place}: expected JSON, found ${(cause as Error).message}`, { cause });
  }
  const messages = (value as { messages?: unknown } | null)?.messages;
  const isMessage = (m: unknown) => {
    const { role, content } = (m ?? {}) as Record<string, unknown>;
    return (role === 'system' || role === 'user' || role === 'assistant') && typeof content === 'string';
  };
  if (!Array.isArray(messages) || messages.length === 0 || !messages.every(isMessage)) {
    const expected = '{"messages":[{"role":"user","content":"…"},…]}';
    throw new CalibrationDataError(`${place}: expected ${expected}, found ${line.slice(0, 80)}`);
  }
  return messages as ChatMessage[];
}

/** Conversations in random order, each a sequence of its own, until `count`·sequence tokens are reached. */
function chatSequences(
  text: string,
  name: string,
  count: number,
  tokenizer: ChatTokenizer,
  options: CalibrationOptions,
): number[][] {
  const lines = text.split('\n').map((line, i) => ({ line, place: `${name}: line ${i + 1}` }));
  const conversations = lines
    .filter(({ line }) => line.trim() !== '')
    .map(({ line, place }) => parseMessages(line, place));
  const sequences: number[][] = [];
  let left = count * options.sequence;
  for (const messages of shuffle(conversations, options.random)) {
    if (left <= 0) break;
    const ids = tokenizer.encodeChat(messages, { addGenerationPrompt: false });
    sequences.push(ids.slice(0, Math.min(options.sequence, left)));
    left -= sequences.at(-1)!.length;
  }
  return sequences;
}

/**
 * Reads calibration files: `.jsonl` holds a conversation a line, anything else is plain UTF-8 text.
 * @throws CalibrationDataError naming the file (and line), also when no file holds a single token.
 */
export async function loadCalibration(
  paths: readonly string[],
  tokenizer: ChatTokenizer,
  options: CalibrationOptions,
): Promise<CalibrationSet> {
  const sequences: number[][] = [];
  const files: { name: string; sha256: string }[] = [];
  for (const [i, path] of paths.entries()) {
    const bytes = await readFile(path).catch((cause) => {
      throw new CalibrationDataError(`${path}: expected a readable file, found ${cause.message}`, { cause });
    });
    const text = bytes.toString('utf8');
    if (text.trim() === '') throw new CalibrationDataError(`${path}: expected text, found an empty file`);
    const count =
      Math.floor(((i + 1) * options.samples) / paths.length) -
      Math.floor((i * options.samples) / paths.length);
    const isChat = extname(path).toLowerCase() === '.jsonl';
    sequences.push(
      ...(isChat
        ? chatSequences(text, path, count, tokenizer, options)
        : textSequences(text, count, tokenizer, options)),
    );
    files.push({ name: basename(path), sha256: createHash('sha256').update(bytes).digest('hex') });
  }
  const tokens = sequences.reduce((sum, ids) => sum + ids.length, 0);
  if (tokens === 0) throw new CalibrationDataError(`${paths.join(', ')}: expected text, found no token`);
  return { sequences, tokens, files };
}

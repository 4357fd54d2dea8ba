/**
 * Hugging Face's decoder chain as a stream: token strings go in one at a time, text comes out as soon as it is
 * certain. Decoding a whole sequence is this stream run to its end, so both give the same text by construction.
 */
import { TokenizerError } from './errors';

export interface DecodeStage {
  /** @param added the token is an added token, which byte-level decoders pass on as it is */
  push(piece: string, added: boolean): string[];
  /** What was held back; the stage is spent afterwards. */
  flush(): string[];
}

export type DecoderConfig = Readonly<Record<string, unknown>> & { readonly type: string };

/** Shapes of decoder stages that need an own state per stream, so each stream makes its own. */
export type StageFactory = () => DecodeStage;

/**
 * @param file name for errors
 * @throws {TokenizerError} on a decoder that Llama-family tokenizers do not use, or one that cannot be streamed
 */
export function compileDecoder(decoder: DecoderConfig, file: string): StageFactory[] {
  const configs = flattenDecoder(decoder, file);
  let fused = false;
  return configs.flatMap((config): StageFactory[] => {
    if (config.type === 'Fuse') {
      fused = true;
      return [];
    }
    return [compileStage(config, fused, file)];
  });
}

/** A sequence's decoders in order, sequences within it opened. */
export function flattenDecoder(decoder: DecoderConfig, file: string): DecoderConfig[] {
  if (decoder.type !== 'Sequence') return [decoder];
  const { decoders } = decoder;
  if (!Array.isArray(decoders)) {
    throw new TokenizerError(file, 'decoder.decoders', 'an array', typeof decoders);
  }
  return decoders.flatMap((inner) => {
    if (typeof inner?.type !== 'string') {
      throw new TokenizerError(file, 'decoder.decoders', 'objects with a type', JSON.stringify(inner));
    }
    return flattenDecoder(inner, file);
  });
}

function compileStage(config: DecoderConfig, fused: boolean, file: string): StageFactory {
  switch (config.type) {
    case 'ByteLevel':
      return () => new ByteLevelStage();
    case 'ByteFallback':
      return () => new ByteFallbackStage();
    case 'Metaspace':
      return compileMetaspace(config, file);
    case 'Replace':
      return compileReplace(config, fused, file);
    case 'Strip':
      return compileStrip(config, fused, file);
    default: {
      const known = 'Sequence, ByteLevel, ByteFallback, Metaspace, Replace, Fuse or Strip';
      throw new TokenizerError(file, 'decoder.type', known, config.type);
    }
  }
}

function compileMetaspace(config: DecoderConfig, file: string): StageFactory {
  const replacement = config.replacement ?? '▁';
  if (typeof replacement !== 'string' || replacement === '') {
    throw new TokenizerError(file, 'decoder.replacement', 'a character', JSON.stringify(replacement));
  }
  const stripsFirst = config.prepend_scheme !== 'never';
  return () => {
    let first = stripsFirst;
    return stateless((piece) => {
      const text = piece.replaceAll(replacement, ' ');
      const stripped = first && text.startsWith(' ') ? text.slice(1) : text;
      first = false;
      return stripped;
    });
  };
}

function compileReplace(config: DecoderConfig, fused: boolean, file: string): StageFactory {
  const pattern = (config.pattern as { String?: unknown } | undefined)?.String;
  const content = config.content;
  if (typeof pattern !== 'string' || pattern === '' || typeof content !== 'string') {
    const found = JSON.stringify({ pattern: config.pattern, content });
    throw new TokenizerError(file, 'decoder (Replace)', 'pattern.String and content', found);
  }
  if (fused && pattern.length > 1) {
    throw new TokenizerError(file, 'decoder (Replace)', 'one character after Fuse', JSON.stringify(pattern));
  }
  return () => stateless((piece) => piece.replaceAll(pattern, content));
}

function compileStrip(config: DecoderConfig, fused: boolean, file: string): StageFactory {
  const { content, start, stop } = config;
  if (typeof content !== 'string' || content.length !== 1 || !isCount(start) || !isCount(stop)) {
    const found = JSON.stringify({ content, start, stop });
    throw new TokenizerError(file, 'decoder (Strip)', 'one character and two counts', found);
  }
  if (fused) return () => new StripStage(content, start, stop);
  return () =>
    stateless((piece) => {
      const strip = new StripStage(content, start, stop);
      return strip.push(piece).join('');
    });
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0;
}

function stateless(map: (piece: string) => string): DecodeStage {
  return { push: (piece) => [map(piece)], flush: () => [] };
}

/** UTF-8 bytes → text; an incomplete character waits for its other bytes. A byte order mark stays text. */
class Utf8Stream {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  push(bytes: Uint8Array): string {
    return this.#decoder.decode(bytes, { stream: true });
  }

  flush(): string {
    return this.#decoder.decode();
  }
}

/** GPT-2's byte-level alphabet: every byte is one printable character of the token string. */
class ByteLevelStage implements DecodeStage {
  readonly #utf8 = new Utf8Stream();

  push(piece: string, added: boolean): string[] {
    if (added) return [this.#utf8.flush(), piece];
    return [this.#utf8.push(bytesOfCharacters(piece))];
  }

  flush(): string[] {
    return [this.#utf8.flush()];
  }
}

/** SentencePiece's byte tokens `<0x00>`…`<0xFF>`: a run of them is UTF-8. */
class ByteFallbackStage implements DecodeStage {
  readonly #utf8 = new Utf8Stream();

  push(piece: string): string[] {
    const bytes = byteOfFallback(piece);
    return bytes === null ? [this.#utf8.flush(), piece] : [this.#utf8.push(bytes)];
  }

  flush(): string[] {
    return [this.#utf8.flush()];
  }
}

/** Removes up to `start` leading and `stop` trailing characters of the whole text; holds back at most `stop`. */
class StripStage implements DecodeStage {
  #startLeft: number;
  #held = '';

  constructor(
    readonly content: string,
    start: number,
    readonly stop: number,
  ) {
    this.#startLeft = start;
  }

  push(piece: string): string[] {
    let from = 0;
    while (this.#startLeft > 0 && piece[from] === this.content) {
      from++;
      this.#startLeft--;
    }
    if (from < piece.length) this.#startLeft = 0;
    const text = this.#held + piece.slice(from);
    let end = text.length;
    while (end > 0 && text.length - end < this.stop && text[end - 1] === this.content) end--;
    this.#held = text.slice(end);
    return [text.slice(0, end)];
  }

  flush(): string[] {
    return [];
  }
}

/** Printable Latin-1 characters stand for their own byte, the other bytes take U+0100 and on, in order. */
const BYTE_OF_CHARACTER: ReadonlyMap<string, number> = (() => {
  const map = new Map<string, number>();
  let next = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    map.set(String.fromCharCode(printable ? byte : next++), byte);
  }
  return map;
})();

/** The bytes that a byte-level token string stands for. */
export function bytesOfCharacters(piece: string): Uint8Array<ArrayBuffer> {
  // A character outside the alphabet cannot come from a byte; 0 is what the reference library makes of it.
  return Uint8Array.from(piece, (character) => BYTE_OF_CHARACTER.get(character) ?? 0);
}

/** The byte of a byte token such as `<0x0A>`; null for any other token. */
export function byteOfFallback(piece: string): Uint8Array<ArrayBuffer> | null {
  const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(piece)?.[1];
  return byte === undefined ? null : Uint8Array.of(Number.parseInt(byte, 16));
}

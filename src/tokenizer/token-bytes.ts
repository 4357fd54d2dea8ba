/** What single tokens add to a text, in bytes: the decoder chain without what it does across tokens. */
import { byteOfFallback, bytesOfCharacters, type DecoderConfig, flattenDecoder } from './decode-stages';

/** `added`: the token is an added one, which byte-level decoders pass on as it is. */
export type TokenBytes = (token: string, added: boolean) => Uint8Array<ArrayBuffer>;

/** A token string on its way to bytes: a string, until a stage finds out what bytes it stands for. */
type Piece = string | Uint8Array<ArrayBuffer>;

/**
 * @param decoder one that `compileDecoder` has taken
 * @param file name for errors
 */
export function compileTokenBytes(decoder: DecoderConfig, file: string): TokenBytes {
  const stages = flattenDecoder(decoder, file).map(compileStage);
  const fuse = stages.findIndex(({ type }) => type === 'Fuse');
  const encoder = new TextEncoder();
  return (token, added) => {
    let piece: Piece = token;
    for (const [index, { type, map }] of stages.entries()) {
      if (typeof piece !== 'string') break;
      if (type === 'Strip' && fuse >= 0 && fuse < index) continue; // strips the text, not the token
      piece = map(piece, added);
    }
    return typeof piece === 'string' ? encoder.encode(piece) : piece;
  };
}

function compileStage(config: DecoderConfig): {
  readonly type: string;
  readonly map: (piece: string, added: boolean) => Piece;
} {
  const { type } = config;
  switch (type) {
    case 'ByteLevel':
      return { type, map: (piece, added) => (added ? piece : bytesOfCharacters(piece)) };
    case 'ByteFallback':
      return { type, map: (piece) => byteOfFallback(piece) ?? piece };
    case 'Metaspace': {
      const replacement = (config.replacement ?? '▁') as string;
      return { type, map: (piece) => piece.replaceAll(replacement, ' ') };
    }
    case 'Replace': {
      const { String: pattern } = config.pattern as { String: string };
      return { type, map: (piece) => piece.replaceAll(pattern, config.content as string) };
    }
    case 'Strip':
      return { type, map: (piece) => strip(piece, config as unknown as StripConfig) };
    default:
      return { type, map: (piece) => piece };
  }
}

interface StripConfig {
  readonly content: string;
  readonly start: number;
  readonly stop: number;
}

function strip(piece: string, { content, start, stop }: StripConfig): string {
  let [from, to] = [0, piece.length];
  while (from < Math.min(start, to) && piece[from] === content) from++;
  while (to > from && piece.length - to < stop && piece[to - 1] === content) to--;
  return piece.slice(from, to);
}

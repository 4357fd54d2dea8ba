/** JSON mode: which tokens of a vocabulary keep a reply on its way to one JSON object. */
import type { TokenConstraint } from '../engine/types';
import { dead, JsonAutomaton, type JsonState } from './json-automaton';
import { type TokenPiece, TokenTrie } from './token-trie';

/** A vocabulary with which a JSON text could get stuck: names the bytes that no token of its own stands for. */
export class JsonVocabularyError extends Error {
  override readonly name = 'JsonVocabularyError';
  constructor(readonly missingBytes: string) {
    super(`this model's vocabulary cannot write every JSON text: it has no tokens for ${missingBytes} alone`);
  }
}

/** A token that the mask had excluded was drawn all the same. */
export class ConstraintError extends Error {
  override readonly name = 'ConstraintError';
  constructor(readonly tokenId: number) {
    super(`token ${tokenId} was drawn though nothing it says can follow in this JSON text`);
  }
}

/** From every state one of these leads on to the end: `}` for an object, `"` for a string, `e` for `tru`, … */
const asciiNeeded = [...'{}]":0ruelas'].map((character) => character.charCodeAt(0));
/** The same inside a character of several bytes: 0xA0 also follows 0xE0 and 0xF0, which 0x80 does not. */
const continuationsNeeded = [0x80, 0xa0];

/** What JSON mode needs of a tokenizer. */
export interface TokenBytesSource {
  readonly vocabSize: number;
  readonly eosTokenIds: readonly number[];
  tokenBytes(id: number): Uint8Array | null;
}

/** A vocabulary made ready for JSON mode, once per model. */
export class JsonVocabulary {
  readonly #pieces = new Map<number, Uint8Array>();
  readonly trie: TokenTrie;

  /**
   * @param vocabSize of the model, which may have more ids than the tokenizer: those never come
   * @throws JsonVocabularyError
   */
  constructor(
    tokenizer: TokenBytesSource,
    readonly vocabSize: number,
  ) {
    const pieces: TokenPiece[] = [];
    for (let id = 0; id < Math.min(vocabSize, tokenizer.vocabSize); id++) {
      const bytes = tokenizer.eosTokenIds.includes(id) ? null : tokenizer.tokenBytes(id);
      if (bytes === null || bytes.length === 0) continue;
      pieces.push({ id, bytes });
      this.#pieces.set(id, bytes);
    }
    requireBytes(pieces);
    this.trie = TokenTrie.build(pieces);
  }

  /** Bytes of a token that JSON mode may use. */
  bytesOf(id: number): Uint8Array | undefined {
    return this.#pieces.get(id);
  }
}

/** @throws JsonVocabularyError */
function requireBytes(pieces: readonly TokenPiece[]): void {
  const alone = new Set(pieces.filter(({ bytes }) => bytes.length === 1).map(({ bytes }) => bytes[0]!));
  const cutsCharacters = pieces.some(({ bytes }) => !isWholeUtf8(bytes));
  const needed = [...asciiNeeded, ...(cutsCharacters ? continuationsNeeded : [])];
  const missing = needed.filter((byte) => !alone.has(byte));
  if (missing.length === 0) return;
  const name = (byte: number) => (byte < 0x80 ? `'${String.fromCharCode(byte)}'` : `0x${byte.toString(16)}`);
  throw new JsonVocabularyError(missing.map(name).join(', '));
}

function isWholeUtf8(bytes: Uint8Array): boolean {
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    return true;
  } catch {
    return false;
  }
}

/** Masks kept per reply; inside a string the same few come back for every token. */
const mostMasks = 32;

/** One reply in JSON mode. */
export class JsonConstraint implements TokenConstraint {
  readonly #automaton = new JsonAutomaton();
  readonly #masks = new Map<JsonState, Uint32Array<ArrayBuffer>>();
  #state: JsonState = this.#automaton.start;

  constructor(readonly vocabulary: JsonVocabulary) {}

  get isComplete(): boolean {
    return this.#automaton.isComplete(this.#state);
  }

  mask(): Uint32Array<ArrayBuffer> {
    const known = this.#masks.get(this.#state);
    if (known) return known;
    const { trie, vocabSize } = this.vocabulary;
    const mask = new Uint32Array(Math.ceil(vocabSize / 32));
    trie.allow(this.#state, (state, byte) => this.#automaton.step(state, byte), mask);
    if (this.#masks.size >= mostMasks) this.#masks.delete(this.#masks.keys().next().value!);
    this.#masks.set(this.#state, mask);
    return mask;
  }

  /** @throws ConstraintError for a token that the mask excludes */
  accept(id: number): void {
    let state = this.vocabulary.bytesOf(id) === undefined ? dead : this.#state;
    for (const byte of this.vocabulary.bytesOf(id) ?? []) {
      if (state !== dead) state = this.#automaton.step(state, byte);
    }
    if (state === dead) throw new ConstraintError(id);
    this.#state = state;
  }
}

/** Log-probabilities with tokens as text. */
import type { DrawnLogprobs, TokenLogprob } from '../engine/logprobs';
import type { ChatTokenizer } from '../tokenizer';

/** One token and its ln p, of the model's own logits. */
export interface TextLogprob {
  /** What the token says; U+FFFD where it holds part of a character. A special token's name. */
  readonly token: string;
  /** In nats; −Infinity for a token that the model rules out. */
  readonly logprob: number;
  /** UTF-8; null for special tokens and ids without a token, which say nothing. */
  readonly bytes: readonly number[] | null;
}

/** A token of the reply, and the most probable ones in its place, best first. */
export interface TextLogprobs extends TextLogprob {
  readonly top: readonly TextLogprob[];
}

export class TokenDescriber {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(readonly tokenizer: Pick<ChatTokenizer, 'tokenBytes' | 'decodeTable'>) {}

  describe({ top, ...drawn }: DrawnLogprobs): TextLogprobs {
    return { ...this.#token(drawn), top: top.map((token) => this.#token(token)) };
  }

  #token({ id, logprob }: TokenLogprob): TextLogprob {
    const bytes = this.tokenizer.tokenBytes(id);
    const name = this.tokenizer.decodeTable.tokens[id] ?? '';
    return {
      token: bytes === null ? name : this.#decoder.decode(bytes),
      logprob,
      bytes: bytes === null ? null : [...bytes],
    };
  }
}

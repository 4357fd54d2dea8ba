/** Ids → text, one id at a time. */
import type { DecodeStage, StageFactory } from './decode-stages';

/** What ids stand for: shared by all detokenizers of a tokenizer. */
export interface DecodeTable {
  /** Token string by id; undefined where the vocabulary has a hole. */
  readonly tokens: readonly (string | undefined)[];
  readonly addedIds: ReadonlySet<number>;
  /** Special tokens: they never show. */
  readonly skippedIds: ReadonlySet<number>;
  readonly stages: readonly StageFactory[];
}

/**
 * Streams a reply. `push` returns the text that became certain with this id; it never ends inside a character,
 * and all returned texts with `flush`'s make exactly `ChatTokenizer.decode` of all ids. Work and memory per id do
 * not grow with the reply. Special tokens and ids outside the vocabulary give no text.
 */
export class IncrementalDetokenizer {
  readonly #table: DecodeTable;
  readonly #stages: readonly DecodeStage[];

  /** @param tokenizer the tokenizer of the model that writes the reply */
  constructor(tokenizer: { readonly decodeTable: DecodeTable }) {
    this.#table = tokenizer.decodeTable;
    this.#stages = this.#table.stages.map((create) => create());
  }

  push(id: number): string {
    const token = this.#table.tokens[id];
    if (token === undefined || this.#table.skippedIds.has(id)) return '';
    return this.#run([token], 0, this.#table.addedIds.has(id));
  }

  /** The end of the text: an unfinished character comes out as U+FFFD. Nothing may be pushed afterwards. */
  flush(): string {
    let rest = '';
    for (const [index, stage] of this.#stages.entries()) {
      rest += this.#run(stage.flush(), index + 1, false);
    }
    return rest;
  }

  #run(pieces: readonly string[], fromStage: number, added: boolean): string {
    let current = pieces;
    for (const stage of this.#stages.slice(fromStage)) {
      current = current.filter((piece) => piece !== '').flatMap((piece) => stage.push(piece, added));
    }
    return current.join('');
  }
}

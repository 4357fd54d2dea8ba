/**
 * Which added tokens steer the model (control tokens), where a text holds them, and a vocabulary from which plain
 * text cannot reach them.
 */
import type { AddedToken, TokenizerJson } from './files';

/** A stretch of text, or one added token standing in it. */
export type Section = { readonly text: string } | { readonly token: AddedToken };

/** Added words without any markup character are vocabulary (runs of spaces, domain words), not control tokens. */
const ORDINARY_WORD = /^[\s\p{L}\p{M}\p{N}▁]+$/u;

/** A well-formed text never holds a lone surrogate, so no text reaches a token with such a name. */
const UNREACHABLE = '\uD800';

/**
 * The added tokens of a tokenizer, in two kinds. *Control*: special ones, and non-special ones that look like
 * markup (`<think>`, `<tool_call>`). *Words*: the other non-special ones, plain vocabulary that every text may use.
 */
export class ControlTokens {
  readonly control: readonly AddedToken[];
  readonly words: readonly AddedToken[];

  constructor(addedTokens: readonly AddedToken[]) {
    this.control = addedTokens.filter(isControl);
    this.words = addedTokens.filter((token) => !isControl(token));
  }

  get specialIds(): ReadonlySet<number> {
    return new Set(this.control.filter((token) => token.special).map((token) => token.id));
  }
}

function isControl(token: AddedToken): boolean {
  if (/^\s+$/.test(token.content)) return false;
  return token.special || !ORDINARY_WORD.test(token.content);
}

/** Pattern of every occurrence, leftmost first and longest first; null when there are no tokens. */
export function occurrencePattern(tokens: readonly AddedToken[]): RegExp | null {
  if (tokens.length === 0) return null;
  const longestFirst = tokens.map((token) => token.content).sort((a, b) => b.length - a.length);
  return new RegExp(longestFirst.map(escapeRegExp).join('|'), 'g');
}

/**
 * Splits a text at every occurrence of the given tokens, leftmost first, longest first. A token with `lstrip` or
 * `rstrip` swallows the white space beside it, as in Hugging Face's libraries.
 */
export function splitAtTokens(text: string, tokens: readonly AddedToken[]): Section[] {
  const pattern = occurrencePattern(tokens);
  if (pattern === null) return text === '' ? [] : [{ text }];
  const byContent = new Map(tokens.map((token) => [token.content, token]));
  const sections: Section[] = [];
  let start = 0;
  let stripNext = false;
  const pushText = (end: number, stripEnd: boolean): void => {
    let piece = text.slice(start, end);
    if (stripNext) piece = piece.trimStart();
    if (stripEnd) piece = piece.trimEnd();
    if (piece !== '') sections.push({ text: piece });
  };
  for (const match of text.matchAll(pattern)) {
    const token = byContent.get(match[0])!;
    pushText(match.index, token.lstrip);
    sections.push({ token });
    start = match.index + match[0].length;
    stripNext = token.rstrip;
  }
  pushText(text.length, false);
  return sections;
}

/**
 * The model part of tokenizer.json with every control token renamed to something no text can spell, and without
 * the merges that would build one. Without this, `ignore_merges` or a Unigram model would find `</s>` in a user's
 * text: control tokens are often part of the vocabulary itself.
 */
export function withoutReachableControl(
  model: TokenizerJson['model'],
  control: readonly AddedToken[],
): TokenizerJson['model'] {
  const ids = new Set(control.map((token) => token.id));
  const contents = new Set(control.map((token) => token.content));
  const rename = (name: string, id: number): string =>
    ids.has(id) || contents.has(name) ? `${UNREACHABLE}${id}` : name;
  if (model.type === 'Unigram') {
    return { ...model, vocab: model.vocab.map(([piece, score], id) => [rename(piece, id), score]) };
  }
  const hidden = new Set<string>(contents);
  const entries = Object.entries(model.vocab).map(([name, id]): [string, number] => {
    const renamed = rename(name, id);
    if (renamed !== name) hidden.add(name);
    return [renamed, id];
  });
  const pairs = model.merges.map((merge) => (typeof merge === 'string' ? splitMerge(merge) : merge));
  const merges = pairs.filter(([left, right]) => !hidden.has(left + right));
  const unknown = model.unk_token ?? null;
  const unknownId = unknown === null ? undefined : model.vocab[unknown];
  const unk_token = unknown === null || unknownId === undefined ? unknown : rename(unknown, unknownId);
  return { ...model, vocab: Object.fromEntries(entries), merges, unk_token };
}

function splitMerge(merge: string): [string, string] {
  const space = merge.indexOf(' ');
  return [merge.slice(0, space), merge.slice(space + 1)];
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

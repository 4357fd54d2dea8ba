/** Two replies to one prompt, token by token: how far they agree, and what each says from there on. */
import * as v from 'valibot';
import type { Manifest } from '../../format/manifest';

/** One token of a reply. */
export interface ReplyToken {
  /** UTF-8 of what it says; a character may be spread over several tokens. */
  readonly bytes: readonly number[];
  /** ln p under the model that wrote it, in nats. */
  readonly logprob: number;
}

/** A reply cut where it leaves the other one. */
export interface CutReply {
  readonly agreed: string;
  /** The first token that the other reply does not have here; null when this one ended or both are the same. */
  readonly differing: { readonly text: string; readonly probability: number } | null;
  readonly rest: string;
}

/** Tokens before the first difference; the shorter length when one reply begins the other. */
export function agreedTokens(a: readonly ReplyToken[], b: readonly ReplyToken[]): number {
  const shorter = Math.min(a.length, b.length);
  for (let i = 0; i < shorter; i++) {
    const [left, right] = [a[i]!.bytes, b[i]!.bytes];
    if (left.length !== right.length || left.some((byte, j) => byte !== right[j])) return i;
  }
  return shorter;
}

/** How far two replies agree, in words. */
export function agreementText(a: readonly ReplyToken[], b: readonly ReplyToken[]): string {
  const agreed = agreedTokens(a, b);
  if (agreed === a.length && agreed === b.length) return 'Both replies are the same, token for token.';
  if (agreed === 0) return 'Already token 1 differs.';
  const same = agreed === 1 ? 'The first token is the same' : `The first ${agreed} tokens are the same`;
  return `${same}; token ${agreed + 1} differs.`;
}

/**
 * Cuts a reply behind its first `agreed` tokens. A token that holds part of a character shows U+FFFD; the space that
 * vocabularies put in front of a first word is left out, as in the chat.
 */
export function cutReply(tokens: readonly ReplyToken[], agreed: number): CutReply {
  const differing = tokens[agreed];
  const from = (start: number, end?: number) => {
    const text = textOf(tokens.slice(start, end));
    return start === 0 ? text.replace(/^ /, '') : text;
  };
  return {
    agreed: from(0, agreed),
    differing: differing
      ? { text: from(agreed, agreed + 1), probability: Math.exp(differing.logprob) }
      : null,
    rest: from(agreed + 1),
  };
}

function textOf(tokens: readonly ReplyToken[]): string {
  return new TextDecoder().decode(new Uint8Array(tokens.flatMap(({ bytes }) => bytes)));
}

const measuredSchema = v.object({
  measured: v.object({
    text: v.string(),
    tokens: v.number(),
    perplexity: v.number(),
    floatPerplexity: v.number(),
  }),
});

/** What a manifest says of the model's measured perplexity, in words; null when it says nothing. */
export function measuredText({ provenance }: Pick<Manifest, 'provenance'>): string | null {
  const parsed = v.safeParse(measuredSchema, provenance);
  if (!parsed.success) return null;
  const { text, tokens, perplexity, floatPerplexity } = parsed.output.measured;
  const ratio = (perplexity / floatPerplexity).toFixed(3);
  return `Perplexity ${perplexity.toFixed(2)}, ${ratio} × float (${text}; ${tokens.toLocaleString('en-US')} tokens)`;
}

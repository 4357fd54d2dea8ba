/** Greedy decoding in passes of several drafted tokens: the same tokens as one by one, in fewer passes where drafts are right. */
import { noToken } from '../kernels/argmax';
import { NonFiniteLogitsError } from './errors';
import { acceptedTokens, draftTokens } from './prompt-lookup';
import type { FinishReason } from './types';

/** How well drafts did in one reply. */
export interface DraftStats {
  /** Passes after the prompt's, of one token or several. */
  passes: number;
  drafted: number;
  accepted: number;
}

export interface DraftedDecodeArgs {
  readonly promptIds: readonly number[];
  /** What the prompt's last pass drew. */
  readonly first: number;
  /** Tokens of the reply at most; the context has room for all but the last. */
  readonly most: number;
  /** Tokens drafted at most for one pass. */
  readonly mostDrafted: number;
  readonly contextLength: number;
  readonly stopTokenIds: ReadonlySet<number>;
  readonly signal: AbortSignal | undefined;
  /** Feeds tokens from `position` on and tells what the model draws after each. */
  readonly draw: (ids: readonly number[], position: number) => Promise<readonly number[]>;
  /** Hears of tokens whose keys and values stay in the cache. Those of wrong drafts are overwritten by the next pass. */
  readonly onKept: (ids: readonly number[]) => void;
  /** Counted up. */
  readonly stats: DraftStats;
}

/** Yields the reply's tokens; null as reason when `most` ended it. @throws NonFiniteLogitsError */
export async function* draftedDecode(args: DraftedDecodeArgs): AsyncGenerator<number, FinishReason | null> {
  const { most, contextLength, signal, stats } = args;
  const ids = [...args.promptIds];
  const end = ids.length + most;
  for (let drawn: readonly number[] = [args.first]; ; ) {
    for (const id of drawn) {
      if (id === noToken) throw new NonFiniteLogitsError(ids.length - 1);
      ids.push(id);
      yield id;
      if (args.stopTokenIds.has(id)) return 'stop';
    }
    if (ids.length >= end) return null;
    if (signal?.aborted) return 'cancelled';
    // A pass draws one token more than it drafts, and all it feeds must fit the context.
    const room = Math.min(args.mostDrafted, end - ids.length - 1, contextLength - ids.length);
    const draft = draftTokens(ids, room);
    const fed = [ids.at(-1)!, ...draft];
    const found = await args.draw(fed, ids.length - 1);
    const accepted = acceptedTokens(draft, found);
    args.onKept(fed.slice(0, accepted + 1));
    drawn = found.slice(0, accepted + 1);
    stats.passes++;
    stats.drafted += draft.length;
    stats.accepted += accepted;
  }
}

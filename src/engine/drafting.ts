/** Prompt lookup in an engine: which replies are decoded from drafts, and the passes that verify them. */
import type { DraftVerifier } from './draft-verifier';
import { type DraftStats, draftedDecode } from './drafted-decode';
import { isGuided } from './guidance';
import { mostTokens, type Reply } from './reply';
import { isPlainGreedy } from './sampler';
import type { FinishReason } from './types';

/** What greedy replies are drafted with. */
export interface Drafting {
  readonly verifier: DraftVerifier;
  /** Tokens at most for one pass. */
  readonly most: number;
}

/** Whether drafts can be verified by comparing with what is drawn: where that is an argmax nobody else looks at. */
export function canDraft({ options, runner }: Reply): boolean {
  if (runner.check || runner.readsLogits) return false;
  return isPlainGreedy(options.sampling) && !isGuided(options);
}

/** As `decode`, with several tokens a pass where the text holds a draft of them; counts in `stats`. @throws NonFiniteLogitsError */
export async function* decodeDrafted(
  reply: Reply,
  { verifier, most: mostDrafted }: Drafting,
  stats: DraftStats,
): AsyncGenerator<number, FinishReason> {
  const { promptIds, options, runner, passes, draw, cached } = reply;
  const { maxTokens, stopTokenIds, signal } = options;
  const { contextLength } = runner.scratch;
  const most = mostTokens(reply);
  const one = [...passes.decode, ...draw];
  const drawOne = (id: number, position: number) => {
    runner.feed([id], position);
    runner.submit(one, 1, position + 1, 0);
    return runner.nextToken();
  };
  const reason = yield* draftedDecode({
    ...{ promptIds, first: await runner.nextToken(), most, mostDrafted, contextLength, stats, signal },
    stopTokenIds: new Set(stopTokenIds),
    draw: async (ids, position) =>
      ids.length === 1 ? [await drawOne(ids[0]!, position)] : verifier.draw(ids, position),
    onKept: (ids) => cached.push(...ids),
  });
  return reason ?? (most < maxTokens ? 'context' : 'length');
}

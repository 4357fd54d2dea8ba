/** What the engine takes and returns: token ids only, no text. */
import type { DraftStats } from './drafted-decode';
import type { LayerCheckReport } from './layer-check';
import type { DrawnLogprobs } from './logprobs';

/** How the next token is drawn. `temperature` 0 is greedy. Filters apply in this order: penalties, temperature, top-k, top-p, min-p. */
export interface SamplingOptions {
  readonly temperature: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  readonly topK: number;
  /** Keep the smallest set of most probable tokens whose mass reaches p; 1 keeps all. */
  readonly topP: number;
  /** Drop tokens less probable than minP times the most probable; 0 keeps all. */
  readonly minP: number;
  /** Hugging Face's: divides positive, multiplies negative logits of every token of prompt and reply; 1 is off. */
  readonly repetitionPenalty: number;
  /** OpenAI's: subtracted once from every token of the reply. */
  readonly presencePenalty: number;
  /** OpenAI's: subtracted per occurrence in the reply. */
  readonly frequencyPenalty: number;
  /** Same seed, same model, same prompt, same device: same tokens. 32-bit unsigned. */
  readonly seed: number;
}

export const greedy: SamplingOptions = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
};

/** Why a reply ended: a stop token or string, `maxTokens`, the context's end, or the caller's cancel. */
export type FinishReason = 'stop' | 'length' | 'context' | 'cancelled';

export interface GenerateOptions {
  readonly sampling: SamplingOptions;
  readonly maxTokens: number;
  readonly stopTokenIds: readonly number[];
  readonly signal?: AbortSignal;
  /** OpenAI's: added to the logits of these tokens before penalties and sampling. */
  readonly logitBias?: ReadonlyMap<number, number>;
  /** Decides which tokens may come next. One token is in flight then: the mask needs the token before. */
  readonly constraint?: TokenConstraint;
  /** With {@link onLogprobs}: how many of the most probable tokens to tell besides the drawn one. */
  readonly topLogprobs?: number;
  /** Hears each token's log-probabilities just before the token itself comes. Logits are then read back for every token. */
  readonly onLogprobs?: (logprobs: DrawnLogprobs) => void;
}

/** Allows tokens one by one, e.g. those that continue a JSON text. Holds the state of one reply. */
export interface TokenConstraint {
  /** Bit v mod 32 of word ⌊v / 32⌋: token v may come next. [⌈V / 32⌉] */
  mask(): Uint32Array<ArrayBuffer>;
  /** Takes the token that was drawn. */
  accept(id: number): void;
  /** Nothing may follow: the reply ends as if a stop token had come. */
  readonly isComplete: boolean;
}

/** What was counted and timed while a reply was made. */
export interface ReplyStats {
  readonly promptTokens: number;
  /** Prompt tokens whose keys and values were still in the cache. */
  readonly cachedTokens: number;
  /** The stop token included. */
  readonly replyTokens: number;
  /** From the call to the first token's arrival. */
  readonly prefillMs: number;
  /** Prompt tokens that were not in the cache, over that time. */
  readonly prefillTokensPerSecond: number;
  /** From the call to the first token's arrival. */
  readonly timeToFirstTokenMs: number;
  /** From the first token's arrival to the last one's. */
  readonly decodeMs: number;
  /** Tokens after the first, over the time after the first. */
  readonly decodeTokensPerSecond: number;
  /** Kernels of one decoded token. */
  readonly dispatchesPerToken: number;
  /** With the debug option that checks a layer, what it found since the model was loaded. */
  readonly layerCheck?: LayerCheckReport;
  /** With prompt lookup, how its drafts did. */
  readonly promptLookup?: Readonly<DraftStats>;
}

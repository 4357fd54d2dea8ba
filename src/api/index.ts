/**
 * For web pages: the model runs in a worker of the page.
 *
 * @module mergequant-web
 */
export type { LoadProgress, ModelInfo, PersistentReport, SelfTestReport } from '../../workers/protocol';
export { RemoteError } from '../../workers/protocol';
export type { DraftStats } from '../engine/drafted-decode';
export type { LayerCheckReport } from '../engine/layer-check';
export type { FinishReason, ReplyStats, SamplingOptions } from '../engine/types';
export type { KvCacheChoice, KvCacheKind } from '../format/kv-cache';
export type { ActBits, SchemeName, WeightBits } from '../format/scheme';
export type { AdapterSummary } from '../gpu/gpu';
export { RequestError } from './chat-request';
export { WorkerDiedError, type WorkerLike } from './client';
export { ChatCompletions, type CreateOptions } from './completions';
export { type ChatEngine, type CreateEngineOptions, createEngine } from './create-engine';
export type {
  ChatCompletion,
  ChatCompletionChunk,
  ChatCompletionMessage,
  ChatCompletionRequest,
  CompletionFinishReason,
  CompletionLogprobs,
  CompletionUsage,
  ContentTokenLogprob,
  TokenLogprob,
} from './openai-types';

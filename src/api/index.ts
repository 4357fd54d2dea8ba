/** What the package exports to browsers. */
export type { LoadProgress, ModelInfo } from '../../workers/protocol';
export { RemoteError } from '../../workers/protocol';
export type { FinishReason, ReplyStats } from '../engine/types';
export { RequestError } from './chat-request';
export { WorkerDiedError } from './client';
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

/** Checks a chat-completions request and says it in the engine's words. */
import * as v from 'valibot';
import type { ChatRequest } from '../chat/text-generator';
import { mostTopLogprobs } from '../engine/logprobs';
import { greedy, type SamplingOptions } from '../engine/types';

/** A request that is not as it should be, or asks for what this engine cannot do. */
export class RequestError extends Error {
  override readonly name = 'RequestError';
  constructor(
    /** The parameter, as a path: `messages.0.content`. */
    readonly param: string,
    message: string,
  ) {
    super(param === '' ? message : `${param}: ${message}`);
  }
}

export interface EngineMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** A request as the engine takes it. */
export interface EngineRequest {
  readonly messages: readonly EngineMessage[];
  readonly sampling: SamplingOptions;
  readonly maxTokens: number;
  readonly stop: readonly string[];
  /** Token id → what is added to its logit. */
  readonly logitBias: Readonly<Record<number, number>>;
  /** How many of the most probable tokens to tell beside each of the reply's; null without log-probabilities. */
  readonly topLogprobs: number | null;
  /** The reply is one JSON object. */
  readonly json: boolean;
  readonly stream: boolean;
  readonly includeUsage: boolean;
}

/** What the loaded model contributes where a request says nothing. */
export interface RequestDefaults {
  readonly contextLength: number;
  readonly sampling: Partial<SamplingOptions>;
}

const optional = <T>(schema: v.GenericSchema<unknown, T>) => v.optional(v.nullable(schema));
const between = (least: number, most: number) =>
  optional(v.pipe(v.number(), v.minValue(least), v.maxValue(most)));
const wholeNumber = (least: number) => optional(v.pipe(v.number(), v.safeInteger(), v.minValue(least)));

const textPart = v.object({ type: v.literal('text'), text: v.string() });
const message = v.object({
  role: v.picklist(['system', 'developer', 'user', 'assistant']),
  content: v.union([v.string(), v.array(textPart)], 'expected a text, or a list of parts of type "text"'),
});

/** Strict: a parameter that is not here would be ignored, and nobody would notice. */
const requestSchema = v.strictObject({
  messages: v.pipe(v.array(message), v.minLength(1)),
  model: v.optional(v.string()),
  stream: optional(v.boolean()),
  stream_options: optional(v.object({ include_usage: v.optional(v.boolean()) })),
  temperature: between(0, 2),
  top_p: between(0, 1),
  top_k: wholeNumber(0),
  min_p: between(0, 1),
  repetition_penalty: between(0.01, 100),
  presence_penalty: between(-2, 2),
  frequency_penalty: between(-2, 2),
  seed: optional(v.pipe(v.number(), v.safeInteger())),
  stop: optional(v.union([v.string(), v.pipe(v.array(v.string()), v.maxLength(16))])),
  max_completion_tokens: wholeNumber(1),
  max_tokens: wholeNumber(1),
  n: optional(v.literal(1, 'one reply at a time is all this engine does')),
  response_format: v.optional(
    v.object({ type: v.picklist(['text', 'json_object'], 'only "text" and "json_object" are supported') }),
  ),
  logprobs: optional(v.boolean()),
  top_logprobs: optional(v.pipe(v.number(), v.safeInteger(), v.minValue(0), v.maxValue(mostTopLogprobs))),
  logit_bias: optional(
    v.pipe(
      v.custom<object>((value) => typeof value === 'object' && !Array.isArray(value), 'expected an object'),
      v.record(
        v.pipe(v.string(), v.regex(/^(0|[1-9]\d{0,9})$/, 'expected token ids as keys')),
        v.pipe(v.number(), v.minValue(-100), v.maxValue(100)),
      ),
    ),
  ),
  user: v.optional(v.string()),
});

/** Where neither the request nor the model says anything: OpenAI's defaults. */
const baseSampling: Omit<SamplingOptions, 'seed'> = { ...greedy, temperature: 1 };

/** @throws RequestError naming the first parameter that is wrong or unknown */
export function parseChatRequest(request: unknown, defaults: RequestDefaults): EngineRequest {
  const parsed = v.safeParse(requestSchema, request);
  if (!parsed.success) throw refusal(parsed.issues[0]);
  const r = parsed.output;
  const json = r.response_format?.type === 'json_object';
  if (r.top_logprobs != null && !r.logprobs) throw new RequestError('top_logprobs', 'needs "logprobs": true');
  const stop = [r.stop ?? []].flat().filter((text) => text !== '');
  if (json && stop.length > 0) {
    throw new RequestError('stop', 'would cut the JSON object that "response_format" asks for');
  }
  const stated = {
    temperature: r.temperature,
    topP: r.top_p,
    topK: r.top_k,
    minP: r.min_p,
    repetitionPenalty: r.repetition_penalty,
    presencePenalty: r.presence_penalty,
    frequencyPenalty: r.frequency_penalty,
  };
  const given = Object.fromEntries(Object.entries(stated).filter(([, value]) => value != null));
  return {
    messages: r.messages.map(({ role, content }) => ({
      role: role === 'developer' ? 'system' : role,
      content: typeof content === 'string' ? content : content.map(({ text }) => text).join(''),
    })),
    sampling: { ...baseSampling, ...defaults.sampling, ...given, seed: seedOf(r.seed) },
    maxTokens: r.max_completion_tokens ?? r.max_tokens ?? defaults.contextLength,
    stop,
    logitBias: r.logit_bias ?? {},
    topLogprobs: r.logprobs ? (r.top_logprobs ?? 0) : null,
    json,
    stream: r.stream ?? false,
    includeUsage: r.stream_options?.include_usage ?? false,
  };
}

/** What of a request concerns the text itself, in {@link ChatRequest}'s words. */
export function textRequest(request: EngineRequest): ChatRequest {
  const { messages, sampling, maxTokens, stop, logitBias, topLogprobs, json } = request;
  return {
    messages,
    sampling,
    maxTokens,
    stop,
    logitBias,
    json,
    ...(topLogprobs !== null && { topLogprobs }),
  };
}

/** The engine's seeds have 32 bits; without one a new one is drawn. */
function seedOf(seed: number | null | undefined): number {
  return seed == null
    ? crypto.getRandomValues(new Uint32Array(1))[0]!
    : Number(BigInt.asUintN(32, BigInt(seed)));
}

function refusal(issue: v.BaseIssue<unknown>): RequestError {
  const param = v.getDotPath(issue) ?? '';
  const unknown = issue.type === 'strict_object' && issue.expected === 'never';
  return new RequestError(param, unknown ? 'unknown parameter' : issue.message);
}

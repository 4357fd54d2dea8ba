/** Side-by-side replies of two models: which, to what, and what they said. */
import { signal } from '@preact/signals';
import { EngineClient } from '../../api/client';
import { baseSettings } from '../state/settings';
import { findModels, models } from './panel-models';
import { measuredText, type ReplyToken } from './reply-comparison';
import { messageOf } from './state';

export interface ComparedReply {
  readonly name: string;
  /** The perplexity its manifest states, in words; null when it states none. */
  readonly measured: string | null;
  readonly tokens: readonly ReplyToken[];
}

export interface ComparisonRequest {
  readonly urls: readonly [string, string];
  readonly prompt: string;
  /** 0 is greedy. */
  readonly temperature: number;
  readonly seed: number;
  readonly maxTokens: number;
}

export const comparison = signal<ComparisonRequest>({
  urls: ['', ''],
  prompt: 'I want to find a restaurant in San Jose.',
  temperature: 0,
  seed: 1,
  maxTokens: 48,
});
/** What is being done, in words; null when nothing is. */
export const comparing = signal<string | null>(null);
export const replies = signal<readonly [ComparedReply, ComparedReply] | null>(null);
export const comparisonProblem = signal<string | null>(null);

let client: EngineClient | null = null;

/** Finds the models; the unquantized model is held against the first one. */
export async function loadComparable(): Promise<void> {
  try {
    await findModels();
    const first = models.value[0]!.url;
    const float = models.value.find(({ scheme }) => scheme === 'fp16')?.url ?? first;
    comparison.value = { ...comparison.value, urls: [first, float] };
  } catch (error) {
    comparisonProblem.value = messageOf(error);
  }
}

/** One model after the other, so that only one is in GPU memory. */
export async function compare(): Promise<void> {
  if (comparing.value !== null) return;
  const request = comparison.value;
  replies.value = null;
  comparisonProblem.value = null;
  comparing.value = 'starting';
  client = new EngineClient();
  try {
    const first = await replyOf(client, request.urls[0], request);
    const second = await replyOf(client, request.urls[1], request);
    replies.value = [first, second];
  } catch (error) {
    comparisonProblem.value = messageOf(error);
  } finally {
    client.terminate();
    client = null;
    comparing.value = null;
  }
}

export function stopComparing(): void {
  client?.terminate();
}

async function replyOf(
  engine: EngineClient,
  url: string,
  { prompt, temperature, seed, maxTokens }: ComparisonRequest,
): Promise<ComparedReply> {
  const name = models.value.find((model) => model.url === url)?.name ?? url;
  comparing.value = `loading ${name}`;
  const info = await engine.load({ url }, ({ phase }) => {
    comparing.value = `${name}: ${phase}`;
  });
  comparing.value = `${info.name} replies`;
  const { maxTokens: _, systemPrompt: __, ...base } = baseSettings;
  const reply = await engine.chat(
    {
      messages: [{ role: 'user', content: prompt }],
      sampling: { ...base, temperature, seed },
      maxTokens,
      topLogprobs: 0,
    },
    () => undefined,
  );
  const tokens = (reply.logprobs ?? []).map(({ bytes, logprob }) => ({ bytes: bytes ?? [], logprob }));
  return { name: info.name, measured: measuredText(info), tokens };
}

/** The conversation on screen: what was said, and the reply being written. */
import { computed, signal } from '@preact/signals';
import type { WireMessage, WireReply } from '../../../workers/protocol';
import { announce } from './announcement';
import {
  activeChat,
  type Chat,
  type Exchange,
  keepChat,
  newExchange,
  openNewChat,
  type Reply,
} from './chats';
import { client, loadedModel } from './model';
import { draft } from './preferences';
import { samplingOf, settings } from './settings';

export type { Exchange, Reply };
export { draft };

export const exchanges = computed(() => activeChat.value.exchanges.value);
/** The conversation a reply is being written in; null when none is. */
export const writingChat = signal<Chat | null>(null);
export const generating = computed(() => writingChat.value !== null);
export const canSend = computed(
  () => loadedModel.value !== null && !generating.value && draft.value.trim() !== '',
);

/** Tokens of the context that the conversation takes, as far as the last reply told. */
export const contextTokens = computed(() => {
  const stats = exchanges.value.findLast(({ reply }) => reply.value.stats)?.reply.value.stats;
  return stats ? stats.promptTokens + stats.replyTokens : 0;
});

/** Sends `text` as the next message of the conversation and streams the reply. */
export async function send(text: string): Promise<void> {
  if (!loadedModel.value || generating.value || text.trim() === '') return;
  draft.value = '';
  await answer(text, exchanges.value);
}

/** Has the last message answered again. */
export async function regenerate(): Promise<void> {
  const last = exchanges.value.at(-1);
  if (last) await resend(last, last.user);
}

/** Puts `text` in place of an earlier message; what came after it is dropped. */
export async function resend(exchange: Exchange, text: string): Promise<void> {
  const index = exchanges.value.indexOf(exchange);
  if (!loadedModel.value || generating.value || index < 0 || text.trim() === '') return;
  await answer(text, exchanges.value.slice(0, index));
}

/** Asks the engine to end the reply; what is written so far stays. */
export function stop(): void {
  if (generating.value) client.cancel().catch(() => undefined); // a dead worker has ended the reply already
}

export function newChat(): void {
  stop();
  openNewChat();
}

/** Between two times that a reply being written is stored: a reload or a crash loses no more than this. */
const keepEveryMs = 1000;

async function answer(user: string, before: readonly Exchange[]): Promise<void> {
  const chat = activeChat.value;
  const messages = [...history(before), { role: 'user' as const, content: user }];
  const empty: Reply = { text: '', state: 'writing', finishReason: null, stats: null, error: null };
  const exchange = newExchange(user, loadedModel.value!.name, empty);
  const { reply } = exchange;
  chat.exchanges.value = [...before, exchange];
  writingChat.value = chat;
  const { maxTokens } = settings.value;
  const sampling = samplingOf(settings.value);
  keepChat(chat);
  let keptMs = performance.now();
  try {
    const done = await client.chat({ messages, sampling, maxTokens }, (delta) => {
      if (reply.value.state !== 'writing') return;
      reply.value = { ...reply.value, text: reply.value.text + delta };
      const nowMs = performance.now();
      if (nowMs - keptMs < keepEveryMs) return;
      keptMs = nowMs;
      keepChat(chat);
    });
    reply.value = finished(done);
    announce(done.text === '' ? 'The model said nothing' : `Model: ${done.text}`);
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    reply.value = { ...reply.value, state: 'failed', error: { name, message } };
    announce('The reply failed');
  } finally {
    writingChat.value = null;
    keepChat(chat);
  }
}

function finished({ text, finishReason, stats }: WireReply): Reply {
  return { text, state: 'done', finishReason, stats, error: null };
}

/** What the model is told about earlier turns: complete exchanges only, so that roles alternate. */
function history(before: readonly Exchange[]): WireMessage[] {
  const { systemPrompt } = settings.value;
  const turns = before
    .filter(({ reply }) => reply.value.state === 'done' && reply.value.text !== '')
    .flatMap(({ user, reply }): WireMessage[] => [
      { role: 'user', content: user },
      { role: 'assistant', content: reply.value.text },
    ]);
  return systemPrompt.trim() === '' ? turns : [{ role: 'system', content: systemPrompt }, ...turns];
}

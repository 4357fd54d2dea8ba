/** The conversation on screen: what was said, and the reply being written. */
import { computed, type Signal, signal } from '@preact/signals';
import type { WireMessage, WireReply } from '../../../workers/protocol';
import type { FinishReason, ReplyStats } from '../../engine/types';
import { client, loadedModel } from './model';
import { samplingOf, settings } from './settings';

export interface Reply {
  readonly text: string;
  readonly state: 'writing' | 'done' | 'failed';
  readonly finishReason: FinishReason | null;
  readonly stats: ReplyStats | null;
  /** The name of what went wrong and its words. */
  readonly error: { readonly name: string; readonly message: string } | null;
}

export interface Exchange {
  readonly id: number;
  readonly user: string;
  /** Name of the model that answered. */
  readonly model: string;
  readonly reply: Signal<Reply>;
}

export const exchanges = signal<readonly Exchange[]>([]);
export const generating = signal(false);
export const draft = signal('');
export const canSend = computed(
  () => loadedModel.value !== null && !generating.value && draft.value.trim() !== '',
);

let nextId = 1;

/** Sends `text` as the next message of the conversation and streams the reply. */
export async function send(text: string): Promise<void> {
  const model = loadedModel.value;
  if (!model || generating.value || text.trim() === '') return;
  const messages = [...history(), { role: 'user' as const, content: text }];
  const empty: Reply = { text: '', state: 'writing', finishReason: null, stats: null, error: null };
  const reply = signal(empty);
  exchanges.value = [...exchanges.value, { id: nextId++, user: text, model: model.name, reply }];
  generating.value = true;
  draft.value = '';
  try {
    const { maxTokens } = settings.value;
    const done = await client.chat({ messages, sampling: samplingOf(settings.value), maxTokens }, (delta) => {
      if (reply.value.state === 'writing') reply.value = { ...reply.value, text: reply.value.text + delta };
    });
    reply.value = finished(done);
  } catch (error) {
    const { name, message } = error instanceof Error ? error : new Error(String(error));
    reply.value = { ...reply.value, state: 'failed', error: { name, message } };
  } finally {
    generating.value = false;
  }
}

/** Asks the engine to end the reply; what is written so far stays. */
export function stop(): void {
  if (generating.value) client.cancel().catch(() => undefined); // a dead worker has ended the reply already
}

export async function newChat(): Promise<void> {
  stop();
  exchanges.value = [];
}

function finished({ text, finishReason, stats }: WireReply): Reply {
  return { text, state: 'done', finishReason, stats, error: null };
}

/** What the model is told about earlier turns: complete exchanges only, so that roles alternate. */
function history(): WireMessage[] {
  const { systemPrompt } = settings.value;
  const turns = exchanges.value
    .filter(({ reply }) => reply.value.state === 'done' && reply.value.text !== '')
    .flatMap(({ user, reply }): WireMessage[] => [
      { role: 'user', content: user },
      { role: 'assistant', content: reply.value.text },
    ]);
  return systemPrompt.trim() === '' ? turns : [{ role: 'system', content: systemPrompt }, ...turns];
}

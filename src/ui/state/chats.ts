/** All conversations of this browser, and which one is on screen. */
import { batch, computed, effect, type Signal, signal } from '@preact/signals';
import type { FinishReason, ReplyStats } from '../../engine/types';
import { type ChatRecord, exportText, matches, parseExport, titleOf } from './chat-records';
import { deleteAllChats, deleteChat, readChats, writeChat } from './chat-store';
import { lastSettings } from './preferences';
import { type Overrides, overrides } from './settings';

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

export interface Chat {
  readonly id: string;
  readonly createdMs: number;
  readonly title: Signal<string>;
  readonly updatedMs: Signal<number>;
  readonly overrides: Signal<Overrides>;
  readonly exchanges: Signal<readonly Exchange[]>;
}

/** Conversations with at least one message, as stored. */
const chats = signal<readonly Chat[]>([]);
export const activeChat = signal<Chat>(freshChat(lastSettings.peek()));
export const query = signal('');
/** Why conversations are not kept; null while they are. */
export const chatStorageProblem = signal<string | null>(null);

/** What the list shows: the last used first. */
export const listedChats = computed(() =>
  chats.value
    .filter((chat) => query.value.trim() === '' || matches(recordOf(chat), query.value))
    .sort((a, b) => b.updatedMs.value - a.updatedMs.value),
);
export const chatCount = computed(() => chats.value.length);

effect(() => {
  overrides.value = activeChat.value.overrides;
});

/** Deleted conversations: a reply that ends later does not bring one back. */
const removed = new WeakSet<Chat>();

let nextExchangeId = 1;

export function newExchange(user: string, model: string, reply: Reply): Exchange {
  return { id: nextExchangeId++, user, model, reply: signal(reply) };
}

function freshChat(settings: Overrides): Chat {
  const now = Date.now();
  return {
    id: crypto.randomUUID(),
    createdMs: now,
    title: signal(''),
    updatedMs: signal(now),
    overrides: signal(settings),
    exchanges: signal<readonly Exchange[]>([]),
  };
}

/** Puts an empty conversation on screen, with the settings of the one before. */
export function openNewChat(): void {
  if (activeChat.value.exchanges.value.length > 0) {
    activeChat.value = freshChat(activeChat.value.overrides.value);
  }
}

export function openChat(chat: Chat): void {
  activeChat.value = chat;
}

/** Notes a change of `chat` and stores it; its first message brings it into the list and names it. */
export async function keepChat(chat: Chat): Promise<void> {
  const first = chat.exchanges.value[0];
  if (!first || removed.has(chat)) return;
  batch(() => {
    chat.updatedMs.value = Date.now();
    if (chat.title.value === '') chat.title.value = titleOf(first.user);
    if (!chats.value.includes(chat)) chats.value = [...chats.value, chat];
  });
  await stored(() => writeChat(recordOf(chat)));
}

export async function renameChat(chat: Chat, title: string): Promise<void> {
  if (title.trim() === '') return;
  chat.title.value = title.trim();
  chat.updatedMs.value = Date.now();
  await stored(() => writeChat(recordOf(chat)));
}

export async function removeChat(chat: Chat): Promise<void> {
  removed.add(chat);
  batch(() => {
    chats.value = chats.value.filter((other) => other !== chat);
    if (activeChat.value === chat) activeChat.value = freshChat(chat.overrides.value);
  });
  await stored(() => deleteChat(chat.id));
}

export async function removeAllChats(): Promise<void> {
  for (const chat of chats.value) removed.add(chat);
  batch(() => {
    chats.value = [];
    activeChat.value = freshChat(activeChat.value.overrides.value);
  });
  await stored(deleteAllChats);
}

/** Takes over what other tabs, and earlier visits, stored. Conversations with a reply on its way stay as they are. */
async function readStored(): Promise<void> {
  const records = await readChats();
  const ids = new Set(records.map(({ id }) => id));
  const known = new Map(chats.value.map((chat) => [chat.id, chat]));
  const kept = chats.value.filter((chat) => ids.has(chat.id) || isWriting(chat));
  const renewed = records.flatMap((record) => {
    const own = known.get(record.id);
    if (own && (own.updatedMs.value >= record.updatedMs || isWriting(own))) return [];
    return [chatOf(record)];
  });
  const renewedIds = new Set(renewed.map(({ id }) => id));
  batch(() => {
    chats.value = [...kept.filter(({ id }) => !renewedIds.has(id)), ...renewed];
    const active = renewed.find(({ id }) => id === activeChat.value.id);
    if (active) activeChat.value = active;
  });
}

function isWriting(chat: Chat): boolean {
  return chat.exchanges.value.some(({ reply }) => reply.value.state === 'writing');
}

/** Brings back what earlier visits left, follows other tabs, and stores settings as they change. */
export async function restoreChats(): Promise<void> {
  await stored(readStored);
  document.addEventListener('visibilitychange', () => {
    if (!document.hidden) stored(readStored);
  });
  let last: { chat: Chat; settings: Overrides } | null = null;
  effect(() => {
    const chat = activeChat.value;
    const settings = chat.overrides.value;
    lastSettings.value = settings;
    if (last?.chat === chat && last.settings !== settings && chats.peek().includes(chat)) {
      stored(() => writeChat(recordOf(chat)));
    }
    last = { chat, settings };
  });
}

export function exportChats(): string {
  return exportText(chats.value.map(recordOf));
}

/** Adds the conversations of an exported file; one that is here already is replaced. @throws ChatImportError */
export async function importChats(text: string): Promise<number> {
  const added = parseExport(text).map(chatOf);
  const ids = new Set(added.map(({ id }) => id));
  batch(() => {
    chats.value = [...chats.value.filter(({ id }) => !ids.has(id)), ...added];
    const replaced = added.find(({ id }) => id === activeChat.value.id);
    if (replaced) activeChat.value = replaced;
  });
  for (const chat of added) await stored(() => writeChat(recordOf(chat)));
  return added.length;
}

/** A conversation that cannot be kept is still a conversation: the problem is shown, not thrown. */
async function stored(action: () => Promise<void>): Promise<void> {
  try {
    await action();
    chatStorageProblem.value = null;
  } catch (error) {
    chatStorageProblem.value = error instanceof Error ? error.message || error.name : String(error);
  }
}

function recordOf(chat: Chat): ChatRecord {
  return {
    id: chat.id,
    title: chat.title.value,
    createdMs: chat.createdMs,
    updatedMs: chat.updatedMs.value,
    settings: chat.overrides.value,
    turns: chat.exchanges.value.map(({ user, model, reply: { value: reply } }) => {
      const { text, finishReason, error, stats } = reply;
      // A visit that ends in the middle of a reply has ended the reply.
      return {
        user,
        model,
        text,
        finishReason: reply.state === 'writing' ? 'cancelled' : finishReason,
        error,
        stats,
      };
    }),
  };
}

function chatOf({ id, title, createdMs, updatedMs, settings, turns }: ChatRecord): Chat {
  const exchanges = turns.map(({ user, model, ...reply }) =>
    newExchange(user, model, { ...reply, state: reply.error ? 'failed' : 'done' }),
  );
  return {
    id,
    createdMs,
    title: signal(title),
    updatedMs: signal(updatedMs),
    overrides: signal<Overrides>(settings),
    exchanges: signal<readonly Exchange[]>(exchanges),
  };
}

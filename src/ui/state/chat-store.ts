/** Conversations in IndexedDB, one record each. */
import { clear, createStore, del, set, type UseStore, values } from 'idb-keyval';
import * as v from 'valibot';
import { type ChatRecord, chatRecordSchema } from './chat-records';

let opened: UseStore | undefined;
const store = () => (opened ??= createStore('mergequant-chats', 'chats'));

/** All readable conversations; a record of another version is left alone and not shown. */
export async function readChats(): Promise<ChatRecord[]> {
  const stored: unknown[] = await values(store());
  return stored.flatMap((value) => {
    const parsed = v.safeParse(chatRecordSchema, value);
    return parsed.success ? [parsed.output] : [];
  });
}

export function writeChat(record: ChatRecord): Promise<void> {
  return set(record.id, record, store());
}

export function deleteChat(id: string): Promise<void> {
  return del(id, store());
}

export function deleteAllChats(): Promise<void> {
  return clear(store());
}

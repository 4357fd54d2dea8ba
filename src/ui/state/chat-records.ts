/** Conversations as they are kept in the browser and exported to files. */
import * as v from 'valibot';

const finite = v.pipe(v.number(), v.finite());

const statsSchema = v.object({
  promptTokens: finite,
  cachedTokens: finite,
  replyTokens: finite,
  prefillMs: finite,
  prefillTokensPerSecond: finite,
  timeToFirstTokenMs: finite,
  decodeMs: finite,
  decodeTokensPerSecond: finite,
  dispatchesPerToken: finite,
});

const turnSchema = v.object({
  user: v.string(),
  /** Name of the model that answered. */
  model: v.string(),
  text: v.string(),
  finishReason: v.nullable(v.picklist(['stop', 'length', 'context', 'cancelled'])),
  error: v.nullable(v.object({ name: v.string(), message: v.string() })),
  stats: v.nullable(statsSchema),
});

/** Settings that a person changed. */
export const overridesSchema = v.partial(
  v.object({
    temperature: finite,
    topK: finite,
    topP: finite,
    minP: finite,
    repetitionPenalty: finite,
    presencePenalty: finite,
    frequencyPenalty: finite,
    seed: v.nullable(finite),
    maxTokens: finite,
    systemPrompt: v.string(),
  }),
);

export const chatRecordSchema = v.object({
  id: v.pipe(v.string(), v.minLength(1)),
  title: v.string(),
  /** Milliseconds since 1970. */
  createdMs: finite,
  updatedMs: finite,
  settings: overridesSchema,
  turns: v.array(turnSchema),
});

export type ChatRecord = v.InferOutput<typeof chatRecordSchema>;
export type TurnRecord = ChatRecord['turns'][number];

const format = 'mergequant-chats';

const exportSchema = v.object({
  format: v.literal(format),
  version: v.literal(1),
  chats: v.array(chatRecordSchema),
});

/** A file that holds no exported conversations. */
export class ChatImportError extends Error {
  override readonly name = 'ChatImportError';
}

export function exportText(chats: readonly ChatRecord[]): string {
  return JSON.stringify({ format, version: 1, chats }, null, 1);
}

/** @throws ChatImportError naming the first thing that is not as expected */
export function parseExport(text: string): ChatRecord[] {
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), exportSchema), text);
  if (parsed.success) return parsed.output.chats;
  const issue = parsed.issues[0];
  const where = v.getDotPath(issue);
  throw new ChatImportError(`not a file of exported chats: ${where ? `${where}: ` : ''}${issue.message}`);
}

const titleLength = 60;

/** A conversation's name until somebody gives it one: how it begins. */
export function titleOf(firstMessage: string): string {
  const line = firstMessage.trim().replace(/\s+/g, ' ');
  if (line.length <= titleLength) return line;
  const cut = line.slice(0, titleLength);
  return `${cut.slice(0, Math.max(cut.lastIndexOf(' '), titleLength / 2))}…`;
}

/** Whether every word of `query` occurs in the conversation, in any order and case. */
export function matches(record: Pick<ChatRecord, 'title' | 'turns'>, query: string): boolean {
  const words = query.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return true;
  const text = [record.title, ...record.turns.flatMap(({ user, text }) => [user, text])]
    .join('\n')
    .toLocaleLowerCase();
  return words.every((word) => text.includes(word));
}

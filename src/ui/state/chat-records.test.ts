import { expect, test } from 'vitest';
import { ChatImportError, type ChatRecord, exportText, matches, parseExport, titleOf } from './chat-records';

const record: ChatRecord = {
  id: 'a',
  title: 'Rock music',
  createdMs: 1,
  updatedMs: 2,
  settings: { temperature: 0, systemPrompt: 'Be brief.' },
  turns: [
    {
      user: 'Play a song',
      model: 'demo',
      text: 'Which one?',
      finishReason: 'stop',
      error: null,
      stats: null,
    },
  ],
};

test('what is exported can be imported', () => {
  expect(parseExport(exportText([record]))).toEqual([record]);
});

test.each([
  ['no JSON', 'hello'],
  ['another format', '{"format":"other","version":1,"chats":[]}'],
  ['a later version', '{"format":"mergequant-chats","version":2,"chats":[]}'],
  ['a turn without text', exportText([{ ...record, turns: [{ user: 'x' } as never] }])],
])('%s is refused', (_, text) => expect(() => parseExport(text)).toThrow(ChatImportError));

test('a refusal names the place', () => {
  const broken = exportText([{ ...record, createdMs: 'yesterday' as never }]);
  expect(() => parseExport(broken)).toThrow(/chats\.0\.createdMs/);
});

test('search finds all words in title, questions and answers', () => {
  expect(['rock', 'SONG which', 'play rock', ''].map((query) => matches(record, query))).toEqual([
    true,
    true,
    true,
    true,
  ]);
  expect(matches(record, 'rock jazz')).toBe(false);
});

test('a title is one short line that ends at a word', () => {
  expect(titleOf('  Hello\n  there ')).toBe('Hello there');
  const long = titleOf('I want to find a restaurant in San Jose that serves Italian food until late');
  expect(long).toBe('I want to find a restaurant in San Jose that serves Italian…');
  expect(titleOf('x'.repeat(200)).length).toBeLessThanOrEqual(61);
});

/** The tokenizer's thread with a message port in the worker's place. */
import { describe, expect, test } from 'vitest';
import { sentencePieceFiles } from '../src/tokenizer/testing';
import { serveTokenizer, type ThreadLike, TokenizerThread } from './tokenizer-thread';

const { tokenizer, tokenizerConfig } = sentencePieceFiles('first', {
  template: "{% for m in messages %}{{ m['content'] }}{% endfor %}",
});
const texts = new Map([
  ['tokenizer.json', JSON.stringify(tokenizer)],
  ['tokenizer_config.json', JSON.stringify(tokenizerConfig)],
]);
const hi = [{ role: 'user', content: 'Hi' }] as const;
const inPlace = () => [1, 2, 3];

/** Threads that serve, or that never answer; counts those started and those ended. */
function threads(serves: (started: number) => boolean) {
  const counts = { started: 0, ended: 0 };
  const open = (): ThreadLike => {
    const { port1, port2 } = new MessageChannel();
    if (serves(counts.started++)) serveTokenizer(port2 as unknown as DedicatedWorkerGlobalScope);
    port1.start();
    port2.start();
    const terminate = () => {
      counts.ended++;
      port1.close();
    };
    return Object.assign(port1, { terminate }) as unknown as ThreadLike;
  };
  return { open, counts };
}

describe('a conversation becomes ids in the thread', () => {
  test('one thread for many', async () => {
    const { open, counts } = threads(() => true);
    const thread = new TokenizerThread(texts, open, inPlace);
    const ids = await thread.encodeChat(hi);
    expect(ids.length).toBeGreaterThan(0);
    expect(ids).not.toEqual(inPlace());
    expect(await thread.encodeChat(hi)).toEqual(ids);
    thread.close();
    expect(counts).toEqual({ started: 1, ended: 1 });
  });

  test('what the template refuses is told by name, and the thread goes on', async () => {
    const { open, counts } = threads(() => true);
    const thread = new TokenizerThread(texts, open, inPlace);
    await expect(thread.encodeChat([])).rejects.toMatchObject({ name: 'ChatTemplateError' });
    expect((await thread.encodeChat(hi)).length).toBeGreaterThan(0);
    expect(counts.started).toBe(1);
    thread.close();
  });

  test('a thread that does not come to an end is stopped; the next call has a new one', async () => {
    const { open, counts } = threads((started) => started > 0);
    const thread = new TokenizerThread(texts, open, inPlace, 50);
    await expect(thread.encodeChat(hi)).rejects.toMatchObject({ name: 'TokenizerTimeoutError' });
    expect(counts).toEqual({ started: 1, ended: 1 });
    expect((await thread.encodeChat(hi)).length).toBeGreaterThan(0);
    thread.close();
  });

  test('where no thread can be started, it is done in place', async () => {
    const thread = new TokenizerThread(
      texts,
      () => {
        throw new DOMException('no', 'SecurityError');
      },
      inPlace,
    );
    expect(await thread.encodeChat(hi)).toEqual([1, 2, 3]);
  });
});

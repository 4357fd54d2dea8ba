import { expect, test } from 'vitest';
import { DeltaBatcher } from './delta-batcher';

test('many pushes become few messages with the same text in order', async () => {
  const sent: string[] = [];
  const batcher = new DeltaBatcher((text) => void sent.push(text));
  for (let i = 0; i < 100; i++) batcher.push(`${i} `);
  await new Promise((resolve) => setTimeout(resolve, 100));
  batcher.push('end');
  await batcher.flush();
  expect(sent).toEqual([Array.from({ length: 100 }, (_, i) => `${i} `).join(''), 'end']);
});

test('log-probabilities travel with the text of their tokens, and alone where there is none', async () => {
  const sent: unknown[] = [];
  const batcher = new DeltaBatcher((...args) => void sent.push(args));
  const [a, b, c] = ['a', 'b', 'c'].map((token) => ({ token, logprob: -1, bytes: null, top: [] }));
  batcher.push('a', [a!]);
  batcher.push('b', [b!]);
  await batcher.flush();
  batcher.push('', [c!]);
  await batcher.flush();
  batcher.push('d');
  await batcher.flush();
  expect(sent).toEqual([['ab', [a, b]], ['', [c]], ['d']]);
});

test('flush waits until the other side has everything', async () => {
  let arrived = '';
  const batcher = new DeltaBatcher(async (text) => {
    await new Promise((resolve) => setTimeout(resolve, 20));
    arrived += text;
  });
  batcher.push('a');
  await batcher.flush();
  expect(arrived).toBe('a');
});

/** The bundled demo model on the engine, held against what an independent float32 implementation answered. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, describe, expect, test } from 'vitest';
import { TextGenerator } from '../src/chat/text-generator';
import { greedy } from '../src/engine/types';
import type { ChatMessage } from '../src/tokenizer';
import { loadModel } from './load-model';

const checkpoint = 'models/demo-chat-8m';

interface Sample {
  readonly user?: string;
  readonly turns?: readonly (readonly [ChatMessage['role'], string])[];
  readonly prompt_ids: readonly number[];
  readonly greedy_ids: readonly number[];
  readonly text: string;
}
const { samples } = JSON.parse(readFileSync(`${checkpoint}/report.json`, 'utf8')) as { samples: Sample[] };
const messagesOf = ({ user, turns }: Sample): ChatMessage[] =>
  turns ? turns.map(([role, content]) => ({ role, content })) : [{ role: 'user', content: user! }];
const nameOf = (sample: Sample) => messagesOf(sample).at(-1)!.content;

describe('the unquantized engine gives the golden greedy tokens', async () => {
  const { engine, tokenizer } = await loadModel(checkpoint);
  const generator = new TextGenerator(engine, tokenizer);
  afterAll(() => engine.destroy());

  test.each(samples.map((sample) => ({ name: nameOf(sample), sample })))('$name', async ({ sample }) => {
    let streamed = '';
    const request = { messages: messagesOf(sample), sampling: greedy, maxTokens: 64 };
    const reply = await generator.chat(request, (delta) => {
      streamed += delta;
    });
    expect(reply.promptIds).toEqual(sample.prompt_ids);
    expect(reply.tokenIds).toEqual(sample.greedy_ids);
    expect(reply.text).toBe(sample.text);
    expect(streamed).toBe(sample.text);
    expect(reply.finishReason).toBe('stop');
  });

  test('a stop string ends the reply before it, also across tokens', async () => {
    const sample = samples[0]!; // "Hello! How can I help you today? "
    const request = { messages: messagesOf(sample), sampling: greedy, maxTokens: 64, stop: ['n I he'] };
    const reply = await generator.chat(request, () => undefined);
    expect(reply.text).toBe('Hello! How ca');
    expect(reply.finishReason).toBe('stop');
  });
});

describe('the mergequant command', () => {
  const run = promisify(execFile);
  const texts = mkdtempSync(join(tmpdir(), 'mergequant-text-'));
  afterAll(() => rmSync(texts, { recursive: true }));
  const mergequant = (...args: string[]) => run(process.execPath, ['cli/mergequant.mjs', ...args]);

  test('generate --check-layer holds a layer of the artifact against the reference', async () => {
    const args = ['generate', 'public/models/demo-chat-8m-w4a4', '--chat', 'Hi', '--max-tokens', '3'];
    const { stderr } = await mergequant(...args, '--check-layer', '1');
    expect(stderr).toMatch(/layer 1 held against the float64 reference in \d passes: the error closest/);
    await expect(mergequant(...args, '--check-layer', '99')).rejects.toMatchObject({
      stderr: expect.stringContaining('NoSuchLayerError: no layer 99: expected a whole number from 0 to'),
    });
  });

  test('generate --json prints text, token ids, prompt ids and statistics', async () => {
    const args = ['generate', checkpoint, '--chat', 'Hi', '--max-tokens', '20', '--json'];
    const { text, tokenIds, promptIds, stats } = JSON.parse((await mergequant(...args)).stdout);
    expect([text, tokenIds, promptIds]).toEqual([
      samples[0]!.text,
      samples[0]!.greedy_ids,
      samples[0]!.prompt_ids,
    ]);
    expect(stats.replyTokens).toBe(tokenIds.length);
    expect(stats.dispatchesPerToken).toBeGreaterThan(10);
  });

  test('the bundled W4A4 artifact answers in words, the same ones twice', async () => {
    const args = ['generate', 'public/models/demo-chat-8m-w4a4', '--chat', 'Hi', '--json'];
    const first = JSON.parse((await mergequant(...args)).stdout);
    const second = JSON.parse((await mergequant(...args)).stdout);
    expect(first.text).toMatch(/^[A-Z][a-z]+.*\w+/);
    expect(second.tokenIds).toEqual(first.tokenIds);
  });

  test('ppl --json on never-trained prose is near the model card’s figure for the checkpoint, and close behind for the artifact', async () => {
    await run(process.execPath, ['scripts/demo-text.mjs', texts]);
    const ppl = async (model: string) => {
      const args = [
        'ppl',
        model,
        '--text',
        join(texts, 'test-moby.txt'),
        '--window',
        '128',
        '--max-windows',
        '1',
        '--json',
      ];
      return JSON.parse((await mergequant(...args)).stdout) as {
        ppl: number;
        tokens: number;
        scheme: string;
      };
    };
    const float = await ppl(checkpoint);
    const quantized = await ppl('public/models/demo-chat-8m-w4a4');
    expect(float.tokens).toBe(127);
    expect(float.scheme).toBe('fp16');
    expect(quantized.scheme).toBe('mergequant W4A4');
    expect(float.ppl).toBeGreaterThan(10);
    expect(float.ppl).toBeLessThan(40); // short windows of one text; 20.1 on all held-out prose at 1,024 tokens
    expect(quantized.ppl / float.ppl).toBeGreaterThan(1);
    expect(quantized.ppl / float.ppl).toBeLessThan(1.6);
  }, 400_000);

  test.each([
    {
      args: ['generate', '/nowhere', '--chat', 'Hi'],
      message: /\/nowhere: expected an artifact .* found neither/,
    },
    { args: ['generate', checkpoint], message: /one of --chat and --prompt/ },
    {
      args: ['generate', checkpoint, '--prompt', 'x', '--temperature', '-1'],
      message: /number from 0 to 100/,
    },
    { args: ['ppl', checkpoint, '--text', '/nowhere.txt'], message: /nowhere\.txt/ },
  ])('$args ends with one clear line and exit code 1', async ({ args, message }) => {
    const failure = await mergequant(...args).then(
      () => null,
      (error) => error as { code: number; stderr: string },
    );
    expect(failure?.code).toBe(1);
    expect(failure?.stderr).toMatch(message);
  });
});

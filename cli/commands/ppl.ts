import { readFile } from 'node:fs/promises';
import type { Command } from 'commander';
import { Evaluator } from '../../src/engine/evaluate';
import type { KvCacheChoice } from '../../src/format/kv-cache';
import { loadModel } from '../load-model';
import { kvCacheOption, wholeNumber } from '../options';
import { progressBar } from '../progress';

interface PplFlags {
  readonly text: readonly string[];
  readonly window: number;
  readonly maxWindows?: number;
  readonly kvCache: KvCacheChoice;
  readonly json?: boolean;
}

/** `mergequant ppl`: perplexity over consecutive windows of a text. */
export function register(program: Command): void {
  program
    .command('ppl')
    .description('perplexity of an artifact or an unquantized Hugging Face folder on a text')
    .argument('<model>', 'artifact or Hugging Face folder')
    .requiredOption('--text <file...>', 'UTF-8 text files, read one after the other')
    .option('--window <n>', 'tokens per window, BOS included', wholeNumber(2), 1024)
    .option('--max-windows <n>', 'stop after so many windows', wholeNumber(1))
    .addOption(kvCacheOption('f16')) // not by length: figures of different windows are compared
    .option('--json', 'print {"ppl","tokens","windows","scheme","kvCache"}')
    .action(runPpl);
}

/**
 * exp of the mean negative log-likelihood. The text's tokens are cut into consecutive windows of `window` − 1 tokens, each
 * behind a BOS, so that every token of the text is predicted exactly once, from its own window only.
 */
async function runPpl(model: string, flags: PplFlags): Promise<void> {
  const { engine, tokenizer, scheme } = await loadModel(model, {
    contextLength: flags.window,
    chunkTokens: 128,
    kvCache: flags.kvCache,
  });
  const texts = await Promise.all(flags.text.map((file) => readFile(file, 'utf8')));
  const ids = texts.flatMap((text) => tokenizer.encodeText(text, { addBos: false }));
  const bos = tokenizer.bosTokenId;
  const start = bos === null ? [] : [bos];
  const body = flags.window - start.length;
  const windows = Math.min(Math.ceil(ids.length / body), flags.maxWindows ?? Number.POSITIVE_INFINITY);
  const evaluator = await Evaluator.create(engine);
  const bar = progressBar('perplexity', windows);
  let sum = 0;
  let tokens = 0;
  for (let window = 0; window < windows; window++) {
    const part = [...start, ...ids.slice(window * body, (window + 1) * body)];
    if (part.length < 2) break;
    const nll = await evaluator.window(part);
    for (const value of nll) sum += value;
    tokens += nll.length;
    bar.increment();
  }
  bar.stop();
  if (tokens === 0)
    throw new Error(`${flags.text.join(', ')}: expected at least one token of text, found none`);
  const ppl = Math.exp(sum / tokens);
  if (!Number.isFinite(ppl)) throw new Error(`the perplexity is not finite (mean NLL ${sum / tokens})`);
  const kvCache = engine.scratch.kvCacheKind;
  const line = flags.json
    ? JSON.stringify({ ppl, tokens, windows, scheme, kvCache })
    : `perplexity ${ppl.toFixed(4)} over ${tokens} tokens (${scheme}, ${kvCache} key-value cache)`;
  process.stdout.write(`${line}\n`);
}

import type { Command } from 'commander';
import { TextGenerator } from '../../src/chat/text-generator';
import type { LayerCheckReport } from '../../src/engine/layer-check';
import { describePersistent } from '../../src/engine/persistent-decode';
import { greedy, type SamplingOptions } from '../../src/engine/types';
import type { KvCacheChoice } from '../../src/format/kv-cache';
import { loadModel } from '../load-model';
import { chunkTokensOption, kvCacheOption, numberBetween, persistentOption, wholeNumber } from '../options';

interface GenerateFlags {
  readonly chat?: string;
  readonly prompt?: string;
  readonly system?: string;
  readonly maxTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP: number;
  readonly repetitionPenalty: number;
  readonly seed: number;
  readonly stop: readonly string[];
  readonly context?: number;
  readonly kvCache: KvCacheChoice;
  readonly chunkTokens?: number;
  readonly promptLookup: number;
  readonly checkLayer?: number;
  readonly persistent?: boolean;
  readonly json?: boolean;
}

/** `mergequant generate`: one reply, streamed to stdout, or one JSON object. */
export function register(program: Command): void {
  program
    .command('generate')
    .description(
      'answer a chat turn or continue a text, on an artifact or an unquantized Hugging Face folder',
    )
    .argument('<model>', 'artifact or Hugging Face folder')
    .option('--chat <text>', "one user turn through the model's chat template")
    .option('--prompt <text>', 'raw text after BOS')
    .option('--system <text>', 'system prompt for --chat')
    .option('--max-tokens <n>', 'most tokens to generate', wholeNumber(1), 256)
    .option('--temperature <t>', '0 is greedy', numberBetween(0, 100), 0)
    .option('--top-k <k>', '0 keeps all', wholeNumber(0), 0)
    .option('--top-p <p>', '1 keeps all', numberBetween(0, 1), 1)
    .option('--min-p <p>', '0 keeps all', numberBetween(0, 1), 0)
    .option('--repetition-penalty <r>', '1 is off', numberBetween(0.01, 100), 1)
    .option('--seed <s>', 'same seed, same text', wholeNumber(0), 0)
    .option('--stop <text...>', 'strings that end the reply', [])
    .option('--context <n>', "tokens of context; the model's maximum when left out", wholeNumber(1))
    .addOption(kvCacheOption())
    .addOption(chunkTokensOption())
    .option(
      '--prompt-lookup <n>',
      'experiment: draft up to n tokens (1 to 7) a pass of a greedy reply from the text so far; the same tokens',
      wholeNumber(0),
      0,
    )
    .option(
      '--check-layer <n>',
      'debug: hold layer n (from 0) against the float64 reference in every pass, fail where they differ',
      wholeNumber(0),
    )
    .addOption(persistentOption())
    .option('--json', 'print {"text","tokenIds","promptIds","finishReason","stats"} instead of the text')
    .action(runGenerate);
}

async function runGenerate(model: string, flags: GenerateFlags): Promise<void> {
  if ((flags.chat === undefined) === (flags.prompt === undefined)) {
    throw new Error('give one of --chat and --prompt');
  }
  if (flags.system !== undefined && flags.chat === undefined) throw new Error('--system goes with --chat');
  const { engine, tokenizer } = await loadModel(model, {
    contextLength: flags.context,
    kvCache: flags.kvCache,
    chunkTokens: flags.chunkTokens,
    promptLookup: flags.promptLookup,
    checkLayer: flags.checkLayer,
    persistentDecode: flags.persistent ?? false,
  });
  if (engine.persistent) process.stderr.write(`${describePersistent(engine.persistent)}\n`);
  const generator = new TextGenerator(engine, tokenizer);
  const promptIds =
    flags.chat === undefined
      ? tokenizer.encodeText(flags.prompt!, { addBos: true })
      : tokenizer.encodeChat(chatMessages(flags.chat, flags.system), { addGenerationPrompt: true });
  const { temperature, topK, topP, minP, repetitionPenalty, seed, maxTokens, stop } = flags;
  const sampling: SamplingOptions = { ...greedy, temperature, topK, topP, minP, repetitionPenalty, seed };
  const write = (text: string) => process.stdout.write(text);
  const reply = await generator.complete(
    promptIds,
    { sampling, maxTokens, stop },
    flags.json ? () => undefined : write,
  );
  write(flags.json ? `${JSON.stringify(reply)}\n` : '\n');
  const { layerCheck } = reply.stats;
  if (layerCheck) process.stderr.write(`${layerCheckText(layerCheck)}\n`);
}

function layerCheckText({ layer, passes, largestError, allowed, what }: LayerCheckReport): string {
  const error = `${largestError.toPrecision(2)} of an allowed ${allowed.toPrecision(2)} (${what})`;
  return `layer ${layer} held against the float64 reference in ${passes} passes: the error closest to its bound is ${error}`;
}

function chatMessages(user: string, system: string | undefined) {
  const turn = { role: 'user' as const, content: user };
  return system === undefined ? [turn] : [{ role: 'system' as const, content: system }, turn];
}

import type { Command } from 'commander';
import type { KvCacheChoice } from '../../src/format/kv-cache';
import { createHttpServer } from '../http-server';
import { createEngine } from '../node-engine';
import { chunkTokensOption, kvCacheOption, persistentOption, wholeNumber } from '../options';
import { print } from '../text';

interface ServeFlags {
  readonly host: string;
  readonly port: number;
  readonly context?: number;
  readonly kvCache: KvCacheChoice;
  readonly persistent?: boolean;
  readonly chunkTokens?: number;
  readonly apiKey?: string;
  readonly cors?: string;
}

/** `mergequant serve`: OpenAI's chat-completions interface over HTTP, on this machine's GPU. */
export function register(program: Command): void {
  program
    .command('serve')
    .description('answer OpenAI-style chat completions over HTTP, from an artifact or an unquantized folder')
    .argument('<model>', 'artifact or Hugging Face folder')
    .option(
      '--host <address>',
      'address to listen on; others than loopback are reachable from outside',
      '127.0.0.1',
    )
    .option('--port <port>', '0 picks a free one', wholeNumber(0), 8080)
    .option('--context <n>', "tokens of context; the model's maximum when left out", wholeNumber(1))
    .addOption(kvCacheOption())
    .addOption(persistentOption())
    .addOption(chunkTokensOption())
    .option('--api-key <key>', 'ask for it as a bearer token (default: $MERGEQUANT_API_KEY)')
    .option('--cors <origin>', 'let web pages of this origin ask; * lets all')
    .action(runServe);
}

async function runServe(model: string, flags: ServeFlags): Promise<void> {
  const { context: contextLength, kvCache, persistent: persistentDecode = false, chunkTokens } = flags;
  const options = { contextLength, kvCache, persistentDecode, chunkTokens };
  const { info, chat } = await createEngine({ model, ...options });
  const apiKey = flags.apiKey ?? process.env.MERGEQUANT_API_KEY;
  const server = createHttpServer({
    completions: chat.completions,
    hosts: [flags.host.toLowerCase()],
    ...(apiKey ? { apiKey } : {}),
    ...(flags.cors ? { corsOrigin: flags.cors } : {}),
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(flags.port, flags.host, resolve);
  });
  const address = server.address();
  const port = typeof address === 'object' && address ? address.port : flags.port;
  print(
    `${info.name} (${info.scheme}, ${info.contextLength} tokens of context, ${info.kvCache} key-value cache) on ${info.adapter}`,
  );
  if (info.decoding) print(info.decoding);
  print(`http://${flags.host}:${port}/v1`);
  await new Promise<void>((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, resolve);
  });
  server.close();
}

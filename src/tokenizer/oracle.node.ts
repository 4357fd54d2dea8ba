/** The tests' truth: `@huggingface/transformers`, the whole package, reading the same files from a folder. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { AutoTokenizer, env } from '@huggingface/transformers';
import type { ChatMessage } from './chat-template';
import type { TokenizerFiles } from './files';

export interface Oracle {
  encode(text: string, addBos: boolean): number[];
  encodeChat(messages: readonly ChatMessage[], addGenerationPrompt: boolean): number[];
  /** Without special tokens; '' for no ids, which the package itself refuses. */
  decode(ids: readonly number[]): string;
}

/** Loads the tokenizer of a folder that holds tokenizer.json and tokenizer_config.json; never asks the network. */
export async function loadOracle(folder: string): Promise<Oracle> {
  env.allowRemoteModels = false;
  env.localModelPath = dirname(folder);
  const tokenizer = await AutoTokenizer.from_pretrained(basename(folder));
  return {
    encode: (text, addBos) => tokenizer.encode(text, { add_special_tokens: addBos }),
    encodeChat: (messages, addGenerationPrompt) =>
      tokenizer.apply_chat_template([...messages], {
        add_generation_prompt: addGenerationPrompt,
        return_tensor: false,
        return_dict: false,
      }) as number[],
    decode: (ids) =>
      ids.length === 0
        ? ''
        : tokenizer.decode([...ids], { skip_special_tokens: true, clean_up_tokenization_spaces: false }),
  };
}

/** The same for files made in memory. */
export async function oracleOf(files: TokenizerFiles): Promise<Oracle> {
  const folder = mkdtempSync(join(tmpdir(), 'tokenizer-oracle-'));
  try {
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(files.tokenizer));
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(files.tokenizerConfig));
    return await loadOracle(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

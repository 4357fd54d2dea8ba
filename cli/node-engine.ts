/**
 * For Node: the model runs in this process, on this machine's GPU. Replies fail with errors of the classes below; loading with those it names.
 *
 * @module mergequant-web/node
 */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { textRequest } from '../src/api/chat-request';
import { type ChatBackend, ChatCompletions } from '../src/api/completions';
import { TextGenerator } from '../src/chat/text-generator';
import { describePersistent } from '../src/engine/persistent-decode';
import type { KvCacheChoice, KvCacheKind } from '../src/format/kv-cache';
import { samplingDefaults } from '../workers/sampling-defaults';
import { readManifest } from './artifact-folder';
import { loadModel } from './load-model';

export { RequestError } from '../src/api/chat-request';
export { ChatCompletions, type CreateOptions } from '../src/api/completions';
export type * from '../src/api/openai-types';
export { JsonVocabularyError } from '../src/chat/json-constraint';
export * from '../src/engine/errors';

/** What to load. */
export interface CreateNodeEngineOptions {
  /** Folder of an artifact, or of an unquantized Hugging Face checkpoint. */
  readonly model: string;
  /** Tokens of context; the model's own maximum when left out. */
  readonly contextLength?: number;
  /**
   * How keys and values of past tokens are kept: `f16`, or codes of 8 or 4 bits in a half or a quarter of the memory. Default `auto`: `f16` for
   * short contexts, `int8` from 2,048 tokens on; `info.kvCache` says which.
   */
  readonly kvCache?: KvCacheChoice;
  /** All layers of a decoded token in one dispatch, where the GPU can, the results are equal and it is faster; default false. */
  readonly persistentDecode?: boolean;
  /** Prompt tokens of the largest prefill pass: fewer take less GPU memory and longer over a prompt. What suits the GPU when left out. */
  readonly chunkTokens?: number;
  /** Debug: a layer that every pass holds against the float64 reference; a reply then fails with LayerCheckError where they differ. */
  readonly checkLayer?: number;
}

/** A loaded model. */
export interface NodeEngine {
  readonly chat: { readonly completions: ChatCompletions };
  readonly info: {
    /** The artifact's name; a checkpoint's is its folder's. */
    readonly name: string;
    /** e.g. `mergequant W4A4`, `fp16` */
    readonly scheme: string;
    readonly contextLength: number;
    /** How keys and values of past tokens are kept. */
    readonly kvCache: KvCacheKind;
    /** As the driver names it. */
    readonly adapter: string;
    /** What came of `persistentDecode` when the model was loaded, in words; null where it was not asked for. */
    readonly decoding: string | null;
  };
  /** Frees the model's GPU memory. Node may need `process.exit()`: the GPU's device keeps it running. */
  destroy(): void;
}

/**
 * Loads a model. Needs the package `webgpu` (Dawn) beside this one.
 * @throws FormatError and its kinds, WebGpuUnavailableError, GpuMemoryError
 */
export async function createEngine({ model, ...options }: CreateNodeEngineOptions): Promise<NodeEngine> {
  const { engine, tokenizer, scheme } = await loadModel(model, options);
  const name = await modelName(model);
  const { vendor, architecture, description } = engine.gpu.adapter;
  const backend = nodeBackend(name, new TextGenerator(engine, tokenizer), await recommended(model));
  return {
    chat: { completions: new ChatCompletions(backend) },
    info: {
      name,
      scheme,
      contextLength: engine.contextLength,
      kvCache: engine.scratch.kvCacheKind,
      adapter: description || `${vendor} ${architecture}`.trim(),
      decoding: engine.persistent && describePersistent(engine.persistent),
    },
    destroy: () => engine.destroy(),
  };
}

function nodeBackend(
  modelName: string,
  generator: TextGenerator,
  sampling: ChatBackend['defaults']['sampling'],
): ChatBackend {
  return {
    modelName,
    defaults: { contextLength: generator.engine.contextLength, sampling },
    chat: (request, onDelta, signal) => generator.chat({ ...textRequest(request), signal }, onDelta),
  };
}

async function modelName(folder: string): Promise<string> {
  return existsSync(join(folder, 'manifest.json'))
    ? (await readManifest(folder)).name
    : basename(resolve(folder));
}

async function recommended(folder: string): Promise<ChatBackend['defaults']['sampling']> {
  const file = join(folder, 'generation_config.json');
  return samplingDefaults(existsSync(file) ? await readFile(file, 'utf8') : undefined);
}

/** The worker's entry: puts the engine behind the protocol. The same script serves as the thread of its tokenizer. */
import { expose, type Remote, releaseProxy } from 'comlink';
import { lazyShardStore, openBestShardStore } from '../src/storage/choose-store';
import { networkTiming } from '../src/storage/download';
import { openModelList, openTunings } from '../src/storage/indexed-db';
import { browserTurns } from '../src/storage/turns';
import { EngineHost } from './engine-host';
import { type EngineWorkerApi, serializeError, settle, type WireError } from './protocol';
import { serveTokenizer, tokenizerThreadName } from './tokenizer-thread';

let reportFailure: (error: WireError) => void = () => undefined;

const host = new EngineHost(
  {
    gpu: navigator.gpu,
    secure: isSecureContext,
    storage: {
      network: { fetch: (input, init) => fetch(input, init), ...networkTiming },
      shards: lazyShardStore(openBestShardStore),
      models: openModelList(),
      turns: browserTurns(navigator.locks),
      now: () => Date.now(),
    },
    tunings: openTunings(),
    openTokenizerThread: () => new Worker(self.location.href, { type: 'module', name: tokenizerThreadName }),
  },
  (error) => reportFailure(serializeError(error)),
);

/** Closes a callback's message port. */
function release(callback: unknown): void {
  (callback as Remote<() => void>)[releaseProxy]();
}

const api: EngineWorkerApi = {
  probe: () => settle(() => host.probe()),
  load: (request, onProgress) =>
    settle(() => host.load(request, onProgress).finally(() => release(onProgress))),
  chat: (request, onDelta) => settle(() => host.chat(request, onDelta).finally(() => release(onDelta))),
  cancel: () => settle(() => host.cancel()),
  pause: () => settle(() => host.pause()),
  resume: () => settle(() => host.resume()),
  ping: () => settle(() => undefined),
  unload: () => settle(() => host.unload()),
  listStored: () => settle(() => host.listStored()),
  deleteStored: (url) => settle(() => host.deleteStored(url)),
  storeFolder: (request, onProgress) =>
    settle(() => host.storeFolder(request, onProgress).finally(() => release(onProgress))),
  watchFailure: (onFailure) =>
    settle(() => {
      reportFailure = onFailure;
    }),
};

if (self.name === tokenizerThreadName) serveTokenizer(self);
else expose(api);

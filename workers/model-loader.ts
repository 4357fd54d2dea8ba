/** Puts an opened artifact on the GPU: weights, tokenizer, engine, and the check of the loaded model. */
import { TextGenerator } from '../src/chat/text-generator';
import type { TuningStore } from '../src/engine/decode-tuning';
import { Engine } from '../src/engine/engine';
import type { PersistentState } from '../src/engine/persistent-decode';
import { crossCheck } from '../src/engine/self-test';
import { WeightsLoader } from '../src/model/weights-loader';
import { type ArtifactProgress, type LoadedFiles, loadArtifact } from '../src/storage/load-artifact';
import type { OpenArtifact, StorageEnvironment } from '../src/storage/open-artifact';
import type { PauseGate } from '../src/storage/pause';
import { ChatTokenizer } from '../src/tokenizer/chat-tokenizer';
import { kvCacheBytesByKind, type WantedCache, withShorterContext } from './fit';
import type { GpuSession } from './gpu-session';
import type { LoadProgress, ModelInfo, PersistentReport, SelfTestReport } from './protocol';
import { samplingDefaults } from './sampling-defaults';
import { type ThreadLike, TokenizerThread } from './tokenizer-thread';

/** How a model is to be loaded. */
export interface WantedModel extends WantedCache {
  readonly persistentDecode: boolean;
  readonly checkLayer: number | null;
}

export interface LoadedModel {
  readonly info: ModelInfo;
  readonly engine: Engine;
  readonly generator: TextGenerator;
  readonly thread: TokenizerThread | null;
}

/** One model on its way to one GPU. */
export interface LoadJob {
  readonly session: GpuSession;
  readonly artifact: OpenArtifact;
  readonly wanted: WantedModel;
  readonly storage: StorageEnvironment;
  readonly tunings: TuningStore | undefined;
  /** Starts a thread for chat templates and tokenizers; without one they run in this one. */
  readonly openTokenizerThread: (() => ThreadLike) | undefined;
  readonly onProgress: (progress: LoadProgress) => void;
  readonly signal: AbortSignal;
  readonly pause: PauseGate;
  /** What the self-test of the GPU said; the loaded model's own check is added. */
  readonly selfTest: SelfTestReport;
}

/** Tuning compiles a score of kernels: little beside so much of weights, more than all else beside a small model's. */
const tunedBytes = 256 * 2 ** 20;

/** Frees what it allocated when it fails. @throws what storage, tokenizer, model and engine throw; AbortError when cancelled */
export async function loadModel(job: LoadJob): Promise<LoadedModel> {
  const { session, wanted, artifact, onProgress, signal, selfTest } = job;
  const { loader, files } = await fillWeights(job);
  const { contextLength, kvCache, persistentDecode } = wanted;
  const artifactBytes = totalBytes(artifact);
  const done = { doneBytes: artifactBytes, totalBytes: artifactBytes };
  onProgress({ phase: 'compile', ...done });
  const weights = await loader.finish();
  try {
    const tokenizer = ChatTokenizer.fromFiles(files.tokenizerFiles);
    const tune = (artifactBytes >= tunedBytes && job.tunings) || 'off';
    const engine = await Engine.create(session.gpu, weights, {
      ...{ contextLength, kvCache, persistentDecode, tune },
    });
    onProgress({ phase: 'self-test', ...done });
    const start = performance.now();
    await crossCheck(engine);
    signal.throwIfAborted();
    const whole = { ...selfTest, ms: selfTest.ms + performance.now() - start };
    const info = describe(job, files, engine, whole);
    return { info, engine, ...textGenerator(job, engine, tokenizer, files) };
  } catch (error) {
    weights.arena.destroy();
    throw withShorterContext(error, contextLength, false);
  }
}

/** Allocates the weights, so that a GPU too small says so before the download, and fills them. */
async function fillWeights(job: LoadJob): Promise<{ loader: WeightsLoader; files: LoadedFiles }> {
  const { session, artifact, wanted, storage, signal, pause } = job;
  const loader = WeightsLoader.create(
    session.gpu,
    artifact.manifest,
    wanted.checkLayer,
    wanted.persistentDecode,
  );
  try {
    await loader.allocated();
    const sink = {
      tensor: loader.write.bind(loader),
      // Bounds what the browser holds on its way to the GPU.
      shardDone: async () => void (await session.gpu.device.queue.onSubmittedWorkDone()),
    };
    const options = { signal, pause, onProgress: throttled(job.onProgress) };
    return { loader, files: await loadArtifact(artifact, sink, storage, options) };
  } catch (error) {
    loader.destroy();
    throw withShorterContext(error, wanted.contextLength, true);
  }
}

function describe(
  { session, artifact }: LoadJob,
  files: LoadedFiles,
  engine: Engine,
  selfTest: SelfTestReport,
): ModelInfo {
  const { manifest, url } = artifact;
  return {
    url,
    name: manifest.name,
    scheme: manifest.scheme,
    actBits: manifest.quant?.actBits ?? null,
    weightBits: manifest.quant?.weightBits ?? null,
    contextLength: engine.contextLength,
    artifactBytes: totalBytes(artifact),
    networkBytes: files.networkBytes,
    storageProblem: files.storageProblem,
    gpuBytes: engine.memory,
    kvCache: engine.scratch.kvCacheKind,
    kvCacheBytes: kvCacheBytesByKind(manifest, engine.contextLength),
    persistentDecode: persistentReport(engine.persistent),
    adapter: session.gpu.adapter,
    selfTest,
    provenance: manifest.provenance,
    samplingDefaults: samplingDefaults(files.tokenizerFiles.get('generation_config.json')),
  };
}

/** What can cross to the page. */
function persistentReport(state: PersistentState | null): PersistentReport | null {
  if (!state) return null;
  return state.isOn ? { isOn: true, groups: state.groups } : { isOn: false, reason: state.reason };
}

function textGenerator(
  { openTokenizerThread }: LoadJob,
  engine: Engine,
  tokenizer: ChatTokenizer,
  { tokenizerFiles }: LoadedFiles,
): Pick<LoadedModel, 'generator' | 'thread'> {
  const generator = new TextGenerator(engine, tokenizer);
  if (!openTokenizerThread) return { generator, thread: null };
  const thread = new TokenizerThread(tokenizerFiles, openTokenizerThread, generator.encodeChat);
  return { generator: new TextGenerator(engine, tokenizer, thread.encodeChat.bind(thread)), thread };
}

function totalBytes({ manifest }: OpenArtifact): number {
  return [...manifest.shards, ...manifest.tokenizerFiles].reduce((sum, file) => sum + file.bytes, 0);
}

/** Passes on every change of phase and otherwise at most twenty reports a second. */
function throttled(onProgress: (progress: LoadProgress) => void): (progress: ArtifactProgress) => void {
  let last = { phase: '', atMs: 0 };
  return (progress) => {
    const atMs = performance.now();
    const complete = progress.doneBytes === progress.totalBytes;
    if (progress.phase === last.phase && atMs - last.atMs < 50 && !complete) return;
    last = { phase: progress.phase, atMs };
    onProgress(progress);
  };
}

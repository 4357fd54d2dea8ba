/** What crosses between the developer panel and the worker that measures. */
import type { Remote } from 'comlink';
import type { BenchFile, BenchRequest, Figure } from '../bench/figures';
import type { MeanClips } from '../src/format/clip-ratios';
import type { Gpu } from '../src/gpu/gpu';
import type { WireResult } from './protocol';

/** What the panel hears of while suites run. */
export type BenchEvent =
  | { readonly kind: 'step'; readonly text: string }
  | { readonly kind: 'figure'; readonly figure: Figure };

export interface BenchRunRequest extends BenchRequest {
  /** Folder of the artifact that the suites `load` and `demo` use. */
  readonly modelUrl: string;
  /** Name of the adapter in the results, where the browser hides it. */
  readonly adapterName?: string;
}

/** The static steps of one norm site of an artifact. [D] each, by source channel. */
export interface SiteScales {
  readonly layer: number;
  readonly site: 'attn' | 'mlp';
  /** s/γ: the channel's whole step relative to the norm's weight, the reciprocal of the stored multiplier. */
  readonly steps: readonly number[];
  /** Columns that share it after reconstruction: 1 where the channel was not split, 0 where it was pruned. */
  readonly columns: readonly number[];
}

export interface ArtifactInsight {
  readonly name: string;
  readonly scheme: string;
  readonly alpha: number | null;
  readonly hiddenSize: number;
  /** Clip ratios of o and down by layer, as the manifest states them. */
  readonly ratios: readonly { readonly o: number; readonly down: number }[];
  /** Mean clip ratio of the norms' channels by layer, where the provenance tells; null where it does not. */
  readonly clips: readonly MeanClips[] | null;
  readonly sites: readonly SiteScales[];
}

/** What the panel knows of the GPU. */
export interface ProbedGpu extends Pick<Gpu, 'adapter' | 'caps'> {
  /** The largest buffer it makes. */
  readonly maxBufferBytes: number;
}

export interface BenchWorkerApi {
  /** The adapter that suites would run on. @throws WebGpuUnavailableError */
  probe(): Promise<WireResult<ProbedGpu>>;
  /** Runs the suites; progress comes through `onEvent`. */
  run(request: BenchRunRequest, onEvent: (event: BenchEvent) => void): Promise<WireResult<BenchFile>>;
  /** Reads the norms' multipliers out of an artifact's shards. */
  inspect(modelUrl: string): Promise<WireResult<ArtifactInsight>>;
}

export type RemoteBench = Remote<BenchWorkerApi>;

/** What crosses between the developer panel and the worker that measures. */
import type { Remote } from 'comlink';
import type { BenchFile, BenchRequest, Figure } from '../bench/figures';
import type { GpuReport, WireResult } from './protocol';

/** What the panel hears of while suites run. */
export type BenchEvent =
  | { readonly kind: 'step'; readonly text: string }
  | { readonly kind: 'figure'; readonly figure: Figure };

export interface BenchRunRequest extends BenchRequest {
  /** Folder of the artifact that the suites `load` and `demo` use. */
  readonly modelUrl: string;
}

/** The scales of one norm site of an artifact, before and after reconstruction. */
export interface SiteScales {
  readonly layer: number;
  readonly site: 'attn' | 'mlp';
  /** γ/s of each channel as stored: one per gathered column. */
  readonly columns: readonly number[];
  /** Reciprocals summed over each source channel's columns: the channel's whole step, before it was split. */
  readonly channels: readonly number[];
}

export interface ArtifactInsight {
  readonly name: string;
  readonly scheme: string;
  readonly alpha: number | null;
  readonly hiddenSize: number;
  /** Clip ratios of o and down by layer, as the manifest states them. */
  readonly ratios: readonly { readonly o: number; readonly down: number }[];
  readonly sites: readonly SiteScales[];
}

export interface BenchWorkerApi {
  probe(): Promise<WireResult<GpuReport & { readonly software?: boolean }>>;
  /** Runs the suites; progress comes through `onEvent`. */
  run(request: BenchRunRequest, onEvent: (event: BenchEvent) => void): Promise<WireResult<BenchFile>>;
  /** Reads the norms' multipliers out of an artifact's shards. */
  inspect(modelUrl: string): Promise<WireResult<ArtifactInsight>>;
}

export type RemoteBench = Remote<BenchWorkerApi>;

/** What a method decides about a layer, and what a quantized layer is. */
import type { HadamardSpec, LayerSpec } from '../format/manifest';
import type { ActBits, ReconstructMode, SchemeName } from '../format/scheme';
import type { AsymmetricGrid } from './asymmetric';
import type { SiteStats } from './calibrate';
import type { ClipLoss } from './clip';
import type { Site } from './forward';
import type { ClipSearch } from './layer-device';
import type { Matrix } from './matrix';
import type { QuantizedMatrix, WeightQuantizer } from './rtn';

export const downStepKinds = ['tensor', 'block'] as const;
export type DownSteps = (typeof downStepKinds)[number];

export interface Method {
  readonly scheme: Exclude<SchemeName, 'fp16'>;
  readonly actBits: ActBits;
  readonly reconstruct: ReconstructMode;
  readonly alpha: number;
  readonly clipLoss: ClipLoss;
  /** The online rotation in front of down_proj; its static scales cannot be folded into up_proj then. */
  readonly hadamard: HadamardSpec | null;
  readonly quantizeWeights: WeightQuantizer;
  /** Where clip ratios are searched for; default: on the host. */
  readonly clip?: ClipSearch;
  /** Asymmetric levels that `quantizeWeights` rounds to; without them it is codes around 0 and one scale a row. */
  readonly weightGrid?: AsymmetricGrid | null;
  /** Exponent of SmoothQuant's migration in front of `tensor-static`. */
  readonly smooth?: number | null;
  /** One clip ratio for the dynamic quantizers' tokens; default: where `clipLoss` clips at all. */
  readonly tokenClip?: boolean;
  /** Static channels behind norms are rounded around the middle of their range, see zero-points.ts. */
  readonly zeroPoints?: boolean;
  /** Static steps of down's input behind the online rotation, see block-scales.ts; default: one for all channels. */
  readonly downSteps?: DownSteps;
  /** Leaves activations unrounded: measures what the weights alone cost. */
  readonly floatActivations?: boolean;
}

/** A scheme that needs statistics was given none. */
export class CalibrationMissingError extends Error {
  override readonly name = 'CalibrationMissingError';
}

/** A norm in front of integers: its own weight, or the merged multipliers of Eq. 4 with the gather of Eq. 6. */
export type QuantizedNorm =
  | { readonly weight: Float32Array }
  | { readonly mult: Float32Array; readonly gather: Uint32Array; readonly offset: Int32Array | null };

export interface QuantizedLinear {
  readonly weight: QuantizedMatrix;
  readonly bias: Float32Array | null;
  /** W' before rounding [N, K'], for compensation. */
  readonly migrated?: Matrix;
  /** As in {@link Linear}. */
  readonly prefix?: Matrix;
}

/** Channels at each clip ratio of `ratioGrid`, per norm site; null where channels have none of their own. */
export type ClipCounts = Readonly<Record<'attn' | 'mlp', readonly number[] | null>>;

export interface QuantizedLayer {
  readonly spec: LayerSpec;
  /** What was chosen, for the artifact's provenance. */
  readonly clip: ClipCounts;
  readonly attnNorm: QuantizedNorm;
  readonly qkv: QuantizedLinear;
  readonly o: QuantizedLinear;
  readonly mlpNorm: QuantizedNorm;
  readonly gateUp: QuantizedLinear;
  readonly down: QuantizedLinear;
  /** Rate that compensation trained it with; null where no try lowered its loss; absent without compensation. */
  readonly trainedRate?: number | null;
}

/**
 * Statistics of each site as the part of the layer that is quantized already feeds it, and the parts as they are done.
 * `unfold`: what o's or down's inputs were divided by in v or up.
 */
export interface QuantizedWalk {
  stats(site: Site, unfold?: Float32Array | null): Promise<SiteStats>;
  advance(site: Site, linear: QuantizedLinear, act: number, norm: QuantizedNorm | null): Promise<void>;
}

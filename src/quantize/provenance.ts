/** What an artifact says about its making. */
import { basename, resolve } from 'node:path';
import { version } from '../../package.json';
import type { CalibrationSet } from './calibration-data';
import type { CompensationOptions } from './compensate';
import type { ClipCounts } from './method';
import {
  clipLossOf,
  gptqTargetOf,
  type PrepareOptions,
  propagationOf,
  weightMethodOf,
} from './prepare-options';
import { ratioGrid } from './scales';

function gptqProvenance(options: PrepareOptions, set: CalibrationSet | null) {
  if (!set || weightMethodOf(options, true) !== 'gptq') return {};
  const { gptqOrder: order = false } = options;
  return { gptq: { target: gptqTargetOf(options), order, propagate: propagationOf(options) } };
}

function calibrationProvenance(options: PrepareOptions, set: CalibrationSet | null) {
  if (!set) return {};
  const { samples, seed, tokenClip } = options;
  return {
    calibration: {
      files: set.files,
      sequences: set.sequences.length,
      tokens: set.tokens,
      samples,
      sequence: Math.max(...set.sequences.map(({ length }) => length)),
      seed,
      clipLoss: clipLossOf(options),
      ...(tokenClip !== undefined && { tokenClip }),
    },
  };
}

/** Everything that the numbers depend on and the manifest's other keys do not say. */
export function provenance(options: PrepareOptions, set: CalibrationSet | null): Record<string, unknown> {
  const { checkpoint, scheme, compensation, device, smooth, downSteps } = options;
  return {
    tool: `mergequant-web ${version}`,
    checkpoint: basename(resolve(checkpoint)),
    weights: scheme === 'fp16' ? 'float16' : weightMethodOf(options, set !== null),
    ...gptqProvenance(options, set),
    ...(compensation && { compensation: { ...compensation.settings, sequences: compensation.sequences } }),
    ...(smooth !== undefined && { smooth }),
    ...(downSteps !== undefined && { downSteps }),
    ...(device && { device: device.name }),
    ...calibrationProvenance(options, set),
  };
}

/** Channels of each norm site at each clip ratio, layer by layer; nothing where channels have none of their own. */
export function clipProvenance(layers: readonly ClipCounts[]): Record<string, unknown> {
  if (layers.every(({ attn, mlp }) => !attn && !mlp)) return {};
  const attn = layers.map((layer) => layer.attn);
  const mlp = layers.map((layer) => layer.mlp);
  return { clipRatios: { ratios: ratioGrid, attn, mlp } };
}

/** With each layer's training rate (null: left as it was made), where one is not what was asked for. */
export function withRates(
  provenance: Record<string, unknown>,
  layerRates: readonly (number | null)[],
): Record<string, unknown> {
  const compensation = provenance.compensation as CompensationOptions | undefined;
  if (!compensation || layerRates.every((rate) => rate === compensation.rate)) return provenance;
  return { ...provenance, compensation: { ...compensation, layerRates } };
}

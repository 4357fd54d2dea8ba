/** Options of `mergequant prepare` and the method that they describe. */
import type { LlamaConfig } from '../format/config';
import {
  type ActBits,
  type ReconstructMode,
  type SchemeName,
  schemeModes,
  type WeightBits,
} from '../format/scheme';
import { maxGroupSize } from '../format/weight-grid';
import { type AsymmetricGrid, asymmetricNearest } from './asymmetric';
import type { ClipLoss } from './clip';
import { type GptqOptions, gptqDefaults, gptqQuantizer } from './gptq';
import type { LayerCalibratorOptions, Propagation } from './layer-calibrator';
import type { CompensationRun } from './layer-compensator';
import type { LayerDevice } from './layer-device';
import { CalibrationMissingError, type DownSteps, type Method } from './method';
import type { LayerRange } from './parts';
import { onlineHadamard } from './rotate';
import { roundToNearest, type WeightQuantizer } from './rtn';
import type { Stopwatch } from './stopwatch';

export const weightMethods = ['rtn', 'gptq'] as const;
export type WeightMethod = (typeof weightMethods)[number];

export interface PrepareOptions {
  /** Folder with config.json, safetensors and tokenizer files. */
  readonly checkpoint: string;
  readonly out: string;
  readonly scheme: SchemeName;
  readonly actBits: ActBits;
  /** Default 4. 3 bits are always asymmetric. */
  readonly weightBits?: WeightBits;
  /** Levels with a zero point instead of codes around 0; default for 3 bits and for groups. */
  readonly weightAsymmetric?: boolean;
  /** Inputs that share a step and a zero point, a multiple of 32; default: a whole row. */
  readonly groupSize?: number;
  /** 8: bytes with a scale a row; default 16, float16. */
  readonly embeddingBits?: 8 | 16;
  /** Likewise; a head that is tied to the embedding has the embedding's. */
  readonly headBits?: 8 | 16;
  readonly reconstruct: ReconstructMode;
  /** Threshold of Eq. 6 in standard deviations, above 0. */
  readonly alpha: number;
  /** Default: what measured better, `paper` for 4-bit and `output` for 8-bit activations. */
  readonly clipLoss?: ClipLoss;
  /** Clip ratios for the tokens of dynamic quantizers; default: unless `clipLoss` is `none`. */
  readonly tokenClip?: boolean;
  /** Static channels behind norms are rounded around the middle of their range; not with `segment`. */
  readonly zeroPoints?: boolean;
  /** First tokens of every calibration sequence whose keys and values stay floats in the artifact. */
  readonly prefix?: number;
  /** Rotate weights and down_proj's input by Hadamard matrices; norm-fed channels are then not reconstructed. */
  readonly hadamard?: boolean;
  /** How weights are rounded; default GPTQ where there is calibration text. */
  readonly weights?: WeightMethod;
  /** GPTQ rounds columns by falling Hessian diagonal. */
  readonly gptqOrder?: boolean;
  /** What GPTQ's error is measured against, see `GptqOptions.target`. */
  readonly gptqTarget?: GptqOptions['target'];
  /** Whose activations feed the next layer's calibration. */
  readonly propagate?: Propagation;
  /** Train each quantized block towards the float one; implies `propagate: 'quantized'`. */
  readonly compensation?: CompensationRun;
  /** Static steps of down's input in `mergequant-static` with Hadamard rotations; default: one for all channels. */
  readonly downSteps?: DownSteps;
  /** Exponent of SmoothQuant's smoothing, for `tensor-static` only. */
  readonly smooth?: number;
  /** Prepare these layers only, as a part for `runMerge`. */
  readonly layers?: LayerRange;
  /** Part folders of the layers in front of `layers`, whose quantized stream enters the first of them. */
  readonly after?: readonly string[];
  /** The artifact's generation_config asks for greedy decoding (`do_sample` false). */
  readonly greedy?: boolean;
  /** Runs the heavy parts; default: the host. */
  readonly device?: LayerDevice;
  /** Told how long each stage took. */
  readonly stopwatch?: Stopwatch;
  /** Folder for a layer's activations while it is calibrated; default: memory. */
  readonly spill?: string;
  /** Text (.txt) and conversation (.jsonl) files. */
  readonly calibration: readonly string[];
  readonly samples: number;
  /** Longest calibration sequence in tokens, at most the model's context; default 512 or the context. */
  readonly sequence?: number;
  readonly seed: number;
  /** Shown to users; default: the checkpoint folder's name and the scheme. */
  readonly name?: string;
  /** Replace an artifact that is there. */
  readonly force?: boolean;
  readonly maxShardBytes?: number;
  readonly maxTensorBytes?: number;
  /** Told what an earlier run left beside the output and what becomes of it, a sentence each. */
  readonly onNotice?: (text: string) => void;
}

/** Defaults of everything but paths; chosen by measurement, see docs/LOG.md. */
export const prepareDefaults = {
  scheme: 'mergequant',
  actBits: 4,
  reconstruct: 'pad',
  alpha: 5,
  calibration: [],
  samples: 256,
  seed: 1,
} as const satisfies Partial<PrepareOptions>;

/** The method of a quantized scheme. @param calibrated there is calibration text; without it weights round to nearest */
export function methodOf(options: PrepareOptions, config: LlamaConfig, calibrated: boolean): Method {
  const hadamard = options.hadamard ? onlineHadamard(config) : null;
  const merged = schemeModes[options.scheme].norm === 'static' && options.scheme !== 'tensor-static';
  return {
    scheme: options.scheme as Method['scheme'],
    actBits: options.actBits,
    reconstruct: merged && !hadamard ? options.reconstruct : 'none',
    alpha: options.alpha,
    clipLoss: clipLossOf(options),
    ...(options.tokenClip !== undefined && { tokenClip: options.tokenClip }),
    zeroPoints: zeroPointsOf(options),
    hadamard,
    smooth: options.smooth ?? null,
    ...(options.downSteps && { downSteps: options.downSteps }),
    weightGrid: weightGridOf(options),
    quantizeWeights: weightQuantizer(options, calibrated),
    ...(options.device && { clip: options.device.clip }),
  };
}

/** The method's weight quantizer; without calibration tokens only rounding to nearest is possible. */
function weightQuantizer(options: PrepareOptions, calibrated: boolean): WeightQuantizer {
  const grid = weightGridOf(options);
  if (weightMethodOf(options, calibrated) === 'rtn') return grid ? asymmetricNearest(grid) : roundToNearest;
  const { gptqOrder: order = gptqDefaults.order } = options;
  const target = gptqTargetOf(options);
  const gptq = { ...gptqDefaults, order, target, grid };
  return options.device?.gptq(gptq) ?? gptqQuantizer(gptq);
}

/** Asymmetric levels, or null for 4 bits around 0 with one scale a row. @throws RangeError for options that exclude each other */
export function weightGridOf(options: PrepareOptions): AsymmetricGrid | null {
  const { weightBits: bits = 4, groupSize = null, scheme } = options;
  const { weightAsymmetric = bits === 3 || groupSize !== null } = options;
  if (groupSize !== null && !(groupSize > 0 && groupSize % 32 === 0 && groupSize <= maxGroupSize)) {
    throw new RangeError(`group size: expected a multiple of 32 up to ${maxGroupSize}, found ${groupSize}`);
  }
  if (!weightAsymmetric) {
    if (bits === 4 && groupSize === null) return null;
    throw new RangeError(`${bits}-bit weights${groupSize ? ' in groups' : ''}: expected asymmetric ones`);
  }
  if (scheme === 'fp16')
    throw new RangeError('weight bits and groups: expected a quantized scheme, found fp16');
  return { bits, groupSize };
}

/** @throws RangeError for schemes without static channels, and for segments, whose offsets say which part of a range they hold */
export function zeroPointsOf({ zeroPoints = false, scheme, reconstruct, hadamard }: PrepareOptions): boolean {
  if (!zeroPoints) return false;
  if (schemeModes[scheme].norm !== 'static' || scheme === 'tensor-static') {
    throw new RangeError(`zero points: expected mergequant or mergequant-static, found ${scheme}`);
  }
  if (reconstruct === 'segment' && !hadamard) {
    throw new RangeError('zero points: expected reconstruction by pad, prune or none, found segment');
  }
  return true;
}

export function weightMethodOf({ weights }: PrepareOptions, calibrated: boolean): WeightMethod {
  return weights ?? (calibrated ? 'gptq' : 'rtn');
}

export function clipLossOf({ clipLoss, actBits }: PrepareOptions): ClipLoss {
  return clipLoss ?? (actBits === 4 ? 'paper' : 'output');
}

/**
 * GPTQ is fitted to what the quantized layers emit and to the float model's outputs, which measured best. Independent parts
 * (`layers`) know the float model only.
 */
export function propagationOf(options: PrepareOptions): Propagation {
  if (options.compensation) return 'quantized';
  if (options.propagate) return options.propagate;
  return options.weights !== 'rtn' && !options.layers ? 'quantized' : 'float';
}

export function gptqTargetOf(options: PrepareOptions): GptqOptions['target'] {
  if (options.gptqTarget) return options.gptqTarget;
  return propagationOf(options) === 'quantized' ? 'outputs' : 'weights';
}

export function calibratorOptions(options: PrepareOptions, method: Method): LayerCalibratorOptions {
  const { seed, spill = null } = options;
  const propagate = propagationOf(options);
  const keepRows = weightMethodOf(options, true) === 'gptq';
  const prefixTokens = options.prefix ?? 0;
  return { seed, rounding: method, hadamard: method.hadamard, propagate, keepRows, prefixTokens, spill };
}

/** @throws RangeError for options that exclude each other, CalibrationMissingError for training without text */
export function checkOptions(options: PrepareOptions, numLayers: number): void {
  const { hadamard, scheme, compensation } = options;
  if (compensation && options.calibration.length === 0) {
    throw new CalibrationMissingError('compensation trains on calibration text: give --calibration');
  }
  weightGridOf(options);
  zeroPointsOf(options);
  checkPrefix(options);
  if (options.downSteps && !(hadamard && scheme === 'mergequant-static')) {
    throw new RangeError(
      `down steps: expected mergequant-static with Hadamard rotations, found ${scheme}${hadamard ? '' : ' without'}`,
    );
  }
  if (hadamard && scheme === 'fp16') {
    throw new RangeError('Hadamard variant: expected a quantized scheme, found fp16');
  }
  checkRange(options, numLayers);
}

/** Float prefixes come from text, and are for what is quantized. */
function checkPrefix({ prefix, scheme, calibration }: PrepareOptions): void {
  if (prefix === undefined) return;
  if (scheme === 'fp16') throw new RangeError('prefix: expected a quantized scheme, found fp16');
  if (calibration.length === 0) {
    throw new CalibrationMissingError('prefix: tokens are taken from calibration text: give --calibration');
  }
}

/** A range that follows the quantized stream needs what is in front of it. */
function checkRange(options: PrepareOptions, numLayers: number): void {
  const { layers, after = [], scheme } = options;
  const follows = propagationOf(options) === 'quantized' && options.calibration.length > 0;
  const [from, end] = layers ?? [0, numLayers];
  if (!(from >= 0 && from < end && end <= numLayers)) {
    throw new RangeError(`layers: expected a range within 0:${numLayers}, found ${from}:${end}`);
  }
  if (layers && scheme === 'fp16') throw new RangeError('layers: expected a quantized scheme, found fp16');
  if (after.length > 0 && !(follows && from > 0)) {
    throw new RangeError(
      'after: expected layers behind the first, and --propagate quantized or --compensate; independent parts need no others',
    );
  }
  if (follows && from > 0 && after.length === 0) {
    throw new RangeError(
      `layers ${from}:${end}: expected parts of layers 0:${from} (--after), whose quantized stream these layers are fitted to; ` +
        'independent parts take --propagate float and no --compensate',
    );
  }
}

/** Quantization schemes: one name everywhere (CLI flag, manifest, panel). */

export const schemeNames = [
  'fp16',
  'rtn-dynamic',
  'tensor-static',
  'mergequant',
  'mergequant-static',
] as const;
/** `fp16`, `rtn-dynamic`, `tensor-static`, `mergequant` or `mergequant-static`. */
export type SchemeName = (typeof schemeNames)[number];

/** Of the inputs of quantized linears. */
export type ActBits = 4 | 8;
export type WeightBits = 3 | 4;

/**
 * How a linear's input becomes integers.
 * - `float`: not at all.
 * - `static`: a fixed multiplier per channel. Behind a norm it is merged into the norm (gather and multiplier, Eq. 4–6);
 *   in front of o and down it is one number for all channels (1 when per-channel scales were folded into v or up).
 * - `dynamic`: one scale per token, `ratio · max|x| / Qmax`, computed at run time.
 */
export type ActivationMode = 'float' | 'static' | 'dynamic';

export interface SchemeModes {
  /** Inputs of q,k,v and of gate,up: the outputs of the norms. */
  readonly norm: ActivationMode;
  /** Inputs of o and down. */
  readonly projection: ActivationMode;
}

/** Where each scheme quantizes how. */
export const schemeModes: Readonly<Record<SchemeName, SchemeModes>> = {
  fp16: { norm: 'float', projection: 'float' },
  'rtn-dynamic': { norm: 'dynamic', projection: 'dynamic' },
  'tensor-static': { norm: 'static', projection: 'static' },
  mergequant: { norm: 'static', projection: 'dynamic' },
  'mergequant-static': { norm: 'static', projection: 'static' },
};

export const reconstructModes = ['none', 'pad', 'prune', 'segment'] as const;
export type ReconstructMode = (typeof reconstructModes)[number];

/** Largest integer of signed `bits`-bit activations: 7 or 127. */
export function qMax(bits: ActBits): number {
  return 2 ** (bits - 1) - 1;
}

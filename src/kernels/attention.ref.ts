export interface AttentionRefArgs {
  readonly numHeads: number;
  readonly numKvHeads: number;
  readonly headDim: number;
  readonly contextLength: number;
  readonly position: number;
  readonly qkv: Float32Array; // [T, (H + 2·Hkv)·Dh]
  readonly keys: Float64Array; // [Hkv, contextLength, Dh]
  readonly values: Float64Array; // [Hkv, contextLength, Dh]
  /** What the rounding errors of a key's and a value's elements are relative to. */
  readonly keyMagnitudes: Float64Array; // [Hkv, contextLength, Dh]
  readonly valueMagnitudes: Float64Array; // [Hkv, contextLength, Dh]
}

export interface AttentionRef {
  readonly out: Float64Array; // [T, H·Dh]
  /** Σ_j p_j·(magnitude of v_j): what the errors of the weighted sum are relative to. */
  readonly magnitude: Float64Array; // [T, H·Dh]
  /** Per token and head, max_j Σ_d |q_d|·(magnitude of k_jd) / √Dh: what the errors of the scores are relative to. */
  readonly scoreMagnitude: Float64Array; // [T, H]
}

/** Softmax attention in float64, all scores of a token and head at once. */
export function attentionRef(args: AttentionRefArgs): AttentionRef {
  const { numHeads: H, numKvHeads, headDim: Dh } = args;
  const T = args.qkv.length / ((H + 2 * numKvHeads) * Dh);
  const ref: AttentionRef = {
    out: new Float64Array(T * H * Dh),
    magnitude: new Float64Array(T * H * Dh),
    scoreMagnitude: new Float64Array(T * H),
  };
  for (let t = 0; t < T; t++) {
    for (let h = 0; h < H; h++) attendRef(args, t, h, ref);
  }
  return ref;
}

function attendRef(args: AttentionRefArgs, t: number, h: number, ref: AttentionRef): void {
  const { numHeads: H, numKvHeads, headDim: Dh, keys, values, keyMagnitudes, valueMagnitudes } = args;
  const query = args.qkv.subarray((t * (H + 2 * numKvHeads) + h) * Dh).subarray(0, Dh);
  const first = Math.floor(h / (H / numKvHeads)) * args.contextLength;
  const scores = new Float64Array(args.position + t + 1);
  for (let j = 0; j < scores.length; j++) {
    let size = 0;
    for (let d = 0; d < Dh; d++) {
      const q = query[d]! / Math.sqrt(Dh);
      scores[j]! += q * keys[(first + j) * Dh + d]!;
      size += Math.abs(q) * keyMagnitudes[(first + j) * Dh + d]!;
    }
    ref.scoreMagnitude[t * H + h] = Math.max(size, ref.scoreMagnitude[t * H + h]!);
  }
  const max = scores.reduce((a, b) => Math.max(a, b));
  const weights = scores.map((score) => Math.exp(score - max));
  const total = weights.reduce((a, b) => a + b);
  weights.forEach((weight, j) => {
    for (let d = 0; d < Dh; d++) {
      ref.out[(t * H + h) * Dh + d]! += (weight / total) * values[(first + j) * Dh + d]!;
      ref.magnitude[(t * H + h) * Dh + d]! += (weight / total) * valueMagnitudes[(first + j) * Dh + d]!;
    }
  });
}

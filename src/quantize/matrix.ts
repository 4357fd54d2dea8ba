/** Host-side matrices and the rounding that every integer of the method goes through. */

/** Row-major float32. A linear's weight is [N outputs, K inputs]; activations are [tokens, channels]. */
export interface Matrix {
  readonly rows: number;
  readonly cols: number;
  readonly data: Float32Array;
}

export function matrix(rows: number, cols: number, data = new Float32Array(rows * cols)): Matrix {
  if (data.length !== rows * cols) {
    throw new RangeError(`matrix [${rows}, ${cols}] needs ${rows * cols} values, got ${data.length}`);
  }
  return { rows, cols, data };
}

/** Matrices of equal width on top of each other. */
export function stackRows(parts: readonly Matrix[]): Matrix {
  const cols = parts[0]?.cols ?? 0;
  const out = matrix(
    parts.reduce((sum, part) => sum + part.rows, 0),
    cols,
  );
  let at = 0;
  for (const part of parts) {
    if (part.cols !== cols)
      throw new RangeError(`cannot stack [${part.rows}, ${part.cols}] on width ${cols}`);
    out.data.set(part.data, at);
    at += part.data.length;
  }
  return out;
}

/** Rounds to the nearest integer, halves to the even one, as WGSL's `round` does. */
export function roundHalfEven(value: number): number {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 !== 0 ? rounded - 1 : rounded;
}

/** Signed range of `bits`-bit integers. */
export function intRange(bits: number): { readonly min: number; readonly max: number } {
  return { min: -(2 ** (bits - 1)), max: 2 ** (bits - 1) - 1 };
}

export function clamp(value: number, min: number, max: number): number {
  return Math.max(min, Math.min(max, value));
}

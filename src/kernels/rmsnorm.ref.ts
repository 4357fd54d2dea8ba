/** RMSNorm in float64. x [T, D], weight [D] -> [T, D]. */
export function rmsnormRef(x: Float32Array, weight: Float32Array, eps: number): Float64Array {
  const D = weight.length;
  const y = new Float64Array(x.length);
  for (let row = 0; row < x.length; row += D) {
    const sum = x.subarray(row, row + D).reduce((total, value) => total + value * value, 0);
    const rms = Math.sqrt(sum / D + eps);
    for (let d = 0; d < D; d++) y[row + d] = (x[row + d]! * weight[d]!) / rms;
  }
  return y;
}

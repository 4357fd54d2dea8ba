/** One head [Dh] rotated by the table's row of its position [Dh/2, 2], in float64. */
export function rotateRef(head: Float32Array, angles: Float32Array): Float64Array {
  const half = head.length / 2;
  const rotated = new Float64Array(head.length);
  for (let i = 0; i < half; i++) {
    const [cos, sin] = [angles[2 * i]!, angles[2 * i + 1]!];
    rotated[i] = head[i]! * cos - head[i + half]! * sin;
    rotated[i + half] = head[i + half]! * cos + head[i]! * sin;
  }
  return rotated;
}

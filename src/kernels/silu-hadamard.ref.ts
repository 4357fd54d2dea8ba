import { siluMulRef } from './silu-mul.ref';

/** Natural-order Walsh–Hadamard transform over √block of each block of adjacent elements, from its definition, float64. */
export function walshHadamardRef(x: ArrayLike<number>, block: number): Float64Array {
  const sign = (i: number, j: number) => {
    let bits = i & j;
    let odd = 0;
    for (; bits !== 0; bits &= bits - 1) odd ^= 1;
    return odd === 0 ? 1 : -1;
  };
  return Float64Array.from({ length: x.length }, (_, at) => {
    const j = at % block;
    let sum = 0;
    for (let i = 0; i < block; i++) sum += sign(i, j) * x[at - j + i]!;
    return sum / Math.sqrt(block);
  });
}

/** SwiGLU's gate, then the transform. gateUp [T, 2F] interleaved -> [T, F]. */
export function siluHadamardRef(gateUp: Float32Array, block: number): Float64Array {
  return walshHadamardRef(siluMulRef(gateUp), block);
}

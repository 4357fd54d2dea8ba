/** Seeded random numbers: what was drawn can be drawn again. */

/** Seeded uniform numbers in [0, 1): mulberry32. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Standard normal numbers from uniform ones, two of them each (Box and Muller's cosine half). */
export function normalNumbers(uniform: () => number): () => number {
  return () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
}

/** `count` float32 values, standard normal times `scale`. */
export function normals(count: number, seed: number, scale = 1): Float32Array<ArrayBuffer> {
  const normal = normalNumbers(seededRandom(seed));
  return Float32Array.from({ length: count }, () => normal() * scale);
}

/** Random dense matrices with exactly known values, for references and tests. */
import type { MatrixDtype } from './dense-layout';
import { normals, random } from './testing';

/** The number an IEEE binary16 bit pattern stands for, exactly. Infinities and NaN are not expected. */
export function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  return exponent === 0 ? sign * fraction * 2 ** -24 : sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** `count` halves with random signs and fractions, magnitudes from 2^-5 to 2, one in eight of them zero or subnormal. */
export function randomHalves(count: number, seed: number): Uint16Array<ArrayBuffer> {
  const next = random(seed);
  return Uint16Array.from({ length: count }, () => {
    const exponent = next() < 1 / 8 ? 0 : 10 + Math.floor(next() * 6);
    const fraction = exponent === 0 && next() < 0.5 ? 0 : Math.floor(next() * 1024);
    return (next() < 0.5 ? 0x8000 : 0) | (exponent << 10) | fraction;
  });
}

export interface DenseMatrix {
  /** Unpadded row-major elements as stored. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same elements, exactly; bytes times the scale of their row. */
  readonly values: Float64Array; // [rows, cols]
  /** Of bytes alone. */
  readonly scales: Float32Array<ArrayBuffer> | null; // [rows]
}

/** A random [rows, cols] matrix. */
export function randomDense(rows: number, cols: number, dtype: MatrixDtype, seed: number): DenseMatrix {
  if (dtype === 'F32') {
    const floats = normals(rows * cols, seed);
    return { bytes: new Uint8Array(floats.buffer), values: Float64Array.from(floats), scales: null };
  }
  if (dtype === 'I8') {
    const next = random(seed);
    const codes = Int8Array.from({ length: rows * cols }, () => Math.floor(next() * 256) - 128);
    const scales = Float32Array.from({ length: rows }, () => (0.5 + next()) / 64);
    const values = Float64Array.from(codes, (code, i) => code * scales[Math.floor(i / cols)]!);
    return { bytes: new Uint8Array(codes.buffer), values, scales };
  }
  const halves = randomHalves(rows * cols, seed);
  return { bytes: new Uint8Array(halves.buffer), values: Float64Array.from(halves, halfValue), scales: null };
}

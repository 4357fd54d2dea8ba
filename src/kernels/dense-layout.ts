/** How dense (float16 or float32) matrices lie in GPU buffers: rows padded with zeros to whole 16-byte words. */
import type { DenseDtype } from '../format/manifest';
import { requireShape } from './op';

/** Bytes of one element. */
const elementBytes: Readonly<Record<DenseDtype, number>> = { F16: 2, F32: 4 };

/** Elements from one row of a [rows, cols] matrix to the next: cols rounded up to 8 halves or 4 floats. */
export function denseStride(cols: number, dtype: DenseDtype): number {
  const wordElems = 16 / elementBytes[dtype];
  return Math.ceil(cols / wordElems) * wordElems;
}

/**
 * A row-major [rows, cols] matrix of little-endian elements, re-laid with rows of {@link denseStride} elements and zeros
 * behind each. Returns `bytes` itself when rows need no padding.
 * @throws KernelShapeError when `bytes` is not rows × cols elements long
 */
export function padRows(
  bytes: Uint8Array<ArrayBuffer>,
  rows: number,
  cols: number,
  dtype: DenseDtype,
): Uint8Array<ArrayBuffer> {
  const rowBytes = cols * elementBytes[dtype];
  const strideBytes = denseStride(cols, dtype) * elementBytes[dtype];
  requireShape(
    bytes.byteLength === rows * rowBytes,
    'padRows',
    `${rows * rowBytes} bytes for ${dtype} [${rows}, ${cols}], got ${bytes.byteLength}`,
  );
  if (rowBytes === strideBytes) return bytes;
  const padded = new Uint8Array(rows * strideBytes);
  for (let row = 0; row < rows; row++) {
    padded.set(bytes.subarray(row * rowBytes, (row + 1) * rowBytes), row * strideBytes);
  }
  return padded;
}

/** How dense (float16, float32 or int8) matrices lie in GPU buffers: rows padded with zeros to whole 16-byte words. */
import type { DenseDtype } from '../format/manifest';
import { requireShape } from './op';

/** What a matrix holds that is multiplied in float32: floats, or bytes with a scale a row. */
export type MatrixDtype = DenseDtype | 'I8';

/** Bytes of one element. */
export const elementBytes: Readonly<Record<MatrixDtype, number>> = { F16: 2, F32: 4, I8: 1 };

/** Elements from one row of a [rows, cols] matrix to the next: cols rounded up to 8 halves, 4 floats or 16 bytes. */
export function denseStride(cols: number, dtype: MatrixDtype): number {
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
  dtype: MatrixDtype,
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

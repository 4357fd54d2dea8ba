/** What the numbers of a stored tensor must satisfy, beyond its dtype and shape. */
import { ManifestError } from './errors';
import type { StoredTensor } from './tensors';
import { gridStep, gridZero, maxZero } from './weight-grid';

/** Integer offsets of gathered channels (`segment`) that the norm's kernel can add. */
export const offsetRange = { min: -2048, max: 2047 } as const;

interface Bad {
  readonly index: number;
  readonly expected: string;
  readonly found: number | string;
}

/**
 * Scales are finite and positive, gather indices below the hidden size, offsets within {@link offsetRange}, every other
 * number finite; the words of a weight grid hold such a step and a zero point of 7 bits. Packed weights have no invalid bits.
 * @param bytes the tensor's bytes, at any alignment.
 * @param file the shard, for errors.
 * @throws ManifestError naming the tensor and the first element that is wrong.
 */
export function checkTensorValues(
  stored: StoredTensor,
  bytes: Uint8Array,
  hiddenSize: number,
  file: string,
): void {
  const bad = firstBad(stored, bytes.slice().buffer as ArrayBuffer, hiddenSize);
  if (bad === null) return;
  throw new ManifestError({
    file,
    where: `${stored.name}[${bad.index}]`,
    expected: bad.expected,
    found: String(bad.found),
  });
}

function firstBad({ tensor }: StoredTensor, buffer: ArrayBuffer, hiddenSize: number): Bad | null {
  const { name, dtype } = tensor;
  if (dtype === 'F16') return firstInfiniteHalf(new Uint16Array(buffer));
  if (dtype === 'F32') {
    const values = new Float32Array(buffer);
    if (!name.endsWith('.scale')) return find(values, Number.isFinite, 'a finite number');
    return find(values, (value) => value > 0 && Number.isFinite(value), 'a finite positive scale');
  }
  if (name.endsWith('.gather')) {
    return find(new Uint32Array(buffer), (index) => index < hiddenSize, `a channel below ${hiddenSize}`);
  }
  if (name.endsWith('.grid')) return firstBadGrid(new Uint32Array(buffer));
  if (!name.endsWith('.offset')) return null;
  const { min, max } = offsetRange;
  const isOffset = (offset: number) => offset >= min && offset <= max;
  return find(new Int32Array(buffer), isOffset, `an offset from ${min} to ${max}`);
}

function firstBadGrid(words: Uint32Array): Bad | null {
  const index = words.findIndex(
    (word) => !(gridStep(word) > 0 && gridStep(word) < Infinity && (word & 0x80) === 0),
  );
  if (index < 0) return null;
  const expected = `a finite positive step and a zero point up to ${maxZero}`;
  return { index, expected, found: `${gridStep(words[index]!)} and ${gridZero(words[index]!)}` };
}

function find(
  values: Float32Array | Uint32Array | Int32Array,
  isGood: (value: number) => boolean,
  expected: string,
): Bad | null {
  const index = values.findIndex((value) => !isGood(value));
  return index < 0 ? null : { index, expected, found: values[index]! };
}

/** Embeddings are large: a look at the exponent, no conversion. */
function firstInfiniteHalf(halves: Uint16Array): Bad | null {
  const index = halves.findIndex((half) => (half & 0x7c00) === 0x7c00);
  if (index < 0) return null;
  return { index, expected: 'a finite number', found: (halves[index]! & 0x3ff) === 0 ? 'Infinity' : 'NaN' };
}

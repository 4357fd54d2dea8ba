import { describe, expect, test } from 'vitest';
import { checkTensorValues } from './check-values';
import { ManifestError } from './errors';
import { f32ToF16Bits } from './half';
import type { StoredTensor, TensorDtype } from './tensors';
import { gridWord } from './weight-grid';

const stored = (name: string, dtype: TensorDtype): StoredTensor => ({
  name,
  tensor: { name, dtype, shape: [3] },
  rowStart: 0,
  rows: 3,
  bytes: dtype === 'F16' ? 6 : 12,
});
const check = (name: string, dtype: TensorDtype, view: ArrayBufferView) =>
  checkTensorValues(stored(name, dtype), new Uint8Array(view.buffer), 64, 'shard-00001.safetensors');

describe('values of stored tensors', () => {
  test.each<[string, TensorDtype, ArrayBufferView]>([
    ['layers.0.qkv.scale', 'F32', Float32Array.of(1e-9, 1, 3)],
    ['layers.0.attn_norm.mult', 'F32', Float32Array.of(0, -1, 3)],
    ['layers.0.attn_norm.gather', 'U32', Uint32Array.of(0, 63, 63)],
    ['layers.0.attn_norm.offset', 'I32', Int32Array.of(-2048, 0, 2047)],
    ['layers.0.qkv.weight', 'U32', Uint32Array.of(0, 0xffffffff, 64)],
    ['layers.0.qkv.grid', 'U32', Uint32Array.of(gridWord(1, 0), gridWord(2 ** -100, 127), gridWord(3, 5))],
    ['embed.weight', 'F16', f32ToF16Bits(Float32Array.of(65504, -65504, 0))],
  ])('%s may hold what it should', (name, dtype, view) => {
    expect(check(name, dtype, view)).toBeUndefined();
  });

  test.each<[string, TensorDtype, ArrayBufferView, RegExp]>([
    [
      'layers.0.qkv.scale',
      'F32',
      Float32Array.of(1, 0, 1),
      /qkv\.scale\[1\]: expected a finite positive scale, found 0$/,
    ],
    [
      'layers.0.o.grid',
      'U32',
      Uint32Array.of(gridWord(1, 3), 3, 3),
      /grid\[1\]: expected a finite positive step .*found 0 and 3/,
    ],
    ['layers.0.o.grid', 'U32', Uint32Array.of(0x7f800000, 3, 3), /grid\[0\]: .*found Infinity and 0/],
    [
      'layers.0.o.grid',
      'U32',
      Uint32Array.of(gridWord(1, 3), gridWord(1, 3), 0x7fc00000),
      /grid\[2\]: .*found NaN/,
    ],
    ['layers.0.o.grid', 'U32', Uint32Array.of(0x3f800080, 0, 0), /grid\[0\]: .*up to 127, found 1 and 128/],
    ['layers.0.qkv.scale', 'F32', Float32Array.of(1, 1, -2), /scale\[2\]: .*found -2/],
    [
      'layers.0.o.scale',
      'F32',
      Float32Array.of(Number.POSITIVE_INFINITY, 1, 1),
      /scale\[0\].*found Infinity/,
    ],
    [
      'layers.0.qkv.bias',
      'F32',
      Float32Array.of(1, Number.NaN, 1),
      /bias\[1\]: expected a finite number, found NaN/,
    ],
    ['layers.0.attn_norm.mult', 'F32', Float32Array.of(1, 1, Number.NEGATIVE_INFINITY), /mult\[2\]/],
    [
      'layers.0.mlp_norm.gather',
      'U32',
      Uint32Array.of(0, 1, 64),
      /gather\[2\]: expected a channel below 64, found 64/,
    ],
    [
      'layers.0.mlp_norm.offset',
      'I32',
      Int32Array.of(0, 2048, 0),
      /offset\[1\]: .*-2048 to 2047, found 2048/,
    ],
    [
      'embed.weight',
      'F16',
      Uint16Array.of(0, 0x7c00, 0),
      /embed\.weight\[1\]: expected a finite number, found Infinity/,
    ],
    [
      'embed.weight',
      'F16',
      Uint16Array.of(0, 0, 0xfe00),
      /embed\.weight\[2\]: expected a finite number, found NaN/,
    ],
  ])('%s must not hold %s %s', (name, dtype, view, message) => {
    expect(() => check(name, dtype, view)).toThrow(ManifestError);
    expect(() => check(name, dtype, view)).toThrow(message);
  });

  test('bytes need no alignment', () => {
    const bytes = new Uint8Array(13);
    bytes.set(new Uint8Array(Float32Array.of(1, 2, 3).buffer), 1);
    expect(checkTensorValues(stored('a.scale', 'F32'), bytes.subarray(1), 64, 's')).toBeUndefined();
  });
});

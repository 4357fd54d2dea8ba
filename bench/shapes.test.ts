import { expect, test } from 'vitest';
import { parseScheme } from './shapes';

test.each([
  ['mergequant-a4', 'auto', 16],
  ['mergequant-a4-kv16', 'f16', 16],
  ['fp16-kv8', 'int8', 16],
  ['mergequant-a8-kv4-e8-c256', 'int4', 8],
] as const)('%s: a %s cache, tables of %i bits', (name, kvCache, tableBits) => {
  expect(parseScheme(name)).toMatchObject({ name, kvCache, tableBits });
});

test.each(['mergequant', 'fp16-a4', 'mergequant-a4-kv32', 'mergequant-a4-e8-kv8'])(
  '%s is refused',
  (name) => {
    expect(() => parseScheme(name)).toThrow(/expected fp16 or a scheme with bits.*got/);
  },
);

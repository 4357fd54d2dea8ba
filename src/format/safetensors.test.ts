import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SafetensorsError } from './errors';
import {
  buildSafetensorsHeader,
  maxSafetensorsHeaderBytes,
  parseSafetensorsHeader,
  type SafetensorsDtype,
  safetensorsHeaderBytes,
} from './safetensors';

/** A whole file: the header as given, then `dataBytes` zeros. */
function fileOf(
  header: string,
  dataBytes: number,
  length = new TextEncoder().encode(header).length,
): Uint8Array {
  const json = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + json.length + dataBytes);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
  bytes.set(json, 8);
  return bytes;
}

const parse = (bytes: Uint8Array) => parseSafetensorsHeader(bytes, bytes.length, 'a.safetensors');
const tensor = (dtype: unknown, shape: unknown, offsets: unknown) => ({
  dtype,
  shape,
  data_offsets: offsets,
});
const parseJson = (header: unknown, dataBytes: number) => parse(fileOf(JSON.stringify(header), dataBytes));

describe('a good file', () => {
  test('what is built parses to the same tensors, with data aligned to 8', () => {
    const dtypes = fc.constantFrom<SafetensorsDtype[]>(
      'BF16',
      'F16',
      'F32',
      'U32',
      'I8',
      'U8',
      'I64',
      'BOOL',
    );
    const name = fc.string({ unit: 'binary' }).filter((text) => !text.startsWith('__'));
    const entry = fc.record({ name, dtype: dtypes, shape: fc.array(fc.nat(5), { maxLength: 3 }) });
    fc.assert(
      fc.property(fc.uniqueArray(entry, { selector: (e) => e.name, maxLength: 6 }), (entries) => {
        const header = buildSafetensorsHeader(entries);
        const widths: Partial<Record<SafetensorsDtype, number>> = { BF16: 2, F16: 2, F32: 4, U32: 4, I64: 8 };
        const sizes = entries.map((e) => e.shape.reduce((a, b) => a * b, widths[e.dtype] ?? 1));
        const fileBytes = header.length + sizes.reduce((a, b) => a + b, 0);
        const parsed = parseSafetensorsHeader(header, fileBytes, 'a.safetensors');
        expect(header.length % 8).toBe(0);
        expect(parsed.dataStart).toBe(header.length);
        const byName = new Map(parsed.tensors.map((t) => [t.name, t]));
        let position = header.length;
        entries.forEach((e, i) => {
          expect(byName.get(e.name)).toEqual({ ...e, begin: position, end: position + sizes[i]! });
          position += sizes[i]!;
        });
      }),
    );
  });

  test('offsets are of the file, order is that of the bytes, metadata is kept', () => {
    const header = {
      __metadata__: { format: 'pt' },
      late: tensor('F16', [2, 2], [4, 12]),
      early: tensor('F32', [], [0, 4]),
      empty: tensor('F32', [0, 7], [4, 4]),
    };
    const parsed = parseJson(header, 12);
    expect(parsed.tensors.map((t) => [t.name, t.begin - parsed.dataStart, t.end - parsed.dataStart])).toEqual(
      [
        ['early', 0, 4],
        ['empty', 4, 4],
        ['late', 4, 12],
      ],
    );
    expect(parsed.metadata).toEqual({ format: 'pt' });
  });

  test('other writers may pad or not, and need no alignment', () => {
    expect(parse(fileOf('{"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}}  ', 3)).tensors).toHaveLength(
      1,
    );
    expect(parse(fileOf('{}', 0)).tensors).toEqual([]);
  });
});

const wrong: [title: string, bytes: () => Uint8Array, message: RegExp][] = [
  ['shorter than 8 bytes', () => new Uint8Array(7), /expected at least 8 bytes, found 7 bytes/],
  [
    'header length beyond the cap',
    () => fileOf('{}', 0, maxSafetensorsHeaderBytes + 1),
    /header length: expected at most 100000000 bytes, found 100000001/,
  ],
  ['header length beyond the file', () => fileOf('{}', 0, 3), /header length: expected at most the file's 2/],
  ['no JSON', () => fileOf('{"a"', 0), /header: expected JSON in UTF-8/],
  ['no UTF-8', () => Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff), /header: expected JSON in UTF-8/],
  ['no object', () => fileOf('[]', 0), /expected a JSON object that starts with \{/],
  ['null', () => fileOf('null', 0), /expected a JSON object that starts with \{/],
  ['a space before the object', () => fileOf(' {}', 0), /expected a JSON object that starts with \{/],
  ['__proto__', () => fileOf('{"__proto__":{}}', 0), /expected no key __proto__/],
  [
    'a name twice',
    () => fileOf('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"\\u0061" :{"b":1}}', 0),
    /a: expected each name once, found the name twice/,
  ],
  [
    'metadata that is no object',
    () => fileOf('{"__metadata__":[]}', 0),
    /__metadata__: expected an object of strings/,
  ],
  [
    'metadata of numbers',
    () => fileOf('{"__metadata__":{"a":1}}', 0),
    /__metadata__: expected an object of strings/,
  ],
  ['an entry that is no object', () => fileOf('{"t":3}', 0), /t: expected an object with dtype.*found 3/],
];

const wrongTensors: [title: string, entry: unknown, dataBytes: number, message: RegExp][] = [
  ['an unknown dtype', tensor('F7', [1], [0, 1]), 1, /t: expected a dtype of .*BF16.*found "F7"/],
  ['a dtype that every object has', tensor('constructor', [1], [0, 1]), 1, /found "constructor"/],
  ['no shape', { dtype: 'U8', data_offsets: [0, 1] }, 1, /t: expected a shape.*found nothing/],
  ['a negative size', tensor('U8', [-1], [0, 1]), 1, /t: expected a shape.*found \[-1\]/],
  ['a fractional size', tensor('U8', [1.5], [0, 1]), 1, /t: expected a shape.*found \[1.5\]/],
  ['an unsafe size', tensor('U8', [2 ** 53], [0, 1]), 1, /t: expected a shape/],
  [
    'an overflowing product',
    tensor('U8', [2 ** 30, 2 ** 30], [0, 1]),
    1,
    /t: expected a byte length below 2\^53/,
  ],
  ['no offsets', { dtype: 'U8', shape: [1] }, 1, /t: expected data_offsets of two/],
  ['three offsets', tensor('U8', [1], [0, 1, 1]), 1, /t: expected data_offsets of two/],
  ['negative offsets', tensor('U8', [1], [-1, 0]), 1, /t: expected data_offsets of two/],
  [
    'reversed offsets',
    tensor('U8', [1], [1, 0]),
    1,
    /t: expected 1 bytes for U8 \[1\], found data_offsets \[1,0\]/,
  ],
  ['a length unlike the shape', tensor('F16', [3], [0, 5]), 5, /t: expected 6 bytes for F16 \[3\]/],
  ['a gap before it', tensor('U8', [1], [1, 2]), 2, /t: expected data to begin at byte 0, found byte 1/],
  ['an end past the file', tensor('U8', [4], [0, 4]), 3, /t: expected data to end within the file's/],
  [
    'bytes after it',
    tensor('U8', [4], [0, 4]),
    5,
    /a\.safetensors: expected \d+ bytes, where the last tensor ends/,
  ],
];

describe('a bad file is refused', () => {
  test.each(wrong)('%s', (_, bytes, message) => {
    expect(() => parse(bytes())).toThrow(SafetensorsError);
    expect(() => parse(bytes())).toThrow(message);
  });

  test.each(wrongTensors)('a tensor with %s', (_, entry, dataBytes, message) => {
    expect(() => parseJson({ t: entry }, dataBytes)).toThrow(SafetensorsError);
    expect(() => parseJson({ t: entry }, dataBytes)).toThrow(message);
  });

  test('tensors that overlap', () => {
    const header = { a: tensor('U8', [4], [0, 4]), b: tensor('U8', [4], [2, 6]) };
    expect(() => parseJson(header, 6)).toThrow(/b: expected data to begin at byte 4, found byte 2/);
  });

  test('a header that was not read whole', () => {
    const bytes = fileOf('{}', 100);
    expect(() => parseSafetensorsHeader(bytes.subarray(0, 9), bytes.length, 'a')).toThrow(
      /header: expected 10 bytes/,
    );
  });

  test('the error carries file, tensor, expected and found', () => {
    try {
      parseJson({ t: tensor('F7', [1], [0, 1]) }, 1);
      expect.fail('parsed');
    } catch (error) {
      expect(error).toMatchObject({
        file: 'a.safetensors',
        where: 't',
        found: '"F7"',
        name: 'SafetensorsError',
      });
    }
  });
});

describe('whatever the bytes, nothing but a SafetensorsError', () => {
  const good = new TextEncoder().encode(
    JSON.stringify({
      __metadata__: { format: 'pt' },
      'a\\"b': tensor('F16', [2, 3], [0, 12]),
      c: tensor('U32', [2], [12, 20]),
    }),
  );

  function parsesOrNames(bytes: Uint8Array): void {
    try {
      const { tensors } = parse(bytes);
      for (const { begin, end } of tensors)
        expect(begin >= 8 && begin <= end && end <= bytes.length).toBe(true);
    } catch (error) {
      expect(error).toBeInstanceOf(SafetensorsError);
    }
  }

  test('mutated headers', () => {
    const edit = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255), drop: fc.boolean() });
    const characters = fc.constantFrom(...new TextEncoder().encode('{}[]":,0919.-eE\\ntu '));
    fc.assert(
      fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), characters, (edits, character) => {
        const json = [...good];
        for (const { at, value, drop } of edits) {
          if (drop) json.splice(at, 1);
          else json[at] = value < 128 ? character : value;
        }
        const bytes = new Uint8Array(8 + json.length + 20);
        new DataView(bytes.buffer).setBigUint64(0, BigInt(json.length), true);
        bytes.set(json, 8);
        parsesOrNames(bytes);
      }),
      { numRuns: 3000 },
    );
  });

  test('random JSON and random bytes', () => {
    fc.assert(
      fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (json) =>
        parsesOrNames(fileOf(JSON.stringify(json), 8)),
      ),
    );
    fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), parsesOrNames));
  });
});

describe('building refuses', () => {
  const entry = { name: 'a', dtype: 'F16', shape: [2] } as const;
  test.each([
    ['reserved names', [{ ...entry, name: '__metadata__' }], /no reserved name/],
    ['__proto__', [{ ...entry, name: '__proto__' }], /no reserved name/],
    ['repeated names', [entry, entry], /each name once/],
    ['negative sizes', [{ ...entry, shape: [-2] }], /a shape below 2\^53 bytes/],
    ['overflowing shapes', [{ ...entry, shape: [2 ** 40, 2 ** 40] }], /a shape below 2\^53 bytes/],
  ])('%s', (_, entries, message) => {
    expect(() => buildSafetensorsHeader(entries)).toThrow(SafetensorsError);
    expect(() => buildSafetensorsHeader(entries)).toThrow(message);
  });
});

test('the header length alone says how much to read', () => {
  const bytes = fileOf('{}', 5);
  expect(safetensorsHeaderBytes(bytes.subarray(0, 8), bytes.length, 'a')).toBe(10);
});

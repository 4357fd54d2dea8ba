import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { dead, JsonAutomaton, mostDepth, mostWhiteSpaceBytes } from './json-automaton';

const utf8 = (text: string) => new TextEncoder().encode(text);

/** How many bytes are taken before one that cannot come, and whether the object is complete then. */
function read(bytes: Iterable<number>): { taken: number; complete: boolean } {
  const automaton = new JsonAutomaton();
  let state = automaton.start;
  let taken = 0;
  for (const byte of bytes) {
    const next = automaton.step(state, byte);
    if (next === dead) break;
    state = next;
    taken++;
  }
  return { taken, complete: automaton.isComplete(state) };
}

const accepts = (bytes: Uint8Array) => {
  const { taken, complete } = read(bytes);
  return complete && taken === bytes.length;
};

function isObject(text: string): boolean {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value);
  } catch {
    return false;
  }
}

const object = fc.dictionary(fc.string({ unit: 'grapheme' }), fc.jsonValue({ stringUnit: 'grapheme' }));
/** A valid text, indented or not. */
const validText = fc
  .tuple(object, fc.constantFrom(undefined, 1, 2, '\t'))
  .map(([value, indent]) => JSON.stringify(value, null, indent));

/** Pieces of JSON in any order: mostly wrong, sometimes right, often right for long. */
const pieces = [
  '{',
  '}',
  '[',
  ']',
  ',',
  ':',
  '"',
  '"a"',
  '\\',
  '\\u00',
  '1f',
  '-',
  '0',
  '12',
  '.5',
  'e',
  '+',
];
const words = ['true', 'nul', 'l', 'false', ' ', '\n', '\t', '\u00a0', 'é', '\u0000', '\u007f', '//'];
const jumble = fc.array(fc.constantFrom(...pieces, ...words), { maxLength: 12 });

describe('JsonAutomaton', () => {
  test('takes every JSON object, and is complete at its last byte only', () => {
    fc.assert(
      fc.property(validText, (text) => {
        const bytes = utf8(text);
        expect(read(bytes)).toEqual({ taken: bytes.length, complete: true });
        expect(read(bytes.subarray(0, -1)).complete).toBe(false);
        expect(read([...bytes, 0x20]).taken).toBe(bytes.length);
      }),
      { numRuns: 500 },
    );
  });

  test('decides as JSON.parse does on jumbled, and on damaged valid texts', () => {
    const damaged = fc
      .tuple(validText, fc.nat(), fc.nat(3), fc.constantFrom('', ...pieces, ...words))
      .map(([text, at, cut, insert]) => {
        const place = at % (text.length + 1);
        return text.slice(0, place) + insert + text.slice(place + cut);
      });
    let right = 0;
    const decides = (text: string) => {
      if (/\s$/.test(text) || /\p{Surrogate}/u.test(text)) return; // no white space at the end, no broken characters
      expect({ text, accepted: accepts(utf8(text)) }).toEqual({ text, accepted: isObject(text) });
      if (isObject(text)) right++;
    };
    fc.assert(
      fc.property(jumble, (parts) => decides(`{"k":${parts.join('')}}`)),
      { numRuns: 3000 },
    );
    fc.assert(fc.property(damaged, decides), { numRuns: 2000 });
    expect(right).toBeGreaterThan(100);
  });

  test('whatever bytes it has taken can be completed to a valid text', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(1000), { minLength: 1, maxLength: 60 }), (choices) => {
        const automaton = new JsonAutomaton();
        let state = automaton.start;
        const bytes: number[] = [];
        const possible = () =>
          Array.from({ length: 256 }, (_, byte) => byte).filter((b) => automaton.step(state, b) !== dead);
        const take = (byte: number) => {
          state = automaton.step(state, byte);
          bytes.push(byte);
        };
        for (const choice of choices) {
          const options = possible();
          if (options.length === 0) break;
          take(options[choice % options.length]!);
        }
        // The way out: close what can be closed, else finish the string, number, word or character.
        const wayOut = [...'"}]:0ruelas']
          .map((character) => character.charCodeAt(0))
          .concat(0x80, 0xa0, 0x7b);
        for (let i = 0; i < 1000 && !automaton.isComplete(state); i++) {
          take(wayOut.find((byte) => automaton.step(state, byte) !== dead)!);
        }
        expect(isObject(new TextDecoder('utf-8', { fatal: true }).decode(Uint8Array.from(bytes)))).toBe(true);
      }),
      { numRuns: 2000 },
    );
  });

  test('strings hold well-formed UTF-8, as a strict decoder has it', () => {
    const isUtf8 = (bytes: Uint8Array) => {
      try {
        new TextDecoder('utf-8', { fatal: true }).decode(bytes);
        return true;
      } catch {
        return false;
      }
    };
    const inString = (bytes: readonly number[]) =>
      Uint8Array.from([...utf8('{"'), ...bytes, ...utf8('":0}')]);
    const high = fc.integer({ min: 0x7f, max: 0xff });
    const bytes = fc.array(
      fc.oneof(high, fc.constantFrom(0xe0, 0xed, 0xf0, 0xf4, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf)),
      {
        maxLength: 4,
      },
    );
    fc.assert(
      fc.property(bytes, (inside) => {
        expect(accepts(inString(inside))).toBe(isUtf8(inString(inside)));
      }),
      { numRuns: 5000 },
    );
    for (const lead of [0xc3, 0xe0, 0xe1, 0xed, 0xf0, 0xf1, 0xf4]) {
      for (let second = 0x7f; second < 0x100; second++) {
        for (const tail of [[], [0x80], [0x80, 0xbf]]) {
          const text = inString([lead, second, ...tail]);
          expect(accepts(text), text.join(' ')).toBe(isUtf8(text));
        }
      }
    }
  });

  test('white space is bounded in every place, and starts anew behind each token', () => {
    const blank = ' '.repeat(mostWhiteSpaceBytes);
    const parts = [
      '{',
      '"a"',
      ':',
      '[',
      '1',
      ',',
      'true',
      ',',
      '{',
      '}',
      ',',
      '""',
      ',',
      '-0.5e3',
      ']',
      ',',
      '"b"',
      ':',
      'null',
      '}',
    ];
    expect(accepts(utf8(` ${parts.join(blank)}`))).toBe(true);
    expect(accepts(utf8(`  ${parts.join(blank)}`))).toBe(false);
    for (let place = 1; place < parts.length; place++) {
      const text = `${parts.slice(0, place).join('')}${blank}\n${parts.slice(place).join('')}`;
      expect(isObject(text)).toBe(true);
      expect(accepts(utf8(text)), text).toBe(false);
    }
  });

  test('depth is bounded', () => {
    const nested = (levels: number) => `{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
    expect(accepts(utf8(nested(mostDepth)))).toBe(true);
    expect(accepts(utf8(nested(mostDepth + 1)))).toBe(false);
  });

  test('only an object is a reply', () => {
    for (const text of ['[]', '"a"', '1', 'null', '', ' ', '{"a":1}{}'])
      expect(accepts(utf8(text))).toBe(false);
  });
});

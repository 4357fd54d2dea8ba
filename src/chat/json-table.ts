/** The byte-level transitions of JSON (RFC 8259) without its nesting: what may follow within one mode. */

/** Modes fit in 6 bits; a table entry from 64 on is an action on the stack or on the run of white space. */
export const modeBits = 6;
/** No transition. */
export const reject = 0;

export const Action = {
  openObject: 64,
  openArray: 65,
  closeObject: 66,
  closeArray: 67,
  comma: 68,
  /** White space where the mode stays. */
  space: 69,
  /** White space that ends a number. */
  spaceAfterNumber: 70,
} as const;

/** Modes outside strings, numbers and words that have names elsewhere. */
export const Mode = {
  /** Before the opening brace. */
  start: 1,
  /** After the closing one. */
  end: 2,
  objectOpen: 3,
  nextKey: 4,
  afterKey: 5,
  value: 6,
  arrayOpen: 7,
  afterValue: 8,
} as const;

const code = (character: string) => character.charCodeAt(0);
const digits = range(code('0'), code('9'));
const hexDigits = [...digits, ...range(code('a'), code('f')), ...range(code('A'), code('F'))];
const spaces = [0x20, 0x09, 0x0a, 0x0d];

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}

class TableBuilder {
  readonly table = new Uint8Array(256 << modeBits);
  #modes = Math.max(...Object.values(Mode)) + 1;

  mode(): number {
    return this.#modes++;
  }

  on(mode: number, bytes: number | readonly number[], to: number): void {
    for (const byte of [bytes].flat()) this.table[(mode << 8) | byte] = to;
  }
}

/**
 * A string's inside up to its closing quote, which leads to `after`. UTF-8 as in Unicode's table 3-7: no overlong forms, no
 * surrogates, nothing above U+10FFFF. Returns the mode behind the opening quote.
 */
function addString(builder: TableBuilder, after: number): number {
  const [body, escaped] = [builder.mode(), builder.mode()];
  builder.on(body, range(0x20, 0x7f), body);
  builder.on(body, code('"'), after);
  builder.on(body, code('\\'), escaped);
  builder.on(escaped, [...'"\\/bfnrt'].map(code), body);
  let next = body;
  for (let left = 1; left <= 4; left++) {
    const hex = builder.mode();
    builder.on(hex, hexDigits, next);
    next = hex;
  }
  builder.on(escaped, code('u'), next);
  const [one, two, three] = [builder.mode(), builder.mode(), builder.mode()];
  builder.on(one, range(0x80, 0xbf), body);
  builder.on(two, range(0x80, 0xbf), one);
  builder.on(three, range(0x80, 0xbf), two);
  builder.on(body, range(0xc2, 0xdf), one);
  builder.on(body, range(0xe1, 0xef), two);
  builder.on(body, range(0xf1, 0xf3), three);
  for (const [lead, first, last, to] of [
    [0xe0, 0xa0, 0xbf, one],
    [0xed, 0x80, 0x9f, one],
    [0xf0, 0x90, 0xbf, two],
    [0xf4, 0x80, 0x8f, two],
  ] as const) {
    const second = builder.mode();
    builder.on(body, lead, second);
    builder.on(second, range(first, last), to);
  }
  return body;
}

/** What may follow a value: white space aside, a comma or the end of what it lies in. */
function addValueEnd(builder: TableBuilder, mode: number, space: number): void {
  builder.on(mode, code(','), Action.comma);
  builder.on(mode, code('}'), Action.closeObject);
  builder.on(mode, code(']'), Action.closeArray);
  builder.on(mode, spaces, space);
}

/** Returns the transitions that begin a number. */
function addNumber(
  builder: TableBuilder,
): readonly (readonly [bytes: number | readonly number[], to: number])[] {
  const [minus, zero, integer, point] = [builder.mode(), builder.mode(), builder.mode(), builder.mode()];
  const [fraction, e, sign, exponent] = [builder.mode(), builder.mode(), builder.mode(), builder.mode()];
  const ends = [zero, integer, fraction, exponent];
  for (const mode of ends) addValueEnd(builder, mode, Action.spaceAfterNumber);
  builder.on(minus, code('0'), zero);
  builder.on(minus, digits.slice(1), integer);
  builder.on(integer, digits, integer);
  for (const mode of [zero, integer]) builder.on(mode, code('.'), point);
  for (const mode of [point, fraction]) builder.on(mode, digits, fraction);
  for (const mode of [zero, integer, fraction]) builder.on(mode, [code('e'), code('E')], e);
  builder.on(e, [code('+'), code('-')], sign);
  for (const mode of [e, sign, exponent]) builder.on(mode, digits, exponent);
  return [
    [code('-'), minus],
    [code('0'), zero],
    [digits.slice(1), integer],
  ];
}

function addWord(builder: TableBuilder, word: string): readonly [byte: number, to: number] {
  let to: number = Mode.afterValue;
  for (const letter of [...word].slice(1).reverse()) {
    const mode = builder.mode();
    builder.on(mode, code(letter), to);
    to = mode;
  }
  return [code(word), to];
}

function buildTable(): Uint8Array {
  const builder = new TableBuilder();
  const key = addString(builder, Mode.afterKey);
  const starts: (readonly [bytes: number | readonly number[], to: number])[] = [
    [code('{'), Action.openObject],
    [code('['), Action.openArray],
    [code('"'), addString(builder, Mode.afterValue)],
    ...addNumber(builder),
    ...['true', 'false', 'null'].map((word) => addWord(builder, word)),
  ];
  for (const mode of [Mode.value, Mode.arrayOpen]) {
    for (const [bytes, to] of starts) builder.on(mode, bytes, to);
  }
  builder.on(Mode.start, code('{'), Action.openObject);
  builder.on(Mode.objectOpen, code('}'), Action.closeObject);
  builder.on(Mode.arrayOpen, code(']'), Action.closeArray);
  for (const mode of [Mode.objectOpen, Mode.nextKey]) builder.on(mode, code('"'), key);
  builder.on(Mode.afterKey, code(':'), Mode.value);
  addValueEnd(builder, Mode.afterValue, Action.space);
  const { start, objectOpen, nextKey, afterKey, value, arrayOpen } = Mode;
  for (const mode of [start, objectOpen, nextKey, afterKey, value, arrayOpen]) {
    builder.on(mode, spaces, Action.space);
  }
  return builder.table;
}

/** Entry `mode << 8 | byte`: the mode that follows, an {@link Action}, or {@link reject}. */
export const jsonTable: Uint8Array = buildTable();

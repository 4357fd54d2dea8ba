/**
 * Marks the origin of characters through a template: message text is rendered with stand-ins from Unicode's
 * private-use area for every character that could be part of a control token, so a control token found in the
 * rendered text can only have been written by the template. Stand-ins are no white space, as the characters they
 * replace, so a template's `trim` treats both alike.
 */
const PRIVATE_USE_FIRST = 0xe000;
const PRIVATE_USE_LAST = 0xf8ff;

/** More messages text than private-use characters are left for: no real text does that. */
export class TextMaskError extends Error {
  override readonly name = 'TextMaskError';
}

export class TextMask {
  readonly #standIns: ReadonlyMap<string, string>;
  readonly #originals: ReadonlyMap<string, string>;
  readonly #maskable: RegExp;
  readonly #masked: RegExp;

  /**
   * @param controlTexts the texts that must not arise from message text
   * @param present every text that is rendered together (messages, template, role names): their characters are
   *   never used as stand-ins
   * @throws {TextMaskError} when `present` leaves too few private-use characters
   */
  constructor(controlTexts: readonly string[], present: readonly string[]) {
    const units = [...new Set(controlTexts.flatMap((text) => text.split('')))].filter(
      (unit) => unit.trim() !== '',
    );
    const taken = new Set(present.flatMap((text) => text.match(/[\uE000-\uF8FF]/g) ?? []));
    const standIns = freeCharacters(taken, units.length);
    this.#standIns = new Map(units.map((unit, index) => [unit, standIns[index]!]));
    this.#originals = new Map(units.map((unit, index) => [standIns[index]!, unit]));
    this.#maskable = anyOf(units);
    this.#masked = anyOf(standIns);
  }

  /** Replaces every character that occurs in some control token. Length in UTF-16 units is kept. */
  mask(text: string): string {
    return text.replace(this.#maskable, (unit) => this.#standIns.get(unit)!);
  }

  /** Masks only the occurrences of `pattern`, over and over until none is left (they may overlap). */
  maskOccurrences(text: string, pattern: RegExp): string {
    let masked = text;
    while (masked.search(pattern) >= 0) masked = masked.replace(pattern, (match) => this.mask(match));
    return masked;
  }

  unmask(text: string): string {
    return text.replace(this.#masked, (standIn) => this.#originals.get(standIn)!);
  }
}

function freeCharacters(taken: ReadonlySet<string>, count: number): string[] {
  const free: string[] = [];
  for (let code = PRIVATE_USE_FIRST; code <= PRIVATE_USE_LAST && free.length < count; code++) {
    const character = String.fromCharCode(code);
    if (!taken.has(character)) free.push(character);
  }
  if (free.length < count) {
    throw new TextMaskError(
      `expected ${count} private-use characters that the text leaves unused, found ${free.length}`,
    );
  }
  return free;
}

/** Matches any one of the UTF-16 units; nothing when there are none. */
function anyOf(units: readonly string[]): RegExp {
  const escaped = units.map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`);
  return new RegExp(escaped.length === 0 ? '(?!)' : `[${escaped.join('')}]`, 'g');
}

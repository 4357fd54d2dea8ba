/** A pushdown automaton that reads one JSON object byte by byte. */
import { Action, jsonTable, Mode, modeBits, reject } from './json-table';

/** White space in a row at most: a model that indents fits, one that writes blanks for ever does not. */
export const mostWhiteSpaceBytes = 32;
/** Before the object: tokenizers that put a space in front of a text need one; a model that was not asked for JSON would take all. */
const mostLeadingBytes = 1;
/** Objects and arrays within each other at most. */
export const mostDepth = 256;

/**
 * A state as one number: the mode in the low 6 bits, the white space before it in the next 6, the stack above. A number, so
 * that a walk over a whole vocabulary copies and compares states at no cost.
 */
export type JsonState = number;

/** What follows a byte that cannot come. */
export const dead: JsonState = -1;

const runBits = 6;
const runStep = 1 << modeBits;
const lowMask = (1 << (modeBits + runBits)) - 1;
const stackStep = lowMask + 1;

type Kind = 'object' | 'array';

/**
 * Accepts an object, as `JSON.parse` would, with at most {@link mostWhiteSpaceBytes} of white space in a row, at most
 * {@link mostDepth} levels, in well-formed UTF-8, at most one white space in front and nothing behind the closing brace.
 *
 * Stacks are interned: each is a number, equal for equal stacks; so states are numbers, too, and can be keys.
 */
export class JsonAutomaton {
  readonly start: JsonState = Mode.start + (mostWhiteSpaceBytes - mostLeadingBytes) * runStep;
  /** Per stack: what is on top, the stack below, and the stacks made by pushing onto it. Stack 0 is empty. */
  readonly #kind: (Kind | null)[] = [null];
  readonly #below: number[] = [0];
  readonly #depth: number[] = [0];
  readonly #above: { object?: number; array?: number }[] = [{}];

  /** The state after one more byte; {@link dead} when it cannot come. */
  step(state: JsonState, byte: number): JsonState {
    const low = state & lowMask; // exact for any safe integer
    const next = jsonTable[((low & (runStep - 1)) << 8) | byte]!;
    if (next < runStep) return next === reject ? dead : state - low + next;
    return this.#act(next, state, low);
  }

  /** The whole object has been read: nothing may follow. */
  isComplete(state: JsonState): boolean {
    return (state & (runStep - 1)) === Mode.end;
  }

  #act(action: number, state: JsonState, low: number): JsonState {
    const stack = (state - low) / stackStep;
    switch (action) {
      case Action.space:
        return Math.floor(low / runStep) < mostWhiteSpaceBytes ? state + runStep : dead;
      case Action.spaceAfterNumber:
        return state - low + runStep + Mode.afterValue;
      case Action.comma:
        return state - low + (this.#kind[stack] === 'object' ? Mode.nextKey : Mode.value);
      case Action.openObject:
        return this.#push(stack, 'object', Mode.objectOpen);
      case Action.openArray:
        return this.#push(stack, 'array', Mode.arrayOpen);
      default:
        return this.#pop(stack, action === Action.closeObject ? 'object' : 'array');
    }
  }

  #push(stack: number, kind: Kind, mode: number): JsonState {
    const depth = this.#depth[stack]! + 1;
    if (depth > mostDepth) return dead;
    let pushed = this.#above[stack]![kind];
    if (pushed === undefined) {
      pushed = this.#kind.length;
      this.#above[stack]![kind] = pushed;
      this.#kind.push(kind);
      this.#below.push(stack);
      this.#depth.push(depth);
      this.#above.push({});
    }
    return pushed * stackStep + mode;
  }

  #pop(stack: number, kind: Kind): JsonState {
    if (this.#kind[stack] !== kind) return dead;
    const below = this.#below[stack]!;
    return below * stackStep + (below === 0 ? Mode.end : Mode.afterValue);
  }
}

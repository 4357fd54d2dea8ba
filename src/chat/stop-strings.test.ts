import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopStringError, StopStringMatcher } from './stop-strings';

function run(stops: readonly string[], deltas: readonly string[]): { text: string; stopped: boolean } {
  const matcher = new StopStringMatcher(stops);
  let text = '';
  for (const delta of deltas) {
    const { emit, stopped } = matcher.push(delta);
    text += emit;
    if (stopped) return { text, stopped };
  }
  return { text: text + matcher.flush(), stopped: false };
}

/** On the whole text: the stop string that ends first, of those the longest. */
function reference(stops: readonly string[], whole: string): { text: string; stopped: boolean } {
  const found = stops
    .filter((stop) => whole.includes(stop))
    .map((stop) => ({ start: whole.indexOf(stop), end: whole.indexOf(stop) + stop.length }))
    .sort((a, b) => a.end - b.end || a.start - b.start)[0];
  return found === undefined
    ? { text: whole, stopped: false }
    : { text: whole.slice(0, found.start), stopped: true };
}

/** Few letters, so that stop strings and near misses are common. */
const letters = (constraints: fc.StringConstraints) =>
  fc.string({ unit: fc.constantFrom('a', 'b', '\n'), ...constraints });
const deltas = fc.array(letters({ maxLength: 5 }), { maxLength: 12 });

describe('StopStringMatcher', () => {
  test('equals the search in the whole text, however it is cut', () => {
    fc.assert(
      fc.property(
        fc.array(letters({ minLength: 1, maxLength: 4 }), { maxLength: 3 }),
        deltas,
        (stops, cut) => {
          expect(run(stops, cut)).toEqual(reference(stops, cut.join('')));
        },
      ),
      { numRuns: 5000 },
    );
  });

  test('holds back no more than a possible beginning', () => {
    fc.assert(
      fc.property(letters({ minLength: 1, maxLength: 4 }), deltas, (stop, cut) => {
        const matcher = new StopStringMatcher([stop]);
        let seen = '';
        let shown = '';
        for (const delta of cut) {
          seen += delta;
          const { emit, stopped } = matcher.push(delta);
          shown += emit;
          if (stopped) return;
          const held = seen.slice(shown.length);
          expect(seen.startsWith(shown)).toBe(true);
          expect(stop.length > held.length && stop.startsWith(held)).toBe(true);
        }
      }),
      { numRuns: 2000 },
    );
  });

  test('shows text at once when it cannot be the beginning of a stop string', () => {
    const matcher = new StopStringMatcher(['\nUser:']);
    expect(matcher.push('Hello')).toEqual({ emit: 'Hello', stopped: false });
    expect(matcher.push(' you\nUs')).toEqual({ emit: ' you', stopped: false });
    expect(matcher.push('ing')).toEqual({ emit: '\nUsing', stopped: false });
    expect(matcher.push('\nUser: more')).toEqual({ emit: '', stopped: true });
    expect(matcher.push('late')).toEqual({ emit: '', stopped: true });
    expect(matcher.flush()).toBe('');
  });

  test('without stop strings passes everything on', () => {
    expect(run([], ['a', '', 'b'])).toEqual({ text: 'ab', stopped: false });
  });

  test('cuts no character in two', () => {
    const matcher = new StopStringMatcher(['😀😁']);
    expect(matcher.push('a😀')).toEqual({ emit: 'a', stopped: false });
    expect(matcher.push('😂')).toEqual({ emit: '😀😂', stopped: false });
  });

  test('refuses an empty stop string', () => {
    expect(() => new StopStringMatcher(['a', ''])).toThrow(StopStringError);
    expect(() => new StopStringMatcher(['a', ''])).toThrow(/stop\[1\]/);
  });
});

/**
 * Drafts for speculative decoding out of the text itself (prompt lookup decoding, Saxena, 2023): what followed the last
 * tokens when they occurred before is likely to follow them again, in summaries, edits and dialogues.
 */

/** Lengths of the last tokens looked for, longest first. */
const longestMatch = 4;
const shortestMatch = 2;

/**
 * Up to `most` tokens that followed the latest earlier occurrence of the last tokens of `ids`; none without one. Longer
 * matches win over later ones.
 */
export function draftTokens(ids: readonly number[], most: number): number[] {
  for (let length = Math.min(longestMatch, ids.length - 1); length >= shortestMatch; length--) {
    const tail = ids.length - length;
    for (let start = tail - 1; start >= 0; start--) {
      if (matches(ids, start, tail, length)) return ids.slice(start + length, start + length + most);
    }
  }
  return [];
}

function matches(ids: readonly number[], a: number, b: number, length: number): boolean {
  for (let i = 0; i < length; i++) {
    if (ids[a + i] !== ids[b + i]) return false;
  }
  return true;
}

/** How many drafted tokens the model drew itself: `drawn[i]` is what it draws after the tokens before `draft[i]`. */
export function acceptedTokens(draft: readonly number[], drawn: readonly number[]): number {
  let count = 0;
  while (count < draft.length && draft[count] === drawn[count]) count++;
  return count;
}

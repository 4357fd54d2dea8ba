/** A vocabulary as a trie over the tokens' bytes, laid out flat in the order of a depth-first walk. */

export interface TokenPiece {
  readonly id: number;
  /** At least one. */
  readonly bytes: Uint8Array;
}

/**
 * Node i is the byte `byte[i]` at `depth[i]` (1 for a token's first); its subtree is the nodes up to `skip[i]`, and the
 * tokens that end at it are `ids[idsEnd[i - 1] .. idsEnd[i])`. A walk is one loop over i that adds 1 or jumps to `skip[i]`.
 */
export class TokenTrie {
  private constructor(
    readonly byte: Uint8Array,
    readonly depth: Uint16Array,
    readonly skip: Uint32Array,
    readonly idsEnd: Uint32Array,
    readonly ids: Uint32Array,
    readonly mostDepth: number,
  ) {}

  static build(pieces: readonly TokenPiece[]): TokenTrie {
    const sorted = [...pieces].sort((a, b) => compareBytes(a.bytes, b.bytes));
    const mostNodes = sorted.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const [byte, depth] = [new Uint8Array(mostNodes), new Uint16Array(mostNodes)];
    const [skip, idsEnd] = [new Uint32Array(mostNodes), new Uint32Array(mostNodes)];
    const path: number[] = []; // the nodes from the root to the token before
    let [nodes, last] = [0, new Uint8Array(0) as Uint8Array];
    sorted.forEach(({ bytes }, index) => {
      const shared = commonPrefix(last, bytes);
      while (path.length > shared) skip[path.pop()!] = nodes;
      for (let i = shared; i < bytes.length; i++) {
        byte[nodes] = bytes[i]!;
        depth[nodes] = i + 1;
        idsEnd[nodes] = index; // no token ends here yet
        path.push(nodes++);
      }
      idsEnd[path.at(-1)!] = index + 1;
      last = bytes;
    });
    while (path.length > 0) skip[path.pop()!] = nodes;
    return new TokenTrie(
      byte.slice(0, nodes),
      depth.slice(0, nodes),
      skip.slice(0, nodes),
      idsEnd.slice(0, nodes),
      Uint32Array.from(sorted, ({ id }) => id),
      Math.max(0, ...new Set(sorted.map(({ bytes }) => bytes.length))),
    );
  }

  get nodeCount(): number {
    return this.byte.length;
  }

  /**
   * Sets bit `id mod 32` of word `⌊id / 32⌋` of `mask` for every token whose bytes `step` takes one after the other.
   * @param step the state after a byte; negative when it cannot come
   */
  allow(start: number, step: (state: number, byte: number) => number, mask: Uint32Array): void {
    const { byte, depth, skip, idsEnd, ids, nodeCount } = this;
    const states = new Float64Array(this.mostDepth + 1);
    states[0] = start;
    for (let node = 0; node < nodeCount; ) {
      const at = depth[node]!;
      const state = step(states[at - 1]!, byte[node]!);
      if (state < 0) {
        node = skip[node]!;
        continue;
      }
      states[at] = state;
      for (let i = node === 0 ? 0 : idsEnd[node - 1]!; i < idsEnd[node]!; i++) {
        const id = ids[i]!;
        mask[id >>> 5]! |= 1 << (id & 31);
      }
      node++;
    }
  }
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const shared = commonPrefix(a, b);
  if (shared === a.length || shared === b.length) return a.length - b.length;
  return a[shared]! - b[shared]!;
}

function commonPrefix(a: Uint8Array, b: Uint8Array): number {
  const length = Math.min(a.length, b.length);
  let shared = 0;
  while (shared < length && a[shared] === b[shared]) shared++;
  return shared;
}

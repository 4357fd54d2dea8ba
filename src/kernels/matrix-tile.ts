/**
 * WGSL of the int4 product on subgroup matrices (i8 × i8 → i32, 16 × 16 × 32) for one shape of tile, to be put behind
 * matmul_w4_sgm_frame.wgsl, which says what it computes.
 *
 * It is written out here because accumulators have to be variables of their own, and offsets of matrices constants: arrays of
 * accumulators end up in memory, and a loop over a step's matrices takes 1.5 to 2 times as long (docs/LOG.md).
 */

export interface MatrixTile {
  /** Tokens of a tile; its rows are 128. */
  readonly tokens: 64 | 128;
  /** Elements of K that a step stages in workgroup memory: fewer barriers, or room for more workgroups. */
  readonly step: 64 | 128;
}

export const matrixTiles = [
  { tokens: 64, step: 64 },
  { tokens: 64, step: 128 },
  { tokens: 128, step: 64 },
  { tokens: 128, step: 128 },
] as const satisfies readonly MatrixTile[];

/** Rows of a tile. */
export const tileRows = 128;

/** Processors of the GPU that the figures below are of; WebGPU does not tell how many another one has. */
const processors = 132;

/** How many workgroups a processor runs together, and how long they take beside each other, in any unit. */
function turnOf({ tokens, step }: MatrixTile): { readonly together: number; readonly time: number } {
  if (step === 128) return { together: 1, time: tokens === 64 ? 37 : 46 };
  return tokens === 64 ? { together: 3, time: 68 } : { together: 2, time: 76 };
}

/**
 * The tile of `tiles` whose turns on all processors take the shortest for a product of `rows` rows. Times (µs at K = 4,096) are
 * measured on an H200; what they foretell for 32 to 1,024 tokens of a 7B's products is within 4 % of the best (docs/LOG.md).
 */
export function chooseMatrixTile<Tile extends MatrixTile>(
  tiles: readonly Tile[],
  numTokens: number,
  rows: number,
): Tile {
  const timeOf = (tile: Tile) => {
    const { together, time } = turnOf(tile);
    const workgroups = Math.ceil(numTokens / tile.tokens) * Math.ceil(rows / tileRows);
    return time * Math.ceil(workgroups / (together * processors));
  };
  return tiles.reduce((best, tile) => (timeOf(tile) < timeOf(best) ? tile : best));
}

/** Subgroups along the tokens of a tile, and along its rows. */
const across = 2;
const matrix = 16; // tokens, or rows, of one
const matrixElems = 32; // of K
const pieceElems = 16; // of K, in a vec4u

/** Bytes of workgroup memory. */
export function tileBytes({ tokens, step }: MatrixTile): number {
  const staged = (tokens + tileRows) * (step / pieceElems + 1);
  const sums = across * across * 256; // of 16 tokens × 64 rows of each subgroup
  return 16 * Math.max(staged, sums);
}

const indices = (count: number) => Array.from({ length: count }, (_, i) => i);
/** `+ i · 16 lines`, and `+ k · 32 elements`. */
const linesOn = (i: number) => (i === 0 ? '' : ` + ${matrix * i}u * pitch`);
const elementsOn = (k: number) => (k === 0 ? '' : ` + ${(matrixElems / pieceElems) * k}u`);

/** Products of the k-th 32 elements of a step: `down` × `along` matrices of sums. */
function products(k: number, down: number, along: number): string[] {
  const right = (j: number) => `right${k}_${j}`;
  return [
    ...indices(along).map(
      (j) =>
        `let ${right(j)} = subgroupMatrixLoad<Right, col_major>(&tiles, rows_from${linesOn(j)}${elementsOn(k)}, pitch);`,
    ),
    ...indices(down).flatMap((i) => [
      `let left${k}_${i} = subgroupMatrixLoad<Left, row_major>(&tiles, tokens_from${linesOn(i)}${elementsOn(k)}, pitch);`,
      ...indices(along).map(
        (j) => `acc${i}_${j} = subgroupMatrixMultiplyAccumulate(left${k}_${i}, ${right(j)}, acc${i}_${j});`,
      ),
    ]),
  ];
}

/** Lays the sums of the i-th 16 tokens into workgroup memory, for the lanes to scale and write. */
function storedSums(i: number, along: number): string[] {
  return [
    'workgroupBarrier(); // what lies there has been read',
    ...indices(along).map(
      (j) => `subgroupMatrixStore<row_major>(&tiles, at + ${4 * j}u, acc${i}_${j}, sum_pitch);`,
    ),
    'workgroupBarrier();',
    `store_sums(at, t + ${matrix * i}u, r, lane);`,
  ];
}

/**
 * Each step, 128 invocations stage the tile's tokens and rows in workgroup memory, a byte an element, from registers loaded
 * while the step before was computed. Lines are 16 bytes longer than their elements, so that neighbours begin in different
 * banks. Four subgroups of 32, 2 along the tokens by 2 along the rows, own a quarter of the tile each. At the end a subgroup
 * lays 16 tokens × 64 rows of sums at a time into workgroup memory, and its lanes scale and write them row by row.
 * Workgroups go along the tokens first, so that those that run together share weights.
 */
export function matrixTileSource({ tokens, step }: MatrixTile): string {
  const down = tokens / across / matrix;
  const along = tileRows / across / matrix;
  const sums = indices(down).flatMap((i) => indices(along).map((j) => `acc${i}_${j}`));
  return `
const tile_tokens = ${tokens}u;
const tile_rows = ${tileRows}u;
const subgroups = ${across * across}u;
const invocations = subgroups * lanes;
const pieces = ${step / pieceElems}u; // of 16 elements of K, a step
const pitch = pieces + 1u; // vec4u between lines
const rows_at = tile_tokens * pitch; // where the weights begin
const lines = invocations / pieces; // between those that an invocation stages
const next_line = lines * pitch;
const own_tokens = tile_tokens / lines; // that an invocation stages
const own_rows = tile_rows / lines;

var<workgroup> tiles: array<vec4u, max((tile_tokens + tile_rows) * pitch, subgroups * sums)>; // tokens, then rows; after the last step, sums

@compute @workgroup_size(invocations)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) local: u32) {
  let first_token = group.x * tile_tokens;
  let first_row = group.y * tile_rows;
  if (first_token >= step.num_tokens || first_row >= params.rows) {
    return;
  }
  let token = first_token + local / pieces;
  let row = first_row + local / pieces;
  let piece = local % pieces;
  let slot = local / pieces * pitch + piece;
  let subgroup_token = local / lanes / ${across}u * (tile_tokens / ${across}u);
  let subgroup_row = local / lanes % ${across}u * (tile_rows / ${across}u);
  let tokens_from = subgroup_token * pitch;
  let rows_from = rows_at + subgroup_row * pitch;

  ${sums.map((sum) => `var ${sum}: Sums;`).join('\n  ')}
  var next_q: array<vec4u, own_tokens>;
  var next_w: array<vec2u, own_rows>;
  for (var i = 0u; i < own_tokens; i++) {
    next_q[i] = load_activations(token + i * lines, piece);
  }
  for (var i = 0u; i < own_rows; i++) {
    next_w[i] = load_weights(row + i * lines, piece);
  }
  for (var done = 0u; done < 2u * params.K_pieces; done += pieces) {
    workgroupBarrier();
    for (var i = 0u; i < own_tokens; i++) {
      tiles[slot + i * next_line] = next_q[i];
    }
    for (var i = 0u; i < own_rows; i++) {
      tiles[slot + rows_at + i * next_line] = unpack(next_w[i]);
    }
    workgroupBarrier();
    let next = done + pieces + piece;
    for (var i = 0u; i < own_tokens; i++) {
      next_q[i] = load_activations(token + i * lines, next);
    }
    for (var i = 0u; i < own_rows; i++) {
      next_w[i] = load_weights(row + i * lines, next);
    }
    ${indices(step / matrixElems)
      .flatMap((k) => products(k, down, along))
      .join('\n    ')}
  }

  let at = local / lanes * sums;
  let lane = local % lanes;
  let t = first_token + subgroup_token;
  let r = first_row + subgroup_row;
  ${indices(down)
    .flatMap((i) => storedSums(i, along))
    .join('\n  ')}
}
`;
}

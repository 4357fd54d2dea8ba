// Part of the persistent decode kernel: the int4 product of decode_product, on a token that lies in `activations`.
//   y[n] (+)= f32(sum_k q[k] * w[n,k]) * (scale_n * s) (+ bias_n)                                             (Eq. 5)
// i32 accumulators, exact; the float expressions are those of decode_product: same bits, where FUSES says what the device's compiler
// makes of a product and a sum there.
//
// A subgroup owns two neighbouring rows at a time; pairs of rows are dealt to the workgroups in turn, so that none has more
// than one pair for each of its subgroups more than another. Lanes own 16-byte pieces and, behind whole rounds of them, words, as in
// decode_product. The first pieces come from the caller, who loads them before it waits for the token.
// Preceded by persistent_weights.wgsl, w4_dot.wgsl, and a Sink, with what is added to its rows and how they are sent off.

override CAPACITY: u32 = 128; // pieces of a token that fit
override PIECES: u32 = 4; // 16-byte loads in flight per lane and row, at most max_pieces
override TAIL: u32 = 4; // rounds of words behind the pieces, at most max_tail
override ATTENTION_BIAS: bool = false; // of qkv and o
override MLP_BIAS: bool = false;
override FUSES: bool = true; // a product and a sum are rounded once

const max_pieces = 6u;
const max_tail = 4u;

// Words 0 .. 3 of piece p of the token at activations[p], words 4 .. 7 at activations[CAPACITY + p].
var<workgroup> activations: array<vec4u, 2u * CAPACITY>;

/// Four lanes' words (word, word + 1, ...) together; in uniform control flow. Words behind K' are dropped.
fn store_word(word: u32, packed: u32, K_pieces: u32) {
  let four = vec4u(packed, subgroupShuffleDown(packed, 1u), subgroupShuffleDown(packed, 2u), subgroupShuffleDown(packed, 3u));
  if (word % 4u == 0u && word < 8u * K_pieces) {
    activations[word / 4u % 2u * CAPACITY + word / 8u] = four;
  }
}

struct Chunk {
  upper: array<vec4u, max_pieces>,
  lower: array<vec4u, max_pieces>, // of the row below
}

struct Tail {
  upper: array<u32, max_tail>,
  lower: array<u32, max_tail>,
}

/// The first of the two rows that this subgroup takes in a turn; rows or more when there is none.
fn row_of(turn: u32, place: Place, grid: Grid) -> u32 {
  return 2u * ((turn * (WORKGROUP / grid.lanes) + place.local / grid.lanes) * grid.groups + grid.group);
}

/// Pieces of rounds chunk * PIECES + j of two rows, where there are such rows. No branches around single loads, so that all
/// are in flight at once: where there is no such piece, the last one, which nothing uses.
fn load_chunk(site: Site, row: u32, chunk: u32, place: Place, grid: Grid) -> Chunk {
  var loaded: Chunk;
  if (row < site.rows) {
    let upper = site.weight_at + row * site.K_pieces;
    let lower = upper + site.K_pieces;
    if (site.arena == 0u) {
      for (var j = 0u; j < PIECES; j++) {
        let piece = min((chunk * PIECES + j) * grid.lanes + place.lane, site.K_pieces - 1u);
        loaded.upper[j] = weights_0[upper + piece];
        loaded.lower[j] = weights_0[lower + piece];
      }
    } else {
      for (var j = 0u; j < PIECES; j++) {
        let piece = min((chunk * PIECES + j) * grid.lanes + place.lane, site.K_pieces - 1u);
        loaded.upper[j] = weights_1[upper + piece];
        loaded.lower[j] = weights_1[lower + piece];
      }
    }
  }
  return loaded;
}

/// Chunk 0 of this subgroup's first rows.
fn load_first(site: Site, place: Place, grid: Grid) -> Chunk {
  return load_chunk(site, row_of(0u, place, grid), 0u, place, grid);
}

/// Words behind the whole rounds, 0 where there are none.
fn load_tail(site: Site, row: u32, first: u32, place: Place, grid: Grid) -> Tail {
  var loaded: Tail;
  if (row < site.rows) {
    let upper = site.weight_at + row * site.K_pieces;
    let lower = upper + site.K_pieces;
    for (var j = 0u; j < TAIL; j++) {
      let word = first + j * grid.lanes + place.lane;
      let at = min(word, 4u * site.K_pieces - 1u);
      var two: vec2u;
      if (site.arena == 0u) {
        two = vec2u(weights_0[upper + at / 4u][at % 4u], weights_0[lower + at / 4u][at % 4u]);
      } else {
        two = vec2u(weights_1[upper + at / 4u][at % 4u], weights_1[lower + at / 4u][at % 4u]);
      }
      loaded.upper[j] = select(0u, two.x, at == word);
      loaded.lower[j] = select(0u, two.y, at == word);
    }
  }
  return loaded;
}

/// The two activation words that weight word `word` of a row meets.
fn activation_pair(word: u32, K_pieces: u32) -> vec2u {
  let at = min(word, 4u * K_pieces - 1u);
  let four = activations[at / 2u % 2u * CAPACITY + at / 4u];
  return select(four.xy, four.zw, at % 2u == 1u);
}

/// 8 times the sum of the activations that this lane meets in every row.
fn offset_share(K_pieces: u32, rounds: u32, place: Place, grid: Grid) -> i32 {
  const eights = 0x08080808u;
  var acc = 0;
  for (var round = 0u; round < rounds; round++) {
    let first = activations[round * grid.lanes + place.lane];
    let second = activations[CAPACITY + round * grid.lanes + place.lane];
    acc += dot4I8Packed(first.x, eights) + dot4I8Packed(first.y, eights) + dot4I8Packed(first.z, eights)
      + dot4I8Packed(first.w, eights) + dot4I8Packed(second.x, eights) + dot4I8Packed(second.y, eights)
      + dot4I8Packed(second.z, eights) + dot4I8Packed(second.w, eights);
  }
  for (var word = 4u * rounds * grid.lanes + place.lane; word < 4u * K_pieces; word += grid.lanes) {
    let pair = activation_pair(word, K_pieces);
    acc += dot4I8Packed(pair.x, eights) + dot4I8Packed(pair.y, eights);
  }
  return acc;
}

/// Floats n and n + 1 of a table, n even.
fn two_floats(table_at: u32, n: u32) -> vec2f {
  let four = bitcast<vec4f>(tables[table_at + n / 4u]);
  return select(four.xy, four.zw, n % 4u == 2u);
}

/// a b + c.
fn product_and_sum(a: vec2f, b: vec2f, c: vec2f) -> vec2f {
  if (FUSES) {
    return fma(a, b, c);
  }
  return a * b + c;
}

/// All rows of the product. `first` is chunk 0 of this subgroup's first rows; returns that of product `next`.
fn product(site: Site, next: Site, sink: Sink, has_bias: bool, token_scale: f32, first: Chunk, place: Place,
           grid: Grid) -> Chunk {
  let rounds = site.K_pieces / grid.lanes;
  let chunks = max(1u, (rounds + PIECES - 1u) / PIECES);
  let first_tail = 4u * rounds * grid.lanes;
  let offset = offset_share(site.K_pieces, rounds, place, grid);
  let turn_rows = 2u * (WORKGROUP / grid.lanes) * grid.groups;
  let turns = (site.rows + turn_rows - 2u * grid.group - 1u) / turn_rows; // of this workgroup's first subgroup
  var ahead = first;
  if (turns == 0u) {
    ahead = load_first(next, place, grid);
  }
  for (var turn = 0u; turn < turns; turn++) {
    let row = row_of(turn, place, grid);
    let n = min(row, site.rows - 2u);
    let scales = two_floats(site.scale_at, n);
    let before = values_before(sink, n);
    let tail = load_tail(site, row, first_tail, place, grid);
    var acc = -offset;
    var acc_below = -offset;
    for (var chunk = 0u; chunk < chunks; chunk++) {
      let current = ahead;
      if (chunk + 1u < chunks) {
        ahead = load_chunk(site, row, chunk + 1u, place, grid);
      } else if (turn + 1u < turns) {
        ahead = load_chunk(site, row_of(turn + 1u, place, grid), 0u, place, grid);
      } else {
        ahead = load_first(next, place, grid);
      }
      for (var j = 0u; j < PIECES; j++) {
        let round = chunk * PIECES + j;
        if (round < rounds) {
          let first_words = activations[round * grid.lanes + place.lane];
          let second_words = activations[CAPACITY + round * grid.lanes + place.lane];
          acc += dot32(current.upper[j], first_words, second_words);
          acc_below += dot32(current.lower[j], first_words, second_words);
        }
      }
    }
    for (var j = 0u; j < TAIL; j++) {
      let pair = activation_pair(first_tail + j * grid.lanes + place.lane, site.K_pieces);
      acc += dot8(tail.upper[j], pair);
      acc_below += dot8(tail.lower[j], pair);
    }
    let sums = vec2f(f32(subgroupAdd(acc)), f32(subgroupAdd(acc_below)));
    let factors = scales * token_scale;
    var values = sums * factors;
    if (has_bias) {
      values = product_and_sum(sums, factors, two_floats(site.bias_at, n));
    }
    if (adds(sink) && has_bias) {
      values += before;
    } else if (adds(sink)) {
      values = product_and_sum(sums, factors, before);
    }
    if (row < site.rows) {
      send(values, sink, n, place);
    }
  }
  return ahead;
}

// Part of the persistent decode kernel: scores of one piece's keys, sums in the order of attention_piece.wgsl, and their maximum.
// Preceded by persistent_attention_own.wgsl and attention_join.wgsl (lowest).

/// Up to four chunks of a key at once; named, because a compiler may put an array into memory.
struct KeyLoads {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
}

/// Two keys, LANES / 4 apart.
struct KeyPair {
  near: KeyLoads,
  far: KeyLoads,
}

/// Chunks of the row from `start`, every fourth; the last one again where there is no such chunk.
fn load_key(row: u32, start: u32, chunks: u32) -> KeyLoads {
  var key: KeyLoads;
  let at = row + start;
  let last = row + chunks - 1u;
  key.a = key_cache[min(at, last)];
  if (CHUNKS_AHEAD > 1u) {
    key.b = key_cache[min(at + 4u, last)];
  }
  if (CHUNKS_AHEAD > 2u) {
    key.c = key_cache[min(at + 8u, last)];
    key.d = key_cache[min(at + 12u, last)];
  }
  return key;
}

/// The token's own key, from workgroup memory.
fn own_key_loads(piece: Piece, start: u32, chunks: u32) -> KeyLoads {
  var key: KeyLoads;
  let at = piece.slot * most_chunks;
  key.a = own_key[at + min(start, chunks - 1u)];
  if (CHUNKS_AHEAD > 1u) {
    key.b = own_key[at + min(start + 4u, chunks - 1u)];
  }
  if (CHUNKS_AHEAD > 2u) {
    key.c = own_key[at + min(start + 8u, chunks - 1u)];
    key.d = own_key[at + min(start + 12u, chunks - 1u)];
  }
  return key;
}

/// Keys `key` and `key` + LANES / 4 of the piece; of the own one its neighbour.
fn load_keys(piece: Piece, key: u32, start: u32) -> KeyPair {
  let chunks = params.Dh / 8u;
  let last = max(piece.count, 1u) - 1u;
  let near = piece.first + min(key, last) * chunks;
  let far = piece.first + min(key + LANES / 4u, last) * chunks;
  return KeyPair(load_key(select(near, piece.other, near == piece.own), start, chunks),
                 load_key(select(far, piece.other, far == piece.own), start, chunks));
}

fn dot_chunk(chunk: vec4u, c: u32, query_at: u32, sum: f32) -> f32 {
  return fma_dot(high_half(chunk), query[query_at + 2u * c + 1u], fma_dot(low_half(chunk), query[query_at + 2u * c], sum));
}

fn dot_key(key: KeyLoads, start: u32, chunks: u32, query_at: u32, sum: f32) -> f32 {
  var total = sum;
  if (start < chunks) {
    total = dot_chunk(key.a, start, query_at, total);
  }
  if (CHUNKS_AHEAD > 1u && start + 4u < chunks) {
    total = dot_chunk(key.b, start + 4u, query_at, total);
  }
  if (CHUNKS_AHEAD > 2u && start + 8u < chunks) {
    total = dot_chunk(key.c, start + 8u, query_at, total);
  }
  if (CHUNKS_AHEAD > 2u && start + 12u < chunks) {
    total = dot_chunk(key.d, start + 12u, query_at, total);
  }
  return total;
}

/// Parts of the scores of the piece's keys, into `staged`.
fn score_parts(piece: Piece) {
  let chunks = params.Dh / 8u;
  let parts = piece.slot * 8u * value_pitch; // 4 of each key
  let q = piece.slot * (LANES / 4u);
  let part = piece.lane % 4u;
  for (var key = piece.lane / 4u; key < piece.count; key += LANES / 2u) {
    var sum = 0.0;
    var far_sum = 0.0;
    for (var start = part; start < chunks; start += 4u * CHUNKS_AHEAD) {
      var keys = load_keys(piece, key, start);
      if (piece.holds_own && key + 1u == piece.count) {
        keys.near = own_key_loads(piece, start, chunks);
      }
      if (piece.holds_own && key + LANES / 4u + 1u == piece.count) {
        keys.far = own_key_loads(piece, start, chunks);
      }
      sum = dot_key(keys.near, start, chunks, q, sum);
      far_sum = dot_key(keys.far, start, chunks, q, far_sum);
    }
    staged[parts + 4u * key + part] = sum;
    if (key + LANES / 4u < piece.count) {
      staged[parts + 4u * (key + LANES / 4u) + part] = far_sum;
    }
  }
}

/// Score of key `lane` of the piece; unused lanes get `lowest`.
fn piece_score(piece: Piece) -> f32 {
  if (piece.lane >= piece.count) {
    return lowest;
  }
  let first = piece.slot * 8u * value_pitch + 4u * piece.lane;
  return staged[first] + staged[first + 1u] + staged[first + 2u] + staged[first + 3u];
}

/// The largest of a slot's scores.
fn slot_maximum(score: f32, piece: Piece, lanes: u32) -> f32 {
  if (lanes <= LANES) { // subgroups lie within slots
    let of_subgroup = subgroupMax(score);
    let first = piece.slot * (LANES / 4u);
    if (piece.lane % lanes == 0u) {
      maxima[first + piece.lane / lanes] = of_subgroup;
    }
    workgroupBarrier();
    var largest_score = lowest;
    for (var i = 0u; i < LANES / lanes; i++) {
      largest_score = max(largest_score, maxima[first + i]);
    }
    return largest_score;
  }
  let own = piece.slot * LANES;
  scores[own + piece.lane] = score;
  workgroupBarrier();
  if (piece.lane < 16u) {
    var m = lowest;
    for (var i = piece.lane; i < LANES; i += 16u) {
      m = max(m, scores[own + i]);
    }
    maxima[piece.slot * 16u + piece.lane] = m;
  }
  workgroupBarrier();
  var m = lowest;
  for (var i = 0u; i < 16u; i++) {
    m = max(m, maxima[piece.slot * 16u + i]);
  }
  return m;
}

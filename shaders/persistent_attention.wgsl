// Part of the persistent decode kernel: rotation, KV append and attention of one token as attention_decode does them, pieces of
// LANES keys dealt to the workgroups in turn, WORKGROUP / LANES at a time in each; then the heads are dealt in the same way,
// and their pieces joined as attention_combine does. Sums in the order of attention_piece.wgsl: same bits.
//   out[h] = sum_k softmax(q . key_k * scale) value_k,   kv head = h / (H / Hkv)
// Preceded by persistent_attention_own.wgsl, persistent_attention_scores.wgsl, persistent_attention_values.wgsl (a piece) and
// attention_join.wgsl.

fn with_piece(a: Sums, b: Sums) -> Sums {
  let factors = join_factors(a.m, b.m);
  return Sums(factors.m, fma(a.l, factors.so_far, b.l * factors.piece), fma(a.o, factors.so_far, b.o * factors.piece));
}

/// All pieces of a head, four awaited together; element d.
fn join_pieces(partials_at: u32, d: u32, count: u32) -> Sums {
  let pitch = params.Dh + 2u;
  var sums = Sums(lowest, 0.0, 0.0);
  for (var first = 0u; first < count; first += 4u) {
    var at: array<u32, 24>;
    for (var i = 0u; i < 4u; i++) {
      let row = partials_at + min(first + i, count - 1u) * pitch;
      at[3u * i] = row + params.Dh;
      at[3u * i + 1u] = row + params.Dh + 1u;
      at[3u * i + 2u] = row + d;
    }
    let found = await_many(at, 12u);
    for (var i = 0u; i < 4u; i++) {
      if (first + i < count) {
        sums = with_piece(sums, Sums(found[3u * i], found[3u * i + 1u], found[3u * i + 2u]));
      }
    }
  }
  return sums;
}

/// A piece's sums for whoever joins them.
fn publish_piece(piece: Piece, sums: Sums, partials_at: u32) {
  let row = partials_at + (piece.head * params.pieces + piece.index) * (params.Dh + 2u);
  if (piece.lane < params.Dh) {
    publish(row + piece.lane, sums.o);
  }
  if (piece.lane == 0u) {
    publish(row + params.Dh, sums.m);
    publish(row + params.Dh + 1u, sums.l);
  }
}

fn publish_attended(attended_at: u32, head: u32, d: u32, sums: Sums) {
  publish(attended_at + plane_word(head * params.Dh + d, params.H * params.Dh), sums.o / sums.l);
}

/// Attention of all heads over the keys up to and with the token's own.
fn attend_heads(layer: u32, place: Place, grid: Grid) {
  let keys = step.position + 1u;
  let count = (keys + LANES - 1u) / LANES;
  let chunks = params.Dh / 8u;
  let slot = place.local / LANES;
  let lane = place.local % LANES;
  let attended_at = layer_at(layer) + params.attended_at;
  let partials_at = layer_at(layer) + params.partials_at;
  for (var first = grid.group; first < params.H * count; first += slots * grid.groups) {
    let item = first + slot * grid.groups;
    let is_there = item < params.H * count;
    let head = item % params.H;
    let index = select(0u, item / params.H, is_there);
    let own_keys = select(0u, min(LANES, keys - index * LANES), is_there);
    let rows = layer * params.layer_chunks + head / (params.H / params.Hkv) * params.context * chunks;
    let own = rows + step.position * chunks;
    let other = select(own - chunks, own + chunks, step.position == 0u);
    let piece = Piece(slot, lane, head, index, own_keys, rows + index * LANES * chunks, own, other,
                      is_there && index + 1u == count);
    workgroupBarrier(); // what lies in `staged` has been read
    stage_own(piece, layer_at(layer));
    workgroupBarrier();
    load_own(piece);
    let sums = attend(piece, grid.lanes);
    if (is_there && count > 1u) {
      publish_piece(piece, sums, partials_at);
    } else if (is_there && lane < params.Dh) {
      publish_attended(attended_at, head, lane, with_piece(Sums(lowest, 0.0, 0.0), sums));
    }
  }
  if (count > 1u) {
    workgroupBarrier(); // see await_few
    for (var head = grid.group + slot * grid.groups; head < params.H; head += slots * grid.groups) {
      if (lane < params.Dh) {
        let pieces_at = partials_at + head * params.pieces * (params.Dh + 2u);
        publish_attended(attended_at, head, lane, join_pieces(pieces_at, lane, count));
      }
    }
  }
}

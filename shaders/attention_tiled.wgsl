// Causal attention for prefill, 32 queries of one head a workgroup, the same bits as `attention` for every token:
//   out[t, h] = sum_j softmax_j(q[t, h] . k[j] / sqrt(Dh)) v[j],  j = 0 .. position + t,  kv head = h / (H / Hkv)
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (q rotated), key and value cache [Hkv, context, row] as kv_*.wgsl lay it out
//   ->  out [T, H Dh] f32.   Dh = 128, pieces of 256 keys, float32 throughout.
//
// Keys and values are read once for 32 queries (FlashAttention: Dao et al., 2022), yet every sum runs in the order that
// `attention` gives it. Scores: a key's 16 chunks of 8 elements make four parts (every fourth 16-byte load), each one chain of
// fma, parts added in order; so the chunks are walked part by part and two registers a score suffice. Values: 16
// groups of keys (g, g + 16, ... of the piece), each a chain of fma, groups added in order. Pieces are joined as there.
//
// 128 invocations. For scores, invocation (four, group), 8 x 16, owns queries 4 four .. 4 four + 3 and all keys of a group, so
// that it adds up their weights itself; half of the keys at a time, 4 x 8 of them. For values, (eight, b), 4 x 32, owns
// queries 8 eight .. 8 eight + 7 and four elements. Few invocations with many results each, because every result costs reads of
// workgroup memory; registers let a core of an H200 hold two such workgroups, and more of narrower ones gain nothing.
// 16-byte reads of 32 lanes take half as long where neighbouring lanes, or every other one, read the same, hence the zigzag
// in which lanes are dealt. One barrier a step: the next step's elements are laid into the other buffer, and those of the step
// behind it loaded into registers, while this one's are used. What is owned lies in matrices by name, not in an array: its
// index might be left to run time.
// A key that a query must not see has weight 0, which changes no sum; rows behind the pass are taken as 0.
// The last queries see most keys and go first, so that no long one is left at the end.
// Steps and minima of quantized rows are applied as attention_piece.wgsl says.
// Preceded by attention_tiled_stage.wgsl. Preconditions: position + T <= context, keys and values of this pass already in the cache.

/// Eight keys' scores with four queries each (a column a key), or four elements of eight queries (a column a query).
struct Eight {
  low: mat4x4f,
  high: mat4x4f,
}

fn added(x: Eight, y: Eight) -> Eight {
  return Eight(x.low + y.low, x.high + y.high);
}

/// Four elements of a key, their product with four queries (queries[element]) added to `sums`.
fn chained(sums: vec4f, key: vec4f, queries: mat4x4f) -> vec4f {
  let first = fma(vec4f(key.y), queries[1], fma(vec4f(key.x), queries[0], sums));
  return fma(vec4f(key.w), queries[3], fma(vec4f(key.z), queries[2], first));
}

/// A score step's products, added to `sums`: keys group, group + 16, .. of a half. Remainders show that indices are in bounds,
/// so that no check is made.
fn score_step(buffer: u32, sums: Eight, four: u32, group: u32) -> Eight {
  var s = sums;
  for (var half = 0u; half < 2u; half++) {
    let query = factors_at + 4u * query_fours * half + four % query_fours;
    let q = mat4x4f(tile[buffer][query], tile[buffer][query + query_fours], tile[buffer][query + 2u * query_fours],
                    tile[buffer][query + 3u * query_fours]);
    let key = half_keys * half + group % groups;
    s.low = mat4x4f(chained(s.low[0], tile[buffer][key], q), chained(s.low[1], tile[buffer][key + 16u], q),
                    chained(s.low[2], tile[buffer][key + 32u], q), chained(s.low[3], tile[buffer][key + 48u], q));
    s.high = mat4x4f(chained(s.high[0], tile[buffer][key + 64u], q), chained(s.high[1], tile[buffer][key + 80u], q),
                     chained(s.high[2], tile[buffer][key + 96u], q), chained(s.high[3], tile[buffer][key + 112u], q));
  }
  return s;
}

/// Scores of one half of a piece's keys. Step 16 half is in buffer 0 before, the one behind the last there afterwards.
fn half_scores(half: u32, work: Work, ahead: ptr<function, Ahead>, lane: u32, four: u32, group: u32) -> Eight {
  var scores = Eight();
  for (var part = 0u; part < 4u; part++) {
    var sums = Eight();
    for (var i = 0u; i < 4u; i += 2u) {
      let n = 16u * half + 4u * part + i;
      workgroupBarrier();
      *ahead = stage_scores(1u, n + 1u, work, *ahead, lane);
      sums = score_step(0u, sums, four, group);
      workgroupBarrier();
      *ahead = stage_scores(0u, n + 2u, work, *ahead, lane);
      sums = score_step(1u, sums, four, group);
    }
    scores = added(scores, sums);
  }
  return scores;
}

/// Scores of key `key` of the piece, scaled as its row is, `lowest` for queries that do not see it.
fn seen_scores(scores: vec4f, key: u32, work: Work, sums: vec4f, seen: vec4u) -> vec4f {
  var s = scores;
  if (scaled) {
    let row = key_scale(work.first + min(key, work.count - 1u));
    s = fma(vec4f(row.x), rounded_four(scores), rounded_four(row.y * sums));
  }
  return select(vec4f(lowest), s, vec4u(key) < seen);
}

fn four_seen_scores(s: mat4x4f, key: u32, work: Work, sums: vec4f, seen: vec4u) -> mat4x4f {
  return mat4x4f(seen_scores(s[0], key, work, sums, seen), seen_scores(s[1], key + groups, work, sums, seen),
                 seen_scores(s[2], key + 2u * groups, work, sums, seen), seen_scores(s[3], key + 3u * groups, work, sums, seen));
}

fn largest(s: mat4x4f) -> vec4f {
  return max(max(s[0], s[1]), max(s[2], s[3]));
}

/// Sums over a group: of weights, and of weighted minima.
struct GroupSums {
  l: vec4f,
  z: vec4f,
}

/// Weights of four keys from their scores, added to the group's sums; then what the keys' values are multiplied by.
fn weighed(s: mat4x4f, key: u32, work: Work, m: vec4f, seen: vec4u, sums: ptr<function, GroupSums>) -> mat4x4f {
  var factors = s;
  for (var i = 0u; i < 4u; i++) {
    let own = key + groups * i;
    // 0 for a key that a query does not see: its maximum may be `lowest` as well.
    factors[i] = select(vec4f(), exp(factors[i] - m), vec4u(own) < seen);
    (*sums).l += factors[i];
    if (scaled) {
      let row = value_scale(work.first + min(own, work.count - 1u));
      (*sums).z += rounded_four(factors[i] * row.y);
      factors[i] *= row.x;
    }
  }
  return factors;
}

/// A value step's products, added to `sums`.
fn value_step(buffer: u32, sums: Eight, eight: u32, b: u32) -> Eight {
  var s = sums;
  for (var i = 0u; i < half_members; i++) {
    let value = tile[buffer][fours * i + b % fours];
    let at = factors_at + query_fours * i + eight % 4u * 2u;
    let low = tile[buffer][at];
    let high = tile[buffer][at + 1u];
    s.low = mat4x4f(fma(vec4f(low.x), value, s.low[0]), fma(vec4f(low.y), value, s.low[1]),
                    fma(vec4f(low.z), value, s.low[2]), fma(vec4f(low.w), value, s.low[3]));
    s.high = mat4x4f(fma(vec4f(high.x), value, s.high[0]), fma(vec4f(high.y), value, s.high[1]),
                     fma(vec4f(high.z), value, s.high[2]), fma(vec4f(high.w), value, s.high[3]));
  }
  return s;
}

/// One query's sums over all pieces so far, in the lane of its number.
struct Query {
  m: f32,
  l: f32,
  z: f32,
}

/// Joins the piece whose groups' maxima and sums lie in the buffers, and leaves the factors for the values.
fn joined_query(query: Query, lane: u32) -> Query {
  let four = lane / 4u % query_fours;
  let e = lane % 4u;
  var piece = Query(lowest, 0.0, 0.0);
  for (var g = 0u; g < groups; g++) {
    piece.m = max(piece.m, tile[0][g * query_fours + four][e]);
    piece.l += tile[1][g * query_fours + four][e];
    if (scaled) {
      piece.z += tile[1][minima_at + g * query_fours + four][e];
    }
  }
  let f = join_factors(query.m, piece.m);
  factors_so_far[four][e] = f.so_far;
  factors_of_piece[four][e] = f.piece;
  return Query(f.m, fma(query.l, f.so_far, piece.l * f.piece), fma(query.z, f.so_far, piece.z * f.piece));
}

fn joined_values(o: mat4x4f, so_far: vec4f, v: mat4x4f, of_piece: vec4f) -> mat4x4f {
  return mat4x4f(fma(o[0], vec4f(so_far.x), v[0] * of_piece.x), fma(o[1], vec4f(so_far.y), v[1] * of_piece.y),
                 fma(o[2], vec4f(so_far.z), v[2] * of_piece.z), fma(o[3], vec4f(so_far.w), v[3] * of_piece.w));
}

/// Four queries' results, from token t on: four elements each.
fn write_four(t: u32, h: u32, b: u32, o: mat4x4f, z: vec4f, l: vec4f) {
  for (var i = 0u; i < 4u; i++) {
    if (t + i < step.num_tokens) {
      let at = ((t + i) * params.H + h) * fours + 2u * (b % chunks) + b / chunks; // half b / 16 of chunk b % 16
      out[at] = vec4f(joined(o[i].x, z[i], l[i]), joined(o[i].y, z[i], l[i]), joined(o[i].z, z[i], l[i]),
                      joined(o[i].w, z[i], l[i]));
    }
  }
}

@compute @workgroup_size(lanes)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  if (id.y * queries >= step.num_tokens) {
    return;
  }
  let first_token = ((step.num_tokens - 1u) / queries - id.y) * queries;
  let four = lane / 4u % 4u * 2u + lane % 2u; // a subgroup of 32 owns all fours of 4 groups
  let group = lane / 32u * 4u + lane / 16u % 2u * 2u + lane / 2u % 2u;
  let eight = lane / 16u % 2u * 2u + lane % 2u; // and all eights of 8 vec4 of values
  let b = lane / 32u * 8u + lane % 16u / 2u;
  let rows = h / (params.H / params.Hkv) * params.context;
  let end = step.position + min(first_token + queries, step.num_tokens);
  let own_keys = vec4u(step.position + first_token + 4u * four + 1u) + vec4u(0, 1, 2, 3); // that this lane's queries see

  if (scaled) {
    sum_queries(first_token, h, lane);
  }
  var query = Query(lowest, 0.0, 0.0);
  var o = Eight();
  for (var start = 0u; start < end; start += piece_keys) {
    let work = Work(h, first_token, rows + start, start, min(piece_keys, end - start));
    let has_far_keys = work.count > half_keys;

    var ahead = Ahead(load_keys(work, 0u, lane), load_query(work, 0u, lane));
    workgroupBarrier();
    ahead = stage_scores(0u, 0u, work, ahead, lane);
    var near = half_scores(0u, work, &ahead, lane, four, group);
    var far = Eight();
    if (has_far_keys) {
      far = half_scores(1u, work, &ahead, lane, four, group);
    }

    // From scores to weights.
    let sums = query_sums[four];
    let seen = max(own_keys, vec4u(start)) - vec4u(start); // keys of the piece
    near.low = four_seen_scores(near.low, group, work, sums, seen);
    near.high = four_seen_scores(near.high, group + 64u, work, sums, seen);
    far.low = four_seen_scores(far.low, group + 128u, work, sums, seen);
    far.high = four_seen_scores(far.high, group + 192u, work, sums, seen);
    workgroupBarrier();
    let own = group * query_fours + four;
    tile[0][own] = max(max(largest(near.low), largest(near.high)), max(largest(far.low), largest(far.high)));
    workgroupBarrier();
    var m = tile[0][four];
    for (var g = 1u; g < groups; g++) {
      m = max(m, tile[0][g * query_fours + four]);
    }
    var group_sums = GroupSums();
    near.low = weighed(near.low, group, work, m, seen, &group_sums);
    near.high = weighed(near.high, group + 64u, work, m, seen, &group_sums);
    far.low = weighed(far.low, group + 128u, work, m, seen, &group_sums);
    far.high = weighed(far.high, group + 192u, work, m, seen, &group_sums);
    tile[1][own] = group_sums.l;
    if (scaled) {
      tile[1][minima_at + own] = group_sums.z;
    }
    var value = load_value(work, 0u, lane);
    workgroupBarrier();
    if (lane < queries) {
      query = joined_query(query, lane);
    }
    workgroupBarrier();

    // Values, one group of keys after the other.
    stage_value(0u, value, lane);
    if (group == 0u) {
      stage_factors(0u, four, near.low, near.high);
    }
    value = load_value(work, 1u, lane);
    var v = Eight();
    for (var g = 0u; g < groups; g++) {
      workgroupBarrier();
      stage_value(1u, value, lane);
      if (group == g) {
        stage_factors(1u, four, far.low, far.high);
      }
      value = load_value(work, 2u * g + 2u, lane);
      var of_group = value_step(0u, Eight(), eight, b);
      workgroupBarrier();
      stage_value(0u, value, lane);
      if (group == g + 1u) {
        stage_factors(0u, four, near.low, near.high);
      }
      value = load_value(work, 2u * g + 3u, lane);
      if (has_far_keys) {
        of_group = value_step(1u, of_group, eight, b);
      }
      v = added(v, of_group);
    }
    let f = 2u * eight;
    o.low = joined_values(o.low, factors_so_far[f], v.low, factors_of_piece[f]);
    o.high = joined_values(o.high, factors_so_far[f + 1u], v.high, factors_of_piece[f + 1u]);
  }

  workgroupBarrier();
  if (lane < queries) {
    factors_so_far[lane / 4u][lane % 4u] = query.l;
    factors_of_piece[lane / 4u][lane % 4u] = query.z;
  }
  workgroupBarrier();
  let f = 2u * eight;
  let t = first_token + 8u * eight;
  write_four(t, h, b, o.low, factors_of_piece[f], factors_so_far[f]);
  write_four(t + 4u, h, b, o.high, factors_of_piece[f + 1u], factors_so_far[f + 1u]);
}

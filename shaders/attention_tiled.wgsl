// Causal attention for prefill, 32 queries of one head a workgroup, the same bits as `attention` for every token:
//   out[t, h] = sum_j softmax_j(q[t, h] . k[j] / sqrt(Dh)) v[j],  j = 0 .. position + t,  kv head = h / (H / Hkv)
//
//   qkv [T, (H + 2 Hkv) Dh] f32 (q rotated), key and value cache [Hkv, context, row] as kv_*.wgsl lay it out
//   ->  out [T, H Dh] f32.   Dh = 128, pieces of 256 keys, float32 throughout.
//
// Keys and values are read once for 32 queries (FlashAttention: Dao et al., 2022), yet every sum runs in the order that
// `attention` gives it. Scores: a key's 16 chunks of 8 elements make four parts (every fourth 16-byte load), each one chain of
// fma, parts added in order; so the chunks are walked part by part and two registers a score suffice. Values: 16
// groups of keys (g, g + 16, ... of the piece), each a chain of fma, groups added in order; so a tile is the 16 keys of
// one group. Pieces are joined as there.
// 256 invocations. For scores, invocation (a, b), 8 x 32, owns queries 4a .. 4a + 3 and the keys b, b + 32, ... b + 224 of the
// piece: all of one group, kept in registers until its turn. For values it owns the same queries and four elements.
// Workgroup memory is what limits: 16-byte reads of 32 lanes take half as long where neighbouring lanes, or every other
// one, read the same, hence the zigzag in which lanes are dealt. What a step stages was loaded into registers during the step before.
// A key that a query must not see has weight 0, which changes no sum; rows behind the pass are taken as 0.
// The last queries see most keys and go first, so that no long one is left at the end.
// Steps and minima of quantized rows are applied as attention_piece.wgsl says.
// Preceded by attention_tiled_stage.wgsl. Preconditions: position + T <= context, keys and values of this pass already in the cache.

/// Four elements of a key, their product with four queries (queries[element]) added to `sums`.
fn chained(sums: vec4f, key: vec4f, queries: mat4x4f) -> vec4f {
  let first = fma(vec4f(key.y), queries[1], fma(vec4f(key.x), queries[0], sums));
  return fma(vec4f(key.w), queries[3], fma(vec4f(key.z), queries[2], first));
}

/// Scores of a key whose row has this step and minimum.
fn scaled_scores(scores: vec4f, key: vec2f, sums: vec4f) -> vec4f {
  if (!scaled) {
    return scores;
  }
  return fma(vec4f(key.x), rounded_four(scores), rounded_four(key.y * sums));
}

/// exp(score - maximum), 0 for a key that a query does not see: its maximum may be `lowest` as well.
fn weights(scores: vec4f, piece_m: vec4f, is_seen: vec4<bool>) -> vec4f {
  return select(vec4f(), exp(scores - piece_m), is_seen);
}

fn joined_four(o: vec4f, z: f32, l: f32) -> vec4f {
  return vec4f(joined(o.x, z, l), joined(o.y, z, l), joined(o.z, z, l), joined(o.w, z, l));
}

@compute @workgroup_size(256)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(local_invocation_index) lane: u32) {
  let h = id.x;
  if (id.y * queries >= step.num_tokens) {
    return;
  }
  let first_token = ((step.num_tokens - 1u) / queries - id.y) * queries;
  // A subgroup of 32 owns 4 values of a and 8 of b.
  let a = lane / 128u * 4u + lane % 32u / 16u * 2u + lane % 2u;
  let b = lane / 32u % 4u * 8u + lane % 16u / 2u;
  let rows = h / (params.H / params.Hkv) * params.context;
  let last_token = min(first_token + queries, step.num_tokens) - 1u;
  let end = step.position + last_token + 1u;
  let own_keys = vec4u(step.position + first_token + 4u * a + 1u) + vec4u(0, 1, 2, 3); // that this lane's queries see

  if (scaled) {
    sum_queries(first_token, h, lane);
  }
  var m = vec4f(lowest); // of 4 queries
  var l = vec4f();
  var z = vec4f();
  var o0 = vec4f(); // query 0, four elements
  var o1 = vec4f();
  var o2 = vec4f();
  var o3 = vec4f();
  for (var start = 0u; start < end; start += piece_keys) {
    let first = rows + start;
    let count = min(piece_keys, end - start);

    // Scores of the keys b, b + 32, ... with 4 queries each, walked part by part.
    var s0 = vec4f();
    var s1 = vec4f();
    var s2 = vec4f();
    var s3 = vec4f();
    var s4 = vec4f();
    var s5 = vec4f();
    var s6 = vec4f();
    var s7 = vec4f();
    var next_key = load_key(first, count, 0u, lane);
    var next_query = load_query(first_token, h, 0u, lane);
    for (var part = 0u; part < 4u; part++) {
      var p0 = vec4f();
      var p1 = vec4f();
      var p2 = vec4f();
      var p3 = vec4f();
      var p4 = vec4f();
      var p5 = vec4f();
      var p6 = vec4f();
      var p7 = vec4f();
      for (var i = 0u; i < chunks / 4u; i++) {
        workgroupBarrier();
        stage_scores(next_key, next_query, lane);
        workgroupBarrier();
        let is_last = i + 1u == chunks / 4u;
        let next = walked(select(part, (part + 1u) % 4u, is_last), select(i + 1u, 0u, is_last)); // loaded ahead
        next_key = load_key(first, count, next, lane);
        next_query = load_query(first_token, h, next, lane);
        for (var half = 0u; half < 2u; half++) {
          let query = queries_at + 32u * half + a;
          let four = mat4x4f(tile[query], tile[query + 8u], tile[query + 16u], tile[query + 24u]);
          let key = piece_keys * half + b;
          p0 = chained(p0, tile[key], four);
          p1 = chained(p1, tile[key + 32u], four);
          p2 = chained(p2, tile[key + 64u], four);
          p3 = chained(p3, tile[key + 96u], four);
          p4 = chained(p4, tile[key + 128u], four);
          p5 = chained(p5, tile[key + 160u], four);
          p6 = chained(p6, tile[key + 192u], four);
          p7 = chained(p7, tile[key + 224u], four);
        }
      }
      s0 += p0;
      s1 += p1;
      s2 += p2;
      s3 += p3;
      s4 += p4;
      s5 += p5;
      s6 += p6;
      s7 += p7;
    }

    // Rows behind the piece as its last one.
    let r0 = first + min(b, count - 1u);
    let r1 = first + min(b + 32u, count - 1u);
    let r2 = first + min(b + 64u, count - 1u);
    let r3 = first + min(b + 96u, count - 1u);
    let r4 = first + min(b + 128u, count - 1u);
    let r5 = first + min(b + 160u, count - 1u);
    let r6 = first + min(b + 192u, count - 1u);
    let r7 = first + min(b + 224u, count - 1u);
    let sums = query_sums[a];
    // Keys behind a query's own position, and the maximum of each query over the piece.
    let seen = max(own_keys, vec4u(start)) - vec4u(start); // keys of the piece
    s0 = select(vec4f(lowest), scaled_scores(s0, key_scale(r0), sums), vec4u(b) < seen);
    s1 = select(vec4f(lowest), scaled_scores(s1, key_scale(r1), sums), vec4u(b + 32u) < seen);
    s2 = select(vec4f(lowest), scaled_scores(s2, key_scale(r2), sums), vec4u(b + 64u) < seen);
    s3 = select(vec4f(lowest), scaled_scores(s3, key_scale(r3), sums), vec4u(b + 96u) < seen);
    s4 = select(vec4f(lowest), scaled_scores(s4, key_scale(r4), sums), vec4u(b + 128u) < seen);
    s5 = select(vec4f(lowest), scaled_scores(s5, key_scale(r5), sums), vec4u(b + 160u) < seen);
    s6 = select(vec4f(lowest), scaled_scores(s6, key_scale(r6), sums), vec4u(b + 192u) < seen);
    s7 = select(vec4f(lowest), scaled_scores(s7, key_scale(r7), sums), vec4u(b + 224u) < seen);
    workgroupBarrier();
    tile[a * 32u + b] = max(max(max(s0, s1), max(s2, s3)), max(max(s4, s5), max(s6, s7)));
    workgroupBarrier();
    if (b < 4u) {
      var some = tile[a * 32u + b];
      for (var i = 4u; i < 32u; i += 4u) {
        some = max(some, tile[a * 32u + b + i]);
      }
      tile[part_maxima_at + a * 4u + b] = some;
    }
    workgroupBarrier();
    let parts = part_maxima_at + a * 4u;
    let piece_m = max(max(tile[parts], tile[parts + 1u]), max(tile[parts + 2u], tile[parts + 3u]));
    s0 = weights(s0, piece_m, vec4u(b) < seen);
    s1 = weights(s1, piece_m, vec4u(b + 32u) < seen);
    s2 = weights(s2, piece_m, vec4u(b + 64u) < seen);
    s3 = weights(s3, piece_m, vec4u(b + 96u) < seen);
    s4 = weights(s4, piece_m, vec4u(b + 128u) < seen);
    s5 = weights(s5, piece_m, vec4u(b + 160u) < seen);
    s6 = weights(s6, piece_m, vec4u(b + 192u) < seen);
    s7 = weights(s7, piece_m, vec4u(b + 224u) < seen);

    // Values, one group of keys after the other.
    let x0 = value_scale(r0);
    let x1 = value_scale(r1);
    let x2 = value_scale(r2);
    let x3 = value_scale(r3);
    let x4 = value_scale(r4);
    let x5 = value_scale(r5);
    let x6 = value_scale(r6);
    let x7 = value_scale(r7);
    var v0 = vec4f();
    var v1 = vec4f();
    var v2 = vec4f();
    var v3 = vec4f();
    var next_value = load_value(first, count, 0u, lane);
    for (var g = 0u; g < groups; g++) {
      workgroupBarrier();
      stage_value(next_value, lane);
      if (b % groups == g) { // this lane's keys are members b / 16, b / 16 + 2, ...
        stage_weight(b / groups, a, s0, x0);
        stage_weight(b / groups + 2u, a, s1, x1);
        stage_weight(b / groups + 4u, a, s2, x2);
        stage_weight(b / groups + 6u, a, s3, x3);
        stage_weight(b / groups + 8u, a, s4, x4);
        stage_weight(b / groups + 10u, a, s5, x5);
        stage_weight(b / groups + 12u, a, s6, x6);
        stage_weight(b / groups + 14u, a, s7, x7);
      }
      workgroupBarrier();
      next_value = load_value(first, count, (g + 1u) % groups, lane); // ahead
      add_group_sums(g, lane);
      var g0 = vec4f();
      var g1 = vec4f();
      var g2 = vec4f();
      var g3 = vec4f();
      for (var i = 0u; i < members; i++) {
        let value = tile[fours * i + b];
        let weight = tile[factors_at + 8u * i + a];
        g0 = fma(vec4f(weight.x), value, g0);
        g1 = fma(vec4f(weight.y), value, g1);
        g2 = fma(vec4f(weight.z), value, g2);
        g3 = fma(vec4f(weight.w), value, g3);
      }
      v0 += g0;
      v1 += g1;
      v2 += g2;
      v3 += g3;
    }
    workgroupBarrier();
    let piece_l = vec4f(weight_sums[4u * a], weight_sums[4u * a + 1u], weight_sums[4u * a + 2u], weight_sums[4u * a + 3u]);
    var piece_minima = vec4f();
    if (scaled) {
      piece_minima = vec4f(minimum_sums[4u * a], minimum_sums[4u * a + 1u], minimum_sums[4u * a + 2u],
                           minimum_sums[4u * a + 3u]);
    }

    let f0 = join_factors(m.x, piece_m.x);
    let f1 = join_factors(m.y, piece_m.y);
    let f2 = join_factors(m.z, piece_m.z);
    let f3 = join_factors(m.w, piece_m.w);
    let so_far = vec4f(f0.so_far, f1.so_far, f2.so_far, f3.so_far);
    let of_piece = vec4f(f0.piece, f1.piece, f2.piece, f3.piece);
    l = fma(l, so_far, piece_l * of_piece);
    z = fma(z, so_far, piece_minima * of_piece);
    o0 = fma(o0, vec4f(so_far.x), v0 * f0.piece);
    o1 = fma(o1, vec4f(so_far.y), v1 * f1.piece);
    o2 = fma(o2, vec4f(so_far.z), v2 * f2.piece);
    o3 = fma(o3, vec4f(so_far.w), v3 * f3.piece);
    m = vec4f(f0.m, f1.m, f2.m, f3.m);
  }

  let t = first_token + 4u * a;
  let at = (t * params.H + h) * fours + 2u * (b % chunks) + b / chunks; // half b / 16 of chunk b % 16
  let row = params.H * fours;
  if (t < step.num_tokens) {
    out[at] = joined_four(o0, z.x, l.x);
  }
  if (t + 1u < step.num_tokens) {
    out[at + row] = joined_four(o1, z.y, l.y);
  }
  if (t + 2u < step.num_tokens) {
    out[at + 2u * row] = joined_four(o2, z.z, l.z);
  }
  if (t + 3u < step.num_tokens) {
    out[at + 3u * row] = joined_four(o3, z.w, l.w);
  }
}

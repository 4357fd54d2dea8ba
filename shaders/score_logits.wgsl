// A model's next-token distributions q against a reference's p, position by position:
//
//   scores[t] = (log sum exp q_t - q_t[next_t],  sum_v p_v (log p_v - log q_v),  1 where both are largest at the same token)
//
//   own, reference [T, V] f32, next [T] u32  ->  scores [T, 3] f32
//
// One workgroup per position. Lane l takes tokens l, l + WORKGROUP, ...; trees in workgroup memory. Of equal logits the first
// token counts as the largest.

struct Params {
  T: u32,
  V: u32,
}

override WORKGROUP: u32 = 256; // a power of two

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> own: array<f32>; // [T, V]
@group(0) @binding(2) var<storage, read> reference: array<f32>; // [T, V]
@group(0) @binding(3) var<storage, read> next: array<u32>; // [T]
@group(0) @binding(4) var<storage, read_write> scores: array<f32>; // [T, 3]

var<workgroup> values: array<vec2f, WORKGROUP>;
var<workgroup> tokens: array<vec2u, WORKGROUP>;

// Both models' largest logits and where they are.
fn largest(row: u32, lane: u32) {
  var best = vec2f(-3.4e38);
  var at = vec2u(params.V);
  for (var v = lane; v < params.V; v += WORKGROUP) {
    let value = vec2f(own[row + v], reference[row + v]);
    at = select(at, vec2u(v), value > best);
    best = max(best, value);
  }
  values[lane] = best;
  tokens[lane] = at;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      let other = values[lane + width];
      let otherAt = tokens[lane + width];
      let mine = values[lane];
      let isOther = (other > mine) | ((other == mine) & (otherAt < tokens[lane]));
      tokens[lane] = select(tokens[lane], otherAt, isOther);
      values[lane] = max(mine, other);
    }
  }
  workgroupBarrier();
}

fn total(term: vec2f, lane: u32) -> vec2f {
  workgroupBarrier(); // what was there has been read
  values[lane] = term;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      values[lane] += values[lane + width];
    }
  }
  workgroupBarrier();
  return values[0];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) lane: u32) {
  let t = group.y * groups.x + group.x;
  if (t >= params.T) {
    return;
  }
  let row = t * params.V;
  largest(row, lane);
  let top = values[0];
  let at = tokens[0];
  var sums = vec2f(0.0);
  for (var v = lane; v < params.V; v += WORKGROUP) {
    sums += exp(vec2f(own[row + v], reference[row + v]) - top);
  }
  let logs = top + log(total(sums, lane));
  var divergence = 0.0;
  for (var v = lane; v < params.V; v += WORKGROUP) {
    let logP = reference[row + v] - logs.y;
    divergence += exp(logP) * (logP - (own[row + v] - logs.x));
  }
  let kl = total(vec2f(divergence, 0.0), lane).x;
  if (lane == 0u) {
    scores[3u * t] = logs.x - own[row + next[t]];
    scores[3u * t + 1u] = kl;
    scores[3u * t + 2u] = select(0.0, 1.0, at.x == at.y);
  }
}

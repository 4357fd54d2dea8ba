// RMSNorm with the per-channel static activation scale merged into its multiplier, gather and rounding to integers
// (quantization step migration, Eq. 4 and 5; dimension reconstruction, Eq. 6):
//   r      = 1 / sqrt(mean_k x[t,k]^2 + eps)
//   q[t,k] = clamp(round(x[t, index_k] * mult_k * r) + offset_k, -q_max - 1, q_max),  round half to even
//   qmeta[t] = (1.0f, sum_k q[t,k])
//
//   x [T, D] f32, gather [K'] u32, mult [K'] f32  ->  q [T, K'] i8 packed by 4, qmeta [T] (f32 bits, i32 bits)
//
// One workgroup per token. Invocation l sums the squares of elements l, l + WORKGROUP, ... in f32, a binary tree in
// workgroup memory adds the partial sums (an order that depends on nothing but D), then invocation l owns the words
// l, l + WORKGROUP, ... of q. Both sums are exact or of fixed order, so a token's integers do not depend on T.
// With few tokens all time is latency: loads go in batches without branches (clamped indices; the square of a 0 changes
// no bit), so that they are in flight together, and those of the first words begin before the norm is known.
// Preceded by quantize.wgsl. Preconditions: K' is a multiple of 4; every index < D; WORKGROUP is a power of two. A padding
// element has mult 0 and offset 0.

struct Params {
  D: u32,
  K_words: u32, // K' / 4
  eps: f32,
  q_max: f32, // 7 or 127
}

struct Step {
  num_tokens: u32,
}

override WORKGROUP: u32 = 256;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<uniform> step: Step;
@group(0) @binding(2) var<storage, read> x: array<f32>; // [T, D]
@group(0) @binding(3) var<storage, read> gather: array<vec4u>; // [K'] index | offset << 20
@group(0) @binding(4) var<storage, read> mult: array<vec4f>; // [K']
@group(0) @binding(5) var<storage, read_write> q: array<u32>; // [T, K'/4]
@group(0) @binding(6) var<storage, read_write> qmeta: array<vec2u>; // [T]

var<workgroup> partial_squares: array<f32, WORKGROUP>;
var<workgroup> partial_sums: array<i32, WORKGROUP>;

const square_batch = 16u; // elements of an invocation
const word_batch = 5u;

fn sum_of_squares(base: u32, lane: u32) -> f32 {
  var squares = 0.0;
  for (var first = lane; first < params.D; first += square_batch * WORKGROUP) {
    var loaded: array<f32, square_batch>;
    for (var i = 0u; i < square_batch; i++) {
      loaded[i] = x[base + min(first + i * WORKGROUP, params.D - 1u)];
    }
    for (var i = 0u; i < square_batch; i++) {
      squares = add_square(squares, select(0.0, loaded[i], first + i * WORKGROUP < params.D));
    }
  }
  partial_squares[lane] = squares;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial_squares[lane] += partial_squares[lane + width];
    }
  }
  workgroupBarrier();
  return partial_squares[0];
}

/// What some words of q are made of besides the token.
struct Words {
  entries: array<vec4u, word_batch>,
  factors: array<vec4f, word_batch>,
}

/// Words first, first + WORKGROUP, ...; the last one again in place of those behind it.
fn load_words(first: u32) -> Words {
  var words: Words;
  for (var i = 0u; i < word_batch; i++) {
    let word = min(first + i * WORKGROUP, params.K_words - 1u);
    words.entries[i] = gather[word];
    words.factors[i] = mult[word];
  }
  return words;
}

/// Stores those words of token t that exist and returns the sum of their integers.
fn quantize_words(t: u32, first: u32, words: Words, r: f32) -> i32 {
  var sources: array<vec4f, word_batch>;
  for (var i = 0u; i < word_batch; i++) {
    let at = t * params.D + (words.entries[i] & vec4u(0xFFFFF));
    sources[i] = vec4f(x[at.x], x[at.y], x[at.z], x[at.w]);
  }
  var sum = 0;
  for (var i = 0u; i < word_batch; i++) {
    let word = first + i * WORKGROUP;
    if (word < params.K_words) {
      let offset = vec4f(bitcast<vec4i>(words.entries[i]) >> vec4u(20));
      let integers = quantize4(sources[i] * words.factors[i] * r, offset, params.q_max);
      sum += integers.x + integers.y + integers.z + integers.w;
      q[t * params.K_words + word] = pack_bytes(integers);
    }
  }
  return sum;
}

fn sum_of_integers(value: i32, lane: u32) -> i32 {
  partial_sums[lane] = value;
  for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if (lane < width) {
      partial_sums[lane] += partial_sums[lane + width];
    }
  }
  workgroupBarrier();
  return partial_sums[0];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) lane: u32) {
  let t = group.x;
  if (t >= step.num_tokens) {
    return;
  }
  let words = load_words(lane);
  let r = inverse_rms(sum_of_squares(t * params.D, lane), params.D, params.eps);
  var sum = quantize_words(t, lane, words, r);
  for (var first = lane + word_batch * WORKGROUP; first < params.K_words; first += word_batch * WORKGROUP) {
    sum += quantize_words(t, first, load_words(first), r);
  }
  let total = sum_of_integers(sum, lane);
  if (lane == 0u) {
    qmeta[t] = vec2u(bitcast<u32>(1.0), bitcast<u32>(total));
  }
}

// Shared by the kernels that pick a token (it is put in front of them): the order of floats as integers, and
// the reduction of a workgroup's (key, index) pairs to the best one.
//
// ordered_key maps a float's bits to a u32 of the same order, so that comparing is exact integer work whatever
// the compiler assumes about NaN: -inf -> 0x007fffff < finite < +inf -> 0xff800000 < any NaN -> 0xffffffff.
// -0 and +0 get the same key.

// Invocations a workgroup, a multiple of 16. Few, because a software adapter pays dearly for each one that meets a barrier
// (64 run these kernels 10 to 20 times as fast there as 256), and a GPU is filled by workgroups.
override GROUP: u32 = 64;
const TOKENS = 1024u; // tokens a workgroup owns where a row is spread over many
const NAN_KEY = 0xffffffffu;
const POSITIVE_INFINITY_KEY = 0xff800000u;
const NEGATIVE_INFINITY_KEY = 0x007fffffu;
const NO_TOKEN = 0xffffffffu;

fn is_nan_bits(bits: u32) -> bool {
  return (bits & 0x7fffffffu) > 0x7f800000u;
}

fn ordered_key(bits: u32) -> u32 {
  if (is_nan_bits(bits)) {
    return NAN_KEY;
  }
  if ((bits << 1u) == 0u) {
    return 0x80000000u;
  }
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn key_value(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key & 0x7fffffffu, (key >> 31u) == 1u));
}

/// Whether a row whose largest key this is can be sampled from: no NaN, and a finite maximum.
fn is_usable(max_key: u32) -> bool {
  return max_key > NEGATIVE_INFINITY_KEY && max_key < POSITIVE_INFINITY_KEY;
}

/// Of two (key, index) pairs the one with the larger key, then the lower index.
fn better(a: vec2u, b: vec2u) -> vec2u {
  let take_b = b.x > a.x || (b.x == a.x && b.y < a.y);
  return select(a, b, take_b);
}

var<workgroup> reduction: array<vec2u, GROUP>;

/// The best pair of the workgroup, uniform. Must be called in uniform control flow. Two steps of 16: few barriers, which
/// cost a software adapter more than anything else here.
fn reduce_best(lane: u32, mine: vec2u) -> vec2u {
  reduction[lane] = mine;
  workgroupBarrier();
  if (lane < 16u) {
    for (var j = lane + 16u; j < GROUP; j += 16u) {
      reduction[lane] = better(reduction[lane], reduction[j]);
    }
  }
  workgroupBarrier();
  if (lane == 0u) {
    for (var j = 1u; j < 16u; j++) {
      reduction[0] = better(reduction[0], reduction[j]);
    }
  }
  return workgroupUniformLoad(&reduction[0]);
}

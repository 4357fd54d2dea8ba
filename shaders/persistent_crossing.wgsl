// What every part of the persistent decode kernel shares (it is put in front of them, behind persistent_weights.wgsl): bindings, and
// floats that cross workgroups.
//
// WGSL promises nothing about plain stores that another workgroup of the same dispatch reads, no order between atomics at
// different addresses, and not that workgroups run at the same time. So a float that crosses is an atomic of its own that is
// written once in a dispatch and holds `missing` until then: whoever reads anything else has the value, whatever the order in
// which stores arrive. `crossing` has two halves: a dispatch works in one and empties the other for the next dispatch.
// A reader looks params.spin_limit times, then raises a flag and goes on with nonsense: this and every later dispatch
// leaves NaN in the residual stream, which the host sees as logits that are not finite.

struct Params {
  D: u32,
  F: u32,
  H: u32,
  Hkv: u32,
  Dh: u32,
  context: u32,
  layers: u32,
  layer_chunks: u32, // 16-byte chunks of a layer's keys
  attention_scale: f32, // 1 / sqrt(Dh)
  eps: f32,
  q_max: f32, // 7 or 127
  hadamard_block: u32, // B
  hadamard_scale: f32, // 1 / sqrt(B)
  pieces: u32, // of attention, in the whole context
  spin_limit: u32,
  // Words of `crossing`: of a half, of a layer, and where in a layer what lies.
  half_words: u32,
  layer_words: u32,
  attended_at: u32, // planar, see plane_word; behind qkv [(H + 2 Hkv) Dh]
  middle_at: u32, // [D] the residual stream between attention and MLP
  activated_at: u32, // planar
  rotated_at: u32, // planar
  out_at: u32, // [D] the residual stream behind the layer
  partials_at: u32, // [H, pieces, Dh + 2]
}

struct Step {
  num_tokens: u32,
  position: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<uniform> step: Step;
@group(0) @binding(6) var<storage, read> angles: array<vec2f>; // [context, Dh/2] (cos, sin)
@group(0) @binding(7) var<storage, read_write> key_cache: array<vec4u>; // [layers, Hkv, context, Dh/8] eight halves
@group(0) @binding(8) var<storage, read_write> value_cache: array<vec4u>;
@group(0) @binding(9) var<storage, read_write> x: array<atomic<u32>>; // [D] f32, the residual stream in front and behind
@group(0) @binding(10) var<storage, read_write> crossing: array<atomic<u32>>;

// In front of the halves of `crossing`:
const stopped_at = 0u; // not 0 when a reader has given up
const parity_at = 32u; // of dispatches so far: which half is in use
const finished_at = 64u; // workgroups that have finished
const halves_at = 96u;

const missing = 0x7fc0deadu; // a NaN that no arithmetic gives
const not_a_number = 0x7fc00000u;
const from_x = 0xFFFFFFFFu; // in place of where in `crossing` the residual stream lies

var<private> half_at: u32; // where the half in use starts
var<workgroup> start: u32;
var<workgroup> has_stopped: atomic<u32>;

/// First of all: finds the half in use and empties the other; false when an earlier dispatch has given up.
fn begin(place: Place, grid: Grid) -> bool {
  if (place.local == 0u) {
    let stopped = atomicLoad(&crossing[stopped_at]);
    atomicStore(&has_stopped, stopped);
    start = select(atomicLoad(&crossing[parity_at]) % 2u, 2u, stopped != 0u);
  }
  let parity = workgroupUniformLoad(&start);
  if (parity == 2u) {
    for (var k = place.local; k < params.D; k += WORKGROUP) {
      atomicStore(&x[k], not_a_number);
    }
    return false;
  }
  half_at = halves_at + parity * params.half_words;
  let other = halves_at + (1u - parity) * params.half_words;
  for (var i = grid.group * WORKGROUP + place.local; i < params.half_words; i += grid.groups * WORKGROUP) {
    atomicStore(&crossing[other + i], missing);
  }
  return true;
}

/// Last of all: the last workgroup to come here turns to the other half for the next dispatch.
fn finish(place: Place, grid: Grid) {
  if (place.local == 0u && atomicAdd(&crossing[finished_at], 1u) + 1u == grid.groups) {
    atomicStore(&crossing[finished_at], 0u);
    atomicAdd(&crossing[parity_at], 1u);
  }
}

/// Where a layer's part of the half in use starts.
fn layer_at(layer: u32) -> u32 {
  return half_at + layer * params.layer_words;
}

/// The residual stream's element k, where it is known to be there.
fn residual(source: u32, k: u32) -> f32 {
  if (source == from_x) {
    return bitcast<f32>(atomicLoad(&x[k]));
  }
  return bitcast<f32>(atomicLoad(&crossing[source + k]));
}

fn publish(at: u32, value: f32) {
  atomicStore(&crossing[at], bitcast<u32>(value));
}

/// Whether a reader that has looked so often goes on looking.
fn keeps_looking(looks: u32) -> bool {
  if (looks % 64u != 63u) {
    return true;
  }
  if (looks >= params.spin_limit) {
    atomicStore(&crossing[stopped_at], 1u);
  }
  if (atomicLoad(&has_stopped) == 0u && atomicLoad(&crossing[stopped_at]) == 0u) {
    return true;
  }
  atomicStore(&has_stopped, 1u);
  return false;
}

/// The first `count` floats at these places, once all are there. Each is read again only while it is missing. Whoever waits for
/// floats of its own workgroup first meets it at a barrier: nothing promises that its invocations run at the same time, either.
fn await_few(at: array<u32, 8>, count: u32) -> array<f32, 8> {
  var found: array<u32, 8>;
  for (var i = 0u; i < 8u; i++) {
    found[i] = missing;
  }
  for (var looks = 0u; keeps_looking(looks); looks++) {
    var is_missing = false;
    for (var i = 0u; i < 8u; i++) {
      if (i < count && found[i] == missing) {
        found[i] = atomicLoad(&crossing[at[i]]);
      }
    }
    for (var i = 0u; i < 8u; i++) {
      is_missing = is_missing || (i < count && found[i] == missing);
    }
    if (!is_missing) {
      break;
    }
  }
  var values: array<f32, 8>;
  for (var i = 0u; i < 8u; i++) {
    values[i] = bitcast<f32>(found[i]);
  }
  return values;
}

/// The same for more of them.
fn await_many(at: array<u32, 24>, count: u32) -> array<f32, 24> {
  var found: array<u32, 24>;
  for (var i = 0u; i < 24u; i++) {
    found[i] = missing;
  }
  for (var looks = 0u; keeps_looking(looks); looks++) {
    var is_missing = false;
    for (var i = 0u; i < 24u; i++) {
      if (i < count && found[i] == missing) {
        found[i] = atomicLoad(&crossing[at[i]]);
      }
    }
    for (var i = 0u; i < 24u; i++) {
      is_missing = is_missing || (i < count && found[i] == missing);
    }
    if (!is_missing) {
      break;
    }
  }
  var values: array<f32, 24>;
  for (var i = 0u; i < 24u; i++) {
    values[i] = bitcast<f32>(found[i]);
  }
  return values;
}

/// Element k of a planar vector of K floats: the four elements of a word lie a quarter of the vector apart, so that
/// neighbouring invocations read neighbouring words.
fn plane_word(k: u32, K: u32) -> u32 {
  return k % 4u * (K / 4u) + k / 4u;
}

// Part of the persistent decode kernel: the token's floats become integers in `activations`, in every workgroup for itself,
// as rmsnorm_quant_static (Eq. 4-6), quant_dynamic or quant_static do it: same bits.
// Preceded by persistent_crossing.wgsl, persistent_product.wgsl (store_word), quantize.wgsl and decode_reduce.wgsl.

override DYNAMIC: bool = true; // o and down
override STAGED: u32 = 1040; // words of four floats that fit `staged`, a multiple of 8 that is none of 32
override HADAMARD: bool = false;

const early_words = 4u; // of a norm's constants, on their way while the token is waited for
const residual_loads = 8u; // of the token at once
const held_words = 6u; // of a quantizer's input, kept in registers

// Floats of a workgroup, for one part of the kernel at a time: a norm's token (element k at k % 4 * STAGED + k / 4: different
// banks for neighbours in either order), attention's scores and sums, a block to rotate.
var<workgroup> staged: array<f32, 4u * STAGED>;

struct NormConstants {
  entries: array<vec4u, early_words>, // gather index | offset << 20
  factors: array<vec4f, early_words>,
}

/// What an invocation needs of a norm for its first words.
fn load_constants(site: Site, place: Place) -> NormConstants {
  var loaded: NormConstants;
  let words = 8u * site.K_pieces;
  for (var i = 0u; i < early_words; i++) {
    if (i * WORKGROUP < words) {
      let word = (place.local + i * WORKGROUP) % words;
      loaded.entries[i] = tables[site.gather_at + word];
      loaded.factors[i] = bitcast<vec4f>(tables[site.act_bits + word]);
    }
  }
  return loaded;
}

/// Puts the residual stream into `staged`.
fn stage_residual(source: u32, place: Place) {
  for (var base = place.local; base < params.D; base += residual_loads * WORKGROUP) {
    var at: array<u32, 8>;
    var values: array<f32, 8>;
    for (var i = 0u; i < residual_loads; i++) {
      at[i] = select(base, base + i * WORKGROUP, base + i * WORKGROUP < params.D);
    }
    if (source == from_x) {
      for (var i = 0u; i < residual_loads; i++) {
        values[i] = bitcast<f32>(atomicLoad(&x[at[i]]));
      }
    } else {
      for (var i = 0u; i < residual_loads; i++) {
        at[i] += source;
      }
      values = await_few(at, residual_loads);
    }
    for (var i = 0u; i < residual_loads; i++) {
      let k = base + i * WORKGROUP;
      if (k < params.D) {
        staged[k % 4u * STAGED + k / 4u] = values[i];
      }
    }
  }
}

/// This invocation's share of the sum of squares, in the norm kernels' order; adding the square of a 0 changes no bit.
fn share_of_squares(local: u32) -> f32 {
  var squares = 0.0;
  if (local < norm_lanes) {
    for (var first = local; first < params.D; first += 4u * norm_lanes) {
      for (var i = 0u; i < 4u; i++) {
        let k = min(first + i * norm_lanes, params.D - 1u);
        squares = add_square(squares, select(0.0, staged[k % 4u * STAGED + k / 4u], first + i * norm_lanes < params.D));
      }
    }
  }
  return squares;
}

fn gathered(entry: u32) -> f32 {
  let k = entry & 0xFFFFFu;
  return staged[k % 4u * STAGED + k / 4u];
}

fn quantize_gathered(word: u32, entry: vec4u, factor: vec4f, r: f32, K_pieces: u32) {
  let offset = vec4f(bitcast<vec4i>(entry) >> vec4u(20));
  let source = vec4f(gathered(entry.x), gathered(entry.y), gathered(entry.z), gathered(entry.w));
  store_word(word, pack_bytes(quantize4(source * factor * r, offset, params.q_max)), K_pieces);
}

/// RMSNorm with merged static scales, gather and rounding. The token's scale is 1.
fn quantize_normed(site: Site, source: u32, place: Place, grid: Grid) {
  let words = 8u * site.K_pieces;
  let constants = load_constants(site, place);
  stage_residual(source, place);
  workgroupBarrier();
  let sum = tree_sum(share_of_squares(place.local), place.local, place.lane, grid.lanes);
  let r = inverse_rms(sum, params.D, params.eps);
  for (var i = 0u; i < early_words; i++) {
    if (i * WORKGROUP < words) {
      quantize_gathered(place.local + i * WORKGROUP, constants.entries[i], constants.factors[i], r, site.K_pieces);
    }
  }
  for (var base = early_words * WORKGROUP; base < words; base += WORKGROUP) {
    let word = (base + place.local) % words;
    let factor = bitcast<vec4f>(tables[site.act_bits + word]);
    quantize_gathered(base + place.local, tables[site.gather_at + word], factor, r, site.K_pieces);
  }
}

struct HeldWords {
  words: array<vec4f, held_words>,
}

/// Words base + i * WORKGROUP of a planar vector of `words` words, 0 behind it, for i below `count`.
fn await_words(source: u32, base: u32, words: u32, count: u32) -> HeldWords {
  var at: array<u32, 24>;
  for (var i = 0u; i < held_words; i++) {
    for (var e = 0u; e < 4u; e++) {
      at[4u * i + e] = source + e * words + (base + i * WORKGROUP) % words;
    }
  }
  let values = await_many(at, 4u * count);
  var held: HeldWords;
  for (var i = 0u; i < held_words; i++) {
    if (i < count && base + i * WORKGROUP < words) {
      held.words[i] = vec4f(values[4u * i], values[4u * i + 1u], values[4u * i + 2u], values[4u * i + 3u]);
    }
  }
  return held;
}

/// One such word.
fn await_word(source: u32, word: u32, words: u32) -> vec4f {
  var at: array<u32, 8>;
  for (var e = 0u; e < 4u; e++) {
    at[e] = source + e * words + word % words;
  }
  let values = await_few(at, 4u);
  return select(vec4f(), vec4f(values[0], values[1], values[2], values[3]), word < words);
}

fn largest_of(four: vec4f) -> f32 {
  return max(max(abs(four.x), abs(four.y)), max(abs(four.z), abs(four.w)));
}

fn quantize_crossed(word: u32, four: vec4f, inverse: f32, site: Site) {
  store_word(word, pack_bytes(quantize4(four * inverse, vec4f(), params.q_max)), site.K_pieces);
}

/// Quantizes a planar vector of K floats, when the token before has been read; returns the token's scale. What does not fit
/// registers is read twice.
fn quantize_floats(site: Site, source: u32, K: u32, place: Place, grid: Grid) -> f32 {
  let words = K / 4u;
  let batch = min(held_words, (words + WORKGROUP - 1u) / WORKGROUP);
  let held = await_words(source, place.local, words, batch);
  let factor = bitcast<f32>(site.act_bits);
  var token = DynamicScale(1.0, factor);
  if (DYNAMIC) {
    var magnitude = 0.0;
    for (var i = 0u; i < held_words; i++) {
      magnitude = max(magnitude, largest_of(held.words[i]));
    }
    for (var base = held_words * WORKGROUP; base < words; base += WORKGROUP) {
      magnitude = max(magnitude, largest_of(await_word(source, base + place.local, words)));
    }
    token = dynamic_scale(largest(magnitude, place.local, place.lane, grid.lanes), factor);
  }
  for (var i = 0u; i < held_words; i++) {
    if (i * WORKGROUP < 8u * site.K_pieces) {
      quantize_crossed(place.local + i * WORKGROUP, held.words[i], token.inverse, site);
    }
  }
  for (var base = held_words * WORKGROUP; base < 8u * site.K_pieces; base += WORKGROUP) {
    quantize_crossed(base + place.local, await_word(source, base + place.local, words), token.inverse, site);
  }
  return token.scale;
}

/// The Walsh-Hadamard rotation of down's input, as silu_hadamard, in blocks dealt to the workgroups in turn.
fn rotate_activated(layer: u32, place: Place, grid: Grid) {
  let block = params.hadamard_block;
  for (var first = grid.group * block; first < params.F; first += grid.groups * block) {
    workgroupBarrier();
    for (var i = place.local; i < block; i += WORKGROUP) {
      var at: array<u32, 8>;
      at[0] = layer_at(layer) + params.activated_at + plane_word(first + i, params.F);
      staged[i] = await_few(at, 1u)[0];
    }
    for (var half = 1u; half < block; half *= 2u) {
      workgroupBarrier();
      for (var p = place.local; p < block / 2u; p += WORKGROUP) {
        let i = 2u * p - (p & (half - 1u)); // pair p: elements i and i + half
        let a = staged[i];
        let b = staged[i + half];
        staged[i] = a + b;
        staged[i + half] = a - b;
      }
    }
    workgroupBarrier();
    for (var i = place.local; i < block; i += WORKGROUP) {
      publish(layer_at(layer) + params.rotated_at + plane_word(first + i, params.F), staged[i] * params.hadamard_scale);
    }
  }
}

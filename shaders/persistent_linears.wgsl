// Every product of a model for one token each, in one dispatch (benchmarks): what the persistent decode kernel's products take
// when nothing waits for anything.
//   y_s = product(tokens_s, weights_s), s = 0 .. count - 1, as persistent_product.wgsl
//
// The next product's token is on its way while one is computed. A site's gather_at and act_bits are where its token and its y lie.
// Preceded by persistent_weights.wgsl, w4_dot.wgsl and persistent_product.wgsl.

struct Params {
  count: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> tokens: array<vec4u>; // K' / 16 each
@group(0) @binding(6) var<storage, read_write> y: array<f32>; // [N] each

struct Sink {
  at: u32, // in y
}

fn adds(sink: Sink) -> bool {
  return false;
}

fn values_before(sink: Sink, n: u32) -> vec2f {
  return vec2f();
}

fn send(values: vec2f, sink: Sink, n: u32, place: Place) {
  if (place.lane < 2u) {
    y[sink.at + n + place.lane] = select(values.x, values.y, place.lane == 1u);
  }
}

/// 16 bytes of a token at a time; named, because a compiler may put an array into memory.
struct Held {
  a: vec4u,
  b: vec4u,
  c: vec4u,
  d: vec4u,
}

const held_loads = 4u;

fn load_token(site: Site, place: Place) -> Held {
  let last = 2u * site.K_pieces - 1u;
  let i = place.local;
  return Held(tokens[site.gather_at + min(i, last)], tokens[site.gather_at + min(i + WORKGROUP, last)],
              tokens[site.gather_at + min(i + 2u * WORKGROUP, last)], tokens[site.gather_at + min(i + 3u * WORKGROUP, last)]);
}

/// The token's 16 bytes i go where the product looks for them.
fn keep(i: u32, sixteen: vec4u, site: Site) {
  if (i < 2u * site.K_pieces) {
    activations[i % 2u * CAPACITY + i / 2u] = sixteen;
  }
}

fn keep_token(held: Held, site: Site, place: Place) {
  keep(place.local, held.a, site);
  keep(place.local + WORKGROUP, held.b, site);
  keep(place.local + 2u * WORKGROUP, held.c, site);
  keep(place.local + 3u * WORKGROUP, held.d, site);
  for (var i = place.local + held_loads * WORKGROUP; i < 2u * site.K_pieces; i += WORKGROUP) {
    keep(i, tokens[site.gather_at + i], site);
  }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let lanes = min(subgroup_size, WORKGROUP);
  let place = Place(local, local % lanes);
  let grid = Grid(id.x, groups.x, lanes);
  var site = sites[0];
  var ahead = load_first(site, place, grid);
  var token = load_token(site, place);
  for (var s = 0u; s < params.count; s++) {
    let next = sites[min(s + 1u, params.count - 1u)];
    keep_token(token, site, place);
    workgroupBarrier();
    token = load_token(next, place);
    ahead = product(site, next, Sink(site.act_bits), false, 1.0, ahead, place, grid);
    workgroupBarrier();
    site = next;
  }
}

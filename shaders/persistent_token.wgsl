// All layers of one decoded token in one dispatch (decode): what decode_product and attention_decode do in five dispatches
// a layer, each workgroup going on as soon as what it reads is there. Same expressions in the same order, same bits.
//   x [D] f32, key and value cache, position  ->  x behind the last layer, cache rows `position`
//
// Half of a layer:  norm, quantize, product (qkv, or gate and up) > attention, or the Walsh-Hadamard rotation where the model
// has one > quantize, product (o or down) onto x.  A product's first weights are loaded at the end of the one before it, and a
// norm's constants while its token is waited for: in front of a product they would take registers from its weights.
//
// Preconditions: every workgroup of the grid is resident (else readers give up, see persistent_crossing.wgsl); no more
// workgroups than D / 2; subgroups in the order of invocations; WORKGROUP a multiple of 256 and of LANES; D, F and H Dh multiples
// of 4; rows even.
// Preceded by every other persistent_*.wgsl, quantize.wgsl, decode_reduce.wgsl and what they want.

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) id: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32, @builtin(subgroup_size) subgroup_size: u32) {
  let lanes = min(subgroup_size, WORKGROUP);
  let place = Place(local, local % lanes);
  let grid = Grid(id.x, groups.x, lanes);
  if (!begin(place, grid)) {
    return;
  }
  var ahead = load_first(sites[0], place, grid);
  var source = from_x;
  for (var half = 0u; half < 2u * params.layers; half++) {
    let layer = half / 2u;
    let is_attention = half % 2u == 0u;
    let is_last = half + 1u == 2u * params.layers;
    let entry = sites[2u * half];
    let exit = sites[2u * half + 1u];
    let next = sites[select(2u * half + 2u, 2u * half, is_last)];
    let has_bias = select(MLP_BIAS, ATTENTION_BIAS, is_attention);
    let at = layer_at(layer);

    quantize_normed(entry, source, place, grid);
    workgroupBarrier();
    let kind = select(to_activated, to_qkv, is_attention);
    let sink = Sink(kind, at + select(params.activated_at, 0u, is_attention), 0u);
    ahead = product(entry, exit, sink, has_bias, 1.0, ahead, place, grid);
    workgroupBarrier(); // see await_few
    if (is_attention) {
      attend_heads(layer, place, grid);
    } else if (HADAMARD) {
      rotate_activated(layer, place, grid);
    }
    workgroupBarrier();
    let activated = select(params.activated_at, params.rotated_at, HADAMARD);
    let input = at + select(activated, params.attended_at, is_attention);
    let length = select(params.F, params.H * params.Dh, is_attention);
    let token_scale = quantize_floats(exit, input, length, place, grid);
    workgroupBarrier();
    let out_at = select(at + select(params.out_at, params.middle_at, is_attention), from_x, is_last);
    let onto = Sink(to_residual, out_at, source);
    ahead = product(exit, next, onto, has_bias, token_scale, ahead, place, grid);
    source = out_at;
    workgroupBarrier();
  }
  finish(place, grid);
}

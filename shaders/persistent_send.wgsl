// Part of the persistent decode kernel: where the rows of a product go, for whoever waits for them.
// Preceded by persistent_crossing.wgsl and silu.wgsl.

const to_qkv = 0u;
const to_activated = 1u; // rows 2f, 2f + 1 are gate and up: silu(gate) * up
const to_residual = 2u;

/// Where the rows of a product go, and what they are added to.
struct Sink {
  kind: u32,
  at: u32, // in `crossing`; from_x: the residual stream behind the last layer
  before: u32, // in `crossing`, or from_x: the residual stream that is added to
}

fn adds(sink: Sink) -> bool {
  return sink.kind == to_residual;
}

/// What rows n and n + 1 are added to.
fn values_before(sink: Sink, n: u32) -> vec2f {
  if (sink.kind != to_residual) {
    return vec2f();
  }
  return vec2f(residual(sink.before, n), residual(sink.before, n + 1u));
}

/// Sends the values of rows n and n + 1 where they belong.
fn send(values: vec2f, sink: Sink, n: u32, place: Place) {
  if (sink.kind == to_activated) {
    if (place.lane == 0u) {
      publish(sink.at + plane_word(n / 2u, params.F), silu_gate(values.x, values.y));
    }
  } else if (place.lane < 2u) {
    let value = select(values.x, values.y, place.lane == 1u);
    if (sink.at != from_x) {
      publish(sink.at + n + place.lane, value);
    } else {
      atomicStore(&x[n + place.lane], select(bitcast<u32>(value), not_a_number, atomicLoad(&has_stopped) != 0u));
    }
  }
}

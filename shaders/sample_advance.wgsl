// Shared by the last kernel of a pass (argmax_choose, sample_draw; it is put in front of them): stores the chosen
// token and advances the state to the next pass. Bindings 0 to 4 are its own; the kernel's follow.
//
//   ids[0] = token                              input of the next pass's embedding
//   history[generated mod capacity] = token
//   counts[token] += 1                          low 31 bits: occurrences in the reply; bit 31: in the prompt
//   position += num_tokens, num_tokens = 1, generated += 1
//
// NO_TOKEN (the logits held a NaN or had no finite maximum) goes into history as it is, and 0 into ids.

struct Params {
  V: u32, // vocabulary
  groups: u32, // pairs in `partials`
  capacity: u32, // of `history`
}

struct Step {
  num_tokens: u32,
  position: u32,
  generated: u32,
  reserved: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> step: Step;
@group(0) @binding(2) var<storage, read_write> ids: array<u32>; // [chunk]
@group(0) @binding(3) var<storage, read_write> history: array<u32>; // [capacity]
@group(0) @binding(4) var<storage, read_write> counts: array<u32>; // [V]

/// For one invocation only.
fn advance(token: u32) {
  history[step.generated % params.capacity] = token;
  if (token == NO_TOKEN) {
    ids[0] = 0u;
  } else {
    ids[0] = token;
    counts[token] += 1u;
  }
  step.position += step.num_tokens;
  step.num_tokens = 1u;
  step.generated += 1u;
}

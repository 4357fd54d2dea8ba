// Largest of a workgroup's LANES scores, put in front of attention_piece.wgsl; in uniform control flow.

var<workgroup> maxima: array<f32, 16>;

fn maximum(score: f32, lane: u32) -> f32 {
  scores[lane] = score;
  workgroupBarrier();
  if (lane < 16u) {
    var m = lowest;
    for (var i = lane; i < LANES; i += 16u) {
      m = max(m, scores[i]);
    }
    maxima[lane] = m;
  }
  workgroupBarrier();
  var m = lowest;
  for (var i = 0u; i < 16u; i++) {
    m = max(m, maxima[i]);
  }
  return m;
}

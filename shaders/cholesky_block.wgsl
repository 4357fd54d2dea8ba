// Factor of one diagonal block, in place: A[at .. at + size, at .. at + size] = L * L^T, lower triangle, size <= 64.
//
//   a [n, n] f32, row-major; status [1] u32: the first pivot that was not above 0, 0xffffffff for none
//
// One workgroup of 64, an invocation a row; the block lies in workgroup memory (16 KiB).

struct Params {
  n: u32,
  at: u32,
  size: u32,
}

const block = 64u;

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> a: array<f32>; // [n, n]
@group(0) @binding(2) var<storage, read_write> status: array<u32>; // [1]

var<workgroup> tile: array<f32, block * block>;

@compute @workgroup_size(block)
fn main(@builtin(local_invocation_index) row: u32) {
  let size = params.size;
  let first = params.at * params.n + params.at;
  for (var i = 0u; i < size; i++) {
    tile[i * block + row] = select(0.0, a[first + i * params.n + row], row <= i);
  }
  workgroupBarrier();
  for (var j = 0u; j < size; j++) {
    let pivot = tile[j * block + j];
    if (row == 0u && !(pivot > 0.0)) {
      status[0] = min(status[0], params.at + j);
    }
    let root = sqrt(pivot);
    workgroupBarrier();
    if (row >= j && row < size) {
      tile[row * block + j] = select(tile[row * block + j] / root, root, row == j);
    }
    workgroupBarrier();
    if (row > j && row < size) {
      let own = tile[row * block + j];
      for (var k = j + 1u; k <= row; k++) {
        tile[row * block + k] -= own * tile[k * block + j];
      }
    }
    workgroupBarrier();
  }
  for (var i = 0u; i < size; i++) {
    if (row <= i) {
      a[first + i * params.n + row] = tile[i * block + row];
    }
  }
}

/** Rows of a table by id. table [V, D], ids [T] -> [T, D]. */
export function embedRef(table: Float64Array, ids: Uint32Array, hiddenSize: number): Float64Array {
  return Float64Array.from({ length: ids.length * hiddenSize }, (_, i) => {
    const row = ids[Math.floor(i / hiddenSize)]!;
    return table[row * hiddenSize + (i % hiddenSize)]!;
  });
}

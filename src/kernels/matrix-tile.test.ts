import { expect, test } from 'vitest';
import { chooseMatrixTile, matrixTileSource, matrixTiles, tileBytes, tileRows } from './matrix-tile';

const count = (text: string, word: string) => text.split(word).length - 1;

test.each(matrixTiles)(
  'a tile of $tokens tokens and steps of $step elements is written out whole',
  (tile) => {
    const source = matrixTileSource(tile);
    const sums = (tile.tokens * tileRows) / 4 / (16 * 16); // of each of four subgroups
    expect(count(source, ': Sums;')).toBe(sums);
    expect(count(source, 'subgroupMatrixMultiplyAccumulate(')).toBe((sums * tile.step) / 32);
    expect(count(source, 'subgroupMatrixStore<')).toBe(sums);
    expect(new Set(source.match(/let (left|right)\w+/g)).size).toBe(
      ((tile.tokens / 32 + tileRows / 32) * tile.step) / 32,
    );
  },
);

test('bytes of workgroup memory: two lines a step, or the sums of four subgroups', () => {
  expect(matrixTiles.map(tileBytes)).toEqual([16_384, 27_648, 20_480, 36_864]);
});

test.each([
  // Rows of q,k,v, of o and down, and of gate,up at 7B shape; the fastest as measured.
  [12_288, 64, 64, 128],
  [12_288, 128, 128, 128],
  [12_288, 512, 64, 64],
  [12_288, 640, 128, 64],
  [12_288, 768, 64, 64],
  [12_288, 1024, 128, 64],
  [4_096, 33, 64, 128],
  [4_096, 256, 64, 128],
  [4_096, 257, 128, 128],
  [4_096, 512, 128, 128],
  [4_096, 1024, 128, 64],
  [22_016, 64, 64, 64],
  [22_016, 256, 64, 64],
  [22_016, 320, 128, 64],
])('%i rows and %i tokens: tiles of %i tokens, steps of %i', (rows, numTokens, tokens, step) => {
  expect(chooseMatrixTile(matrixTiles, numTokens, rows)).toEqual({ tokens, step });
});

test('only what there is room for is chosen', () => {
  const [first] = matrixTiles;
  expect(chooseMatrixTile([first], 256, 4096)).toBe(first);
});

import { describe, expect, test } from 'vitest';
import { padRows } from './dense-layout';
import { randomDense } from './dense-layout.ref';
import { embed } from './embed';
import { embedRef } from './embed.ref';
import { capabilitySets, expectEqualInts, KernelBench, random } from './testing';

const cases = [
  { numTokens: 1, hiddenSize: 256, vocabSize: 512, blockRows: 512 },
  { numTokens: 5, hiddenSize: 24, vocabSize: 1000, blockRows: 300 },
  { numTokens: 65, hiddenSize: 256, vocabSize: 1000, blockRows: 999 },
  { numTokens: 2, hiddenSize: 7, vocabSize: 3, blockRows: 1 },
  { numTokens: 2, hiddenSize: 4096, vocabSize: 40, blockRows: 16 },
].flatMap((shape) => (['F16', 'F32', 'I8'] as const).map((dtype) => ({ ...shape, dtype })));

describe.each(capabilitySets)('embed with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  test.each(cases)(
    '$dtype T=$numTokens D=$hiddenSize V=$vocabSize in blocks of $blockRows',
    async (shape) => {
      const { numTokens, hiddenSize, vocabSize, blockRows, dtype } = shape;
      const next = random(3);
      const ids = Uint32Array.from({ length: numTokens }, () => Math.floor(next() * vocabSize));
      ids[0] = vocabSize - 1;
      const table = randomDense(vocabSize, hiddenSize, dtype, 1);
      const scale = table.scales && bench.input(table.scales);
      const rowBytes = table.bytes.byteLength / vocabSize;
      const x = bench.output(numTokens * hiddenSize);
      const step = bench.step(numTokens);
      const idBuffer = bench.input(ids);
      const ops = [];
      for (let rowStart = 0; rowStart < vocabSize; rowStart += blockRows) {
        const rows = Math.min(blockRows, vocabSize - rowStart);
        const bytes = table.bytes.slice(rowStart * rowBytes, (rowStart + rows) * rowBytes);
        const block = bench.input(padRows(bytes, rows, hiddenSize, dtype));
        const args = { hiddenSize, rowStart, rows, dtype, step, ids: idBuffer, table: block, scale, x };
        ops.push(await embed(bench, args));
      }
      await bench.run(ops, numTokens);
      // A gather: every stored value is exact in float32, and the product of a byte and its scale is rounded once.
      expectEqualInts(
        await bench.readFloats(x, numTokens * hiddenSize),
        Float32Array.from(embedRef(table.values, ids, hiddenSize)),
      );
    },
  );

  test('bytes without scales are refused', () => {
    const buffer = bench.output(16);
    const buffers = { step: buffer, ids: buffer, table: buffer, x: buffer };
    expect(() => embed(bench, { hiddenSize: 8, rowStart: 0, rows: 2, dtype: 'I8', ...buffers })).toThrow(
      'embed: expected scales',
    );
  });

  test('a token outside the block keeps its row', async () => {
    const x = bench.output(2 * 8);
    const table = randomDense(4, 8, 'F32', 2);
    const args = { hiddenSize: 8, rowStart: 10, rows: 4, dtype: 'F32' as const, step: bench.step(2) };
    const ids = bench.input(new Uint32Array([9, 14]));
    await bench.run([await embed(bench, { ...args, ids, table: bench.input(table.bytes), x })], 2);
    expect((await bench.readFloats(x, 16)).every(Number.isNaN)).toBe(true);
  });
});

import { describe, expect, test } from 'vitest';
import { logitAdjust, maskWords } from './logit-adjust';
import { logitAdjustRef } from './logit-adjust.ref';
import { KernelShapeError } from './op';
import { capabilitySets, expectEqualInts, KernelBench, normals } from './testing';

describe.each(capabilitySets)('logit_adjust with $name', async ({ options }) => {
  const bench = await KernelBench.open(options);

  async function run(
    logits: Float32Array<ArrayBuffer>,
    bias: Float32Array<ArrayBuffer>,
    mask: Uint32Array<ArrayBuffer>,
  ): Promise<Uint32Array> {
    const vocabSize = logits.length;
    const y = bench.output(vocabSize);
    const [logitBuffer, biasBuffer, maskBuffer] = [logits, bias, mask].map((data) => bench.input(data));
    const buffers = { logits: logitBuffer!, bias: biasBuffer!, mask: maskBuffer!, y };
    await bench.run([await logitAdjust(bench, { vocabSize, ...buffers })], 1);
    expectEqualInts(
      new Uint32Array(await bench.read(logitBuffer!)).slice(0, vocabSize),
      new Uint32Array(logits.buffer),
    );
    return bench.readOutput(y, vocabSize);
  }

  // One float32 addition is correctly rounded in WGSL, so the result is exact, bit by bit.
  test.each([1, 31, 32, 33, 512, 2000, 128256])('V=%i', async (vocabSize) => {
    const [logits, bias] = [normals(vocabSize, 1, 8), normals(vocabSize, 2, 40)];
    const mask = Uint32Array.from({ length: maskWords(vocabSize) }, (_, i) => Math.imul(i + 1, 0x9e3779b1));
    const expected = logitAdjustRef(logits, bias, mask);
    expectEqualInts(await run(logits, bias, mask), new Uint32Array(expected.buffer));
    if (vocabSize > 500) {
      const kept = expected.filter(Number.isFinite).length;
      expect(kept).toBeGreaterThan(vocabSize / 4);
      expect(kept).toBeLessThan((3 * vocabSize) / 4);
    }
  });

  test('what is not finite stays, behind a mask, too', async () => {
    const bits = Uint32Array.of(0x7fc00001, 0xffc00000, 0x7f800000, 0xff800000, 0x7fc00001, 0x7f800000, 0);
    const bias = new Float32Array(7).fill(1);
    const result = await run(new Float32Array(bits.buffer), bias, Uint32Array.of(0b0001111));
    expectEqualInts(result, Uint32Array.of(...bits.slice(0, 6), 0xff800000));
  });

  test('a mask that is too small is refused', async () => {
    const [large, small] = [bench.output(1000), bench.input(new Uint32Array(4))];
    const args = { vocabSize: 600, logits: large, bias: large, mask: small, y: large };
    await expect(logitAdjust(bench, args)).rejects.toThrow(KernelShapeError);
  });
});

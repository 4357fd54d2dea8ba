/** `hostScorer` on the GPU, float32: a 7B model's logits are most of what scoring it takes. */
import scoreSource from '../../shaders/score_logits.wgsl?raw';
import { foldGrid } from '../kernels/op';
import type { Head, LogitScorer, ScoreSums } from '../quantize/logit-scores';
import type { Matrix } from '../quantize/matrix';
import { rmsNormRows } from './block-steps';
import { gemm } from './gemm';
import type { GpuWork } from './gpu-work';

/** Floats of one block of a head's rows, and of one model's logits at a time: 256 MiB each. */
const blockFloats = 64 * 2 ** 20;

/** A head on the GPU, in blocks of whole rows. */
class GpuHead {
  readonly #blocks: { readonly buffer: GPUBuffer; readonly from: number; readonly rows: number }[] = [];
  readonly #gamma: GPUBuffer;

  constructor(
    readonly work: GpuWork,
    readonly head: Head,
  ) {
    const { rows, cols, data } = head.weight;
    const most = Math.max(1, Math.floor(blockFloats / cols));
    for (let from = 0; from < rows; from += most) {
      const count = Math.min(most, rows - from);
      const values = data.subarray(from * cols, (from + count) * cols);
      this.#blocks.push({ buffer: work.upload('head', values), from, rows: count });
    }
    this.#gamma = work.upload('head.norm', head.gamma);
  }

  /** logits [rows, V] of rows [from, from + rows) of `hidden`. */
  async logits(hidden: Matrix, from: number, rows: number, name: string): Promise<GPUBuffer> {
    const { work, head } = this;
    const { rows: V, cols: D } = head.weight;
    const x = work.scratch(`${name}.hidden`, rows * D);
    work.write(x, hidden.data.subarray(from * D, (from + rows) * D));
    const normed = work.scratch(`${name}.normed`, rows * D);
    await rmsNormRows(work, { buffer: x, rows, cols: D }, this.#gamma, head.eps, normed);
    const logits = work.scratch(`${name}.logits`, rows * V);
    for (const block of this.#blocks) {
      await gemm(work, {
        M: rows,
        N: block.rows,
        K: D,
        a: { buffer: normed, stride: D },
        b: { buffer: block.buffer, stride: D },
        c: { buffer: logits, stride: V, offset: block.from },
      });
    }
    return logits;
  }

  dispose(): void {
    this.work.free(this.#gamma, ...this.#blocks.map(({ buffer }) => buffer));
  }
}

/** scores [T, 3] of logits [T, V]: negative log likelihood of `next` [T], KL divergence, and whether both agree on the largest. */
export async function scoreLogits(
  work: GpuWork,
  own: GPUBuffer,
  reference: GPUBuffer,
  next: Uint32Array,
  V: number,
): Promise<Float32Array> {
  const T = next.length;
  const [ids, scores] = [work.upload('scores.next', next), work.create('scores', 3 * T)];
  try {
    await work.run({
      label: 'score_logits',
      source: scoreSource,
      constants: { WORKGROUP: work.gpu.caps.software ? 4 : 256 },
      uniforms: [{ T, V }],
      buffers: [own, reference, ids, scores],
      grid: [...foldGrid(T), 1],
    });
    return await work.readFloats(scores, 3 * T);
  } finally {
    work.free(ids, scores);
  }
}

/** Sums over positions in float64. */
function sumsOf(scores: Float32Array): ScoreSums {
  const sum = (from: number) => {
    let total = 0;
    for (let i = from; i < scores.length; i += 3) total += scores[i]!;
    return total;
  };
  return { nll: sum(0), kl: sum(1), same: sum(2) };
}

export function gpuScorer(work: GpuWork, own: Head, reference: Head): LogitScorer {
  const ownHead = new GpuHead(work, own);
  const referenceHead = reference === own ? ownHead : new GpuHead(work, reference);
  const { rows: V } = own.weight;
  const most = Math.max(1, Math.floor(blockFloats / V));
  return {
    score: async (hidden, float, ids) => {
      const isSame = hidden === float && own === reference;
      const parts: number[] = [];
      for (let from = 0; from + 1 < ids.length; from += most) {
        const rows = Math.min(most, ids.length - 1 - from);
        const q = await ownHead.logits(hidden, from, rows, 'own');
        const p = isSame ? q : await referenceHead.logits(float, from, rows, 'reference');
        const next = Uint32Array.from(ids.slice(from + 1, from + 1 + rows));
        parts.push(...(await scoreLogits(work, q, p, next, V)));
      }
      return sumsOf(Float32Array.from(parts));
    },
    dispose: () => {
      ownHead.dispose();
      if (referenceHead !== ownHead) referenceHead.dispose();
    },
  };
}

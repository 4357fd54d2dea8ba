/**
 * Step migration for norms with a bias and a mean, MergeQuant's remark on LayerNorm (arXiv 2503.07654 §3.2):
 * LayerNorm(x) = γ ⊙ (x − mean(x))/σ(x) + β. Both extras leave the norm before anything is quantized, and what remains is the
 * RMSNorm that Eq. 4 merges its steps into:
 * - β is the same for every token, so W·(n + β) = W·n + W·β: it becomes a bias of the linears behind, exact and unrounded,
 *   and takes no part of the integers' range;
 * - x − mean(x) is linear, C·x with C = I − 11ᵀ/D, so it moves into what writes the residual stream (embedding rows, o, down);
 *   the stream then has mean 0, and σ(x) = RMS(x).
 * Llama's norms have neither: this applies to checkpoints of the GPT and OPT families, for which there is no loader here.
 */
import type { Linear } from './layer';
import { matrix } from './matrix';

/** A shift of another length than the linear's inputs. */
export class NormBiasError extends Error {
  override readonly name = 'NormBiasError';
}

/** The linear behind a norm without its β [K]: bias + W·β. @throws NormBiasError */
export function foldNormBias({ weight, bias }: Linear, beta: Float32Array): Linear {
  const { rows, cols, data } = weight;
  if (beta.length !== cols) {
    throw new NormBiasError(
      `norm bias: expected ${cols} values, as the linear has inputs, found ${beta.length}`,
    );
  }
  const shifted = Float32Array.from({ length: rows }, (_, n) => {
    let sum = bias?.[n] ?? 0;
    for (let k = 0; k < cols; k++) sum += data[n * cols + k]! * beta[k]!;
    return sum;
  });
  return { weight, bias: shifted };
}

/** A linear whose outputs have mean 0: C·(W, b). The embedding is one with a token's row for each column, transposed. */
export function centerOutputs({ weight, bias }: Linear): Linear {
  const { rows, cols } = weight;
  const data = weight.data.slice();
  for (let k = 0; k < cols; k++) {
    let mean = 0;
    for (let n = 0; n < rows; n++) mean += data[n * cols + k]! / rows;
    for (let n = 0; n < rows; n++) data[n * cols + k]! -= mean;
  }
  const biasMean = bias ? bias.reduce((sum, value) => sum + value, 0) / rows : 0;
  return { weight: matrix(rows, cols, data), bias: bias?.map((value) => value - biasMean) ?? null };
}

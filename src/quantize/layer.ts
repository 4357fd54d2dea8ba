/** The float weights of one layer, fused as the artifact stores them. */
import type { HadamardSpec } from '../format/manifest';
import type { Block } from './forward';
import { rmsNorm } from './forward';
import type { Matrix } from './matrix';
import { LinearMap } from './products';
import { onlineRotation } from './rotate';

export interface Linear {
  readonly weight: Matrix; // [N, K]
  readonly bias: Float32Array | null; // [N]
  /** Keys and values of float prefix tokens [P, 2·Hkv·Dh]: they take the place of the first rows' (q,k,v only). */
  readonly prefix?: Matrix;
}

export interface LayerWeights {
  readonly attnNorm: Float32Array; // [D]
  /** Rows: q, then k, then v. */
  readonly qkv: Linear;
  readonly o: Linear;
  readonly mlpNorm: Float32Array; // [D]
  /** Row 2f is gate f, row 2f + 1 is up f. */
  readonly gateUp: Linear;
  readonly down: Linear;
}

/** A float block on the array library, with the online rotation of rotated weights; `dispose` frees its weights there. */
export async function floatBlock(
  layer: LayerWeights,
  eps: number,
  hadamard: HadamardSpec | null = null,
): Promise<Block & { dispose(): void }> {
  const load = ({ weight, bias }: Linear) => LinearMap.load(weight, bias);
  const qkv = await load(layer.qkv);
  const o = await load(layer.o);
  const gateUp = await load(layer.gateUp);
  const down = await load(layer.down);
  return {
    attnInput: (x) => rmsNorm(x, layer.attnNorm, eps),
    qkv: (input) => qkv.apply(input),
    o: (attended) => o.apply(attended),
    mlpInput: (x) => rmsNorm(x, layer.mlpNorm, eps),
    gateUp: (input) => gateUp.apply(input),
    ...(hadamard && { downInput: (gated: Matrix) => onlineRotation(gated, hadamard) }),
    down: (downInput) => down.apply(downInput),
    dispose: () => {
      for (const map of [qkv, o, gateUp, down]) map.dispose();
    },
  };
}

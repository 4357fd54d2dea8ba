/** A quantized layer that is still in memory, runnable on the host: for calibration behind it and for measurements. */
import type { LlamaConfig } from '../format/config';
import { schemeModes } from '../format/scheme';
import { type Block, rmsNorm } from './forward';
import { normFloats, normIntegers } from './integers';
import { roundedTokens } from './linear-problem';
import { clamp, intRange, type Matrix, matrix, roundHalfEven } from './matrix';
import { scaleColumns } from './migrate';
import { withPrefix } from './prefix-rows';
import { LinearMap } from './products';
import type { Method, QuantizedLayer, QuantizedNorm } from './quantize-layer';
import { onlineRotation } from './rotate';
import { dequantize } from './rtn';

/** The parts of a method that say how inputs are rounded. */
export type Rounding = Pick<Method, 'scheme' | 'actBits' | 'floatActivations'>;

/** x [T, D] as q,k,v or gate,up multiply it: integers, or floats times nothing where the scheme is dynamic. */
export function roundNormed(
  x: Matrix,
  norm: QuantizedNorm,
  act: number,
  eps: number,
  width: number,
  { actBits, floatActivations }: Rounding,
): Matrix {
  if ('mult' in norm) return (floatActivations ? normFloats : normIntegers)(x, norm, actBits, eps);
  const rows = scaleColumns(rmsNorm(x, norm.weight, eps), null, width);
  return floatActivations ? rows : roundedTokens(rows, act, actBits);
}

/** o's or down's input as the linear multiplies it. */
export function roundProjected(x: Matrix, act: number, width: number, rounding: Rounding): Matrix {
  const rows = scaleColumns(x, null, width);
  const { min, max } = intRange(rounding.actBits);
  const isDynamic = schemeModes[rounding.scheme].projection === 'dynamic';
  if (isDynamic) return rounding.floatActivations ? rows : roundedTokens(rows, act, rounding.actBits);
  const round = rounding.floatActivations
    ? (value: number) => value / act
    : (value: number) => clamp(roundHalfEven(value / act), min, max);
  return matrix(rows.rows, width, rows.data.map(round));
}

/** `dispose` frees the weights in the array library. */
export async function quantizedBlock(
  layer: QuantizedLayer,
  config: LlamaConfig,
  method: Method,
): Promise<Block & { dispose(): void }> {
  const load = ({ weight, bias }: QuantizedLayer['o']) => LinearMap.load(dequantize(weight), bias);
  const [qkv, o] = [await load(layer.qkv), await load(layer.o)];
  const [gateUp, down] = [await load(layer.gateUp), await load(layer.down)];
  const { spec, attnNorm, mlpNorm } = layer;
  const { hadamard } = method;
  const normed = (norm: QuantizedNorm, act: number, width: number) => (x: Matrix) =>
    roundNormed(x, norm, act, config.rmsNormEps, width, method);
  const { prefix } = layer.qkv;
  const block: Block & { dispose(): void } = {
    attnInput: normed(attnNorm, spec.attnAct, qkv.inputs),
    qkv: (input) => qkv.apply(input),
    o: (attended) => o.apply(roundProjected(attended, spec.oAct, o.inputs, method)),
    mlpInput: normed(mlpNorm, spec.mlpAct, gateUp.inputs),
    gateUp: (input) => gateUp.apply(input),
    ...(hadamard && { downInput: (gated: Matrix) => onlineRotation(gated, hadamard) }),
    down: (gated) => down.apply(roundProjected(gated, spec.downAct, down.inputs, method)),
    dispose: () => {
      for (const map of [qkv, o, gateUp, down]) map.dispose();
    },
  };
  return prefix ? withPrefix(block, prefix) : block;
}

/** A quantized layer's constants on the array library, for training. */
import { numpy as np } from '@jax-js/jax';
import type { LlamaConfig } from '../format/config';
import { clamp } from './matrix';
import type { Method, QuantizedLayer, QuantizedLinear, QuantizedNorm } from './quantize-layer';
import { walshMatrix } from './rotate';
import { type BlockArrays, type LinearName, linearNames } from './trainable-block';

/** A layer was made without the weights in front of rounding, or in a form that has no row steps of its own. */
export class CompensationError extends Error {
  override readonly name = 'CompensationError';
}

function array(data: ArrayLike<number>, shape: number[]): np.Array {
  return np.array(Float32Array.from(data)).reshape(shape);
}

/**
 * The migrated weight in steps of its row, [N, K'], held within half a step of its code: rounding it gives the code that
 * was chosen (GPTQ's, say), and training starts from where in the step the weight lies.
 */
export function weightUnits(name: string, { weight, migrated }: QuantizedLinear): Float32Array {
  const { rows, cols, codes, scales } = weight;
  if (!migrated || scales.length !== rows) {
    throw new CompensationError(
      `${name}: expected 4-bit weights with one scale a row and their float source`,
    );
  }
  return Float32Array.from(codes, (code, i) => {
    const exact = migrated.data[i]! / scales[Math.floor(i / cols)]!;
    return code + clamp(exact - code, -0.49, 0.49);
  });
}

function normArrays(site: 'attn' | 'mlp', norm: QuantizedNorm, hiddenSize: number): BlockArrays {
  if ('weight' in norm) return { [`${site}.gamma`]: array(norm.weight, [1, hiddenSize]) };
  const { mult, gather, offset } = norm;
  const width = mult.length;
  const inOrder = width === hiddenSize && gather.every((channel, j) => channel === j);
  const select = new Float32Array(inOrder ? 0 : hiddenSize * width);
  if (!inOrder) {
    gather.forEach((channel, j) => {
      select[channel * width + j] = 1;
    });
  }
  return {
    [`${site}.mult`]: array(mult, [1, width]),
    ...(!inOrder && { [`${site}.select`]: array(select, [hiddenSize, width]) }),
    ...(offset && { [`${site}.offset`]: array(offset, [1, width]) }),
  };
}

/** All constants of a layer, and each linear's weight in row steps. @throws CompensationError */
export function layerArrays(layer: QuantizedLayer, config: LlamaConfig, { hadamard }: Method) {
  const units = Object.fromEntries(
    linearNames.map((name) => [name, weightUnits(name, layer[name])]),
  ) as Record<LinearName, Float32Array>;
  const constants: BlockArrays = {
    ...normArrays('attn', layer.attnNorm, config.hiddenSize),
    ...normArrays('mlp', layer.mlpNorm, config.hiddenSize),
  };
  for (const name of linearNames) {
    const { weight, bias } = layer[name];
    constants[`${name}.units`] = array(units[name], [weight.rows, weight.cols]);
    constants[`${name}.scale`] = array(weight.scales, [weight.rows, 1]);
    if (bias) constants[`${name}.bias`] = array(bias, [1, weight.rows]);
  }
  if (hadamard) {
    const { downBlock } = hadamard;
    constants.hadamard = array(walshMatrix(downBlock), [downBlock, downBlock]);
  }
  return { constants, units };
}

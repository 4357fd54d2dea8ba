/** A quantized layer's constants on the array library, for training. */
import { numpy as np } from '@jax-js/jax';
import type { LlamaConfig } from '../format/config';
import { type ActivationMode, qMax, schemeModes } from '../format/scheme';
import { levelDistance } from '../format/weight-grid';
import { clamp } from './matrix';
import type { Method, QuantizedLayer, QuantizedLinear, QuantizedNorm } from './quantize-layer';
import { walshMatrix } from './rotate';
import { type QuantizedMatrix, scaleIndex, scaleRuns } from './rtn';
import { type BlockArrays, type LinearName, linearNames } from './trainable-block';

/** A layer was made without the weights in front of rounding, or in a form that has no row steps of its own. */
export class CompensationError extends Error {
  override readonly name = 'CompensationError';
}

function array(data: ArrayLike<number>, shape: number[]): np.Array {
  return np.array(new Float32Array(data)).reshape(shape);
}

/** Codes between two neighbouring levels: 1 without a grid. */
export function codeDistance({ grid }: QuantizedMatrix): number {
  return grid ? levelDistance(grid.bits) : 1;
}

/**
 * The migrated weight in distances of levels from its zero, [N, K'], held within half a distance of its code: rounding it
 * gives the code that was chosen (GPTQ's, say), and training starts from where between the levels the weight lies.
 */
export function weightUnits(name: string, { weight, migrated }: QuantizedLinear): Float32Array {
  const { codes, scales } = weight;
  if (!migrated) throw new CompensationError(`${name}: expected quantized weights with their float source`);
  const distance = codeDistance(weight);
  const most = 0.49 * distance;
  const units = new Float32Array(codes.length);
  for (const { at, from, to } of scaleRuns(weight)) {
    for (let i = from; i < to; i++) {
      const code = codes[i]!;
      units[i] = (code + clamp(migrated.data[i]! / scales[at]! - code, -most, most)) / distance;
    }
  }
  return units;
}

/** A linear's constants: units, scales of a level [N, G], and where it has them zero points in levels and its groups. */
function linearArrays(name: LinearName, { weight, bias }: QuantizedLinear, units: Float32Array): BlockArrays {
  const { rows, cols, scales, grid } = weight;
  const groups = scales.length / rows;
  const distance = codeDistance(weight);
  const spread = new Float32Array(groups * cols);
  for (let k = 0; k < cols; k++) spread[scaleIndex(weight, k) * cols + k] = 1;
  const zeros = grid && Float32Array.from(units, (_, i) => grid.zeros[scaleIndex(weight, i)]! / distance);
  return {
    [`${name}.units`]: array(units, [rows, cols]),
    [`${name}.scale`]: array(
      scales.map((scale) => scale * distance),
      [rows, groups],
    ),
    ...(zeros && { [`${name}.zero`]: array(zeros, [rows, cols]) }),
    ...(groups > 1 && { [`${name}.spread`]: array(spread, [groups, cols]) }),
    ...(bias && { [`${name}.bias`]: array(bias, [1, rows]) }),
  };
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

/** What input quantizers are told, see {@link BlockArrays}. */
function actArrays({ spec }: QuantizedLayer, { scheme, actBits }: Method): BlockArrays {
  const { norm, projection } = schemeModes[scheme];
  const value = (act: number, mode: ActivationMode) => (mode === 'dynamic' ? act / qMax(actBits) : act);
  return {
    'qkv.act': array([value(spec.attnAct, norm)], [1, 1]),
    'o.act': array([value(spec.oAct, projection)], [1, 1]),
    'gateUp.act': array([value(spec.mlpAct, norm)], [1, 1]),
    'down.act': array([value(spec.downAct, projection)], [1, 1]),
  };
}

/** All constants of a layer, and each linear's weight in row steps. @throws CompensationError */
export function layerArrays(layer: QuantizedLayer, config: LlamaConfig, method: Method) {
  const { hadamard } = method;
  const units = Object.fromEntries(
    linearNames.map((name) => [name, weightUnits(name, layer[name])]),
  ) as Record<LinearName, Float32Array>;
  const constants: BlockArrays = {
    ...actArrays(layer, method),
    ...normArrays('attn', layer.attnNorm, config.hiddenSize),
    ...normArrays('mlp', layer.mlpNorm, config.hiddenSize),
  };
  for (const name of linearNames) Object.assign(constants, linearArrays(name, layer[name], units[name]));
  const { prefix } = layer.qkv;
  if (prefix) constants['qkv.prefix'] = array(prefix.data, [prefix.rows, prefix.cols]);
  if (hadamard) {
    const { downBlock } = hadamard;
    constants.hadamard = array(walshMatrix(downBlock), [downBlock, downBlock]);
  }
  return { constants, units };
}

/** What compensation trained, folded into codes and scales: quant(W' + A·B), of which nothing remains at run time. */
import { numpy as np } from '@jax-js/jax';
import { storableStep } from '../format/weight-grid';
import type { Parameters } from './adamw';
import { codeDistance } from './compensation-arrays';
import { clamp, intRange } from './matrix';
import type { QuantizedLayer } from './method';
import { type QuantizedMatrix, scaleRuns } from './rtn';
import { type LinearName, linearNames } from './trainable-block';

/** Codes and scales of trained units (distances of levels from the zero) and of the scales' growth. */
function foldedWeight(weight: QuantizedMatrix, trained: Float32Array, growth: Float32Array): QuantizedMatrix {
  const { scales, grid } = weight;
  const distance = codeDistance(weight);
  const { min, max } = grid ? { min: 0, max: 2 ** grid.bits - 1 } : intRange(4);
  const codes = new Int8Array(trained.length);
  for (const { at, from, to } of scaleRuns(weight)) {
    const zero = grid ? grid.zeros[at]! : 0;
    const shrunk = Math.exp(-growth[at]!);
    for (let i = from; i < to; i++) {
      codes[i] = distance * clamp(Math.round(trained[i]! * shrunk + zero / distance), min, max) - zero;
    }
  }
  const grown = scales.map((scale, at) => scale * Math.exp(growth[at]!));
  return { ...weight, codes, scales: grid ? grown.map(storableStep) : grown };
}

/** Folds what was trained into codes and scales. */
export async function foldTrained(
  layer: QuantizedLayer,
  units: Readonly<Record<LinearName, Float32Array>>,
  parameters: Parameters,
) {
  const read = async (name: string) =>
    parameters[name] ? ((await parameters[name].ref.data()) as Float32Array) : null;
  const result: { -readonly [K in keyof QuantizedLayer]: QuantizedLayer[K] } = { ...layer };
  for (const name of linearNames) {
    const linear = layer[name];
    const a = parameters[`${name}.a`];
    const delta = a
      ? ((await np.matmul(a.ref, parameters[`${name}.b`]!.ref).data()) as Float32Array)
      : (await read(`${name}.delta`))!;
    const growth = (await read(`${name}.growth`)) ?? new Float32Array(linear.weight.scales.length);
    const trained = units[name].map((unit, i) => unit + delta[i]!);
    result[name] = { ...linear, weight: foldedWeight(linear.weight, trained, growth) };
  }
  return result;
}

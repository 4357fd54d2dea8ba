import { benchShapes } from '../../../bench/shapes';
import { ModelOptions } from './model-options';
import { models } from './panel-models';
import { modelUrl, request } from './state';

/** Which model the suites that need one load and run. */
export function ModelField() {
  const known = models.value.some(({ url }) => url === modelUrl.value);
  return (
    <label>
      Model
      <select
        class="field"
        data-testid="bench-model"
        value={modelUrl.value}
        onChange={({ currentTarget }) => {
          modelUrl.value = currentTarget.value;
        }}
      >
        {!known && <option value={modelUrl.value}>{modelUrl.value}</option>}
        <ModelOptions />
      </select>
    </label>
  );
}

/** The sizes of the random weights that all else runs on. */
export function ShapeField() {
  return (
    <label>
      Shape
      <select
        class="field"
        data-testid="bench-shape"
        value={request.value.shape}
        onChange={({ currentTarget }) => {
          request.value = { ...request.value, shape: currentTarget.value };
        }}
      >
        {Object.keys(benchShapes).map((name) => (
          <option key={name}>{name}</option>
        ))}
      </select>
    </label>
  );
}

/** Lengths of the past that decoding is measured behind; what is no list of them is put back. */
export function ContextsField() {
  const { contexts } = request.value;
  return (
    <label>
      Contexts
      <input
        class="field"
        value={contexts.join(', ')}
        onChange={({ currentTarget }) => {
          const values = currentTarget.value
            .split(/[\s,]+/)
            .filter(Boolean)
            .map(Number);
          const valid = values.length > 0 && values.every((value) => Number.isInteger(value) && value >= 0);
          if (valid) request.value = { ...request.value, contexts: values };
          else currentTarget.value = contexts.join(', ');
        }}
      />
    </label>
  );
}

/** Repetitions of every measurement. */
export function SamplesField() {
  return (
    <label>
      Samples
      <input
        class="field"
        type="number"
        min="1"
        max="100"
        value={request.value.samples}
        onChange={({ currentTarget }) => {
          const value = currentTarget.valueAsNumber;
          if (Number.isInteger(value) && value >= 1) request.value = { ...request.value, samples: value };
        }}
      />
    </label>
  );
}

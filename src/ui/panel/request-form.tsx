import { type SuiteName, suiteNames } from '../../../bench/figures';
import { benchShapes, parseScheme } from '../../../bench/shapes';
import { planMemory } from '../../format/memory-plan';
import { bytesText } from '../../gpu/bytes-text';
import { ContextsField, ModelField, SamplesField, ShapeField } from './request-fields';
import { activity, cancel, gpu, request, run, schemesOffered } from './state';

const suiteTexts: Readonly<Record<SuiteName, string>> = {
  ceiling: 'Ceiling: bandwidth, dispatches',
  kernels: 'Each product',
  'quant-step': 'Quantization step alone',
  layer: 'One layer',
  decode: 'Decode and prefill',
  persistent: 'Decode in one dispatch a token, against the ordinary kernels',
  load: 'Load the model',
  demo: 'Run the model',
};

/** A run that takes more GPU memory than this asks first. */
const largeBytes = 2 ** 30;

/** What the largest of the chosen schemes takes on the GPU. */
function neededBytes(): number {
  const { shape, schemes, contexts } = request.value;
  const config = benchShapes[shape]!;
  const contextLength = Math.min(Math.max(...contexts) + 65, config.maxPositionEmbeddings);
  const bytes = schemes.map((name) => {
    const { scheme, actBits, kvCache, tableBits } = parseScheme(name);
    const tables = { embeddingBits: tableBits, headBits: tableBits };
    return planMemory({ config, scheme, actBits, kvCache, ...tables, contextLength }).gpuBytes;
  });
  return Math.max(...bytes);
}

function toggled<T>(list: readonly T[], item: T, order: readonly T[]): T[] {
  return order.filter((other) => (other === item ? !list.includes(item) : list.includes(other)));
}

/** What to measure, and the button that does. */
export function RequestForm() {
  const { suites, schemes } = request.value;
  const busy = activity.value.kind === 'running';
  const runnable = suites.length > 0 && schemes.length > 0 && gpu.value !== null;
  const bytes = schemes.length > 0 ? neededBytes() : 0;
  const size = bytesText(bytes);
  const begin = () => {
    const text = `This takes about ${size} of GPU memory. A browser cannot say how much this GPU has free. Go on?`;
    if (bytes > largeBytes && !confirm(text)) return;
    run();
  };
  return (
    <form
      class="bench-form"
      onSubmit={(event) => {
        event.preventDefault();
        begin();
      }}
    >
      <Choices
        legend="Measure"
        names={suiteNames}
        chosen={suites}
        text={(name) => suiteTexts[name]}
        onToggle={(name) => {
          request.value = { ...request.value, suites: toggled(suites, name, suiteNames) };
        }}
      />
      <Choices
        legend="Schemes"
        names={schemesOffered}
        chosen={schemes}
        text={(name) => name}
        onToggle={(name) => {
          request.value = { ...request.value, schemes: toggled(schemes, name, schemesOffered) };
        }}
      />
      <div class="bench-fields">
        <ModelField />
        <ShapeField />
        <ContextsField />
        <SamplesField />
      </div>
      <p class="muted">
        “The model” is the chosen one. All else runs on random weights of the shape, made on the GPU: nothing
        is downloaded. The largest scheme takes {size}.
      </p>
      <div class="bench-actions">
        <button class="button primary" type="submit" data-testid="bench-run" disabled={busy || !runnable}>
          Run static against dynamic
        </button>
        {busy && (
          <button class="button" type="button" data-testid="bench-cancel" onClick={cancel}>
            Stop
          </button>
        )}
      </div>
    </form>
  );
}

interface ChoicesProps<T extends string> {
  readonly legend: string;
  readonly names: readonly T[];
  readonly chosen: readonly string[];
  readonly text: (name: T) => string;
  readonly onToggle: (name: T) => void;
}

function Choices<T extends string>({ legend, names, chosen, text, onToggle }: ChoicesProps<T>) {
  return (
    <fieldset class="bench-choices">
      <legend>{legend}</legend>
      {names.map((name) => (
        <label key={name}>
          <input
            type="checkbox"
            data-testid={`bench-choice-${name}`}
            checked={chosen.includes(name)}
            onChange={() => onToggle(name)}
          />
          {text(name)}
        </label>
      ))}
    </fieldset>
  );
}

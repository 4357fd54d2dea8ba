/** The `--compensate` option of prepare and eval. */
import { InvalidArgumentError } from 'commander';
import { nodeGpuEntry } from '../src/gpu/node';
import { type CompensationOptions, compensationDefaults, type TrainingTry } from '../src/quantize/compensate';
import type { CompensationRun } from '../src/quantize/layer-compensator';
import { trainingDevices } from '../src/quantize/training-device';

type Settings = { -readonly [K in keyof CompensationOptions]: CompensationOptions[K] };

function numberAbove(least: number, whole: boolean): (text: string, key: string) => number {
  return (text, key) => {
    const value = Number(text);
    if (text !== '' && value >= least && Number.isFinite(value) && (!whole || Number.isSafeInteger(value))) {
      return value;
    }
    const kind = whole ? 'a whole number' : 'a number';
    throw new InvalidArgumentError(`${key}: expected ${kind} of at least ${least}, found "${text}".`);
  };
}

function oneOf<T extends string>(values: readonly T[]): (text: string, key: string) => T {
  return (text, key) => {
    const value = values.find((candidate) => candidate === text);
    if (value !== undefined) return value;
    throw new InvalidArgumentError(`${key}: expected ${values.join(' or ')}, found "${text}".`);
  };
}

const positive = numberAbove(1e-9, false);
const count = numberAbove(1, true);

const setters: Readonly<Record<string, (settings: Settings, text: string) => void>> = {
  rank: (settings, text) => {
    settings.rank = text === 'full' ? 'full' : count(text, 'rank');
  },
  epochs: (settings, text) => {
    settings.epochs = count(text, 'epochs');
  },
  rate: (settings, text) => {
    settings.rate = positive(text, 'rate');
  },
  decay: (settings, text) => {
    settings.decay = numberAbove(0, false)(text, 'decay');
  },
  rows: (settings, text) => {
    settings.batchRows = text === 'auto' ? 'auto' : count(text, 'rows');
  },
  scales: (settings, text) => {
    settings.learnScales = oneOf(['learned', 'fixed'])(text, 'scales') === 'learned';
  },
  retries: (settings, text) => {
    settings.retries = numberAbove(0, true)(text, 'retries');
  },
  seed: (settings, text) => {
    settings.seed = numberAbove(0, true)(text, 'seed');
  },
  device: (settings, text) => {
    settings.device = oneOf(trainingDevices)(text, 'device');
  },
};

export const compensateHelp =
  'train each block: rank=<n|full>,epochs=<n>,rate=<x>,decay=<x>,rows=<n|auto>,scales=<learned|fixed>,retries=<n>,seed=<n>,device=<wasm|webgpu>';

/** `rank=16,epochs=8` over the defaults; an empty text is the defaults. @throws InvalidArgumentError naming the key */
export function parseCompensation(text: string): CompensationOptions {
  const settings: Settings = { ...compensationDefaults };
  for (const part of text.split(',').filter((piece) => piece !== '')) {
    const [key = '', value = ''] = part.split('=');
    const set = Object.hasOwn(setters, key) ? setters[key] : undefined;
    if (!set) {
      throw new InvalidArgumentError(`expected ${Object.keys(setters).join(', ')}, found "${key}".`);
    }
    set(settings, value);
  }
  return settings;
}

/** jax-js looks for WebGPU where a browser has it. */
export async function provideNavigatorGpu(): Promise<void> {
  const gpu = await nodeGpuEntry();
  const navigator = { ...globalThis.navigator, userAgent: globalThis.navigator?.userAgent ?? 'Node', gpu };
  Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
}

/** A try in vain, as a line; null for one that served. */
export function tryLine(layer: number, { rate, loss, next }: TrainingTry): string | null {
  const found = `layer ${layer}: trained at rate ${rate}, its loss is ${loss.toFixed(4)} of what it was`;
  if (loss < 1) return null;
  return next === null
    ? `${found}; the layer stays as it was made (more calibration text or a smaller rate may help)`
    : `${found}; once more at ${next}`;
}

/** What prepare is told: losses go to stderr, a line an epoch and one for each try in vain. @throws WebGpuUnavailableError for device=webgpu without one */
export async function compensationRun(
  settings: CompensationOptions,
  folder?: string,
): Promise<CompensationRun> {
  if (settings.device === 'webgpu') await provideNavigatorGpu();
  return {
    settings,
    ...(folder !== undefined && { folder }),
    onEpoch: (layer, epoch, epochs, loss) =>
      process.stderr.write(
        `layer ${layer}: epoch ${epoch} of ${epochs}, loss ${loss.toFixed(4)} of what it was\n`,
      ),
    onTry: (layer, training) => {
      const line = tryLine(layer, training);
      if (line) process.stderr.write(`${line}\n`);
    },
  };
}

/** Sampling settings and the system prompt, as the settings panel edits them. */
import { signal } from '@preact/signals';
import type { SamplingOptions } from '../../engine/types';

export interface Settings extends Omit<SamplingOptions, 'seed'> {
  /** null draws a new seed for every reply. */
  readonly seed: number | null;
  readonly maxTokens: number;
  readonly systemPrompt: string;
}

/** Used where a model recommends nothing. */
const baseSettings: Settings = {
  temperature: 0.7,
  topK: 0,
  topP: 0.95,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: null,
  maxTokens: 256,
  systemPrompt: '',
};

export const settings = signal<Settings>(baseSettings);

/** What the loaded model recommends. */
let recommended: Partial<SamplingOptions> = {};
/** Settings a person changed: a model loaded later does not overrule them. */
const touched = new Set<keyof Settings>();

export function change<Key extends keyof Settings>(key: Key, value: Settings[Key]): void {
  touched.add(key);
  settings.value = { ...settings.value, [key]: value };
}

/** Takes over what a model recommends, except for what was changed by hand. */
export function recommend(sampling: Partial<SamplingOptions>): void {
  recommended = sampling;
  const next: Record<string, unknown> = { ...baseSettings, ...sampling };
  for (const key of touched) next[key] = settings.value[key];
  settings.value = next as unknown as Settings;
}

/** Back to the model's own recommendation; the system prompt stays. */
export function resetSettings(): void {
  const { systemPrompt } = settings.value;
  touched.clear();
  if (systemPrompt !== '') touched.add('systemPrompt');
  settings.value = { ...baseSettings, ...recommended, systemPrompt };
}

/** The settings as the engine takes them, with a seed drawn if none is set. */
export function samplingOf({ seed, maxTokens: _, systemPrompt: __, ...rest }: Settings): SamplingOptions {
  return { ...rest, seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0]! };
}

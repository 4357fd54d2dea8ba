/** Sampling settings and the system prompt of the conversation on screen, as the settings panel edits them. */
import { computed, type Signal, signal } from '@preact/signals';
import type { SamplingOptions } from '../../engine/types';

export interface Settings extends Omit<SamplingOptions, 'seed'> {
  /** null draws a new seed for every reply. */
  readonly seed: number | null;
  readonly maxTokens: number;
  readonly systemPrompt: string;
}

/** Settings a person changed in a conversation: whatever model is loaded, they hold. */
export type Overrides = Partial<Settings>;

/** Used where a model recommends nothing. */
export const baseSettings: Settings = {
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

/** The overrides of the conversation on screen, which owns them. */
export const overrides = signal<Signal<Overrides>>(signal<Overrides>({}));

/** What the loaded model recommends. */
const recommended = signal<Partial<SamplingOptions>>({});

export const settings = computed<Settings>(() => ({
  ...baseSettings,
  ...recommended.value,
  ...overrides.value.value,
}));

export function change<Key extends keyof Settings>(key: Key, value: Settings[Key]): void {
  const own = overrides.peek();
  own.value = { ...own.peek(), [key]: value };
}

/** Takes over what a model recommends, except for what was changed by hand. */
export function recommend(sampling: Partial<SamplingOptions>): void {
  recommended.value = sampling;
}

/** Back to the model's own recommendation; the system prompt stays. */
export function resetSettings(): void {
  const own = overrides.peek();
  const { systemPrompt } = own.peek();
  own.value = systemPrompt ? { systemPrompt } : {};
}

/** The settings as the engine takes them, with a seed drawn if none is set. */
export function samplingOf({ seed, maxTokens: _, systemPrompt: __, ...rest }: Settings): SamplingOptions {
  return { ...rest, seed: seed ?? crypto.getRandomValues(new Uint32Array(1))[0]! };
}

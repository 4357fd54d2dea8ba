import { expect, test } from 'vitest';
import { change, recommend, resetSettings, samplingOf, settings } from './settings';

test("a model's recommendation fills in what nobody changed, and comes back on reset", () => {
  change('temperature', 0);
  change('systemPrompt', 'Be brief.');
  recommend({ temperature: 0.6, topP: 0.9 });
  expect(settings.value).toMatchObject({ temperature: 0, topP: 0.9, systemPrompt: 'Be brief.' });
  recommend({ temperature: 0.8 });
  expect(settings.value).toMatchObject({ temperature: 0, topP: 0.95 });
  resetSettings();
  expect(settings.value).toMatchObject({ temperature: 0.8, systemPrompt: 'Be brief.' });
});

test('a set seed is passed on, an empty one is drawn anew', () => {
  const base = settings.value;
  expect(samplingOf({ ...base, seed: 7 }).seed).toBe(7);
  const seeds = new Set(Array.from({ length: 8 }, () => samplingOf({ ...base, seed: null }).seed));
  expect(seeds.size).toBeGreaterThan(1);
  expect(Object.keys(samplingOf(base))).not.toContain('maxTokens');
});

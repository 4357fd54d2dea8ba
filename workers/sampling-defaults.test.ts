import { expect, test } from 'vitest';
import { samplingDefaults } from './sampling-defaults';

test.each([
  [
    'the names of the engine',
    '{"do_sample":true,"temperature":0.6,"top_p":0.9,"top_k":40}',
    { temperature: 0.6, topP: 0.9, topK: 40 },
  ],
  ['greedy when sampling is off', '{"do_sample":false,"temperature":0.6}', { temperature: 0 }],
  ['nothing for null', '{"temperature":null,"repetition_penalty":1.1}', { repetitionPenalty: 1.1 }],
  ['nothing without a file', undefined, {}],
  ['nothing for broken JSON', '{"temperature":', {}],
  ['nothing for a wrong type', '{"temperature":"hot"}', {}],
])('%s', (_, text, expected) => expect(samplingDefaults(text)).toEqual(expected));

/** Sampling as a model's generation_config.json recommends it. */
import * as v from 'valibot';
import type { SamplingOptions } from '../src/engine/types';

const generationConfig = v.object({
  do_sample: v.optional(v.nullable(v.boolean())),
  temperature: v.optional(v.nullable(v.number())),
  top_k: v.optional(v.nullable(v.number())),
  top_p: v.optional(v.nullable(v.number())),
  min_p: v.optional(v.nullable(v.number())),
  repetition_penalty: v.optional(v.nullable(v.number())),
});

/** What `text` says, under this project's names. A missing or unreadable file recommends nothing. */
export function samplingDefaults(text: string | undefined): Partial<SamplingOptions> {
  if (text === undefined) return {};
  const parsed = v.safeParse(v.pipe(v.string(), v.parseJson(), generationConfig), text);
  if (!parsed.success) return {};
  const { do_sample, temperature, top_k, top_p, min_p, repetition_penalty } = parsed.output;
  const stated = {
    temperature: do_sample === false ? 0 : temperature,
    topK: top_k,
    topP: top_p,
    minP: min_p,
    repetitionPenalty: repetition_penalty,
  };
  return Object.fromEntries(Object.entries(stated).filter(([, value]) => value != null));
}

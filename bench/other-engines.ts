/** Figures of other engines, taken by hand with their own programs and kept beside ours. */
import * as v from 'valibot';
import { parseStored } from './bench-file';

const range = v.pipe(
  v.tuple([v.number(), v.number()]),
  v.check(([least, most]) => least > 0 && least <= most, 'expected the least and the most of positive rates'),
);

const schema = v.object({
  format: v.literal('mergequant-other-engines'),
  version: v.literal(1),
  adapterName: v.pipe(v.string(), v.minLength(1)),
  /** null where nobody wrote it down. */
  date: v.nullable(v.pipe(v.string(), v.isoDate())),
  promptTokens: v.number(),
  decodedTokens: v.number(),
  model: v.string(),
  figures: v.array(
    v.object({
      engine: v.string(),
      version: v.string(),
      weights: v.string(),
      /** Least and most, tok/s. */
      prefill: range,
      decode: range,
      notes: v.string(),
    }),
  ),
});

export type OtherEngines = v.InferOutput<typeof schema>;

/** @throws BenchFileError */
export function parseOtherEngines(text: string, name: string): OtherEngines {
  return parseStored(schema, text, name);
}

export const otherEnginesHeader = [
  'engine',
  'version',
  'weights',
  'prefill, tok/s',
  'decode, tok/s',
  'notes',
];

export function otherEnginesRows({ figures }: OtherEngines): string[][] {
  const rangeText = ([least, most]: readonly [number, number]) => {
    const [low, high] = [least.toLocaleString('en-US'), most.toLocaleString('en-US')];
    return least === most ? low : `${low} – ${high}`;
  };
  return figures.map(({ engine, version, weights, prefill, decode, notes }) => {
    return [engine, version, weights, rangeText(prefill), rangeText(decode), notes];
  });
}

/** What the figures were taken on, in words. */
export function otherEnginesText({ date, model, promptTokens, decodedTokens }: OtherEngines): string {
  const day = date ?? 'on a day nobody noted, another than ours';
  return `On ${model}: ${promptTokens} tokens of prompt, ${decodedTokens} decoded; measured ${day}.`;
}

/** Table 1's shape (schemes side by side) and Table 5's (3-bit weights). */
import type { ActBits } from '../format/scheme';
import type { PrepareOptions } from './prepare-options';
import { compensation, type EvalRow, fitted, published } from './suite-row';

type Kind = readonly [name: string, own: Partial<PrepareOptions>];

const kinds: readonly Kind[] = [
  ['rtn-dynamic', { scheme: 'rtn-dynamic' }],
  ['tensor-static', { scheme: 'tensor-static' }],
  ['smooth-static (α 0.5)', { scheme: 'tensor-static', smooth: 0.5 }],
  ['mergequant', { scheme: 'mergequant' }],
  ['mergequant-static', { scheme: 'mergequant-static' }],
];

/** The same three budgets for every scheme: GPTQ as published, fitted to outputs, and with compensation on top. */
function budgets([name, own]: Kind, actBits: ActBits, hadamard: boolean): EvalRow[] {
  const label = `${name}${hadamard ? ', Hadamard' : ''} W4A${actBits}`;
  const row = (suffix: string, budget: Partial<PrepareOptions>): EvalRow => ({
    label: `${label}${suffix}`,
    options: { ...own, ...budget, actBits, hadamard },
  });
  return [
    row('', published),
    row(', GPTQ on outputs', fitted),
    row(', GPTQ on outputs, compensation', { ...fitted, compensation }),
  ];
}

/** Schemes side by side. `rtn-dynamic` with Hadamard rotations is QuaRot's shape. */
export const schemeRows: readonly EvalRow[] = ([4, 8] as const).flatMap((actBits) =>
  [false, true].flatMap((hadamard) => kinds.flatMap((kind) => budgets(kind, actBits, hadamard))),
);

/** 3-bit weights per channel and in groups of 128, by width of the activations. */
function threeBits(): EvalRow[] {
  const row = (label: string, act: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `W3${label}, ${act === 'float' ? 'float activations' : `A${act}`}, ${options.weights ?? 'gptq'}${options.hadamard ? ', Hadamard' : ''}`,
    options: {
      weightBits: 3,
      actBits: act === '4' ? 4 : 8,
      scheme: act === 'float' ? 'rtn-dynamic' : 'mergequant', // nothing is migrated where nothing is rounded
      ...fitted,
      ...options,
    },
    ...(act === 'float' && { float: 'activations' as const }),
  });
  const grains = [
    [' per channel', {}],
    [' groups of 128', { groupSize: 128 }],
  ] as const;
  const rotations = [false, true] as const;
  return [
    ...grains.flatMap(([grain, size]) =>
      ['float', '8', '4'].flatMap((act) => [
        row(grain, act, { ...size, weights: 'rtn' }),
        row(grain, act, size),
        ...(act === 'float' ? [] : [row(grain, act, { ...size, hadamard: true })]),
      ]),
    ),
    ...grains.flatMap(([grain, size]) =>
      rotations.map((hadamard) => {
        const { label, options } = row(grain, '4', { ...size, hadamard });
        return {
          label: `${label}, compensation`,
          options: { ...options, compensation },
        };
      }),
    ),
    ...rotations.map((hadamard) => ({
      label: `W4 groups of 128, A4, gptq${hadamard ? ', Hadamard' : ''}`,
      options: { weightBits: 4, groupSize: 128, actBits: 4, ...fitted, hadamard } as const,
    })),
  ];
}

export const threeBitRows: readonly EvalRow[] = threeBits();

/** What `mergequant eval` compares: named rows of options, in the order of the paper's tables (arXiv 2503.07654). */
import type { ActBits } from '../format/scheme';
import { compensationDefaults } from './compensate';
import type { PrepareOptions } from './prepare-options';

/** Strong norm channels, a change of the checkpoint that leaves its function alone. */
export interface GammaInjection {
  readonly kind: 'gamma';
  /** Factor of the chosen norm channels; their columns are divided by it. */
  readonly factor: number;
  /** Part of the channels. */
  readonly share: number;
}

/** Changes of the checkpoint that leave its function alone; `concentrate` rotates the residual stream, see concentrate.ts. */
export type Injection = GammaInjection | { readonly kind: 'concentrate' };

export interface EvalRow {
  readonly label: string;
  readonly options: Partial<PrepareOptions>;
  /** Leave weights, or activations, as floats. */
  readonly float?: 'weights' | 'activations';
  readonly inject?: Injection;
}

export const suiteNames = ['ladder', 'schemes', 'w3', 'outliers', 'gptq'] as const;
export type SuiteName = (typeof suiteNames)[number];

/** GPTQ as published, on the float model's activations. */
const published = { weights: 'gptq', gptqTarget: 'weights', propagate: 'float' } as const;

/** GPTQ on the float model's outputs and the quantized stream, the default. */
const fitted = { weights: 'gptq', gptqTarget: 'outputs', propagate: 'quantized' } as const;

/** Half the epochs of `prepare`: what a table of many rows can afford. */
const compensation = { settings: { ...compensationDefaults, epochs: 3 } };

function ladder(actBits: ActBits): EvalRow[] {
  const act = { actBits };
  const rung = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `W4A${actBits} ${label}`,
    options: { ...act, ...options },
  });
  const merged = { scheme: 'mergequant', weights: 'rtn', reconstruct: 'none', clipLoss: 'none' } as const;
  const clipped = { ...merged, reconstruct: 'pad', clipLoss: actBits === 4 ? 'paper' : 'output' } as const;
  const float = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `A${actBits} alone, ${label}`,
    options: { ...act, ...options },
    float: 'weights',
  });
  return [
    float('tensor-static', { scheme: 'tensor-static' }),
    float('rtn-dynamic', { scheme: 'rtn-dynamic' }),
    float('mergequant', clipped),
    rung('tensor-static', { scheme: 'tensor-static', weights: 'rtn' }),
    rung('+ migration', merged),
    rung('+ reconstruction, pad', { ...merged, reconstruct: 'pad' }),
    rung('+ reconstruction, prune', { ...merged, reconstruct: 'prune' }),
    rung('+ reconstruction, prune, α 2', { ...merged, reconstruct: 'prune', alpha: 2 }),
    rung('+ reconstruction, segment', { ...merged, reconstruct: 'segment' }),
    rung('+ reconstruction, segment, α 2', { ...merged, reconstruct: 'segment', alpha: 2 }),
    rung('pad + clipping, channel', { ...clipped, clipLoss: 'channel' }),
    rung('pad + clipping, adaptive (Eq. 7)', { ...clipped, clipLoss: 'paper' }),
    rung('pad + clipping, adaptive by output', { ...clipped, clipLoss: 'output' }),
    rung('pad + clipping + GPTQ', { ...clipped, ...published }),
    rung('segment + clipping + GPTQ', { ...clipped, reconstruct: 'segment', ...published }),
    rung('pad + clipping + GPTQ on outputs, quantized inputs', { ...clipped, ...fitted }),
    rung('pad + clipping + GPTQ on outputs + compensation', { ...clipped, ...fitted, compensation }),
    rung('Hadamard + clipping, RTN', { ...clipped, hadamard: true }),
    rung('Hadamard + clipping + GPTQ', { ...clipped, ...published, hadamard: true }),
    rung('Hadamard + clipping + GPTQ on outputs', { ...clipped, ...fitted, hadamard: true }),
    rung('Hadamard + clipping + GPTQ on outputs + compensation', {
      ...clipped,
      ...fitted,
      hadamard: true,
      compensation,
    }),
  ];
}

/** Ways to run GPTQ on the default method. */
const gptqRows: readonly EvalRow[] = (['mergequant', 'rtn-dynamic'] as const).flatMap((scheme) =>
  (['float', 'quantized'] as const).flatMap((propagate) =>
    (['weights', 'outputs'] as const).flatMap((gptqTarget) =>
      [false, true].map((gptqOrder) => ({
        label: `${scheme}, ${propagate} inputs, fits ${gptqTarget}${gptqOrder ? ', ordered' : ''}`,
        options: { scheme, propagate, gptqTarget, gptqOrder, weights: 'gptq' },
      })),
    ),
  ),
);

function weightOnly(): EvalRow[] {
  const row = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `W4 alone, ${label}`,
    options: { scheme: 'rtn-dynamic', ...options },
    float: 'activations',
  });
  return [
    row('RTN', { weights: 'rtn' }),
    row('GPTQ', published),
    row('GPTQ, ordered', { ...published, gptqOrder: true }),
  ];
}

/**
 * Schemes side by side: with GPTQ as published, fitted to outputs, and with compensation on top; each scheme gets the same.
 * With Hadamard rotations the dynamic one is QuaRot's shape.
 */
function schemes(): EvalRow[] {
  const kinds: readonly (readonly [string, Partial<PrepareOptions>])[] = [
    ['rtn-dynamic', { scheme: 'rtn-dynamic' }],
    ['tensor-static', { scheme: 'tensor-static' }],
    ['smooth-static (α 0.5)', { scheme: 'tensor-static', smooth: 0.5 }],
    ['mergequant', { scheme: 'mergequant' }],
    ['mergequant-static', { scheme: 'mergequant-static' }],
  ];
  return ([4, 8] as const).flatMap((actBits) =>
    [false, true].flatMap((hadamard) =>
      kinds
        .filter(([, { smooth }]) => !(hadamard && smooth))
        .flatMap(([name, own]) => {
          const label = `${name}${hadamard ? ', Hadamard' : ''} W4A${actBits}`;
          const row = (suffix: string, budget: Partial<PrepareOptions>): EvalRow => ({
            label: `${label}${suffix}`,
            options: { ...own, ...budget, actBits, hadamard },
          });
          const trained = row(', GPTQ on outputs, compensation', { ...fitted, compensation });
          const rows = [row('', published), row(', GPTQ on outputs', fitted)];
          return own.scheme === 'tensor-static' ? rows : [...rows, trained];
        }),
    ),
  );
}

/** Table 5's shape: 3-bit weights per channel and in groups of 128, by width of the activations. */
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
  // from GPTQ's levels, which are far apart, larger steps lose more than they find again
  const gentle = { settings: { ...compensation.settings, rate: 0.005, batchRows: 1 } };
  const grains = [
    [' per channel', {}],
    [' groups of 128', { groupSize: 128 }],
  ] as const;
  return [
    ...grains.flatMap(([grain, size]) =>
      ['float', '8', '4'].flatMap((act) => [
        row(grain, act, { ...size, weights: 'rtn' }),
        row(grain, act, size),
        ...(act === 'float' ? [] : [row(grain, act, { ...size, hadamard: true })]),
      ]),
    ),
    ...[false, true].map((hadamard) => {
      const { label, options } = row(' groups of 128', '4', { groupSize: 128, hadamard });
      return { label: `${label}, compensation`, options: { ...options, compensation: gentle } };
    }),
    ...[false, true].map((hadamard) => ({
      label: `W4 groups of 128, A4, gptq${hadamard ? ', Hadamard' : ''}`,
      options: { weightBits: 4, groupSize: 128, actBits: 4, ...fitted, hadamard } as const,
    })),
  ];
}

/** γ × 16 on 1 % of the channels, without and with. */
function strongNorms(): EvalRow[] {
  const inject: Injection = { kind: 'gamma', factor: 16, share: 0.01 };
  // What moves by powers of two with the channel: no threshold over all channels, no error sum over unlike units.
  const invariant = { ...published, scheme: 'mergequant', reconstruct: 'none', clipLoss: 'channel' } as const;
  const kinds: readonly (readonly [string, Partial<PrepareOptions>])[] = [
    ['rtn-dynamic', { ...published, scheme: 'rtn-dynamic' }],
    ['tensor-static', { ...published, scheme: 'tensor-static' }],
    ['mergequant', { ...published, scheme: 'mergequant' }],
    ['mergequant, no reconstruction, clip by channel', invariant],
  ];
  return kinds.flatMap(([label, options]) => [
    { label, options },
    { label: `${label}, γ × 16 on 1 % of channels`, options, inject },
  ]);
}

/** The residual stream rotated so that few channels hold its energy: what each part of the method then gives back. */
function concentrated(): EvalRow[] {
  const merged = { ...fitted, scheme: 'mergequant' } as const;
  const segment = { ...merged, reconstruct: 'segment' } as const;
  const row = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `concentrated: ${label}`,
    options,
    inject: { kind: 'concentrate' },
  });
  return [
    row('tensor-static', { ...fitted, scheme: 'tensor-static' }),
    row('rtn-dynamic', { ...fitted, scheme: 'rtn-dynamic' }),
    row('migration', { ...merged, reconstruct: 'none' }),
    row('+ reconstruction, prune', { ...merged, reconstruct: 'prune' }),
    row('+ reconstruction, pad', { ...merged, reconstruct: 'pad' }),
    row('+ reconstruction, pad, α 2', { ...merged, reconstruct: 'pad', alpha: 2 }),
    row('+ reconstruction, segment', segment),
    row('+ reconstruction, segment, α 2', { ...segment, alpha: 2 }),
    row('+ reconstruction, segment, α 1', { ...segment, alpha: 1 }),
    row('+ segment, α 2 + compensation', { ...segment, alpha: 2, compensation }),
    row('Hadamard', { ...merged, hadamard: true }),
  ];
}

function outliers(): EvalRow[] {
  return [...strongNorms(), ...concentrated()];
}

/** The rows of a suite. */
export function suiteRows(suite: SuiteName): readonly EvalRow[] {
  if (suite === 'ladder') return [...weightOnly(), ...ladder(4), ...ladder(8)];
  if (suite === 'gptq') return gptqRows;
  if (suite === 'w3') return threeBits();
  return suite === 'schemes' ? schemes() : outliers();
}

/** Table 4's shape (the method step by step), Table 7's (clipping), and ways to run GPTQ. */
import type { ActBits } from '../format/scheme';
import type { clipLosses } from './clip';
import type { PrepareOptions } from './prepare-options';
import { compensation, type EvalRow, fitted, published } from './suite-row';

function rungs(actBits: ActBits): EvalRow[] {
  const act = { actBits };
  const rung = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `W4A${actBits} ${label}`,
    options: { ...act, ...options },
  });
  const merged = { scheme: 'mergequant', weights: 'rtn', reconstruct: 'none', clipLoss: 'none' } as const;
  const clipped = { ...merged, reconstruct: 'pad', clipLoss: actBits === 4 ? 'paper' : 'output' } as const;
  const segment = { ...clipped, reconstruct: 'segment' } as const;
  const rotated = { ...clipped, hadamard: true } as const;
  const float = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `A${actBits} alone, ${label}`,
    options: { ...act, ...options },
    float: 'weights',
  });
  return [
    float('tensor-static', { scheme: 'tensor-static' }),
    float('rtn-dynamic', { scheme: 'rtn-dynamic' }),
    float('mergequant', clipped),
    float('mergequant, Hadamard', rotated),
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
    rung('segment + clipping + GPTQ', { ...segment, ...published }),
    rung('pad + clipping + GPTQ on outputs, quantized inputs', { ...clipped, ...fitted }),
    rung('segment + clipping + GPTQ on outputs', { ...segment, ...fitted }),
    rung('pad + clipping + GPTQ on outputs + compensation', { ...clipped, ...fitted, compensation }),
    rung('segment + clipping + GPTQ on outputs + compensation', { ...segment, ...fitted, compensation }),
    rung('Hadamard + clipping, RTN', rotated),
    rung('Hadamard + clipping + GPTQ', { ...rotated, ...published }),
    rung('Hadamard + clipping + GPTQ on outputs', { ...rotated, ...fitted }),
    rung('Hadamard + clipping + GPTQ on outputs + compensation', { ...rotated, ...fitted, compensation }),
  ];
}

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
    row('GPTQ on outputs', fitted),
    row('GPTQ, Hadamard', { ...published, hadamard: true }),
    row('GPTQ on outputs, Hadamard', { ...fitted, hadamard: true }),
  ];
}

export const ladderRows: readonly EvalRow[] = [...weightOnly(), ...rungs(4), ...rungs(8)];

const clipNames = {
  none: 'none',
  channel: 'channel',
  paper: 'adaptive (Eq. 7)',
  output: 'adaptive by output',
};

/** Channel clipping of the norm-fed sites against the token clip of o and down, each with and without the other. */
export const clippingRows: readonly EvalRow[] = [false, true].flatMap((hadamard) =>
  (['none', 'channel', 'paper', 'output'] as const satisfies (typeof clipLosses)[number][]).flatMap(
    (clipLoss) =>
      [false, true].map((tokenClip) => ({
        label:
          `${hadamard ? 'Hadamard' : 'pad'}, W4A4, channels: ${clipNames[clipLoss]}, ` +
          `o and down: ${tokenClip ? 'token clip' : 'none'}`,
        options: { scheme: 'mergequant', actBits: 4, ...fitted, hadamard, clipLoss, tokenClip },
      })),
  ),
);

/** Ways to run GPTQ on the default method. */
export const gptqRows: readonly EvalRow[] = (['mergequant', 'rtn-dynamic'] as const).flatMap((scheme) =>
  (['float', 'quantized'] as const).flatMap((propagate) =>
    (['weights', 'outputs'] as const).flatMap((gptqTarget) =>
      [false, true].map((gptqOrder) => ({
        label: `${scheme}, ${propagate} inputs, fits ${gptqTarget}${gptqOrder ? ', ordered' : ''}`,
        options: { scheme, propagate, gptqTarget, gptqOrder, weights: 'gptq' },
      })),
    ),
  ),
);

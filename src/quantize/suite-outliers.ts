/** What strong channels do to each scheme: checkpoints of the same function, changed. */
import type { PrepareOptions } from './prepare-options';
import { compensation, type EvalRow, fitted, type Injection, published } from './suite-row';

/** γ × 16 on 1 % of the channels, without and with. */
function strongNorms(): EvalRow[] {
  const inject: Injection = { kind: 'gamma', factor: 16, share: 0.01 };
  // What moves by powers of two with the channel: no threshold over all channels, no error sum over unlike units.
  const invariant = { scheme: 'mergequant', reconstruct: 'none', clipLoss: 'channel' } as const;
  const kinds: readonly (readonly [string, Partial<PrepareOptions>])[] = [
    ['rtn-dynamic', { ...published, scheme: 'rtn-dynamic' }],
    ['tensor-static', { ...published, scheme: 'tensor-static' }],
    ['smooth-static (α 0.5)', { ...published, scheme: 'tensor-static', smooth: 0.5 }],
    ['mergequant', { ...published, scheme: 'mergequant' }],
    ['mergequant, no reconstruction, clip by channel', { ...published, ...invariant }],
    ['mergequant, no reconstruction, clip by channel, GPTQ on outputs', { ...fitted, ...invariant }],
    ['rtn-dynamic, Hadamard', { ...published, scheme: 'rtn-dynamic', hadamard: true }],
    ['mergequant, Hadamard', { ...published, scheme: 'mergequant', hadamard: true }],
  ];
  return kinds.flatMap(([label, options]) => [
    { label, options },
    { label: `${label}, γ × 16 on 1 % of channels`, options, inject },
  ]);
}

/** The residual stream rotated so that few channels hold its energy: what each part of the method then gives back. */
function concentrated(): EvalRow[] {
  const merged = { ...fitted, scheme: 'mergequant' } as const;
  const pad = { ...merged, reconstruct: 'pad' } as const;
  const segment = { ...merged, reconstruct: 'segment' } as const;
  const row = (label: string, options: Partial<PrepareOptions>): EvalRow => ({
    label: `concentrated: ${label}`,
    options,
    inject: { kind: 'concentrate' },
  });
  return [
    row('tensor-static', { ...fitted, scheme: 'tensor-static' }),
    row('smooth-static (α 0.5)', { ...fitted, scheme: 'tensor-static', smooth: 0.5 }),
    row('rtn-dynamic', { ...fitted, scheme: 'rtn-dynamic' }),
    row('migration', { ...merged, reconstruct: 'none' }),
    row('+ reconstruction, prune', { ...merged, reconstruct: 'prune' }),
    row('+ reconstruction, pad', pad),
    row('+ reconstruction, pad, α 2', { ...pad, alpha: 2 }),
    row('+ reconstruction, segment', segment),
    row('+ reconstruction, segment, α 2', { ...segment, alpha: 2 }),
    row('+ reconstruction, segment, α 1', { ...segment, alpha: 1 }),
    row('+ pad + compensation', { ...pad, compensation }),
    row('+ segment + compensation', { ...segment, compensation }),
    row('+ segment, α 2 + compensation', { ...segment, alpha: 2, compensation }),
    row('+ segment, α 1 + compensation', { ...segment, alpha: 1, compensation }),
    row('Hadamard', { ...merged, hadamard: true }),
  ];
}

/** What goes beyond the paper, on the plain model and where it could matter: the concentrated stream. */
function beyond(): EvalRow[] {
  const kinds: readonly (readonly [string, Partial<PrepareOptions>])[] = [
    ['mergequant', { scheme: 'mergequant' }],
    ['mergequant, Hadamard', { scheme: 'mergequant', hadamard: true }],
    ['mergequant-static', { scheme: 'mergequant-static' }],
    ['mergequant-static, Hadamard', { scheme: 'mergequant-static', hadamard: true }],
  ];
  const extras: readonly (readonly [string, Partial<PrepareOptions>])[] = [
    ['', {}],
    [', zero points', { zeroPoints: true }],
    [', float BOS', { prefix: 1 }],
    [', zero points, float BOS', { zeroPoints: true, prefix: 1 }],
  ];
  return kinds.flatMap(([kind, own]) =>
    extras.flatMap(([extra, more]) => {
      const row = { label: `${kind}${extra}`, options: { ...fitted, ...own, ...more } };
      if (own.hadamard || own.scheme !== 'mergequant') return [row];
      return [row, { ...row, label: `${row.label}, concentrated`, inject: { kind: 'concentrate' } as const }];
    }),
  );
}

export const beyondRows: readonly EvalRow[] = beyond();

export const outlierRows: readonly EvalRow[] = [...strongNorms(), ...concentrated()];

/** What `prepare` leaves in the provenance of the clip ratios that were chosen channel by channel. */
import * as v from 'valibot';

/** Numbers of channels at each ratio by layer; null where a layer's channels have no ratio of their own. */
const counts = v.array(v.nullable(v.array(v.number())));
const provenanceSchema = v.object({
  clipRatios: v.object({ ratios: v.array(v.number()), attn: counts, mlp: counts }),
});

/** Means over the channels of a layer's two norms; null where there are none. */
export interface MeanClips {
  readonly attn: number | null;
  readonly mlp: number | null;
}

/** Mean clip ratio (`r` of equation 1) of the norms of `layers` layers; null where the provenance, free in form, holds none. */
export function meanClipRatios(provenance: unknown, layers: number): MeanClips[] | null {
  const parsed = v.safeParse(provenanceSchema, provenance);
  if (!parsed.success) return null;
  const { ratios, attn, mlp } = parsed.output.clipRatios;
  const mean = (found: readonly number[] | null | undefined) => {
    const total = found?.reduce((sum, count) => sum + count, 0) ?? 0;
    if (!found || total === 0) return null;
    return found.reduce((sum, count, i) => sum + count * (ratios[i] ?? 0), 0) / total;
  };
  return Array.from({ length: layers }, (_, i) => ({ attn: mean(attn[i]), mlp: mean(mlp[i]) }));
}

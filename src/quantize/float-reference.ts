/** The float model on the test windows: what everything measured is held against. */
import type { Site } from './forward';
import type { LayerDevice } from './layer-device';
import { scoreHidden } from './logit-scores';
import type { Matrix } from './matrix';
import type { Method } from './quantize-layer';
import type { WeightSource } from './rotate';
import { deviceFloatStream, hostFloatStream } from './test-stream';

/** The float model on the test windows. */
export interface Reference {
  /** Whose norm and head make logits of `hidden`. */
  readonly source: WeightSource;
  readonly windows: readonly (readonly number[])[];
  readonly hidden: readonly Matrix[]; // last layer's output, per window [T, D]
  /** First window behind each layer, for the layers' errors. */
  readonly trail: readonly Matrix[]; // [T, D]
  readonly ppl: number;
  /** Largest over median channel maximum at each norm and projection, per layer, over all windows. */
  readonly outlierRatios: readonly Readonly<Record<Site, number>>[];
}

/** Largest over median of the channels' largest magnitudes. */
function channelRatio(absMax: Float32Array): number {
  const sorted = [...absMax].sort((a, b) => a - b);
  return sorted.at(-1)! / sorted[sorted.length >> 1]!;
}

/** Runs the float model over the windows, on the device where there is one. @param hadamard of a rotated `source` */
export async function floatReference(
  source: WeightSource,
  windows: Reference['windows'],
  hadamard: Method['hadamard'] = null,
  device?: LayerDevice,
): Promise<Reference> {
  const stream = await (device
    ? deviceFloatStream(source, windows, device, hadamard)
    : hostFloatStream(source, windows, hadamard));
  const trail: Matrix[] = [];
  const outlierRatios: Record<Site, number>[] = [];
  for (let index = 0; index < source.config.numLayers; index++) {
    const { attn, o, mlp, down } = await stream.pass(await source.layer(index));
    outlierRatios.push({
      attn: channelRatio(attn),
      o: channelRatio(o),
      mlp: channelRatio(mlp),
      down: channelRatio(down),
    });
    trail.push(...(await stream.read(1)));
  }
  const hidden = await stream.read(windows.length);
  stream.dispose();
  const own = { source, windows, hidden };
  const { ppl } = await scoreHidden(source, own, hidden, device);
  return { ...own, trail, ppl, outlierRatios };
}

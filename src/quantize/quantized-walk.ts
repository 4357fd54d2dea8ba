/** Carries the calibration tokens through the layers as they become quantized: each site is fitted to its real inputs. */
import { setImmediate } from 'node:timers/promises';
import type { LlamaConfig } from '../format/config';
import type { HadamardSpec } from '../format/manifest';
import { type LayerStats, type MakeStore, SiteCollector, siteWidths } from './calibrate';
import { attention, type RopeTable, rmsNorm, type Site, siluMul } from './forward';
import type { LayerWeights } from './layer';
import type { Matrix } from './matrix';
import { scaleColumns } from './migrate';
import { behindPrefix, putPrefix } from './prefix-rows';
import { LinearMap } from './products';
import type { QuantizedLinear, QuantizedNorm, QuantizedWalk } from './quantize-layer';
import { type Rounding, roundNormed, roundProjected } from './quantized-block';
import { onlineRotation } from './rotate';
import { dequantize } from './rtn';

export interface WalkOptions {
  readonly config: LlamaConfig;
  readonly rounding: Rounding;
  readonly hadamard: HadamardSpec | null;
  readonly rope: RopeTable;
  readonly chosen: Uint32Array;
  readonly makeStore: MakeStore;
}

/** One layer's walk. `hidden` [T, D] per sequence is the quantized model's stream and is replaced by the layer's output. */
export class LayerWalk implements QuantizedWalk {
  /** Values between two sites, per sequence: the current site's input. */
  #inputs: Matrix[] = [];

  constructor(
    readonly layer: LayerWeights,
    readonly float: LayerStats,
    readonly hidden: readonly Matrix[],
    readonly options: WalkOptions,
  ) {}

  async stats(site: Site, unfold: Float32Array | null = null) {
    const { config, chosen, makeStore } = this.options;
    const { layer } = this;
    if (site === 'attn' || site === 'mlp') {
      const gamma = site === 'attn' ? layer.attnNorm : layer.mlpNorm;
      this.#inputs = this.hidden.map((x) => rmsNorm(x, gamma, config.rmsNormEps));
    }
    const width = siteWidths(config)[site];
    const collector = new SiteCollector(width, chosen, makeStore(site, width));
    const prefixTokens = layer.qkv.prefix?.rows ?? 0;
    for (const all of this.#inputs) {
      const rows = behindPrefix(all, prefixTokens);
      collector.add(unfold ? scaleColumns(rows, unfold, width) : rows);
    }
    return collector.stats(this.float[site].rows);
  }

  async advance(site: Site, linear: QuantizedLinear, act: number, norm: QuantizedNorm | null): Promise<void> {
    const { config, rope, hadamard } = this.options;
    const map = await LinearMap.load(dequantize(linear.weight), linear.bias);
    for (const [i, x] of this.hidden.entries()) {
      await setImmediate();
      const y = await map.apply(this.#rounded(i, map.inputs, act, norm));
      if (site === 'attn') {
        if (linear.prefix) putPrefix(y, linear.prefix);
        this.#inputs[i] = await attention(y, config, rope);
      } else if (site === 'mlp') {
        const gated = siluMul(y);
        this.#inputs[i] = hadamard ? onlineRotation(gated, hadamard) : gated;
      } else for (let k = 0; k < x.data.length; k++) x.data[k]! += y.data[k]!;
    }
    map.dispose();
  }

  /** What the linear multiplies, up to its row scales. */
  #rounded(sequence: number, width: number, act: number, norm: QuantizedNorm | null): Matrix {
    const { config, rounding } = this.options;
    if (norm) return roundNormed(this.hidden[sequence]!, norm, act, config.rmsNormEps, width, rounding);
    return roundProjected(this.#inputs[sequence]!, act, width, rounding);
  }
}

/** Carries the quantized stream through a layer's quantized parts on the GPU: `LayerWalk` of the host, on buffers. */
import { schemeModes } from '../format/scheme';
import { type LayerStats, type SiteStats, siteWidths } from '../quantize/calibrate';
import type { Site } from '../quantize/forward';
import type { LayerWeights } from '../quantize/layer';
import { type BlockStream, spread } from '../quantize/layer-compensator';
import type { Matrix } from '../quantize/matrix';
import type { QuantizedLayer, QuantizedNorm, QuantizedWalk } from '../quantize/quantize-layer';
import { attend, type GpuLinear, gateRows, linearRows, rmsNormRows } from './block-steps';
import { expandCodes, type RowsBuffer } from './elementwise';
import { type CalibrationRun, copyOf } from './gpu-calibrator';
import { GpuCollector } from './gpu-collector';
import { columnRounder, gatherRounder, padding, type RowRounder, tokenRounder } from './gpu-problem';
import { GpuRows } from './gpu-rows';

/** A norm in front of a linear, uploaded. */
interface UploadedNorm {
  readonly gamma: GPUBuffer;
  readonly rounder: RowRounder;
}

/** A linear, and the float prefix's keys and values where it is q,k,v. */
interface WalkLinear extends GpuLinear {
  readonly prefix: RowsBuffer | null;
}

export class GpuWalk implements QuantizedWalk, BlockStream {
  /** Values between two sites: the input of o or down. */
  #inputs: GpuRows | null = null;
  /** A copy of the current site's rows, where they are not `#inputs`. */
  #rows: GpuRows | null = null;
  /** The stream in front of the layer, kept once `inputs` was asked. */
  #before: GpuRows | null = null;

  /** @param hidden the quantized model's stream, replaced by the layer's output. @param target the float model's behind the layer */
  constructor(
    readonly run: CalibrationRun,
    readonly layer: LayerWeights,
    readonly float: LayerStats,
    readonly hidden: GpuRows,
    readonly target: GpuRows,
  ) {}

  stats(site: Site, unfold: Float32Array | null = null): Promise<SiteStats> {
    return this.run.watch.time('walk', () => this.#stats(site, unfold));
  }

  async #stats(site: Site, unfold: Float32Array | null): Promise<SiteStats> {
    const { work, config, options, chosen, newRows } = this.run;
    const width = siteWidths(config)[site];
    const isNorm = site === 'attn' || site === 'mlp';
    const { keepRows, prefixTokens = 0 } = options;
    this.#rows = keepRows && (isNorm || unfold || prefixTokens > 0) ? newRows(width) : null;
    const collector = new GpuCollector(work, width, chosen, this.#rows, prefixTokens);
    const gamma = this.run.cache.get(site === 'attn' ? this.layer.attnNorm : this.layer.mlpNorm);
    const undo = unfold && columnRounder(work, width, width, (k) => unfold[k]!, false, null);
    for (let i = 0; i < this.hidden.length; i++) {
      const own = isNorm ? await this.#normed(i, gamma) : this.#inputs!.use(i, 'walk.inputs');
      await collector.add(undo ? await this.#mapped(own, undo, 'walk.unfolded') : own);
    }
    undo?.dispose();
    const rows = this.#rows ?? (keepRows ? this.#inputs : null);
    const { rows: targets } = this.float[site];
    const { absMax, sample } = await collector.stats();
    return { absMax, sample, ...(rows && { rows }), ...(targets && { targets }) };
  }

  advance(...args: Parameters<QuantizedWalk['advance']>): Promise<void> {
    return this.run.watch.time('walk', () => this.#advance(...args));
  }

  async #advance(...[site, linear, act, norm]: Parameters<QuantizedWalk['advance']>): Promise<void> {
    const { work, config, newRows } = this.run;
    const { rows: outputs, cols: inputs } = linear.weight;
    const weight = await expandCodes(work, linear.weight);
    const bias = linear.bias && work.upload('walk.bias', linear.bias);
    const prefix = linear.prefix
      ? { ...linear.prefix, buffer: work.upload('walk.prefix', linear.prefix.data) }
      : null;
    const uploaded = norm && this.#upload(norm, act, inputs);
    const rounder = uploaded?.rounder ?? this.#projectionRounder(site, act, inputs);
    const next = site === 'attn' ? 'o' : site === 'mlp' ? 'down' : null;
    const produced = next && newRows(siteWidths(config)[next]);
    await this.hidden.walk(async (i) => {
      const own = uploaded ? await this.#normed(i, uploaded.gamma) : this.#inputs!.use(i, 'walk.inputs');
      const rounded = await this.#mapped(own, rounder, 'walk.rounded');
      await this.#product(i, rounded, { weight, bias, outputs, inputs, prefix }, site, produced);
    });
    rounder.dispose();
    work.free(
      weight,
      ...(bias ? [bias] : []),
      ...(prefix ? [prefix.buffer] : []),
      ...(uploaded ? [uploaded.gamma] : []),
    );
    this.#finish(site, produced);
  }

  async inputs(count: number): Promise<readonly Matrix[]> {
    this.#before = await copyOf(this.hidden);
    return this.hidden.read(spread(this.hidden.length, count));
  }

  targets(count: number): Promise<readonly Matrix[]> {
    return this.target.read(spread(this.target.length, count));
  }

  outputs(count: number): Promise<readonly Matrix[]> {
    return this.hidden.read([...Array(Math.min(count, this.hidden.length)).keys()]);
  }

  async rerun({ attnNorm, qkv, o, mlpNorm, gateUp, down, spec }: QuantizedLayer): Promise<void> {
    const before = this.#before!;
    for (let i = 0; i < before.length; i++) await this.hidden.set(i, before.use(i, 'walk.before').buffer);
    before.dispose();
    await this.advance('attn', qkv, spec.attnAct, attnNorm);
    await this.advance('o', o, spec.oAct, null);
    await this.advance('mlp', gateUp, spec.mlpAct, mlpNorm);
    await this.advance('down', down, spec.downAct, null);
  }

  /** RMSNorm of sequence `i` of the stream. */
  async #normed(i: number, gamma: GPUBuffer): Promise<RowsBuffer> {
    const { work, config } = this.run;
    const x = this.hidden.use(i, 'walk.hidden');
    const y = { ...x, buffer: work.scratch('walk.norm', x.rows * x.cols) };
    await rmsNormRows(work, x, gamma, config.rmsNormEps, y.buffer);
    return y;
  }

  async #mapped(x: RowsBuffer, rounder: RowRounder, name: string): Promise<RowsBuffer> {
    const { width } = rounder;
    const y = { rows: x.rows, cols: width, buffer: this.run.work.scratch(name, x.rows * width) };
    await rounder.apply(x, y.buffer);
    return y;
  }

  /** What `roundNormed` does on the host: γ = 1 and the merged multipliers, or γ and the dynamic quantizer. */
  #upload(norm: QuantizedNorm, act: number, width: number): UploadedNorm {
    const { work, config, options } = this.run;
    const { actBits, floatActivations } = options.rounding;
    const D = config.hiddenSize;
    if ('mult' in norm) {
      const gamma = work.upload('walk.ones', new Float32Array(D).fill(1));
      const bits = floatActivations ? null : actBits;
      return { gamma, rounder: gatherRounder(work, norm.mult, norm.gather, norm.offset, false, bits) };
    }
    const gamma = work.upload('walk.gamma', norm.weight);
    if (floatActivations) return { gamma, rounder: padding(work, D, width) };
    return { gamma, rounder: tokenRounder(work, act, actBits, width) };
  }

  /** What `roundProjected` does on the host. */
  #projectionRounder(site: Site, act: number, width: number): RowRounder {
    const { work, config, options } = this.run;
    const { scheme, actBits, floatActivations } = options.rounding;
    const cols = siteWidths(config)[site];
    if (schemeModes[scheme].projection === 'dynamic') {
      return floatActivations ? padding(work, cols, width) : tokenRounder(work, act, actBits, width);
    }
    return columnRounder(work, cols, width, () => act, true, floatActivations ? null : actBits);
  }

  /** The linear over one sequence, and what lies between it and the next site. */
  async #product(
    i: number,
    rounded: RowsBuffer,
    linear: WalkLinear,
    site: Site,
    produced: GpuRows | null,
  ): Promise<void> {
    const { work, config, rope, options } = this.run;
    if (!produced) {
      const x = this.hidden.use(i, 'walk.hidden');
      await linearRows(work, rounded, linear, x.buffer, true);
      await this.hidden.set(i, x.buffer);
      return;
    }
    const { rows } = rounded;
    const y = { rows, cols: linear.outputs, buffer: work.scratch('walk.product', rows * linear.outputs) };
    await linearRows(work, rounded, linear, y.buffer);
    if (linear.prefix) this.#putPrefix(y, linear.prefix);
    const out = work.scratch('walk.produced', rows * produced.cols);
    if (site === 'attn') await attend(work, y, config, rope, out);
    else await gateRows(work, y, options.hadamard, out);
    await produced.append(out, rows);
  }

  /** Puts the prefix's keys and values in the first rows of q,k,v. */
  #putPrefix(qkv: RowsBuffer, { buffer, rows, cols }: RowsBuffer): void {
    for (let t = 0; t < Math.min(rows, qkv.rows); t++) {
      this.run.work.copy(buffer, t * cols, qkv.buffer, (t + 1) * qkv.cols - cols, cols);
    }
  }

  /** Frees what only this site needed. */
  #finish(site: Site, produced: GpuRows | null): void {
    this.#rows?.dispose();
    this.#rows = null;
    const { rows } = this.float[site];
    if (rows instanceof GpuRows) rows.dispose();
    this.#inputs?.dispose();
    this.#inputs = produced;
  }
}

/** Preparing layers on a GPU: src/quantize/layer-device.ts in WGSL. Float32 throughout, where the host has float64 in GPTQ. */
import type { Gpu } from '../gpu/gpu';
import type { CalibrationSet } from '../quantize/calibration-data';
import { NotPositiveDefiniteError } from '../quantize/cholesky';
import { GptqInputError, type GptqOptions, gptqRound } from '../quantize/gptq';
import type { LayerCalibratorOptions } from '../quantize/layer-calibrator';
import type { Calibrator, ClipSearch, LayerDevice } from '../quantize/layer-device';
import type { Head, LogitScorer } from '../quantize/logit-scores';
import { type Matrix, matrix } from '../quantize/matrix';
import type { WeightSource } from '../quantize/rotate';
import type { QuantizedMatrix, WeightQuantizer } from '../quantize/rtn';
import { Stopwatch } from '../quantize/stopwatch';
import { gptqRoundGpu } from './gptq-gpu';
import { GpuCalibrator } from './gpu-calibrator';
import { GpuClipSearch } from './gpu-clip';
import { type Grams, gramsOf } from './gpu-problem';
import { gpuScorer } from './gpu-scorer';
import { GpuWork } from './gpu-work';
import { WeightCache } from './weight-cache';

export interface GpuDeviceOptions {
  /** Activations that stay on the GPU; the rest is spilled to memory or, with `--spill`, to files. */
  readonly residentBytes: number;
  readonly stopwatch?: Stopwatch;
}

export class GpuLayerDevice implements LayerDevice {
  readonly name = 'gpu';
  readonly work: GpuWork;
  readonly clip: ClipSearch;
  readonly #cache: WeightCache;
  readonly #watch: Stopwatch;

  constructor(
    gpu: Gpu,
    readonly options: GpuDeviceOptions,
  ) {
    this.work = new GpuWork(gpu);
    this.#cache = new WeightCache(this.work);
    this.#watch = options.stopwatch ?? new Stopwatch();
    const clip = new GpuClipSearch(this.work, this.#cache);
    this.clip = {
      channels: (...args) => this.#watch.time('clip', () => clip.channels(...args)),
      tokens: (inputs) => this.#watch.time('clip', () => clip.tokens(inputs)),
      tensor: (inputs) => this.#watch.time('clip', () => clip.tensor(inputs)),
    };
  }

  gptq(options: GptqOptions): WeightQuantizer {
    return async (weights, problem) => {
      if (!problem)
        throw new GptqInputError('GPTQ weighs its errors by calibration tokens: give --calibration');
      const grams = await this.#watch.time('gram', () =>
        gramsOf(this.work, problem, options.target === 'outputs'),
      );
      const { gram, cross } = grams;
      try {
        return await this.#watch.time('gptq', () => this.#round(weights, grams, options));
      } catch (error) {
        if (!(error instanceof NotPositiveDefiniteError)) throw error;
        const which = `the Hessian of ${grams.width} inputs`;
        throw new GptqInputError(`${which} is not positive definite: ${error.message}`, { cause: error });
      } finally {
        this.work.free(gram, ...(cross ? [cross] : []));
      }
    };
  }

  calibrator(
    checkpoint: WeightSource,
    set: CalibrationSet,
    options: LayerCalibratorOptions,
  ): Promise<Calibrator> {
    const { work, options: own } = this;
    return GpuCalibrator.create(work, this.#cache, checkpoint, set, options, own.residentBytes, this.#watch);
  }

  async scorer(own: Head, reference: Head): Promise<LogitScorer> {
    return gpuScorer(this.work, own, reference);
  }

  /** On the GPU; on the host, with the same Gram matrices, what float32 or its kernels cannot do. */
  async #round(weights: Matrix, grams: Grams, options: GptqOptions): Promise<QuantizedMatrix> {
    if (options.grid) return this.#onHost(weights, grams, options); // levels are fitted group by group
    try {
      return await gptqRoundGpu(this.work, weights, grams.gram, grams.cross, options);
    } catch (error) {
      if (!(error instanceof NotPositiveDefiniteError)) throw error;
      return this.#onHost(weights, grams, options); // float64 may factor it
    }
  }

  async #onHost(
    weights: Matrix,
    { gram, cross, width }: Grams,
    options: GptqOptions,
  ): Promise<QuantizedMatrix> {
    const read = async (buffer: GPUBuffer) =>
      matrix(width, width, await this.work.readFloats(buffer, width * width));
    const lower = await read(gram);
    for (let i = 0; i < width; i++) {
      for (let j = i + 1; j < width; j++) lower.data[i * width + j] = lower.data[j * width + i]!;
    }
    return gptqRound(weights, lower, cross && (await read(cross)), options);
  }
}

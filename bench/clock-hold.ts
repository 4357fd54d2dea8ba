/**
 * Keeps a GPU's clock up between measurements, and watches it. An idle GPU lowers its clock and takes a while to raise it
 * again (an H200: 500 to 800 MHz against 1,980 after a second of idleness), so what is timed right after an idle stretch
 * reads several times too slow, steadily.
 */
import { BufferArena } from '../src/gpu/arena';
import type { Gpu } from '../src/gpu/gpu';
import { PipelineCache } from '../src/gpu/pipelines';
import { encodeOp, makeOp, type Op } from '../src/kernels/op';
import holdSource from './shaders/hold_clock.wgsl?raw';
import { submitTimed } from './timestamps';

const invocations = 131_072;
const workgroup = 256;
const firstSteps = 256;
/** Length of one hold at the highest clock seen. */
const holdUs = 3000;
/** Share of the highest clock from which it counts as raised. */
const raisedShare = 0.97;
/** A device that never comes near its highest clock again (heat, power) is measured as it is after this time. */
const mostRaiseMs = 400;
/** The first time, the highest clock is not known: this long it may still rise. */
const firstRaiseMs = 600;

const holds = new WeakMap<GPUDevice, Promise<ClockHold>>();

/** One sample of the clock while it rises from idle. */
export interface ClockSample {
  /** Since the GPU was idle. */
  readonly ms: number;
  readonly nsPerStep: number;
}

export class ClockHold {
  /** Fewest nanoseconds of a step: the highest clock seen. */
  #best = Number.POSITIVE_INFINITY;
  #steps = firstSteps;

  private constructor(
    private readonly device: GPUDevice,
    private readonly op: Op,
    private readonly params: GPUBuffer,
  ) {}

  /** The hold of a device with timestamp queries. The first call takes {@link firstRaiseMs}. */
  static of(gpu: Gpu): Promise<ClockHold> {
    let hold = holds.get(gpu.device);
    if (!hold) {
      hold = ClockHold.#create(gpu);
      holds.set(gpu.device, hold);
    }
    return hold;
  }

  static async #create(gpu: Gpu): Promise<ClockHold> {
    const arena = new BufferArena(gpu.device); // lives as long as the device
    // A buffer of its own, since it is written again.
    const usage = 0x40 | 0x8; // UNIFORM | COPY_DST
    const words = new Uint32Array([firstSteps, 0, 0, 0]);
    const params = arena.upload('hold.params', words, { category: 'uniforms', usage });
    const op = await makeOp(
      { gpu, arena, pipelines: PipelineCache.of(gpu) },
      {
        label: 'hold_clock',
        source: holdSource,
        bindings: [params, arena.create('hold.sink', 16, { category: 'scratch' })],
        grid: () => [invocations / workgroup, 1, 1],
      },
    );
    const hold = new ClockHold(gpu.device, op, params);
    await hold.ramp(firstRaiseMs);
    return hold;
  }

  /** Records one hold. */
  readonly encode = (pass: GPUComputePassEncoder): void => encodeOp(pass, this.op, 1);

  /** What share of the highest clock seen a recorded hold of `us` microseconds ran at. */
  share(us: number): number {
    return this.#best / this.#seen(us, this.#steps);
  }

  /** Holds until the clock is near the highest one seen. */
  async raise(): Promise<void> {
    const end = performance.now() + mostRaiseMs;
    let ahead = this.#submit();
    for (;;) {
      const next = this.#submit(); // before the last one is waited for, so that the GPU never idles
      const nsPerStep = await ahead.nsPerStep();
      if (this.#best >= raisedShare * nsPerStep || performance.now() > end) {
        await next.nsPerStep();
        return;
      }
      ahead = next;
    }
  }

  /** Clock samples of `ms` milliseconds of holds without a pause. */
  async ramp(ms: number): Promise<ClockSample[]> {
    const start = performance.now();
    const samples: ClockSample[] = [];
    let ahead = this.#submit();
    while (performance.now() - start < ms) {
      const next = this.#submit();
      const nsPerStep = await ahead.nsPerStep();
      samples.push({ ms: performance.now() - start, nsPerStep });
      ahead = next;
      this.#resize(nsPerStep);
    }
    await ahead.nsPerStep();
    return samples;
  }

  #submit(): { nsPerStep(): Promise<number> } {
    const steps = this.#steps; // of this hold: later ones may be longer
    const pending = submitTimed(this.device, [this.encode]);
    return { nsPerStep: async () => this.#seen((await pending.read())[0]!, steps) };
  }

  #seen(us: number, steps: number): number {
    const nsPerStep = (1000 * us) / steps;
    if (nsPerStep > 0) this.#best = Math.min(this.#best, nsPerStep); // 0: shorter than the timestamps' unit
    return nsPerStep;
  }

  /** Longer holds while they are far too short. Takes effect for what is submitted from now on. */
  #resize(nsPerStep: number): void {
    const wanted = Math.ceil((1000 * holdUs) / Math.max(nsPerStep, 1e-3));
    if (wanted < 2 * this.#steps) return;
    this.#steps = Math.min(8 * this.#steps, wanted);
    this.device.queue.writeBuffer(this.params, 0, new Uint32Array([this.#steps]));
  }
}

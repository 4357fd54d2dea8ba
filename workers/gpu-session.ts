/** One open GPU device, and what becomes of everything that waits for it when it fails. */
import { DeviceLostError, GpuOperationError } from '../src/engine/errors';
import { type Gpu, type OpenGpuOptions, openGpu } from '../src/gpu/gpu';

export class GpuSession {
  /** Set once the device is lost or an operation failed outside of anybody's error scope. */
  failure: Error | null = null;
  readonly #failed: Promise<never>;
  #closing = false;

  private constructor(
    readonly gpu: Gpu,
    onFailure: (error: Error) => void,
  ) {
    this.#failed = new Promise((_, reject) => {
      const fail = (error: Error) => {
        if (this.failure || this.#closing) return;
        this.failure = error;
        reject(error);
        onFailure(error);
      };
      gpu.device.lost.then(({ reason, message }) =>
        fail(new DeviceLostError(`the GPU was lost (${reason}): ${message || 'no reason given'}`)),
      );
      gpu.device.addEventListener('uncapturederror', ({ error }) =>
        fail(new GpuOperationError(error.message)),
      );
    });
    this.#failed.catch(() => undefined); // whoever waits in guard() hears of it
  }

  /** @throws WebGpuUnavailableError */
  static async open(
    entry: GPU | undefined,
    onFailure: (error: Error) => void,
    options: OpenGpuOptions = {},
  ): Promise<GpuSession> {
    return new GpuSession(await openGpu(entry, options), onFailure);
  }

  /** `work`, or the device's failure if that comes first or caused the work's own. */
  async guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await Promise.race([work, this.#failed]);
    } catch (error) {
      // A mapping fails a moment before the device is reported lost: give the report that moment.
      await Promise.race([this.#failed, new Promise((resolve) => setTimeout(resolve, 50))]);
      throw error;
    }
  }

  close(): void {
    this.#closing = true;
    this.gpu.device.destroy();
  }
}

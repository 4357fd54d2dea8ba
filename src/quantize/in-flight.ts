/** Results that are read while the device goes on. */
import type { numpy as np } from '@jax-js/jax';

/** Adds up scalars that a device is still working on, at most `limit` at a time. */
export class InFlight {
  readonly #pending: Promise<ArrayLike<number>>[] = [];
  #sum = 0;

  constructor(readonly limit: number) {}

  /** Starts reading `value`, which is consumed; waits while too many are on their way. */
  async add(value: np.Array): Promise<void> {
    this.#pending.push(value.data() as Promise<Float32Array>);
    if (this.#pending.length > this.limit) await this.#takeOldest();
  }

  /** The sum since the last call. */
  async takeSum(): Promise<number> {
    while (this.#pending.length > 0) await this.#takeOldest();
    const sum = this.#sum;
    this.#sum = 0;
    return sum;
  }

  async #takeOldest(): Promise<void> {
    this.#sum += (await this.#pending.shift()!)[0]!;
  }
}

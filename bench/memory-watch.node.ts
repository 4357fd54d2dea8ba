/** The most memory that the process and the GPU held meanwhile. Node only. */
import { type ChildProcess, spawn } from 'node:child_process';

export interface PeakMemory {
  /** Largest resident set of this process so far. */
  readonly hostBytes: number;
  /** Largest `memory.used` of the first NVIDIA GPU, everything on it included; null where `nvidia-smi` is missing. */
  readonly gpuBytes: number | null;
}

export class MemoryWatch {
  readonly #process: ChildProcess;
  #mostMiB = 0;

  constructor() {
    const query = ['--query-gpu=memory.used', '--format=csv,noheader,nounits', '--loop-ms=200', '--id=0'];
    this.#process = spawn('nvidia-smi', query, { stdio: ['ignore', 'pipe', 'ignore'] });
    this.#process.on('error', () => {}); // not an NVIDIA machine
    this.#process.stdout?.on('data', (lines: Buffer) => {
      for (const line of lines.toString().split('\n')) {
        const used = Number.parseFloat(line);
        if (used > this.#mostMiB) this.#mostMiB = used;
      }
    });
  }

  stop(): PeakMemory {
    this.#process.kill();
    const hostBytes = process.resourceUsage().maxRSS * 1024;
    return { hostBytes, gpuBytes: this.#mostMiB > 0 ? this.#mostMiB * 2 ** 20 : null };
  }
}

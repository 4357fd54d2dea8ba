/** The panel's end of the worker that measures. */
import { proxy, wrap } from 'comlink';
import type { BenchFile } from '../../bench/figures';
import type {
  ArtifactInsight,
  BenchEvent,
  BenchRunRequest,
  BenchWorkerApi,
  ProbedGpu,
  RemoteBench,
} from '../../workers/bench-protocol';
import { unwrap, type WireResult } from '../../workers/protocol';
import { WorkerDiedError } from './client';

interface Connection {
  readonly bench: RemoteBench;
  readonly died: Promise<never>;
  readonly die: (error: Error) => void;
}

export class BenchClient {
  #connection: Connection | null = null;

  /** The adapter that suites run on. @throws RemoteError where there is no WebGPU; WorkerDiedError */
  probe(): Promise<ProbedGpu> {
    return this.#call((bench) => bench.probe());
  }

  /** Runs suites; one run at a time. @throws RemoteError, WorkerDiedError (also after `cancel`) */
  run(request: BenchRunRequest, onEvent: (event: BenchEvent) => void): Promise<BenchFile> {
    return this.#call((bench) => bench.run(request, proxy(onEvent)));
  }

  /** What is in an artifact's norms. @throws RemoteError, WorkerDiedError */
  inspect(modelUrl: string): Promise<ArtifactInsight> {
    return this.#call((bench) => bench.inspect(modelUrl));
  }

  /** Ends what is running at once, with its worker; GPU work that was submitted still finishes. */
  cancel(): void {
    this.#connection?.die(new WorkerDiedError('cancelled'));
  }

  async #call<T>(send: (bench: RemoteBench) => Promise<WireResult<T>>): Promise<T> {
    this.#connection ??= this.#connect();
    const { bench, died } = this.#connection;
    return unwrap(await Promise.race([send(bench), died]));
  }

  #connect(): Connection {
    const worker = new Worker(new URL('../../workers/bench.worker.ts', import.meta.url), { type: 'module' });
    const bench = wrap<BenchWorkerApi>(worker);
    let reject: (error: Error) => void = () => undefined;
    const died = new Promise<never>((_, rejectDied) => {
      reject = rejectDied;
    });
    died.catch(() => undefined); // whoever has a call pending hears of it
    const die = (error: Error) => {
      this.#connection = null;
      worker.terminate();
      reject(error);
    };
    worker.addEventListener('error', ({ message }) =>
      die(new WorkerDiedError(`the measuring worker failed: ${message || 'its script could not be loaded'}`)),
    );
    return { bench, died, die };
  }
}

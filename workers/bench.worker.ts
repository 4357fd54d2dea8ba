/** The entry of the worker that measures: suites run here, so that the panel stays responsive. */
import { expose, type Remote, releaseProxy } from 'comlink';
import { runBench } from '../bench/run';
import { openGpu } from '../src/gpu/gpu';
import { inspectArtifact, urlSource } from './bench-model';
import type { BenchEvent, BenchRunRequest, BenchWorkerApi } from './bench-protocol';
import { settle } from './protocol';

/** Suites that need the artifact; the others run without a network. */
const modelSuites = ['load', 'demo'];

async function run(
  { modelUrl, adapterName, ...request }: BenchRunRequest,
  onEvent: (event: BenchEvent) => void,
) {
  const gpu = await openGpu(navigator.gpu);
  try {
    const needsModel = request.suites.some((suite) => modelSuites.includes(suite));
    return await runBench(gpu, request, {
      runtime: { kind: 'browser', name: navigator.userAgent },
      model: needsModel ? await urlSource(modelUrl) : null,
      ...(adapterName ? { adapterName } : {}),
      onStep: (text) => onEvent({ kind: 'step', text }),
      onFigure: (figure) => onEvent({ kind: 'figure', figure }),
    });
  } finally {
    gpu.device.destroy();
  }
}

const api: BenchWorkerApi = {
  probe: () =>
    settle(async () => {
      const { adapter, caps, device } = await openGpu(navigator.gpu);
      device.destroy();
      return { adapter, caps, maxBufferBytes: device.limits.maxBufferSize };
    }),
  run: (request, onEvent) =>
    settle(() => run(request, onEvent).finally(() => (onEvent as Remote<typeof onEvent>)[releaseProxy]())),
  inspect: (modelUrl) => settle(() => inspectArtifact(modelUrl)),
};

expose(api);

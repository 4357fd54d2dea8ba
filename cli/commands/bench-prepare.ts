import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { benchPrepare, type PrepareBenchResult } from '../../bench/prepare-layer.node';
import { benchShapes, shapeOf } from '../../bench/shapes';
import { openNodeGpu } from '../../src/gpu/node';
import type { CompensationOptions } from '../../src/quantize/compensate';
import { compensateHelp, compensationRun, parseCompensation } from '../compensation';
import { numberBetween, wholeNumber } from '../options';
import { print, table } from '../text';

interface BenchPrepareFlags {
  readonly shape: string;
  readonly samples: number;
  readonly sequence: number;
  readonly gpuMemory: number;
  readonly propagate: 'float' | 'quantized';
  readonly hadamard?: boolean;
  readonly compensate?: CompensationOptions;
  readonly compensateSamples: number;
  readonly adapterName?: string;
  readonly out: string;
}

/** `mergequant bench prepare`: one layer of a model's shape through calibration, GPTQ and compensation. */
export function registerBenchPrepare(bench: Command): void {
  bench
    .enablePositionalOptions() // --shape, --samples and --out behind `prepare` are its own, not those of `bench`
    .command('prepare')
    .description('prepares one layer with random weights on the GPU, and says what each stage takes')
    .option('--shape <name>', Object.keys(benchShapes).join(', '), 'llama-2-7b')
    .option('--samples <n>', 'calibration sequences', wholeNumber(1), 128)
    .option('--sequence <n>', 'tokens of each', wholeNumber(2), 2048)
    .option('--gpu-memory <GiB>', 'activations that stay on the GPU', numberBetween(0, 4096), 100)
    .option(
      '--propagate <model>',
      "float or quantized: whose activations the layer's weights are fitted to",
      'quantized',
    )
    .option('--hadamard', 'the Hadamard variant')
    .option('--compensate <settings>', compensateHelp, parseCompensation)
    .option('--compensate-samples <n>', 'sequences that compensation trains on', wholeNumber(1), 16)
    .option('--adapter-name <name>', 'name of the adapter in the results, where the platform hides it')
    .option('--out <folder>', 'where results go', 'bench/results/prepare')
    .action(run);
}

async function run(flags: BenchPrepareFlags): Promise<void> {
  const { shape, samples, sequence, gpuMemory, propagate, compensate, compensateSamples } = flags;
  const { hadamard = false } = flags;
  const compensation = compensate && {
    compensation: { ...(await compensationRun(compensate)), sequences: compensateSamples },
  };
  const config = shapeOf(shape);
  const gpu = await openNodeGpu();
  const result = await benchPrepare(gpu, {
    shape,
    config,
    samples,
    sequence,
    residentGiB: gpuMemory,
    prepare: { propagate, hadamard },
    ...compensation,
  });
  const layers = config.numLayers;
  const date = new Date().toISOString();
  const file = {
    format: 'mergequant-prepare-bench',
    version: 1,
    date,
    runtime: `node ${process.version}`,
    adapter: gpu.adapter,
    adapterName: flags.adapterName ?? gpu.adapter.description,
    request: {
      shape,
      samples,
      sequence,
      gpuMemory,
      propagate,
      hadamard,
      compensate: compensate ?? null,
      compensateSamples,
    },
    result,
    allLayers: {
      layers,
      calibrationMinutes: (layers * result.calibrationSeconds) / 60,
      wholeHours: (layers * result.layerSeconds) / 3600,
    },
  };
  await mkdir(flags.out, { recursive: true });
  const path = join(flags.out, `${shape}-${date.slice(0, 19).replaceAll(':', '-')}.json`);
  await writeFile(path, `${JSON.stringify(file, null, 1)}\n`);
  print(`${report(result, layers)}\n${path}`);
}

function report(result: PrepareBenchResult, layers: number): string {
  const { seconds, calibrationSeconds, layerSeconds, peak, tokens, layerBytes } = result;
  const gib = (bytes: number | null) => (bytes === null ? 'unknown' : `${(bytes / 2 ** 30).toFixed(2)} GiB`);
  const rows = Object.entries(seconds).map(([stage, value]) => [stage, value.toFixed(2)]);
  return [
    table(['stage', 'seconds'], rows),
    `${tokens} tokens, checkpoint of ${gib(layerBytes)}`,
    `a layer: calibration ${calibrationSeconds.toFixed(1)} s, all ${layerSeconds.toFixed(1)} s`,
    `${layers} layers: calibration ${((layers * calibrationSeconds) / 60).toFixed(1)} min, all ${((layers * layerSeconds) / 3600).toFixed(2)} h`,
    `peak: host ${gib(peak.hostBytes)}, GPU ${gib(peak.gpuBytes)}, of which buffers of this program ${gib(peak.gpuBuffersBytes)}`,
  ].join('\n');
}

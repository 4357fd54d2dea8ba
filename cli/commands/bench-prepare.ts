import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { benchPrepare, type PrepareBenchResult } from '../../bench/prepare-layer.node';
import { benchShapes, shapeOf } from '../../bench/shapes';
import type { Gpu } from '../../src/gpu/gpu';
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
    .description('prepare one layer with random weights on the GPU and say what each stage takes')
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
  const { shape, samples, sequence, gpuMemory, propagate, hadamard = false, compensate } = flags;
  const compensation = compensate && {
    compensation: { ...(await compensationRun(compensate)), sequences: flags.compensateSamples },
  };
  const config = shapeOf(shape);
  const gpu = await openNodeGpu();
  const result = await benchPrepare(gpu, {
    config,
    samples,
    sequence,
    residentGiB: gpuMemory,
    prepare: { propagate, hadamard },
    ...compensation,
  });
  const file = resultFile(flags, gpu, result, config.numLayers);
  const adapter = file.adapterName.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  await mkdir(flags.out, { recursive: true });
  const path = join(flags.out, `${adapter}-${shape}-${file.date.slice(0, 19).replaceAll(':', '-')}.json`);
  await writeFile(path, `${JSON.stringify(file, null, 1)}\n`);
  print(`${report(result, config.numLayers)}\n${path}`);
}

/** What is stored: the request, the measurement, and the whole model as the layer's time times its layers. */
function resultFile(flags: BenchPrepareFlags, { adapter }: Gpu, result: PrepareBenchResult, layers: number) {
  const { adapterName, out: _, ...request } = flags;
  return {
    format: 'mergequant-prepare-bench',
    version: 1,
    date: new Date().toISOString(),
    runtime: `node ${process.version}`,
    adapter,
    adapterName: adapterName ?? adapter.description,
    request,
    result,
    allLayers: {
      layers,
      calibrationMinutes: (layers * result.calibrationSeconds) / 60,
      wholeHours: (layers * result.layerSeconds) / 3600,
    },
  };
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

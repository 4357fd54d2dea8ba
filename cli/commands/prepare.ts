import { type Command, InvalidArgumentError, Option } from 'commander';
import { reconstructModes, schemeNames } from '../../src/format/scheme';
import { bytesText } from '../../src/gpu/bytes-text';
import { clipLosses } from '../../src/quantize/clip';
import { type CompensationOptions, compensationDefaults } from '../../src/quantize/compensate';
import { propagations } from '../../src/quantize/layer-calibrator';
import { downStepKinds } from '../../src/quantize/method';
import {
  type PrepareOptions,
  type PrepareSummary,
  prepareDefaults,
  runPrepare,
  weightMethods,
} from '../../src/quantize/prepare';
import { compensateHelp, compensationRun, parseCompensation } from '../compensation';
import { type DeviceFlags, deviceOption, gpuMemoryOption, openLayerDevice } from '../layer-device';
import { numberBetween, tableBitsOption, wholeNumber } from '../options';
import { progressBar } from '../progress';

type Flags = Omit<PrepareOptions, 'checkpoint' | 'compensation' | 'device' | 'onNotice'> &
  DeviceFlags & {
    readonly json?: boolean;
    /** true: the option without settings. */
    readonly compensate?: CompensationOptions | true;
    readonly compensateFolder?: string;
    readonly compensateSamples?: number;
  };

function positive(text: string): number {
  const value = Number(text);
  if (!(value > 0 && Number.isFinite(value))) throw new InvalidArgumentError('expected a number above 0.');
  return value;
}

function choice(flags: string, description: string, values: readonly string[], preset: string): Option {
  return new Option(flags, description).choices(values).default(preset);
}

/** `mergequant prepare`: a Hugging Face Llama folder becomes an artifact. */
export function register(program: Command): void {
  const preset = prepareDefaults;
  const bits = new Option('--act-bits <bits>', 'bits of activations: 4 or 8');
  const clipLoss = new Option(
    '--clip-loss <loss>',
    'what clip ratios minimize (paper for 4 bits, output for 8)',
  );
  program
    .command('prepare')
    .description('turn a Hugging Face Llama folder into an artifact for the page')
    .argument('<hf-checkpoint>', 'folder with config.json, safetensors and tokenizer.json')
    .requiredOption(
      '--out <folder>',
      'the artifact; appears whole or not at all. After a kill the same command goes on behind the finished layers',
    )
    .addOption(choice('--scheme <name>', 'how activations become integers', schemeNames, preset.scheme))
    .addOption(bits.default(preset.actBits).argParser(actBits))
    .addOption(
      new Option('--weight-bits <bits>', 'bits of weights: 3 or 4 (default: 4)').argParser(weightBits),
    )
    .option('--weight-asymmetric', 'weight levels with a zero point (default with 3 bits and with groups)')
    .option(
      '--group-size <n>',
      'inputs that share a weight step, a multiple of 32 (default: a row)',
      wholeNumber(32),
    )
    .addOption(
      choice(
        '--reconstruct <mode>',
        'what happens to outlier channels',
        reconstructModes,
        preset.reconstruct,
      ),
    )
    .option('--alpha <a>', 'outliers are above mean + a standard deviations', positive, preset.alpha)
    .addOption(clipLoss.choices(clipLosses))
    .option('--token-clip', 'clip tokens in front of o and down (default unless --clip-loss is none)')
    .option('--no-token-clip', 'leave them as they are')
    .option('--zero-points', 'round static channels around the middle of their range, at the price of a bias')
    .addOption(tableBitsOption('embedding'))
    .addOption(tableBitsOption('head'))
    .option(
      '--prefix <n>',
      'keep keys and values of the first n tokens that all sequences share (1: the BOS) as floats',
      wholeNumber(1),
    )
    .option('--hadamard', 'rotate weights and the input of down_proj by Hadamard matrices')
    .addOption(
      new Option('--weights <method>', 'how weights are rounded (gptq with --calibration)').choices(
        weightMethods,
      ),
    )
    .option('--gptq-order', 'GPTQ takes columns by falling Hessian diagonal')
    .addOption(
      new Option('--gptq-target <what>', "GPTQ fits the float weights or the float model's outputs").choices([
        'weights',
        'outputs',
      ]),
    )
    .addOption(
      new Option('--propagate <model>', 'whose activations feed the next layer').choices(propagations),
    )
    .addOption(
      new Option(
        '--down-steps <kind>',
        "mergequant-static with --hadamard: static steps of down_proj's input",
      ).choices(downStepKinds),
    )
    .option('--smooth <exponent>', 'SmoothQuant in front of tensor-static', numberBetween(0, 1))
    .option('--layers <a:b>', 'prepare layers a to b − 1 only, as a part for `mergequant merge`', layerRange)
    .option(
      '--after <part...>',
      'parts of the layers before: --layers then follows their quantized stream (--compensate, --propagate quantized)',
    )
    .option('--greedy', "the artifact's generation_config.json asks for greedy decoding")
    .addOption(new Option('--compensate [settings]', compensateHelp).argParser(parseCompensation))
    .option('--compensate-folder <folder>', 'keeps compensated layers, so that an interrupted run goes on')
    .option('--compensate-samples <n>', 'calibration sequences to train on (default: all)', wholeNumber(1))
    .addOption(deviceOption)
    .addOption(gpuMemoryOption)
    .option('--spill <folder>', "keep a layer's activations in files there instead of memory")
    .option('--calibration <file...>', 'plain text (.txt) or conversations (.jsonl)', [...preset.calibration])
    .option('--samples <n>', 'calibration sequences, shared among the files', wholeNumber(1), preset.samples)
    .option('--sequence <n>', 'tokens per sequence (default: 512 or the context)', wholeNumber(2))
    .option('--seed <n>', 'chooses the calibration text', wholeNumber(0), preset.seed)
    .option('--name <text>', 'what the page shows')
    .option('--force', 'replace the artifact that is there')
    .option('--json', 'print a summary as JSON')
    .action(prepare);
}

function layerRange(text: string): readonly [number, number] {
  const match = /^(\d+):(\d+)$/.exec(text);
  if (!match) throw new InvalidArgumentError('expected two whole numbers such as 0:8.');
  return [Number(match[1]), Number(match[2])];
}

function actBits(text: string): 4 | 8 {
  if (text !== '4' && text !== '8') throw new InvalidArgumentError('expected 4 or 8.');
  return text === '4' ? 4 : 8;
}

function weightBits(text: string): 3 | 4 {
  if (text !== '3' && text !== '4') throw new InvalidArgumentError('expected 3 or 4.');
  return text === '3' ? 3 : 4;
}

/** Layers done, as a bar on a terminal, else a line every ten seconds. */
function layerProgress(): { onLayer(done: number, total: number): void; stop(): void } {
  let bar: ReturnType<typeof progressBar> | undefined;
  let lastLineMs = performance.now();
  return {
    onLayer(done, total) {
      bar ??= progressBar('layers', total);
      bar.update(done);
      if (process.stderr.isTTY || performance.now() - lastLineMs < 10_000) return;
      lastLineMs = performance.now();
      process.stderr.write(`layer ${done} of ${total}\n`);
    },
    stop: () => bar?.stop(),
  };
}

async function prepare(checkpoint: string, flags: Flags): Promise<void> {
  const {
    json,
    compensate,
    compensateFolder,
    compensateSamples,
    device: _,
    gpuMemory: __,
    ...options
  } = flags;
  const settings = compensate === true ? compensationDefaults : compensate;
  const sequences = compensateSamples === undefined ? {} : { sequences: compensateSamples };
  const compensation = settings && {
    compensation: { ...(await compensationRun(settings, compensateFolder)), ...sequences },
  };
  const device = await openLayerDevice(flags);
  // The half-written folder is removed when the process exits, and only then.
  process.once('SIGINT', () => stop(130));
  process.once('SIGTERM', () => stop(143));
  const progress = layerProgress();
  let summary: PrepareSummary;
  try {
    summary = await runPrepare(
      { ...options, ...compensation, ...(device && { device }), checkpoint, onNotice },
      progress.onLayer,
    );
  } finally {
    progress.stop();
  }
  process.stdout.write(json ? `${JSON.stringify(summary)}\n` : summaryLine(summary));
}

function onNotice(text: string): void {
  process.stderr.write(`${text}\n`);
}

function stop(code: number): never {
  process.stderr.write('stopped: the same command goes on behind the finished layers\n');
  process.exit(code);
}

function summaryLine({ out, name, bytes, shards, calibrationTokens, seconds }: PrepareSummary): string {
  const size = `${bytesText(bytes)} in ${shards} shard${shards === 1 ? '' : 's'}`;
  const calibrated = calibrationTokens > 0 ? `, calibrated on ${calibrationTokens} tokens` : '';
  return `${out}: ${name}, ${size}${calibrated}, ${seconds.toFixed(1)} s\n`;
}

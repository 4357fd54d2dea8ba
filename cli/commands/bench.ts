import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { Command } from 'commander';
import { buildText } from '../../bench/build-id';
import { baselinesFor, type Comparison, compareRuns } from '../../bench/compare';
import { type BenchFile, type SuiteName, suiteNames } from '../../bench/figures';
import {
  readBenchFile,
  readBenchFolder,
  readOtherEngines,
  writeBenchFile,
} from '../../bench/results-folder.node';
import { runBench } from '../../bench/run';
import { benchShapes, defaultSchemes } from '../../bench/shapes';
import type { ModelSource } from '../../bench/suites/artifact';
import type { OpenGpuOptions } from '../../src/gpu/gpu';
import { openNodeGpu } from '../../src/gpu/node';
import { readManifest } from '../artifact-folder';
import { loadArtifact } from '../load-model';
import { wholeNumber } from '../options';
import { print, table } from '../text';
import { registerBenchPrepare } from './bench-prepare';

interface BenchFlags {
  readonly suite: readonly string[];
  readonly shape: string;
  readonly scheme: readonly string[];
  readonly context: readonly string[];
  readonly samples: number;
  readonly model: string;
  readonly out: string;
  readonly adapterName?: string;
  readonly experimental?: boolean;
  readonly without?: OpenGpuOptions['without'];
  readonly json?: boolean;
}

const resultsFolder = 'bench/results';
const demoModel = 'public/models/demo-chat-8m-w4a4';

/** `mergequant bench`: measures this machine's GPU; `bench report` and `bench compare` read what was measured. */
export function register(program: Command): void {
  const bench = program
    .command('bench')
    .description("measure this machine's GPU and write the figures to a file")
    .option('--suite <name...>', suiteNames.join(', '), ['ceiling', 'quant-step', 'layer', 'decode'])
    .option(
      '--shape <name>',
      `shape with random weights: ${Object.keys(benchShapes).join(', ')}`,
      'llama-2-7b',
    )
    .option(
      '--scheme <name...>',
      'schemes with activation bits; with -kv16, -kv8 or -kv4 a cache of that many bits (else what the longest context gets by default), with -e8 8-bit embedding and head, with -c256 so many tokens a prefill pass',
      [...defaultSchemes],
    )
    .option('--context <tokens...>', 'prompt lengths to decode after', ['0', '512', '2048', '4000'])
    .option('--samples <n>', 'measurements of each figure', wholeNumber(1), 7)
    .option('--model <folder>', 'artifact for the suites load and demo', demoModel)
    .option('--adapter-name <name>', 'name of the adapter in the results, where the platform hides it')
    .option('--experimental', 'use experimental GPU features such as subgroup matrices')
    .option('--without <feature...>', 'optional GPU features to leave unused, e.g. subgroup-matrix')
    .option('--out <folder>', 'where results go', resultsFolder)
    .option('--json', 'print the results as JSON, and write no file')
    .action(runCommand);
  registerBenchPrepare(bench);
  bench
    .command('report')
    .description('docs/BENCHMARKS.md with tables and charts, and bench/summary.json, from all stored results')
    .option('--results <folder>', 'stored results', resultsFolder)
    .action(reportCommand);
  bench
    .command('compare')
    .description(
      'compare a run with the stored ones of the same adapter, and fail when it is slower beyond what those differ by',
    )
    .argument('<file>', 'the new run')
    .option('--results <folder>', 'stored results', resultsFolder)
    .option('--baseline <file>', 'the one run to compare with, instead of all stored ones')
    .action(compareCommand);
}

async function runCommand(flags: BenchFlags): Promise<void> {
  const request = {
    suites: flags.suite as SuiteName[],
    shape: flags.shape,
    schemes: flags.scheme,
    contexts: flags.context.map(Number),
    samples: flags.samples,
  };
  const gpu = await openNodeGpu({
    exactTimestamps: true,
    experimental: flags.experimental === true,
    ...(flags.without ? { without: flags.without } : {}),
  });
  const file = await runBench(gpu, request, {
    runtime: { kind: 'node', name: `node ${process.version}` },
    model: await folderSource(flags.model),
    ...(flags.adapterName ? { adapterName: flags.adapterName } : {}),
    onStep: (text) => process.stderr.write(`${text}\n`),
  });
  if (flags.json) print(JSON.stringify(file, null, 1));
  else print(`${fileText(file)}\n\n${await writeBenchFile(flags.out, file)}`);
  if (file.suites.some(({ error }) => error !== null)) process.exitCode = 1;
}

/** An artifact on disk; null when the folder has none. */
async function folderSource(folder: string): Promise<ModelSource | null> {
  if (!existsSync(join(folder, 'manifest.json'))) return null;
  const manifest = await readManifest(folder);
  const bytes = manifest.shards.reduce((sum, shard) => sum + shard.bytes, 0);
  return { name: manifest.name, bytes, forget: null, load: (gpu) => loadArtifact(gpu, folder) };
}

function fileText(file: BenchFile): string {
  const parts = file.suites.map(({ suite, seconds, figures, notes, error }) => {
    const rows = figures.map(({ id, unit, value, clock }) => {
      const spread = clock === 'count' ? '' : `${number(value.least)} – ${number(value.most)}`;
      return [id, `${number(value.median)} ${unit}`, spread, clock];
    });
    return [
      `${suite}, ${seconds.toFixed(1)} s`,
      table(['figure', 'median', 'range', 'clock'], rows),
      ...notes.map((note) => `note: ${note}`),
      ...(error === null ? [] : [`FAILED: ${error}`]),
    ].join('\n');
  });
  return [`${file.adapterName}, ${file.runtime.name}, build ${buildText(file.build)}`, ...parts].join('\n\n');
}

function number(value: number): string {
  return Math.abs(value) >= 1000 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(4);
}

async function reportCommand({ results }: { readonly results: string }): Promise<void> {
  const { writeReport } = await import('../../bench/report.node');
  const files = await readBenchFolder(results);
  const others = await readOtherEngines(results);
  print((await writeReport(files, 'docs/BENCHMARKS.md', 'bench/summary.json', others)).join('\n'));
}

interface CompareFlags {
  readonly results: string;
  readonly baseline?: string;
}

async function compareCommand(path: string, flags: CompareFlags): Promise<void> {
  const after = await readBenchFile(path);
  const stored = await readBenchFolder(flags.results);
  const before = flags.baseline ? [await readBenchFile(flags.baseline)] : baselinesFor(after, stored);
  const comparisons = compareRuns(before, after);
  const changed = comparisons.filter(({ verdict }) => verdict !== 'same');
  const runText = ({ date, build }: BenchFile) => `${date} (build ${buildText(build)})`;
  print(`${after.adapterName}: ${runText(after)} against ${before.map(runText).join(', ')}`);
  print(changed.length > 0 ? comparisonTable(changed) : 'no change beyond the noise');
  const worse = comparisons.filter(({ verdict }) => verdict === 'worse').length;
  print(`${comparisons.length} figures compared, ${worse} worse`);
  if (comparisons.length === 0) throw new Error('the two runs have no figure in common');
  if (worse > 0) process.exitCode = 1;
}

function comparisonTable(comparisons: readonly Comparison[]): string {
  const percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const rows = comparisons.map(({ id, unit, before, after, gain, noise, verdict }) => {
    return [
      verdict,
      id,
      `${number(before)} ${unit}`,
      `${number(after)} ${unit}`,
      percent(gain),
      percent(noise),
    ];
  });
  return table(['', 'figure', 'before', 'after', 'gain', 'noise'], rows);
}

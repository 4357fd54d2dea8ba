import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { basename, resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type SuiteName, suiteNames, suiteRows } from '../../src/quantize/eval-suites';
import { limitThreads } from '../../src/quantize/products';
import { type EvalOptions, EvalRun } from '../../src/quantize/run-eval';
import { provideNavigatorGpu } from '../compensation';
import { type ChildMessage, type FailedTask, shareTasks, type Task } from '../eval-jobs';
import { type EvalTable, evalDocument, evalReport } from '../eval-report';
import { type EvalHeader, type EvalSettings, type EvalStore, openStore, storedSuites } from '../eval-store';
import { type DeviceFlags, deviceOption, gpuMemoryOption, openLayerDevice } from '../layer-device';
import { wholeNumber } from '../options';
import { progressBar } from '../progress';
import { print } from '../text';

interface EvalFlags extends Omit<EvalOptions, 'checkpoint' | 'device'>, DeviceFlags {
  readonly suite: SuiteName;
  readonly seeds: readonly number[];
  readonly jobs: number;
  readonly only?: string;
  readonly results?: string;
  readonly report?: string;
  readonly json?: boolean;
  readonly task?: readonly string[];
}

function machineName(): string {
  return `${cpus().length} × ${cpus()[0]?.model ?? 'CPU'}`;
}

function seedList(text: string): readonly number[] {
  const seeds = text.split(',').map(Number);
  if (seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0) && new Set(seeds).size === seeds.length)
    return seeds;
  throw new InvalidArgumentError('expected different whole numbers such as 1,2,3.');
}

/** `mergequant eval`: every scheme and every step of the method on real weights, as tables. */
export function register(program: Command): void {
  program
    .command('eval')
    .description('measure what schemes and steps of the method lose against the float model')
    .argument('<hf-checkpoint>', 'folder with config.json, safetensors and tokenizer.json')
    .requiredOption('--text <file...>', 'test text, UTF-8; must not be the calibration text')
    .requiredOption('--calibration <file...>', 'plain text (.txt) or conversations (.jsonl)')
    .addOption(new Option('--suite <name>', 'what is compared').choices(suiteNames).default('ladder'))
    .option('--only <text>', 'rows whose label contains this')
    .option('--window <n>', 'tokens per window, BOS included', wholeNumber(2), 1024)
    .option('--max-windows <n>', 'at most so many windows, evenly spaced', wholeNumber(1))
    .option('--samples <n>', 'calibration sequences', wholeNumber(1), 64)
    .addOption(new Option('--seeds <list>', 'calibration seeds, e.g. 1,2,3').argParser(seedList).default([1]))
    .option('--jobs <n>', 'processes that share the rows', wholeNumber(1), 1)
    .addOption(deviceOption)
    .addOption(gpuMemoryOption)
    .option('--results <folder>', "keep each suite's results there, and skip what it holds")
    .option('--report <file>', 'write the tables as Markdown: every suite kept in the results folder')
    .option('--json', 'print everything as JSON')
    .addOption(new Option('--task <row:seed...>', 'run these only and print JSON lines').hideHelp())
    .action(runEval);
}

function settingsOf(checkpoint: string, flags: EvalFlags): EvalSettings {
  const names = (files: readonly string[]) => files.map((file) => basename(file));
  return {
    suite: flags.suite,
    checkpoint: basename(resolve(checkpoint)),
    text: names(flags.text),
    calibration: names(flags.calibration),
    window: flags.window,
    maxWindows: flags.maxWindows ?? null,
    samples: flags.samples,
    device: flags.device,
  };
}

function tasksOf(flags: EvalFlags): Task[] {
  const rows = suiteRows(flags.suite);
  const tasks = flags.seeds.flatMap((seed) =>
    rows.flatMap(({ label }, row) => (!flags.only || label.includes(flags.only) ? [{ row, seed }] : [])),
  );
  if (tasks.length > 0) return tasks;
  throw new Error(`--only ${flags.only}: expected a part of a label, found no such row`);
}

/** A store's results in the suite's order. */
function tableOf(store: EvalStore): EvalTable {
  const { header } = store;
  const rows = suiteRows(header.settings.suite as SuiteName);
  const order = new Map(rows.map(({ label }, i) => [label, i]));
  const known = store.results.filter(({ label }) => order.has(label));
  const results = known.sort((a, b) => order.get(a.label)! - order.get(b.label)! || a.seed - b.seed);
  return { header, results };
}

async function runEval(checkpoint: string, flags: EvalFlags): Promise<void> {
  if (flags.task) return runTasks(checkpoint, flags);
  const settings = settingsOf(checkpoint, flags);
  const store = openStore(flags.results, settings);
  const rows = suiteRows(flags.suite);
  const open = tasksOf(flags).filter(({ row, seed }) => !store.has(rows[row]!.label, seed));
  const command = `mergequant ${process.argv.slice(2).join(' ')}`;
  const bar = progressBar('rows', open.length);
  const failed = await shareTasks(open, flags.jobs, (message) => {
    if ('result' in message) {
      store.add(message.result);
      bar.increment();
    } else if ('float' in message) {
      const { float } = message;
      store.start({ settings, command, machine: machineName(), float } satisfies EvalHeader);
    }
  }).finally(() => bar.stop());
  report(flags, store);
  if (failed.length > 0) throw new RowsFailedError(failed.map((row) => failedLine(row, flags.suite)));
}

/** Rows that ended without a result; the others were kept. */
class RowsFailedError extends Error {
  override readonly name = 'RowsFailedError';

  constructor(readonly rows: readonly string[]) {
    super(`${rows.length} of the rows failed, the others are kept:\n${rows.join('\n')}`);
  }
}

function failedLine({ task, reason }: FailedTask, suite: SuiteName): string {
  return `${suiteRows(suite)[task.row]!.label}, seed ${task.seed}: ${reason}`;
}

function report(flags: EvalFlags, store: EvalStore): void {
  if (store.results.length === 0) return;
  const table = tableOf(store);
  if (flags.report) {
    const all = flags.results ? storedSuites(flags.results, suiteNames).map(tableOf) : [table];
    writeFileSync(flags.report, evalDocument(all));
  }
  print(flags.json ? JSON.stringify(table) : evalReport(table));
}

/** Runs tasks in this process: lines of JSON for the float model, and for each task's begin and end. */
async function runTasks(checkpoint: string, flags: EvalFlags): Promise<void> {
  limitThreads(Math.max(1, Math.floor(cpus().length / flags.jobs)));
  const rows = suiteRows(flags.suite);
  const device = await openLayerDevice(flags);
  if (device) await provideNavigatorGpu();
  const run = await EvalRun.create({ ...flags, device, checkpoint });
  const tell = (message: ChildMessage) => print(JSON.stringify(message));
  tell({ float: run.float() });
  for (const task of flags.task!) {
    const [row, seed] = task.split(':').map(Number) as [number, number];
    tell({ begin: { row, seed } });
    try {
      tell({ result: await run.row(rows[row]!, seed) });
    } catch (error) {
      tell({ failed: { task: { row, seed }, reason: String(error) } });
    }
  }
  await run.close();
}

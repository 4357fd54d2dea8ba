import { spawn } from 'node:child_process';
import { appendFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { type Command, Option } from 'commander';
import { type SuiteName, suiteNames, suiteRows } from '../../src/quantize/eval-suites';
import { limitThreads } from '../../src/quantize/products';
import { type EvalOptions, type EvalResult, EvalRun, type FloatResult } from '../../src/quantize/run-eval';
import { type EvalTable, evalReport } from '../eval-report';
import { wholeNumber } from '../options';
import { progressBar } from '../progress';
import { print } from '../text';

interface EvalFlags extends Omit<EvalOptions, 'checkpoint'> {
  readonly suite: SuiteName;
  readonly seeds: number;
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

/** A row and a seed: the unit of work. */
interface Task {
  readonly row: number;
  readonly seed: number;
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
    .option('--seeds <n>', 'calibration seeds 1 … n', wholeNumber(1), 1)
    .option('--jobs <n>', 'processes that share the rows', wholeNumber(1), 1)
    .option('--results <file>', 'append each result to this file of JSON lines, and skip what it holds')
    .option('--report <file>', 'write the table as Markdown')
    .option('--json', 'print everything as JSON')
    .addOption(new Option('--task <row:seed...>', 'run these only and print JSON lines').hideHelp())
    .action(runEval);
}

async function runEval(checkpoint: string, flags: EvalFlags): Promise<void> {
  if (flags.task) return runTasks(checkpoint, flags);
  const start = performance.now();
  const rows = suiteRows(flags.suite);
  const tasks: Task[] = [];
  for (let seed = 1; seed <= flags.seeds; seed++) {
    rows.forEach(({ label }, row) => {
      if (!flags.only || label.includes(flags.only)) tasks.push({ row, seed });
    });
  }
  if (tasks.length === 0)
    throw new Error(`--only ${flags.only}: expected a part of a label, found no such row`);
  const known = new KnownResults(flags.results);
  const open = tasks.filter(({ row, seed }) => !known.has(rows[row]!.label, seed));
  await shareTasks(open, flags.jobs, (line) => known.add(line));
  const wanted = new Set(tasks.map(({ row, seed }) => `${rows[row]!.label}:${seed}`));
  const results = known.results.filter(({ label, seed }) => wanted.has(`${label}:${seed}`));
  if (!known.float) throw new Error(`${flags.results}: expected the float model's line, found none`);
  const { float } = known;
  const order = new Map(rows.map(({ label }, i) => [label, i]));
  results.sort((a, b) => order.get(a.label)! - order.get(b.label)! || a.seed - b.seed);
  const table: EvalTable = {
    suite: flags.suite,
    float,
    results,
    seconds: (performance.now() - start) / 1000,
    machine: known.machine,
    command: `mergequant ${process.argv.slice(2).join(' ')}`,
  };
  if (flags.report) writeFileSync(flags.report, evalReport(table));
  print(flags.json ? JSON.stringify(table) : evalReport(table));
}

/** Runs tasks in this process: a line of JSON for the float model, then one per task. */
async function runTasks(checkpoint: string, flags: EvalFlags): Promise<void> {
  limitThreads(Math.max(1, Math.floor(cpus().length / flags.jobs)));
  const rows = suiteRows(flags.suite);
  const run = await EvalRun.create({ ...flags, checkpoint });
  print(JSON.stringify({ float: run.float(), machine: machineName() }));
  for (const task of flags.task!) {
    const [row, seed] = task.split(':').map(Number) as [number, number];
    print(JSON.stringify({ result: await run.row(rows[row]!, seed) }));
  }
  await run.close();
}

/** Results by row and seed, kept in a file of JSON lines when one is named. */
class KnownResults {
  float: FloatResult | null = null;
  machine = machineName();
  readonly results: EvalResult[] = [];

  constructor(readonly file: string | undefined) {
    if (!file || !existsSync(file)) return;
    for (const line of readFileSync(file, 'utf8').split('\n')) if (line.trim()) this.#take(line);
  }

  has(label: string, seed: number): boolean {
    return this.results.some((result) => result.label === label && result.seed === seed);
  }

  /** @returns whether the line was a row's result */
  add(line: string): boolean {
    if (this.file) appendFileSync(this.file, `${line}\n`);
    return this.#take(line);
  }

  #take(line: string): boolean {
    const message = JSON.parse(line) as { float?: FloatResult; machine?: string; result?: EvalResult };
    if (message.float) this.float = message.float;
    if (message.machine) this.machine = message.machine;
    if (message.result) this.results.push(message.result);
    return message.result !== undefined;
  }
}

/** Deals the tasks to child processes of this command. @throws Error with a child's stderr */
async function shareTasks(
  tasks: readonly Task[],
  jobs: number,
  onLine: (line: string) => boolean,
): Promise<void> {
  const bar = progressBar('rows', tasks.length);
  try {
    const hands = Array.from({ length: Math.min(jobs, tasks.length) }, (_, job) =>
      tasks.filter((_, i) => i % jobs === job),
    );
    await Promise.all(hands.map((own) => runChild(own, (line) => onLine(line) && bar.increment())));
  } finally {
    bar.stop();
  }
}

function runChild(tasks: readonly Task[], onLine: (line: string) => unknown): Promise<void> {
  const args = [...process.argv.slice(1), '--task', ...tasks.map(({ row, seed }) => `${row}:${seed}`)];
  const child = spawn(process.execPath, [...process.execArgv, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let pending = '';
  let errors = '';
  child.stdout.on('data', (chunk) => {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop()!;
    for (const line of lines) onLine(line);
  });
  child.stderr.on('data', (chunk) => {
    errors += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`a row failed (exit ${code}): ${errors.trim()}`));
    });
  });
}

/** Rows of an evaluation in child processes, so that one that dies takes only its own row with it. */
import { spawn } from 'node:child_process';
import type { EvalResult, FloatResult } from '../src/quantize/run-eval';

/** A row and a seed: the unit of work. */
export interface Task {
  readonly row: number;
  readonly seed: number;
}

export interface FailedTask {
  readonly task: Task;
  /** The error, or the process's exit status or signal and the last of its stderr. */
  readonly reason: string;
}

/** What a child prints, a line each: the float model, the task it begins, its result or error. */
export type ChildMessage =
  | { readonly float: FloatResult }
  | { readonly begin: Task }
  | { readonly result: EvalResult }
  | { readonly failed: FailedTask };

/** How one child ended: `begun` is the task that it was at. */
interface ChildEnd {
  readonly code: number | null;
  readonly signal: string | null;
  readonly stderr: string;
  readonly begun: Task | null;
  /** Tasks that ended with an error in a process that went on. */
  readonly failed: readonly FailedTask[];
}

/** Starts a process for tasks. */
export type Spawn = (tasks: readonly Task[]) => ReturnType<typeof spawn>;

/** This command again with `--task`. */
export const spawnSelf: Spawn = (tasks) => {
  const list = tasks.map(({ row, seed }) => `${row}:${seed}`);
  const args = [...process.execArgv, ...process.argv.slice(1), '--task', ...list];
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
};

function same(a: Task, b: Task): boolean {
  return a.row === b.row && a.seed === b.seed;
}

function runChild(
  child: ReturnType<typeof spawn>,
  onMessage: (message: ChildMessage) => void,
): Promise<ChildEnd> {
  let pending = '';
  let stderr = '';
  let begun: Task | null = null;
  const failed: FailedTask[] = [];
  child.stdout!.on('data', (chunk) => {
    const lines = (pending + chunk).split('\n');
    pending = lines.pop()!;
    for (const line of lines) {
      const message = JSON.parse(line) as ChildMessage;
      if ('begin' in message) begun = message.begin;
      else if ('failed' in message) failed.push(message.failed);
      else onMessage(message);
    }
  });
  child.stderr!.on('data', (chunk) => {
    stderr = (stderr + chunk).slice(-4000);
  });
  return new Promise((done, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => done({ code, signal, stderr: stderr.trim(), begun, failed }));
  });
}

/** One process after the other until every task of the hand is done or has failed. */
async function playHand(
  hand: readonly Task[],
  start: Spawn,
  onMessage: (message: ChildMessage) => void,
): Promise<FailedTask[]> {
  const failed: FailedTask[] = [];
  let open = hand;
  while (open.length > 0) {
    const { code, signal, stderr, begun, failed: own } = await runChild(start(open), onMessage);
    failed.push(...own);
    if (code === 0) break;
    const reason = `${signal ?? `exit ${code}`}${stderr && `: ${stderr}`}`;
    // dead before its first row: the next process would be, too
    if (!begun) return [...failed, ...open.map((task) => ({ task, reason }))];
    failed.push({ task: begun, reason });
    const at = begun;
    open = open.slice(open.findIndex((task) => same(task, at)) + 1);
  }
  return failed;
}

/** Deals the tasks to `jobs` processes. @returns what failed; everything else was told to `onMessage` */
export async function shareTasks(
  tasks: readonly Task[],
  jobs: number,
  onMessage: (message: ChildMessage) => void,
  start: Spawn = spawnSelf,
): Promise<FailedTask[]> {
  const hands = Array.from({ length: Math.min(jobs, tasks.length) }, (_, job) =>
    tasks.filter((_, i) => i % jobs === job),
  );
  return (await Promise.all(hands.map((hand) => playHand(hand, start, onMessage)))).flat();
}

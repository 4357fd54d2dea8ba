import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { type ChildMessage, type FailedTask, shareTasks, type Task } from './eval-jobs';

/** A child that does its tasks, throws at row 2 and is killed in row 4. */
const script = `
  const say = (message) => process.stdout.write(JSON.stringify(message) + '\\n');
  say({ float: { ppl: 1 } });
  for (const text of process.argv.slice(1)) {
    const [row, seed] = text.split(':').map(Number);
    const task = { row, seed };
    say({ begin: task });
    if (row === 2) say({ failed: { task, reason: 'Error: two' } });
    else if (row === 4) process.kill(process.pid, 'SIGKILL');
    else say({ result: { label: 'row ' + row, seed } });
  }
`;

const start = (tasks: readonly Task[]) =>
  spawn(process.execPath, ['-e', script, ...tasks.map(({ row, seed }) => `${row}:${seed}`)], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });

test('a row that throws and one whose process is killed lose themselves alone', async () => {
  const tasks = Array.from({ length: 8 }, (_, row) => ({ row, seed: 1 }));
  const labels: string[] = [];
  const onMessage = (message: ChildMessage) => {
    if ('result' in message) labels.push(message.result.label);
  };
  const failed = await shareTasks(tasks, 2, onMessage, start);
  expect(labels.sort()).toEqual(['row 0', 'row 1', 'row 3', 'row 5', 'row 6', 'row 7']);
  const reasons = ({ task, reason }: FailedTask) => `${task.row}: ${reason}`;
  expect(failed.map(reasons).sort()).toEqual(['2: Error: two', '4: SIGKILL']);
});

test('a process that dies before its first row is not started again and again', async () => {
  let starts = 0;
  const failed = await shareTasks(
    [0, 1].map((row) => ({ row, seed: 1 })),
    1,
    () => {},
    () => {
      starts++;
      return spawn(process.execPath, ['-e', 'console.error("no model"); process.exit(3)']);
    },
  );
  expect(starts).toBe(1);
  expect(failed.map(({ reason }) => reason)).toEqual(['exit 3: no model', 'exit 3: no model']);
});

import { spawn } from 'node:child_process';
import { cpSync, readdirSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test, vi } from 'vitest';
import { readArtifact } from './artifact-reader';
import { runPrepare } from './prepare';
import { PrepareFolder } from './prepare-testing';
import { Stopwatch } from './stopwatch';

const folder = new PrepareFolder('prepare-command');

const entry = `
import { runnerImport } from 'vite';
import { Command } from 'commander';
const { module } = await runnerImport('./cli/commands/prepare.ts', { configFile: false, logLevel: 'silent' });
const program = new Command();
module.register(program);
await program.parseAsync(['node', 'mergequant', ...process.argv.slice(1)]);
`;

/** Runs the command in a process of its own. @param whileRunning is called until the process ends. */
function runCommand(
  args: string[],
  whileRunning: (kill: (signal: NodeJS.Signals) => void) => void = () => {},
): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const root = fileURLToPath(new URL('../..', import.meta.url));
  const child = spawn(process.execPath, ['--input-type=module', '-e', entry, '--', ...args], { cwd: root });
  let stdout = '';
  let stderr = '';
  child.stderr.on('data', (data) => {
    stderr += data;
  });
  child.stdout.on('data', (data) => {
    stdout += data;
  });
  const timer = setInterval(() => whileRunning((signal) => child.kill(signal)), 2);
  return new Promise((resolve) => {
    child.on('close', (code) => {
      clearInterval(timer);
      resolve({ code, stdout, stderr });
    });
  });
}

test('the command prints one JSON summary', async () => {
  const { checkpoint, out } = folder.setup({}, {}, {});
  const args = [
    'prepare',
    checkpoint,
    '--out',
    out,
    '--calibration',
    folder.text,
    folder.chat,
    '--act-bits',
    '8',
    '--json',
  ];
  const { code, stdout } = await runCommand([...args, '--samples', '4']);
  expect(code).toBe(0);
  expect(JSON.parse(stdout)).toMatchObject({ out, scheme: 'mergequant', actBits: 8, shards: 1 });
  folder.expectWholeArtifact(out);
});

test('Ctrl-C removes the half-written artifact', async () => {
  const { checkpoint, out } = folder.setup({ numLayers: 24 }, {}, {});
  let seen = false;
  const command = ['prepare', checkpoint, '--out', out, '--calibration', folder.text, '--samples', '500'];
  const { code, stderr } = await runCommand(command, (kill) => {
    if (seen || folder.leftovers().length === 0) return;
    seen = true;
    kill('SIGINT');
  });
  expect(seen, stderr).toBe(true);
  expect(code, stderr).toBe(130);
  expect(folder.leftovers()).toEqual([]);
  expect(readdirSync(folder.path)).not.toContain(out.slice(folder.path.length + 1));
});

test('a killed run goes on behind its finished layers, to the bytes of a whole one', async () => {
  const options = folder.setup({ numLayers: 6 }, {}, { calibration: [folder.text], alpha: 4 });
  const { checkpoint, out } = options;
  const sizes = ['--samples', '8', '--sequence', '64'];
  const args = ['--calibration', folder.text, ...sizes, '--weights', 'rtn', '--alpha', '4'];
  let seen = false;
  const { stderr } = await runCommand(['prepare', checkpoint, '--out', out, ...args], (kill) => {
    const layers = folder.kept().flatMap((name) => readdirSync(join(folder.path, name)));
    if (seen || !layers.includes('1')) return;
    seen = true;
    kill('SIGKILL');
  });
  expect(seen, stderr).toBe(true);
  expect(readdirSync(folder.path)).not.toContain(basename(out));
  const [layers] = folder.kept();
  const [partial] = folder.leftovers();
  const whole = { ...options, out: folder.freshPath() };
  // as if the killed run had been another one of that output
  const foreign = `.${basename(whole.out)}.layers-0123456789ab`;
  cpSync(join(folder.path, layers!), join(folder.path, foreign), { recursive: true });
  const done: number[] = [];
  const notices: string[] = [];
  const onNotice = (notice: string) => notices.push(notice);
  const stopwatch = new Stopwatch();
  const quantize = vi.spyOn(stopwatch, 'time');
  await runPrepare({ ...options, stopwatch, onNotice }, (count) => done.push(count));
  expect(notices[0]).toMatch(new RegExp(`^removed .*${partial}: the half-written artifact`));
  expect(notices[1]).toMatch(new RegExp(`^going on behind \\d finished layers in .*${layers}$`));
  expect(notices).toHaveLength(2);
  const made = quantize.mock.calls.filter(([stage]) => stage === 'quantize').length;
  expect(made).toBeGreaterThan(0);
  expect(made).toBeLessThanOrEqual(4);
  expect(done.at(-1)).toBe(6);
  folder.expectWholeArtifact(out);
  const { name } = readArtifact(out).manifest;
  await runPrepare({ ...whole, name, onNotice });
  expect(notices.slice(2)).toEqual([
    expect.stringMatching(`^removed .*${foreign}: layers that a killed run`),
  ]);
  folder.expectWholeArtifact(whole.out);
  for (const file of readdirSync(out)) {
    expect(readFileSync(join(out, file)).equals(readFileSync(join(whole.out, file))), file).toBe(true);
  }
});

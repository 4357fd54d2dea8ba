// `npm test`: types, lint, unit and kernel tests, the build, and the page in a real browser. Ends with one summary line.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { ensureBrowser } from './browser.mjs';

const reports = 'test-results/summary';
rmSync(reports, { recursive: true, force: true });
mkdirSync(reports, { recursive: true });

/** Runs a command from node_modules/.bin; true when it exits with 0. */
function run(label, command, args, env = {}) {
  const start = performance.now();
  console.log(`\n== ${label}`);
  const { status } = spawnSync(`node_modules/.bin/${command}`, args, {
    stdio: 'inherit',
    env: { ...process.env, ...env },
  });
  console.log(
    `== ${label}: ${status === 0 ? 'ok' : `exit ${status}`} in ${((performance.now() - start) / 1000).toFixed(1)} s`,
  );
  return status === 0;
}

function readReport(name) {
  try {
    return JSON.parse(readFileSync(`${reports}/${name}.json`, 'utf8'));
  } catch {
    return null;
  }
}

let passed = 0;
let failed = 0;
/** Counts a runner's tests; a runner that failed without a failing test counts as one failure. */
function count(ok, passes, failures) {
  passed += passes;
  failed += ok ? failures : Math.max(1, failures);
}

ensureBrowser();
for (const [label, command, ...args] of [
  ['types', 'tsc', '--noEmit'],
  ['format and lint', 'biome', 'ci', '.'],
]) {
  const ok = run(label, command, args);
  count(ok, ok ? 1 : 0, ok ? 0 : 1);
}

const unitOk = run('unit and kernel tests', 'vitest', [
  'run',
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${reports}/vitest.json`,
]);
const unit = readReport('vitest');
count(unitOk, unit?.numPassedTests ?? 0, unit?.numFailedTests ?? 0);

const builds = [
  run('build the page', 'vite', ['build', '--logLevel', 'warn']),
  run('build the command', 'vite', ['build', '--mode', 'cli', '--logLevel', 'warn']),
];
for (const ok of builds) count(ok, ok ? 1 : 0, ok ? 0 : 1);

const e2eOk = run('the page in a browser', 'playwright', ['test', '--reporter=list,json'], {
  PLAYWRIGHT_JSON_OUTPUT_NAME: `${reports}/playwright.json`,
});
const e2e = readReport('playwright')?.stats;
count(e2eOk, (e2e?.expected ?? 0) + (e2e?.flaky ?? 0), e2e?.unexpected ?? 0);

console.log(`\n${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;

/** IndexedDB and OPFS as shard stores: the same contract, and their speed here. */
import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { build } from 'vite';
import type { SuiteReport } from './store-suite.worker';

test.use({ serviceWorkers: 'block' });

test('both shard stores keep the contract', async ({ page, context }, testInfo) => {
  const outDir = testInfo.outputPath('suite');
  await build({
    configFile: false,
    logLevel: 'error',
    build: {
      outDir,
      target: 'es2022',
      lib: { entry: 'e2e/store-suite.worker.ts', formats: ['es'], fileName: () => 'suite.js' },
    },
  });
  const body = readFileSync(`${outDir}/suite.js`, 'utf8');
  await context.route('**/store-suite.js', (route) =>
    route.fulfill({
      body,
      contentType: 'text/javascript',
      headers: { 'Cross-Origin-Embedder-Policy': 'require-corp' },
    }),
  );
  await page.goto('/app.webmanifest');
  const report = await page.evaluate(
    () =>
      new Promise<SuiteReport>((resolve, reject) => {
        const worker = new Worker('/store-suite.js', { type: 'module' });
        worker.onmessage = ({ data }) => resolve(data);
        worker.onerror = ({ message }) => reject(new Error(message || 'the worker did not start'));
      }),
  );
  console.log('MB/s', JSON.stringify(report.speeds));
  expect(report.problems).toEqual([]);
  for (const { read, write } of Object.values(report.speeds))
    expect(Math.min(read, write)).toBeGreaterThan(1);
});

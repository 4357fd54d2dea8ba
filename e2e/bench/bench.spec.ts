/** Runs the suites in a real browser and keeps the figures and a picture. `npm run bench:browser`; not part of the tests. */
import { readFile } from 'node:fs/promises';
import { expect, test } from '@playwright/test';
import { parseBenchFile } from '../../bench/bench-file';
import { benchFileName, writeBenchFile } from '../../bench/results-folder.node';

const {
  BENCH_SUITES = 'ceiling,kernels,quant-step,layer,decode,persistent,load,demo',
  BENCH_SHAPE = 'llama-2-7b',
  BENCH_SCHEMES = 'fp16,rtn-dynamic-a4,mergequant-a4,mergequant-a8,mergequant-static-a4',
  BENCH_CONTEXTS = '0,512,2048,4000',
  BENCH_SAMPLES = '5',
  BENCH_ADAPTER_NAME = '',
  BENCH_OUT = 'bench/results',
} = process.env;

test('suites in the browser', async ({ page }) => {
  const query = new URLSearchParams({
    suites: BENCH_SUITES,
    shape: BENCH_SHAPE,
    schemes: BENCH_SCHEMES,
    contexts: BENCH_CONTEXTS,
    samples: BENCH_SAMPLES,
    adapter: BENCH_ADAPTER_NAME,
    run: '',
  });
  await page.goto(`/panel.html?${query}`);
  await expect(page.getByTestId('bench-status')).toHaveText('done', { timeout: test.info().timeout });
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Save JSON' }).click();
  const path = await (await download).path();
  const file = parseBenchFile(await readFile(path, 'utf8'), path);
  const written = await writeBenchFile(BENCH_OUT, file);
  const picture = `${BENCH_OUT}/${benchFileName(file).replace(/\.json$/, '.png')}`;
  await page.screenshot({ path: picture, fullPage: true });
  console.log(`${written}\n${picture}`);
  expect(file.request).toMatchObject({ suites: BENCH_SUITES.split(','), schemes: BENCH_SCHEMES.split(',') }); // none unknown
  expect(file.suites.flatMap(({ suite, error }) => (error === null ? [] : [`${suite}: ${error}`]))).toEqual(
    [],
  );
});

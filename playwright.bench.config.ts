import { defineConfig } from '@playwright/test';
import base from './playwright.config';

/**
 * Of `BENCH_URL`, a server that runs already, when it is given; otherwise the page is built and served as for the tests.
 * `BENCH_CORE`: without experimental features such as subgroup matrices, as a browser without flags is.
 */
const { BENCH_URL, BENCH_CORE } = process.env;
/** Timestamps in nanoseconds instead of tenths of a millisecond. */
const exactTimestamps = 'timestamp_quantization';
/** One switch: of two the browser takes the last. */
const without = `--disable-dawn-features=${[exactTimestamps, ...(BENCH_CORE ? ['allow_unsafe_apis'] : [])].join()}`;
const { launchOptions } = base.use ?? {};

export default defineConfig({
  ...base,
  testDir: 'e2e/bench',
  testIgnore: [],
  timeout: 1_500_000,
  use: {
    ...base.use,
    ...(BENCH_URL ? { baseURL: BENCH_URL } : {}),
    launchOptions: { ...launchOptions, args: [...(launchOptions?.args ?? []), without] },
    trace: 'off',
  },
  ...(BENCH_URL ? { webServer: [] } : {}),
});

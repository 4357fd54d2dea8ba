import { defineConfig } from '@playwright/test';
import base from './playwright.config';

/** Of `BENCH_URL`, a server that runs already, when it is given; otherwise the page is built and served as for the tests. */
const { BENCH_URL } = process.env;
/** Timestamps in nanoseconds instead of tenths of a millisecond. */
const exactTimestamps = '--disable-dawn-features=timestamp_quantization';
const { launchOptions } = base.use ?? {};

export default defineConfig({
  ...base,
  testDir: 'e2e/bench',
  testIgnore: [],
  timeout: 1_500_000,
  use: {
    ...base.use,
    ...(BENCH_URL ? { baseURL: BENCH_URL } : {}),
    launchOptions: { ...launchOptions, args: [...(launchOptions?.args ?? []), exactTimestamps] },
    trace: 'off',
  },
  ...(BENCH_URL ? { webServer: [] } : {}),
});

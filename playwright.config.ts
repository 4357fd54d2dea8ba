import { existsSync } from 'node:fs';
import { defineConfig } from '@playwright/test';
import { findBrowser } from './scripts/browser.mjs';

const port = 4179;

const executablePath = findBrowser();

const quiet = [
  '--no-sandbox',
  '--enable-unsafe-webgpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];
/** Zeroing workgroup memory is most of a kernel's compile time there; the kernels write it before they read it. */
const software = ['--use-webgpu-adapter=swiftshader', '--enable-dawn-features=disable_workgroup_init'];
/** A Linux machine without a graphics device gets WebGPU from the software adapter. */
const hasGpu = process.platform !== 'linux' || existsSync('/dev/dri') || existsSync('/dev/nvidia0');
const args =
  process.env.CHROME_ARGS?.split(' ').filter(Boolean) ?? (hasGpu ? quiet : [...quiet, ...software]);

export default defineConfig({
  testDir: 'e2e',
  testIgnore: 'bench/**', // npm run bench:browser
  timeout: 300_000,
  expect: { timeout: 60_000 },
  // One GPU, and often a software one: tests in parallel would only wait for each other.
  workers: 1,
  forbidOnly: Boolean(process.env.CI),
  reporter: [['list']],
  use: {
    baseURL: `http://localhost:${port}`,
    launchOptions: { args, ...(executablePath ? { executablePath } : {}) },
    // They would answer in place of the tests' own routes; the offline tests let them.
    serviceWorkers: 'block',
    trace: 'retain-on-failure',
  },
  webServer: {
    command: `npx vite build && npx vite preview --port ${port} --strictPort`,
    url: `http://localhost:${port}`,
    timeout: 180_000,
  },
});

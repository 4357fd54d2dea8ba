import preact from '@preact/preset-vite';
import { defineConfig } from 'vitest/config';

/** COOP/COEP make the page cross-origin isolated: exact timers, and SharedArrayBuffer for libraries that want it. */
const isolationHeaders = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/** `--mode cli` builds the Node command into dist/cli; every other mode builds or serves the page. */
export default defineConfig(({ mode }) => {
  if (mode === 'cli') {
    return {
      publicDir: false,
      build: {
        ssr: true,
        outDir: 'dist/cli',
        target: 'node20',
        rolldownOptions: { input: { main: 'cli/main.ts' } },
      },
    };
  }
  return {
    plugins: [preact()],
    build: { outDir: 'dist/page', target: 'es2022' },
    worker: { format: 'es' },
    server: { headers: isolationHeaders },
    preview: { headers: isolationHeaders },
    test: {
      include: ['{src,workers,cli,bench,scripts}/**/*.test.ts'],
      pool: 'forks',
      maxWorkers: 2,
      testTimeout: 120_000,
      hookTimeout: 120_000,
    },
  };
});

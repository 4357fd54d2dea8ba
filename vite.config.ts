import preact from '@preact/preset-vite';
import type { Plugin } from 'vite';
import { defineConfig } from 'vitest/config';
import { libraryWorker } from './scripts/library-worker.mjs';
import { serviceWorker } from './scripts/service-worker.mjs';

/** COOP/COEP make the page cross-origin isolated: exact timers, and SharedArrayBuffer for libraries that want it. */
const isolationHeaders = {
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
};

/**
 * What the built page may do: run its own scripts, show its own pictures, and fetch models from wherever the user says.
 * Nothing a model writes can make it send anything. (The development server needs inline scripts.)
 */
function contentSecurityPolicy(): Plugin {
  const content = [
    "default-src 'self'",
    "script-src 'self' 'wasm-unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    'connect-src *',
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'none'",
  ].join('; ');
  return {
    name: 'content-security-policy',
    apply: 'build',
    transformIndexHtml: () => [
      { tag: 'meta', attrs: { 'http-equiv': 'Content-Security-Policy', content }, injectTo: 'head-prepend' },
    ],
  };
}

/** `--mode cli` builds what runs in Node, `--mode lib` the library; every other mode builds or serves the page. */
export default defineConfig(({ mode }) => {
  if (mode === 'cli') {
    return {
      publicDir: false,
      build: {
        ssr: true,
        outDir: 'dist/cli',
        target: 'node20',
        rolldownOptions: { input: { main: 'cli/main.ts', node: 'cli/node-engine.ts' } },
      },
    };
  }
  if (mode === 'lib') {
    return {
      publicDir: false,
      base: './', // the worker's script is found beside the module that starts it
      build: {
        outDir: 'dist/lib',
        target: 'es2022',
        minify: false, // whoever bundles it minifies it
        lib: { entry: 'src/api/index.ts', formats: ['es'], fileName: 'index' },
      },
      worker: { format: 'es', rolldownOptions: { output: { entryFileNames: 'engine.worker.js' } } },
      plugins: [libraryWorker()],
    };
  }
  return {
    plugins: [preact(), contentSecurityPolicy(), serviceWorker()],
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

import preact from '@preact/preset-vite';
import { defineConfig } from 'vitest/config';
import { buildDefine } from './scripts/build-id.ts';
import { libraryWorker } from './scripts/library-worker.mjs';
import {
  developmentHeaders,
  developmentNonce,
  pagePolicy,
  securityHeaders,
} from './scripts/security-headers.ts';
import { serviceWorker } from './scripts/service-worker.mjs';

/** Puts the policy into the built page, for hosts that set no headers. */
const policyInPage = {
  name: 'content-security-policy',
  apply: 'build' as const,
  transformIndexHtml: () => [
    {
      tag: 'meta',
      attrs: { 'http-equiv': 'Content-Security-Policy', content: pagePolicy },
      injectTo: 'head-prepend' as const,
    },
  ],
};

/** `--mode cli` builds what runs in Node, `--mode lib` the library; every other mode builds or serves the page. */
export default defineConfig(({ mode, command, isPreview }) => {
  const define = buildDefine();
  if (mode === 'cli') {
    return {
      define,
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
      define,
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
    define,
    plugins: [preact(), policyInPage, serviceWorker()],
    ...(command === 'serve' && !isPreview ? { html: { cspNonce: developmentNonce } } : {}),
    build: {
      outDir: 'dist/page',
      target: 'es2022',
      rolldownOptions: { input: ['index.html', 'panel.html'] },
    },
    worker: { format: 'es' },
    server: { headers: developmentHeaders },
    preview: { headers: securityHeaders },
    test: {
      include: ['{src,workers,cli,bench,scripts}/**/*.test.ts'],
      pool: 'forks',
      maxWorkers: 2,
      testTimeout: 120_000,
      hookTimeout: 120_000,
    },
  };
});

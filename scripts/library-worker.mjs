// A Vite plugin for the library: starts the worker by the one expression that every bundler knows.

const built =
  /new Worker\(new URL\(\s*\/\* @vite-ignore \*\/\s*new URL\("([^"]+)", import\.meta\.url\)\.href,\s*"" \+ import\.meta\.url\s*\)/;

/** `new Worker(new URL('./…', import.meta.url)` in place of the nested addresses that Vite writes for pages. */
export function libraryWorker() {
  return {
    name: 'library-worker',
    enforce: 'post',
    generateBundle(_, bundle) {
      const code = bundle['index.js']?.code ?? '';
      if (!built.test(code)) this.error('the expression that starts the worker is not where it was');
      bundle['index.js'].code = code.replace(built, 'new Worker(new URL("./$1", import.meta.url)');
    },
  };
}

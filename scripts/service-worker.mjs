// A Vite plugin: writes dist/page/sw.js, the service worker with the list of the build's files in it.
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';

const template = new URL('../src/ui/sw.js', import.meta.url);
/** Files of `public/` that the page asks for. */
const publicFiles = ['app.webmanifest', 'icons/icon.svg'];

export function serviceWorker() {
  return {
    name: 'service-worker',
    apply: 'build',
    generateBundle(_, bundle) {
      const files = ['./', ...Object.keys(bundle), ...publicFiles].filter(
        (name) => !name.endsWith('.map') && name !== 'index.html',
      );
      const hash = createHash('sha256');
      for (const output of Object.values(bundle))
        hash.update(output.fileName).update(output.code ?? output.source);
      const values = { files, version: hash.digest('hex').slice(0, 16) };
      const source = readFileSync(template, 'utf8').replace(/__(FILES|VERSION)__/g, (_match, name) =>
        JSON.stringify(values[name.toLowerCase()]),
      );
      this.emitFile({ type: 'asset', fileName: 'sw.js', source });
    },
  };
}

// Writes the public-domain prose for preparing and measuring the demo model into a folder (default .cache/text):
//   calibration.txt  text that the model was trained on, for calibration
//   test-sotu.txt, test-moby.txt  the files it never saw (models/demo-chat-8m/README.md), for perplexity
// Usage: node scripts/demo-text.mjs [folder]
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const target = process.argv[2] ?? join(root, '.cache/text');

/** Held-out files: every `every`th of the sorted listing, starting at `first`. */
const corpora = [
  { name: 'sotu', every: 20, first: 10 },
  { name: 'moby-dick', every: 10, first: 5 },
];
/** Calibration takes every third of the remaining files: about 4 MB, from all of both corpora. */
const calibrationStride = 3;

/** Texts of one corpus, split into held-out and trained. */
function readCorpus({ name, every, first }) {
  const folder = join(root, 'node_modules/@stdlib', `datasets-${name}`, 'data');
  const files = readdirSync(folder)
    .filter((file) => file.endsWith('.txt'))
    .sort();
  const isHeldOut = (i) => i >= first && (i - first) % every === 0;
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  return {
    heldOut: texts.filter((_, i) => isHeldOut(i)),
    trained: texts.filter((_, i) => !isHeldOut(i)),
  };
}

mkdirSync(target, { recursive: true });
const [sotu, moby] = corpora.map(readCorpus);
const calibration = [...sotu.trained, ...moby.trained].filter((_, i) => i % calibrationStride === 0);
const outputs = {
  'calibration.txt': calibration,
  'test-sotu.txt': sotu.heldOut,
  'test-moby.txt': moby.heldOut,
};
for (const [file, texts] of Object.entries(outputs)) {
  writeFileSync(join(target, file), `${texts.join('\n\n')}\n`);
  process.stderr.write(`${join(target, file)}: ${texts.length} files\n`);
}

// Makes the page's bundled artifacts from models/demo-chat-8m with `mergequant prepare`, and lists them in
// public/models/index.json. Usage: npm run prepare:demo -- [--device gpu] [--measure] [--from <folder>]
//   --device gpu   quantizes and trains on a GPU (a minute each; hours on a processor)
//   --measure      perplexity of every artifact and the float model on the never-trained texts, into the manifests (a GPU, too)
//   --from <folder>  takes <folder>/<id> and what `mergequant ppl --json` said, <folder>/<id>.ppl.json, from another machine
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values: options } = parseArgs({
  options: {
    device: { type: 'string', default: 'host' },
    measure: { type: 'boolean', default: false },
    from: { type: 'string' },
  },
});
const root = dirname(dirname(fileURLToPath(import.meta.url)));
const textFolder = join(root, '.cache/text');
const calibration = [
  join(textFolder, 'calibration.txt'),
  join(root, 'models/demo-calibration.jsonl'),
  join(root, 'models/demo-conversations.jsonl'),
];
const testTexts = ['test-sotu.txt', 'test-moby.txt'].map((name) => join(textFolder, name));
/** @param rate in steps of the weights; what 8-bit activations leave to gain is less than what large steps lose */
const compensated = (rate) => [
  '--compensate',
  `epochs=4,rows=8,rate=${rate},device=${options.device === 'gpu' ? 'webgpu' : 'wasm'}`,
];
/** The first is what the page opens with. `samples`: calibration sequences, a third of them prose at most, the rest conversations. */
const artifacts = [
  {
    id: 'demo-chat-8m-w4a4',
    name: 'Demo chat 8M, W4A4',
    scheme: 'mergequant',
    actBits: 4,
    samples: 1024,
    flags: ['--hadamard', ...compensated(0.01)],
  },
  {
    // The paper's method without rotation: dimension reconstruction by index gather (Eq. 6).
    id: 'demo-chat-8m-w4a4-gather',
    name: 'Demo chat 8M, W4A4 unrotated',
    scheme: 'mergequant',
    actBits: 4,
    samples: 256,
    flags: compensated(0.02),
  },
  {
    id: 'demo-chat-8m-w4a8',
    name: 'Demo chat 8M, W4A8',
    scheme: 'mergequant',
    actBits: 8,
    samples: 1024,
    flags: ['--hadamard', ...compensated(0.004)],
  },
  { id: 'demo-chat-8m-fp16', name: 'Demo chat 8M, float16', scheme: 'fp16', actBits: null, flags: [] },
];

const run = (...args) =>
  execFileSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });
const mergequant = (...args) => JSON.parse(run('cli/mergequant.mjs', ...args, '--json'));

function prepare({ name, scheme, actBits, samples, flags }, folder) {
  const quantized = [
    '--act-bits',
    String(actBits),
    '--device',
    options.device,
    '--samples',
    String(samples),
    '--calibration',
    ...calibration,
  ];
  const chosen = ['--out', folder, '--name', name, '--scheme', scheme, '--greedy', '--force', ...flags];
  mergequant('prepare', 'models/demo-chat-8m', ...chosen, ...(actBits === null ? [] : quantized));
}

/** What `mergequant ppl --json` says of an artifact, or said elsewhere; null when nobody asked. */
function perplexityOf(id, folder) {
  if (options.from) {
    const stored = join(options.from, `${id}.ppl.json`);
    return existsSync(stored) ? JSON.parse(readFileSync(stored, 'utf8')) : null;
  }
  return options.measure ? mergequant('ppl', folder, '--window', '1024', '--text', ...testTexts) : null;
}

/** @param own of the artifact @param float of the float16 artifact, on the same windows */
function writeMeasured(folder, own, float) {
  if (own.tokens !== float.tokens)
    throw new Error(`${folder}: measured on ${own.tokens} tokens, float on ${float.tokens}`);
  const path = join(root, folder, 'manifest.json');
  const manifest = JSON.parse(readFileSync(path, 'utf8'));
  manifest.provenance.measured = {
    text: 'State of the Union and Moby-Dick files never trained on',
    windows: own.windows,
    window: 1024,
    tokens: own.tokens,
    perplexity: own.ppl,
    floatPerplexity: float.ppl,
  };
  writeFileSync(path, `${JSON.stringify(manifest, null, 1)}\n`);
}

function bytesOf(folder) {
  const text = readFileSync(join(root, folder, 'manifest.json'));
  const { shards, tokenizerFiles } = JSON.parse(text);
  return [...shards, ...tokenizerFiles].reduce((sum, { bytes }) => sum + bytes, text.length);
}

run('scripts/demo-text.mjs', textFolder);
const measured = new Map();
for (const artifact of artifacts) {
  const folder = `public/models/${artifact.id}`;
  const prepared = options.from && join(options.from, artifact.id);
  if (prepared && existsSync(prepared)) {
    rmSync(join(root, folder), { recursive: true, force: true });
    cpSync(prepared, join(root, folder), { recursive: true });
  } else if (!options.from) prepare(artifact, folder);
  measured.set(artifact.id, perplexityOf(artifact.id, folder));
}
const float = measured.get('demo-chat-8m-fp16');
const models = artifacts.map(({ id, name, scheme, actBits }) => {
  const folder = `public/models/${id}`;
  const own = measured.get(id);
  if (own && float && own !== float) writeMeasured(folder, own, float);
  const bytes = bytesOf(folder);
  process.stderr.write(`${folder}: ${bytes} bytes${own ? `, perplexity ${own.ppl.toFixed(3)}` : ''}\n`);
  return { id, name, path: id, scheme, actBits, bytes };
});
writeFileSync(join(root, 'public/models/index.json'), `${JSON.stringify({ models }, null, 1)}\n`);

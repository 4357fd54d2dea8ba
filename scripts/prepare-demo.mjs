// Makes the page's bundled artifacts from models/demo-chat-8m with `mergequant prepare`, and lists them in
// public/models/index.json. Usage: npm run prepare:demo
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const textFolder = join(root, '.cache/text');
const calibration = [join(textFolder, 'calibration.txt'), join(root, 'models/demo-calibration.jsonl')];
/** The first is what the page opens with. */
const artifacts = [
  {
    id: 'demo-chat-8m-w4a4',
    name: 'Demo chat 8M, W4A4',
    scheme: 'mergequant',
    actBits: 4,
    flags: ['--hadamard'],
  },
  {
    // The paper's method without rotation: dimension reconstruction by index gather (Eq. 6).
    id: 'demo-chat-8m-w4a4-gather',
    name: 'Demo chat 8M, W4A4 unrotated',
    scheme: 'mergequant',
    actBits: 4,
    flags: [],
  },
  {
    id: 'demo-chat-8m-w4a8',
    name: 'Demo chat 8M, W4A8',
    scheme: 'mergequant',
    actBits: 8,
    flags: ['--hadamard', '--gptq-target', 'outputs'],
  },
  { id: 'demo-chat-8m-fp16', name: 'Demo chat 8M, float16', scheme: 'fp16', actBits: null, flags: [] },
];

const run = (...args) =>
  execFileSync(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'inherit'] });

run('scripts/demo-text.mjs', textFolder);
const models = artifacts.map(({ id, name, scheme, actBits, flags }) => {
  const folder = `public/models/${id}`;
  const quantized = actBits === null ? [] : ['--act-bits', String(actBits), '--calibration', ...calibration];
  const chosen = ['--out', folder, '--name', name, '--scheme', scheme, '--greedy', ...flags, ...quantized];
  const args = ['models/demo-chat-8m', ...chosen];
  const summary = JSON.parse(run('cli/mergequant.mjs', 'prepare', ...args, '--force', '--json'));
  const manifestBytes = readFileSync(join(root, folder, 'manifest.json')).length;
  process.stderr.write(`${folder}: ${summary.bytes} bytes in ${summary.seconds.toFixed(1)} s\n`);
  return { id, name, path: id, scheme, actBits, bytes: summary.bytes + manifestBytes };
});
writeFileSync(join(root, 'public/models/index.json'), `${JSON.stringify({ models }, null, 1)}\n`);

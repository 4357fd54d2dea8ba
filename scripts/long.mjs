// `npm run fuzz`, `npm run soak` and `npm run soak:browser`: the long versions of tests. Sizes and seeds come from the
// environment where set.
import { spawnSync } from 'node:child_process';

const runs = {
  fuzz: { command: ['vitest', 'run', 'scripts/fuzz.test.ts'], sizes: { FUZZ_RUNS: '150000' } },
  soak: {
    command: ['vitest', 'run', 'scripts/soak.test.ts'],
    sizes: { SOAK_REPLIES: '1000', SOAK_FOLDER: 'public/models/demo-chat-8m-w4a4' },
  },
  'soak:browser': { command: ['playwright', 'test', 'e2e/soak.spec.ts'], sizes: { SOAK_REPLIES: '300' } },
};
const { command, sizes } = runs[process.argv[2]];
const [program, ...args] = command;
const { status } = spawnSync(`node_modules/.bin/${program}`, args, {
  stdio: 'inherit',
  env: {
    ...process.env,
    ...Object.fromEntries(Object.entries(sizes).filter(([key]) => !process.env[key])),
  },
});
process.exitCode = status ?? 1;

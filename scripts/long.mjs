// `npm run fuzz` and `npm run soak`: the long versions of two tests. Sizes and seeds come from the environment where set.
import { spawnSync } from 'node:child_process';

const runs = {
  fuzz: { FUZZ_RUNS: '150000' },
  soak: { SOAK_REPLIES: '1000', SOAK_FOLDER: 'public/models/demo-chat-8m-w4a4' },
};
const which = process.argv[2];
const { status } = spawnSync('node_modules/.bin/vitest', ['run', `scripts/${which}.test.ts`], {
  stdio: 'inherit',
  env: {
    ...process.env,
    ...Object.fromEntries(Object.entries(runs[which]).filter(([key]) => !process.env[key])),
  },
});
process.exitCode = status ?? 1;

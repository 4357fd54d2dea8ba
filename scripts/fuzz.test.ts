/** 2,000 mutated inputs; `FUZZ_RUNS=150000 npm run fuzz` for many more. */
import { expect, test } from 'vitest';
import { fuzz } from './fuzz';

const runs = Number(process.env.FUZZ_RUNS ?? 2000);

test(`${runs} mutated manifests, headers and tokenizer files are accepted or refused by name`, {
  timeout: 3_600_000,
}, () => {
  const report = fuzz(runs, Number(process.env.FUZZ_SEED ?? 1));
  const { findings, ...figures } = report;
  console.log(JSON.stringify(figures));
  expect(findings.slice(0, 5)).toEqual([]);
  expect(report.refused).toBeGreaterThan(runs / 4);
  expect(report.accepted).toBeGreaterThan(0);
});

/** The project's targets as one object per adapter, from all stored results. */
import { isSameBuild } from './build-id';
import { type BenchFile, findFigure } from './figures';

/** null where it was not measured. */
export interface AdapterFigures {
  readonly gemv_pct_ceiling_net: number | null;
  readonly gemv_pct_ceiling_gross: number | null;
  readonly decode_512_tok_s_chromium: number | null;
  readonly decode_512_tok_s_node: number | null;
  readonly decode_vs_fp16: number | null;
  readonly prefill_2048_tok_s_core: number | null;
  readonly prefill_2048_tok_s_matrix: number | null;
  readonly prefill_vs_fp16: number | null;
  readonly static_vs_dynamic_step: number | null;
  /** With the options that save memory where that was measured, else with the defaults. */
  readonly device_gib_2048: number | null;
  readonly dispatches_per_token: number | null;
  readonly decode_4000_vs_512: number | null;
}

const shape = 'llama-2-7b';
const scheme = 'mergequant-a4';
const decode = `decode/${shape}/${scheme}`;
/** The options that save memory: 8-bit cache, embedding and head, prompts in passes of 256 tokens. */
const compact = `${decode}-kv8-e8-c256`;
const float = `decode/${shape}/fp16`;

type Files = readonly BenchFile[];

/** Median of the newest file that has the figure; files come newest first. */
function newest(files: Files, id: string): number | null {
  for (const file of files) {
    const figure = findFigure(file, id);
    if (figure) return figure.value.median;
  }
  return null;
}

/** Quotient of two figures of one and the same run: the newest that has both. */
function ratio(files: Files, id: string, base: string): number | null {
  for (const file of files) {
    const [a, b] = [findFigure(file, id), findFigure(file, base)];
    if (a && b) return a.value.median / b.value.median;
  }
  return null;
}

function lesser(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length > 0 ? Math.min(...known) : null;
}

/** Files this much older than the newest one are of another build, unless both say which they are. */
const sameBuildMs = 3_600_000;

/**
 * {@link ratio}, from a browser's run where there is one of the newest figures' build: wall-clock samples of short replies scatter in Node by more
 * than what is compared (docs/LOG.md).
 */
function browserRatio(files: Files, id: string, base: string): number | null {
  const having = files.filter((file) => findFigure(file, id) && findFigure(file, base));
  const newestMs = Date.parse(having[0]?.date ?? '');
  const browser = having.filter(({ runtime, build, date }) => {
    const isSame = isSameBuild(build, having[0]?.build) ?? newestMs - Date.parse(date) <= sameBuildMs;
    return runtime.kind === 'browser' && isSame;
  });
  return ratio(browser, id, base) ?? ratio(having, id, base);
}

function ofRuntime(files: Files, kind: BenchFile['runtime']['kind']): Files {
  return files.filter(({ runtime }) => runtime.kind === kind);
}

function usesMatrices({ caps }: BenchFile): boolean {
  return Boolean(caps.subgroupMatrixI8);
}

/** The figures of one adapter from its files, newest first. */
export function adapterFigures(files: Files): AdapterFigures {
  const inBrowser = ofRuntime(files, 'browser');
  const core = files.filter((file) => !usesMatrices(file));
  const inNode = ofRuntime(files, 'node');
  const linears = `kernels/${shape}/all-linears/int4/decode`;
  const bytes = newest(files, `${compact}/memory/total-2048`) ?? newest(files, `${decode}/memory/total-2048`);
  const prefill = `${decode}/context-2048/prefill`;
  return {
    gemv_pct_ceiling_net: newest(files, `${linears}/ceiling-net`),
    gemv_pct_ceiling_gross: newest(files, `${linears}/ceiling-gross`),
    decode_512_tok_s_chromium: newest(inBrowser, `${decode}/context-512/decode`),
    decode_512_tok_s_node: newest(inNode, `${decode}/context-512/decode`),
    decode_vs_fp16: ratio(files, `${decode}/context-512/decode`, `${float}/context-512/decode`),
    prefill_2048_tok_s_core: newest(core, prefill),
    prefill_2048_tok_s_matrix: newest(files.filter(usesMatrices), prefill),
    // Like against like: fp16 knows no subgroup matrices. The engine tries longer passes while they are short, and where fp16's
    // are just too long for that it is a slower baseline than it need be: of Node and browser the lower ratio counts.
    prefill_vs_fp16: lesser(
      (['node', 'browser'] as const).map((kind) =>
        ratio(ofRuntime(core, kind), prefill, `${float}/context-2048/prefill`),
      ),
    ),
    static_vs_dynamic_step: newest(files, 'quant-step/h4096/t1/b1/static-vs-naive'),
    device_gib_2048: bytes === null ? null : bytes / 2 ** 30,
    dispatches_per_token: newest(files, `${decode}/dispatches`),
    decode_4000_vs_512: browserRatio(files, `${decode}/context-4000/decode`, `${decode}/context-512/decode`),
  };
}

/** Files by adapter, each newest first. */
export function byAdapter(files: Files): Map<string, BenchFile[]> {
  const groups = new Map<string, BenchFile[]>();
  for (const file of [...files].sort((a, b) => b.date.localeCompare(a.date))) {
    groups.set(file.adapterName, [...(groups.get(file.adapterName) ?? []), file]);
  }
  return groups;
}

/** What `bench/summary.json` holds. */
export function summaryOf(files: Files): Record<string, AdapterFigures> {
  return Object.fromEntries([...byAdapter(files)].map(([name, group]) => [name, adapterFigures(group)]));
}

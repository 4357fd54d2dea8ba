/** How fast a model comes through each store, first visit and second. `npm run bench:browser -- load-throughput`. */
import { expect, type Page, test } from '@playwright/test';
import { chooseStore } from '../fault-support';
import { expectReady } from '../support';

interface Moment {
  readonly phase: string;
  readonly atMs: number;
}

/** Notes when loading enters a phase. */
function notePhases(): void {
  const moments: Moment[] = [];
  Object.assign(window, { moments });
  const note = () => {
    const phase = document.querySelector<HTMLElement>('[data-testid="load-progress"]')?.dataset.phase ?? '';
    if (phase !== '' && phase !== moments.at(-1)?.phase) moments.push({ phase, atMs: performance.now() });
  };
  new MutationObserver(note).observe(document, { subtree: true, childList: true, attributes: true });
}

/** MB/s from the first file to the last upload, of a model of `bytes` bytes. */
async function rate(page: Page, bytes: number): Promise<number> {
  await expectReady(page);
  const moments = await page.evaluate(() => (window as unknown as { moments: Moment[] }).moments);
  const start = moments.find(({ phase }) => ['download', 'verify', 'upload'].includes(phase))!;
  const end = moments.find(({ phase }) => phase === 'compile')!;
  return Math.round(bytes / 1000 / (end.atMs - start.atMs));
}

for (const kind of ['indexed-db', 'opfs'] as const) {
  test(`the float16 demo model through ${kind}`, async ({ page }) => {
    const manifest = await (await page.request.get('/models/demo-chat-8m-fp16/manifest.json')).json();
    const files = [...manifest.shards, ...manifest.tokenizerFiles] as { bytes: number }[];
    const bytes = files.reduce((sum, file) => sum + file.bytes, 0);
    await page.goto('/app.webmanifest');
    await chooseStore(page, kind);
    await page.addInitScript(notePhases);
    await page.addInitScript(() =>
      localStorage.setItem(
        'mergequant.model',
        JSON.stringify(new URL('/models/demo-chat-8m-fp16/', location.href).href),
      ),
    );
    await page.goto('/');
    const first = await rate(page, bytes);
    const second: number[] = [];
    for (let visit = 0; visit < 3; visit++) {
      await page.reload();
      second.push(await rate(page, bytes));
    }
    console.log(JSON.stringify({ kind, bytes, 'first visit, MB/s': first, 'second visit, MB/s': second }));
    expect(Math.min(first, ...second)).toBeGreaterThan(0);
  });
}

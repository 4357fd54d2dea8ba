/** Results as files to keep. */
import type { BenchFile } from '../../../bench/figures';

/** One line a figure: id, unit, median, least, most, deviation, samples, clock. */
export function csvOf({ suites }: BenchFile): string {
  const rows = suites.flatMap(({ figures }) =>
    figures.map(({ id, unit, value, clock }) => {
      return [id, unit, value.median, value.least, value.most, value.deviation, value.samples, clock].join(
        ',',
      );
    }),
  );
  return `${['id,unit,median,least,most,deviation,samples,clock', ...rows].join('\n')}\n`;
}

/** Offers `text` as a download. */
export function download(name: string, type: string, text: string): void {
  const url = URL.createObjectURL(new Blob([text], { type }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  URL.revokeObjectURL(url);
}

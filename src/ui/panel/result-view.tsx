import { BarChart, TimelineChart } from '../../../bench/charts';
import type { BenchFile } from '../../../bench/figures';
import type { View } from '../../../bench/view';
import { viewsOf } from '../../../bench/views';
import { csvOf, download } from './export';
import { reproducingLink } from './state';
import { useNarrow } from './use-narrow';

/** A finished run: where it was measured, every view as chart and table, and ways to take it along. */
export function ResultView({ file }: { readonly file: BenchFile }) {
  const views = viewsOf(file);
  const features = Object.entries(file.caps).flatMap(([name, value]) => (value === true ? [name] : []));
  const name = `bench-${file.date.slice(0, 19).replaceAll(':', '-')}`;
  return (
    <section class="bench-result" aria-labelledby="result-title" data-testid="bench-result">
      <h2 id="result-title">Results</h2>
      <p>
        Measured on <strong data-testid="bench-adapter">{file.adapterName}</strong> with{' '}
        {features.join(', ') || 'no optional feature'}; medians of {file.request.samples}, least and most in
        parentheses. Noise is judged within this run; run again to see how far runs lie apart.
      </p>
      <div class="bench-actions">
        <button
          type="button"
          class="button"
          onClick={() => download(`${name}.json`, 'application/json', JSON.stringify(file, null, 1))}
        >
          Save JSON
        </button>
        <button type="button" class="button" onClick={() => download(`${name}.csv`, 'text/csv', csvOf(file))}>
          Save CSV
        </button>
        <a class="button" data-testid="bench-link" href={reproducingLink()}>
          Link to this run
        </a>
      </div>
      {views.map((view) => (
        <ViewCard key={view.id} view={view} />
      ))}
      {file.suites.map(({ suite, error, notes }) => (
        <div key={suite}>
          {error !== null && (
            <p class="notice-error" data-testid="bench-error">
              {suite}: {error}
            </p>
          )}
          {notes.map((note) => (
            <p key={note} class="muted">
              {suite}: {note}
            </p>
          ))}
        </div>
      ))}
    </section>
  );
}

/** A chart with its table behind a disclosure; a view without a chart shows the table at once. */
export function ViewCard({ view }: { readonly view: View }) {
  const { box, narrow } = useNarrow<HTMLDivElement>(480);
  const drawn = view.chart ? (
    <BarChart data={view.chart} narrow={narrow} />
  ) : (
    view.timeline && <TimelineChart timeline={view.timeline} narrow={narrow} />
  );
  return (
    <article class="bench-card" data-testid={`bench-view-${view.id}`}>
      <h3>{view.title}</h3>
      {view.statements.length > 0 && (
        <ul class="bench-statements">
          {view.statements.map((text) => (
            <li key={text}>{text}</li>
          ))}
        </ul>
      )}
      {drawn && (
        <div class="bench-chart" ref={box}>
          {drawn}
        </div>
      )}
      {drawn ? (
        <details>
          <summary>As a table</summary>
          <ViewTable view={view} />
        </details>
      ) : (
        <ViewTable view={view} />
      )}
    </article>
  );
}

function ViewTable({ view }: { readonly view: View }) {
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable by keyboard
    <section class="bench-table" tabIndex={0} aria-label={`${view.title}, table`}>
      <table>
        <thead>
          <tr>
            {view.header.map((title) => (
              <th key={title} scope="col">
                {title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {view.rows.map((row) => (
            <tr key={row.slice(0, 2).join()}>
              {row.map((cell, i) => (
                <td key={view.header[i]}>{cell}</td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

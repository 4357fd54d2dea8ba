import type { GpuReport } from '../../../workers/protocol';
import { dismissRefusal, loadedModel, loadProblem, loadSelected, statusText } from '../state/model';

type Unavailability = Extract<GpuReport, { available: false }>;

/** The page's answer where the engine cannot run: what is missing and what helps. */
export function Unavailable({ report }: { readonly report: Unavailability }) {
  const { title, words } = explanations[report.reason];
  return (
    <main class="unavailable" data-testid="unavailable">
      <h1>{title}</h1>
      {words.map((text) => (
        <p key={text}>{text}</p>
      ))}
      <p class="status status-failed" role="status">
        <span class="status-dot" aria-hidden="true" />
        <span data-testid="status">{statusText.value}</span>
        <span class="muted"> ({report.message})</span>
      </p>
    </main>
  );
}

const explanations: Readonly<Record<Unavailability['reason'], { title: string; words: readonly string[] }>> =
  {
    insecure: {
      title: 'This page needs a secure connection',
      words: [
        'Browsers offer WebGPU, which runs the model, only to pages that come over HTTPS or from this very computer.',
        'Open the page with https:// in front, or as http://localhost if you serve it yourself.',
      ],
    },
    missing: {
      title: 'This browser has no WebGPU',
      words: [
        'The model runs on your own graphics processor, through WebGPU. This browser does not offer it.',
        'It works in current versions of Chrome and Edge, in Safari 26 and later, and in Firefox on Windows and on Macs with Apple chips.',
      ],
    },
    'no-adapter': {
      title: 'WebGPU found no graphics processor',
      words: [
        'This browser has WebGPU, but no graphics processor it may use. Often hardware acceleration is turned off, the driver is old or on a block list, or the graphics process crashed a few times.',
        'Turn on hardware acceleration in the browser’s settings, update the graphics driver, and restart the browser. In Chrome, chrome://gpu says more; on Linux, chrome://flags/#enable-unsafe-webgpu can help.',
      ],
    },
  };

/** Why a model was not loaded, what there is instead, and where a shorter context may help, a way to load it with one. */
export function LoadError() {
  const problem = loadProblem.value;
  if (problem === null) return null;
  const { message, shorterContext } = problem;
  const stays = loadedModel.value;
  return (
    <div class="notice notice-error" role="alert" data-testid="error">
      <strong>{stays ? `${stays.name} stays loaded.` : 'No model is loaded.'}</strong>
      <br />
      {message}
      <div class="error-actions">
        {shorterContext !== null && (
          <button
            type="button"
            class="button small"
            data-testid="shorter-context"
            onClick={() => loadSelected(shorterContext)}
          >
            Load with a context of {shorterContext} tokens
          </button>
        )}
        {stays && (
          <button
            type="button"
            class="button small"
            data-testid="dismiss"
            onClick={({ currentTarget }) => {
              (currentTarget.closest('dialog') ?? document.getElementById('composer'))?.focus(); // this goes
              dismissRefusal();
            }}
          >
            Dismiss
          </button>
        )}
      </div>
    </div>
  );
}

import type { LoadProgress } from '../../../workers/protocol';
import { formatBytes, formatRemaining } from '../format';
import { cancelLoad, loadBytesPerSecond, pauseLoad, progressText, resumeLoad } from '../state/model';
import { spaceText, spaceWarning, storageSpace } from '../state/storage-space';

/** How far loading is. Before the size is known, and while the GPU prepares, the bar only shows that work goes on. */
export function LoadProgressBar({ progress }: { readonly progress: LoadProgress }) {
  const { phase, doneBytes, totalBytes } = progress;
  const measured = totalBytes > 0 && phase !== 'compile' && phase !== 'self-test';
  return (
    <div class="load-progress" data-testid="load-progress" data-phase={phase}>
      <progress
        aria-label="Loading the model"
        max={totalBytes || 1}
        {...(measured ? { value: doneBytes } : {})}
      />
      <span>
        {progressText(progress)}
        {rateText(progress)}
      </span>
      {(phase === 'download' || phase === 'paused') && (
        <button
          type="button"
          class="button quiet small"
          data-testid="pause-load"
          onClick={phase === 'paused' ? resumeLoad : pauseLoad}
        >
          {phase === 'paused' ? 'Resume' : 'Pause'}
        </button>
      )}
      <button type="button" class="button quiet small" data-testid="cancel-load" onClick={cancelLoad}>
        Cancel
      </button>
      {(phase === 'download' || phase === 'paused') && <Space />}
    </div>
  );
}

/** What the download takes of the storage, and where that is clearly too much, so. */
function Space() {
  const space = storageSpace.value;
  if (space === null) return null;
  const warning = spaceWarning(space);
  return (
    <p class="storage-space" data-testid="storage-space">
      {spaceText(space)} {warning && <strong>{warning}</strong>}
    </p>
  );
}

function rateText({ phase, doneBytes, totalBytes }: LoadProgress): string {
  const rate = loadBytesPerSecond.value;
  if (phase !== 'download' || rate === null) return '';
  return `, ${formatBytes(Math.round(rate))}/s, ${formatRemaining((totalBytes - doneBytes) / rate)}`;
}

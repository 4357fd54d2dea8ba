import type { LoadProgress } from '../../../workers/protocol';
import { formatBytes, formatRemaining } from '../format';
import { cancelLoad, loadBytesPerSecond, pauseLoad, progressText, resumeLoad } from '../state/model';

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
    </div>
  );
}

function rateText({ phase, doneBytes, totalBytes }: LoadProgress): string {
  const rate = loadBytesPerSecond.value;
  if (phase !== 'download' || rate === null) return '';
  return `, ${formatBytes(Math.round(rate))}/s, ${formatRemaining((totalBytes - doneBytes) / rate)}`;
}

import type { LoadProgress } from '../../../workers/protocol';
import { cancelLoad, progressText } from '../state/model';

/** How far loading is. Before the size is known, and while the GPU prepares, the bar only shows that work goes on. */
export function LoadProgressBar({ progress }: { readonly progress: LoadProgress }) {
  const { phase, doneBytes, totalBytes } = progress;
  const measured = totalBytes > 0 && phase !== 'compile';
  return (
    <div class="load-progress" data-testid="load-progress" data-phase={phase}>
      <progress
        aria-label="Loading the model"
        max={totalBytes || 1}
        {...(measured ? { value: doneBytes } : {})}
      />
      <span>{progressText(progress)}</span>
      <button type="button" class="button quiet small" data-testid="cancel-load" onClick={cancelLoad}>
        Cancel
      </button>
    </div>
  );
}

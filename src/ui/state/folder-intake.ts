/** Taking a model's folder from this computer, from wherever on the page it was dropped or chosen. */
import { signal } from '@preact/signals';
import { type FolderProgress, storeDropped } from './drop-folder';
import { loadUrl } from './model';
import { refreshLibrary } from './model-library';

/** How far the folder on its way in is; null when none is. */
export const intakeProgress = signal<FolderProgress | null>(null);
/** Why the last folder was refused. */
export const intakeProblem = signal<string | null>(null);

/** Checks and stores the folder that `files` resolves to, then loads it. Failures are told, not thrown. */
export async function takeFolder(files: Promise<readonly File[]>): Promise<void> {
  intakeProblem.value = null;
  try {
    const url = await storeDropped(await files, (now) => {
      intakeProgress.value = now;
    });
    await refreshLibrary();
    loadUrl(url);
  } catch (error) {
    intakeProblem.value = error instanceof Error ? error.message : String(error);
  } finally {
    intakeProgress.value = null;
  }
}

import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { formatBytes } from '../format';
import { droppedFiles, type FolderProgress, filesOfFolder, storeDropped } from '../state/drop-folder';
import { loadUrl } from '../state/model';
import { refreshLibrary } from '../state/model-library';

/** Takes a model's folder from this computer, dropped or chosen, into the browser's storage, and loads it. */
export function FolderDrop() {
  const over = useSignal(false);
  const progress = useSignal<FolderProgress | null>(null);
  const problem = useSignal<string | null>(null);
  const input = useRef<HTMLInputElement>(null);
  const take = async (files: Promise<File[]>) => {
    problem.value = null;
    try {
      const url = await storeDropped(await files, (now) => {
        progress.value = now;
      });
      await refreshLibrary();
      loadUrl(url);
    } catch (error) {
      problem.value = error instanceof Error ? error.message : String(error);
    } finally {
      progress.value = null;
    }
  };
  return (
    // biome-ignore lint/a11y/noStaticElementInteractions: dropping has the button inside as its equal
    <div
      class={over.value ? 'drop drop-over' : 'drop'}
      data-testid="folder-drop"
      onDragOver={(event) => {
        event.preventDefault();
        over.value = true;
      }}
      onDragLeave={() => {
        over.value = false;
      }}
      onDrop={(event) => {
        event.preventDefault();
        over.value = false;
        if (event.dataTransfer) take(droppedFiles(event.dataTransfer));
      }}
    >
      <p>
        Drop a prepared model’s folder here, or{' '}
        <button type="button" class="link" onClick={() => input.current?.click()}>
          choose it
        </button>
        . It is copied into the browser; nothing is uploaded.
      </p>
      {progress.value && (
        <p role="status">
          Checking and storing: {formatBytes(progress.value.doneBytes)} of{' '}
          {formatBytes(progress.value.totalBytes)}
        </p>
      )}
      {problem.value && (
        <p class="model-problem" role="alert">
          {problem.value}
        </p>
      )}
      <input
        ref={input}
        class="visually-hidden"
        type="file"
        tabIndex={-1}
        aria-label="Folder of a prepared model"
        data-testid="folder-input"
        {...{ webkitdirectory: true }}
        onChange={(event) => {
          const files = [...(event.currentTarget.files ?? [])];
          event.currentTarget.value = '';
          if (files.length > 0) take(Promise.resolve().then(() => filesOfFolder(files)));
        }}
      />
    </div>
  );
}

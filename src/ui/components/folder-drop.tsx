import { useSignal } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { formatBytes } from '../format';
import { filesOfFolder } from '../state/drop-folder';
import { intakeProblem, intakeProgress, takeFolder } from '../state/folder-intake';

/** Takes a model's folder from this computer, dropped or chosen, into the browser's storage, and loads it. */
export function FolderDrop() {
  const over = useSignal(false);
  const input = useRef<HTMLInputElement>(null);
  const progress = intakeProgress.value;
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
      onDrop={() => {
        over.value = false; // the page takes what was dropped
      }}
    >
      <p>
        Drop a prepared model’s folder here, or{' '}
        <button type="button" class="link" onClick={() => input.current?.click()}>
          choose it
        </button>
        . It is copied into the browser; nothing is uploaded.
      </p>
      <p>
        <code>npx mergequant prepare</code> makes such a folder from a Llama checkpoint.
      </p>
      {progress && (
        <p role="status">
          Checking and storing: {formatBytes(progress.doneBytes)} of {formatBytes(progress.totalBytes)}
        </p>
      )}
      {intakeProblem.value && (
        <p class="model-problem" role="alert">
          {intakeProblem.value}
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
          if (files.length > 0) takeFolder(Promise.resolve().then(() => filesOfFolder(files)));
        }}
      />
    </div>
  );
}

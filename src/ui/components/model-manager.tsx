import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { bytesText } from '../../gpu/bytes-text';
import { formatBytes } from '../format';
import { loadUrl, modelState, statusText } from '../state/model';
import { gpuLimits, libraryModels, refreshLibrary, storageEstimate } from '../state/model-library';
import { Dialog } from './dialog';
import { FolderDrop } from './folder-drop';
import { IconButton } from './icon-button';
import { LoadProgressBar } from './load-progress';
import { ModelRow } from './model-row';
import { LoadError } from './problems';

/** All models this page knows of: what they take, whether they are here, and ways to get more or to free space. */
export function ModelManager({ onClose }: { readonly onClose: () => void }) {
  useEffect(() => void refreshLibrary(), []);
  const state = modelState.value;
  return (
    <Dialog class="manager" labelledBy="manager-title" testId="manager" onClose={onClose}>
      <div class="panel-head">
        <h2 id="manager-title">Models</h2>
        <IconButton icon="close" label="Close the models" onClick={onClose} />
      </div>
      {state.kind === 'loading' && <LoadProgressBar progress={state.progress} />}
      <LoadError />
      <p class="visually-hidden" role="status">
        {state.kind === 'ready' ? `${state.info.name} is loaded` : statusText.value}
      </p>
      <ul class="model-list" data-testid="model-list">
        {libraryModels.value.map((model) => (
          <ModelRow key={model.url} model={model} />
        ))}
      </ul>
      <AddByUrl />
      <FolderDrop />
      <StorageLine />
    </Dialog>
  );
}

function AddByUrl() {
  const url = useSignal('');
  return (
    <form
      class="add-model"
      onSubmit={(event) => {
        event.preventDefault();
        loadUrl(url.value);
      }}
    >
      <label for="add-url">From an address</label>
      <div>
        <input
          id="add-url"
          class="field"
          type="url"
          required
          placeholder="https://…/model-folder/"
          data-testid="manager-url"
          value={url.value}
          onInput={(event) => {
            url.value = event.currentTarget.value;
          }}
        />
        <button type="submit" class="button">
          Load
        </button>
      </div>
    </form>
  );
}

/** What all of it takes, and what this GPU can bind. */
function StorageLine() {
  const estimate = storageEstimate.value;
  const limits = gpuLimits.value;
  const kept = estimate?.persistent
    ? 'kept until you delete it'
    : 'the browser may clear it when space runs out';
  return (
    <p class="notice" data-testid="storage-used">
      {estimate && `Storage used by this page: ${formatBytes(estimate.usedBytes)} (${kept}). `}
      {limits && `This GPU binds up to ${bytesText(limits.maxStorageBufferBindingSize)} at once.`}
    </p>
  );
}

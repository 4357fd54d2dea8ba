import { formatBytes } from '../format';
import {
  byUrl,
  catalog,
  loadSelected,
  otherModels,
  selectedId,
  selectionDiffers,
  typedUrl,
} from '../state/model';

/** Chooses a bundled model or an address, and loads it. */
export function ModelPicker() {
  const typing = selectedId.value === byUrl;
  return (
    <form
      class={typing ? 'picker picker-with-url' : 'picker'}
      onSubmit={(event) => {
        event.preventDefault();
        loadSelected();
      }}
    >
      <label class="visually-hidden" for="model">
        Model
      </label>
      <select
        id="model"
        class="field"
        data-testid="model-select"
        value={selectedId.value}
        onChange={(event) => {
          selectedId.value = event.currentTarget.value;
        }}
      >
        {catalog.value.map(({ id, name, bytes }) => (
          <option key={id} value={id}>
            {name} ({formatBytes(bytes)})
          </option>
        ))}
        {otherModels.value.map(({ url, name, storedBytes }) => (
          <option key={url} value={url}>
            {name} ({formatBytes(storedBytes)})
          </option>
        ))}
        <option value={byUrl}>From URL…</option>
      </select>
      {typing && (
        <input
          class="field picker-url"
          type="url"
          required
          aria-label="Address of the model's folder"
          placeholder="https://…/model-folder/"
          data-testid="model-url"
          value={typedUrl.value}
          onInput={(event) => {
            typedUrl.value = event.currentTarget.value;
          }}
        />
      )}
      <button type="submit" class={selectionDiffers.value ? 'button primary' : 'button'} data-testid="load">
        Load
      </button>
    </form>
  );
}

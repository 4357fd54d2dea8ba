import { formatBytes } from '../format';
import { deleteStored, storedModels } from '../state/model';
import { isPersistent, persistenceText } from '../state/storage-space';

/** What the browser keeps on this device, and a way to get rid of it. */
export function StoredModels() {
  const models = storedModels.value;
  if (models.length === 0) return null;
  return (
    <>
      <h3>Kept on this device</h3>
      <ul class="stored" data-testid="stored-models">
        {models.map(({ url, name, storedBytes, complete }) => (
          <li key={url}>
            <span title={url}>
              {name}, {formatBytes(storedBytes)}
              {complete ? '' : ' (incomplete)'}
            </span>
            <button
              type="button"
              class="button quiet small"
              aria-label={`Delete ${name} from this device`}
              onClick={() => deleteStored(url)}
            >
              Delete
            </button>
          </li>
        ))}
      </ul>
      {isPersistent.value !== null && (
        <p class="muted" data-testid="persistence">
          {persistenceText(isPersistent.value)}
        </p>
      )}
    </>
  );
}

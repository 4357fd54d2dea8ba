import { useSignal } from '@preact/signals';
import { bytesText } from '../../gpu/bytes-text';
import { formatBytes } from '../format';
import { loadedModel, loadUrl, modelState } from '../state/model';
import { fits, forgetModel, type LibraryModel, type ModelFit } from '../state/model-library';
import { ConfirmDialog } from './confirm-dialog';
import { IconButton } from './icon-button';

/** One model: what it takes, whether it fits and is here, and what can be done with it. */
export function ModelRow({ model }: { readonly model: LibraryModel }) {
  const { url, name, stored, source } = model;
  const fit = fits.value.get(url);
  const loaded = loadedModel.value?.url === url;
  return (
    <li class="model-row" data-testid="model-row" data-stored={stored}>
      <div class="model-words">
        <p class="model-name">
          {name} {loaded && <span class="tag tag-good">loaded</span>}
        </p>
        {source === 'added' && <p class="model-url-text">{url}</p>}
        <p class="model-facts-line">
          {facts(model, fit).map((text) => (
            <span key={text}>{text}</span>
          ))}
        </p>
        {typeof fit === 'string' && stored !== 'yes' && <p class="model-problem">Cannot be reached: {fit}</p>}
        {typeof fit === 'object' && fit.problem && <p class="model-problem">{fit.problem}</p>}
      </div>
      <div class="model-actions">
        {!loaded && (
          <button
            type="button"
            class="button small"
            aria-label={`${stored === 'partly' ? 'Resume' : 'Load'} ${name}`}
            disabled={modelState.value.kind === 'loading'}
            onClick={({ currentTarget }) => {
              currentTarget.closest('dialog')?.focus(); // this button goes
              loadUrl(url);
            }}
          >
            {stored === 'partly' ? 'Resume' : 'Load'}
          </button>
        )}
        {(stored !== 'no' || source !== 'bundled') && <DeleteModel model={model} />}
      </div>
    </li>
  );
}

function DeleteModel({ model: { url, name, source } }: { readonly model: LibraryModel }) {
  const confirming = useSignal(false);
  const again = source === 'dropped' ? 'It came from this computer and can be dropped again.' : '';
  return (
    <>
      <IconButton
        icon="trash"
        label={`Delete ${name} from this device`}
        onClick={() => {
          confirming.value = true;
        }}
      />
      {confirming.value && (
        <ConfirmDialog
          question={`Delete ${name} from this device? ${again || 'Loading it again downloads it again.'}`}
          action="Delete"
          onAnswer={(yes) => {
            confirming.value = false;
            if (yes) forgetModel(url);
          }}
        />
      )}
    </>
  );
}

function facts(model: LibraryModel, fit: ModelFit | string | undefined): string[] {
  const { bytes, stored, storedBytes, source } = model;
  const texts: string[] = [];
  const total = bytes ?? (stored === 'yes' ? storedBytes : null);
  if (total !== null) texts.push(formatBytes(total));
  if (typeof fit === 'object') {
    texts.push(fit.scheme, `${bytesText(fit.gpuBytes)} of GPU memory`);
    if (fit.fits !== null) texts.push(fit.fits ? 'fits this GPU’s limits' : 'too large for this GPU');
  }
  if (source === 'dropped') texts.push('from a folder');
  texts.push(
    { yes: 'on this device', partly: `${formatBytes(storedBytes)} on this device`, no: 'not downloaded' }[
      stored
    ],
  );
  return texts;
}

import { chosenKvCache, type KvCacheKind, kvCacheChoices } from '../../format/kv-cache';
import { bytesText } from '../../gpu/bytes-text';
import { loadedModel, reload } from '../state/model';
import { kvCache, persistentDecode } from '../state/preferences';

const kindNames: Readonly<Record<KvCacheKind, string>> = {
  f16: '16-bit floats',
  int8: '8-bit codes',
  int4: '4-bit codes',
};

/** How keys and values of past tokens are kept on the GPU, and what they take at the model's whole context. */
export function KvCacheChoice() {
  const model = loadedModel.value;
  const automatic = model && chosenKvCache('auto', model.contextLength, persistentDecode.value);
  return (
    <fieldset class="choice choice-lines" aria-describedby="kv-cache-hint">
      <legend>Memory of past tokens</legend>
      {kvCacheChoices.map((choice) => {
        const kind = choice === 'auto' ? automatic : choice;
        const name = choice === 'auto' ? 'Automatic' : kindNames[choice];
        return (
          <label key={choice}>
            <input
              type="radio"
              name="kv-cache"
              data-testid={`kv-cache-${choice}`}
              checked={kvCache.value === choice}
              onChange={() => {
                kvCache.value = choice;
                reload();
              }}
            />
            {choice === 'auto' && kind ? `${name}: ${kindNames[kind]}` : name}
            <span class="choice-figure">{model && kind && bytesText(model.kvCacheBytes[kind])}</span>
          </label>
        );
      })}
      <p class="setting-hint" id="kv-cache-hint">
        The KV cache. Fewer bits take less GPU memory and may change words of a reply; with long contexts
        8-bit codes are faster, too, and chosen automatically. Another choice loads the model again.
      </p>
    </fieldset>
  );
}

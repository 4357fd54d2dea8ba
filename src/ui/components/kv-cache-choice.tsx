import { type KvCacheKind, kvCacheKinds } from '../../format/kv-cache';
import { formatBytes } from '../format';
import { loadedModel, reload } from '../state/model';
import { kvCache } from '../state/preferences';

const kindNames: Readonly<Record<KvCacheKind, string>> = {
  f16: '16-bit floats',
  int8: '8-bit codes',
  int4: '4-bit codes',
};

/** How keys and values of past tokens are kept on the GPU, and what they take at the model's whole context. */
export function KvCacheChoice() {
  const bytes = loadedModel.value?.kvCacheBytes;
  return (
    <fieldset class="choice choice-lines" aria-describedby="kv-cache-hint">
      <legend>Memory of past tokens</legend>
      {kvCacheKinds.map((kind) => (
        <label key={kind}>
          <input
            type="radio"
            name="kv-cache"
            data-testid={`kv-cache-${kind}`}
            checked={kvCache.value === kind}
            onChange={() => {
              kvCache.value = kind;
              reload();
            }}
          />
          {kindNames[kind]}
          <span class="choice-figure">{bytes && formatBytes(bytes[kind])}</span>
        </label>
      ))}
      <p class="setting-hint" id="kv-cache-hint">
        The KV cache. Fewer bits take less GPU memory and may change words of a reply. Another choice loads
        the model again.
      </p>
    </fieldset>
  );
}

import { contextTokens } from '../state/conversation';
import { loadedModel } from '../state/model';

/** From here on the conversation will soon have to end. */
const nearlyFull = 0.85;

/** How much of the model's context the conversation takes. */
export function ContextMeter() {
  const limit = loadedModel.value?.contextLength;
  const used = contextTokens.value;
  if (!limit || used === 0) return null;
  const share = Math.min(1, used / limit);
  return (
    <p class={share > nearlyFull ? 'context context-full' : 'context'} data-testid="context-meter">
      <span class="context-bar" aria-hidden="true">
        <span style={{ width: `${Math.round(share * 100)}%` }} />
      </span>
      {used.toLocaleString('en')} of {limit.toLocaleString('en')} tokens
    </p>
  );
}

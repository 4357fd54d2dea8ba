import { useSignal } from '@preact/signals';
import type { View } from '../../../bench/view';
import { insightViews } from './insight';
import { ViewCard } from './result-view';
import { client, messageOf, modelUrl } from './state';

/** Looks into an artifact: the steps merged into its norms, before and after strong channels were split. */
export function InsightSection() {
  const views = useSignal<readonly View[] | null>(null);
  const message = useSignal<string | null>(null);
  const look = async () => {
    views.value = null;
    message.value = null;
    try {
      views.value = insightViews(await client.inspect(modelUrl.value));
      if (views.value.length === 0) message.value = 'This model has no norms with a merged static step.';
    } catch (error) {
      message.value = messageOf(error);
    }
  };
  return (
    <section aria-labelledby="insight-title">
      <h2 id="insight-title">What the model looks like inside</h2>
      <form
        class="bench-actions"
        onSubmit={(event) => {
          event.preventDefault();
          look();
        }}
      >
        <input
          class="field bench-url"
          type="url"
          aria-label="Address of an artifact"
          value={modelUrl.value}
          onChange={({ currentTarget }) => {
            modelUrl.value = currentTarget.value;
          }}
        />
        <button class="button" type="submit" data-testid="insight-show">
          Show
        </button>
      </form>
      {message.value !== null && <p class="notice">{message.value}</p>}
      {views.value?.map((view) => (
        <ViewCard key={view.id} view={view} />
      ))}
    </section>
  );
}

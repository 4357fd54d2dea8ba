import { useEffect } from 'preact/hooks';
import {
  type ComparedReply,
  compare,
  comparing,
  comparison,
  comparisonProblem,
  loadComparable,
  replies,
  stopComparing,
} from './comparison-state';
import { ModelOptions } from './model-options';
import { models } from './panel-models';
import { agreedTokens, agreementText, cutReply } from './reply-comparison';
import { activity } from './state';

/** The same prompt to two models, their replies side by side with the first differing token marked. */
export function ComparisonSection() {
  useEffect(() => {
    loadComparable();
  }, []);
  const busy = comparing.value !== null;
  const runnable = models.value.length > 0 && comparison.value.prompt.trim() !== '';
  return (
    <section aria-labelledby="comparison-title" class="bench-result">
      <h2 id="comparison-title">Two schemes, one prompt</h2>
      <form
        class="bench-form"
        onSubmit={(event) => {
          event.preventDefault();
          compare();
        }}
      >
        <ComparisonFields />
        <div class="bench-actions">
          <button
            class="button primary"
            type="submit"
            data-testid="comparison-run"
            disabled={busy || !runnable || activity.value.kind === 'running'}
          >
            Compare replies
          </button>
          {busy && (
            <button class="button" type="button" data-testid="comparison-stop" onClick={stopComparing}>
              Stop
            </button>
          )}
        </div>
      </form>
      <p role="status" aria-live="polite" data-testid="comparison-status">
        {comparing.value ?? (replies.value && agreement(replies.value))}
      </p>
      {comparisonProblem.value !== null && <p class="notice-error">{comparisonProblem.value}</p>}
      {replies.value && <Replies replies={replies.value} />}
    </section>
  );
}

function ComparisonFields() {
  const { urls, prompt, temperature, seed } = comparison.value;
  return (
    <div class="bench-fields">
      {(['First model', 'Second model'] as const).map((label, i) => (
        <label key={label}>
          {label}
          <select
            class="field"
            data-testid={`comparison-model-${i}`}
            value={urls[i]}
            onChange={({ currentTarget }) => {
              const chosen: [string, string] = [...urls];
              chosen[i] = currentTarget.value;
              comparison.value = { ...comparison.value, urls: chosen };
            }}
          >
            <ModelOptions />
          </select>
        </label>
      ))}
      <label class="comparison-prompt">
        Prompt
        <input
          class="field"
          data-testid="comparison-prompt"
          value={prompt}
          onInput={({ currentTarget }) => {
            comparison.value = { ...comparison.value, prompt: currentTarget.value };
          }}
        />
      </label>
      <NumberField
        name="temperature"
        label="Temperature (0: greedy)"
        value={temperature}
        step="0.1"
        most={2}
      />
      <NumberField name="seed" label="Seed" value={seed} step="1" most={2 ** 32 - 1} />
    </div>
  );
}

interface NumberFieldProps {
  readonly name: 'temperature' | 'seed';
  readonly label: string;
  readonly value: number;
  readonly step: string;
  readonly most: number;
}

function NumberField({ name, label, value, step, most }: NumberFieldProps) {
  return (
    <label>
      {label}
      <input
        class="field"
        type="number"
        min="0"
        max={most}
        step={step}
        value={value}
        onChange={({ currentTarget }) => {
          if (currentTarget.value !== '' && currentTarget.checkValidity())
            comparison.value = { ...comparison.value, [name]: currentTarget.valueAsNumber };
          else currentTarget.value = String(value);
        }}
      />
    </label>
  );
}

function agreement([first, second]: readonly [ComparedReply, ComparedReply]): string {
  return agreementText(first.tokens, second.tokens);
}

function Replies({
  replies: [first, second],
}: {
  readonly replies: readonly [ComparedReply, ComparedReply];
}) {
  const agreed = agreedTokens(first.tokens, second.tokens);
  return (
    <div class="comparison-replies">
      {[first, second].map((reply, i) => (
        <Reply key={`${i} ${reply.name}`} reply={reply} agreed={agreed} />
      ))}
    </div>
  );
}

function Reply({ reply, agreed }: { readonly reply: ComparedReply; readonly agreed: number }) {
  const cut = cutReply(reply.tokens, agreed);
  return (
    <article class="bench-card" data-testid="comparison-reply">
      <h3>{reply.name}</h3>
      <p class="comparison-text">
        {cut.agreed}
        {cut.differing && <mark data-testid="comparison-differing">{cut.differing.text}</mark>}
        {cut.rest}
      </p>
      {cut.differing && (
        <p class="muted">
          It gave the marked token a probability of {(100 * cut.differing.probability).toFixed(1)} %.
        </p>
      )}
      <p class="muted">{reply.measured ?? 'Its manifest states no perplexity.'}</p>
    </article>
  );
}

import { adapterName } from '../../../bench/figures';
import { ComparisonSection } from './comparison-section';
import { InsightSection } from './insight-section';
import { RequestForm } from './request-form';
import { ResultView } from './result-view';
import { activity, gpu, problem, result } from './state';

/** What the developer panel holds, in its own page and in the drawer: one press measures static against dynamic quantization. */
export function PanelContents() {
  const state = activity.value;
  return (
    <>
      <p class="muted">
        Dynamic quantization looks at every token to choose its step. Static quantization chose the steps
        beforehand and hides them in the norm in front. This panel measures what that saves here.
      </p>
      {state.kind !== 'unavailable' && (
        <p data-testid="bench-gpu">
          {gpu.value ? `Adapter: ${adapterName(gpu.value.adapter)}` : 'Looking for the adapter …'}
          {gpu.value?.caps.software && ' (computed on the CPU: figures say little about a GPU)'}
        </p>
      )}
      {state.kind === 'unavailable' ? (
        <p class="notice-error">{state.message}</p>
      ) : (
        <>
          <RequestForm />
          <p role="status" aria-live="polite" data-testid="bench-status" data-state={state.kind}>
            {state.kind === 'running' && `${state.step} (${state.figures} figures so far)`}
            {state.kind === 'idle' && result.value !== null && 'done'}
          </p>
          {problem.value !== null && <p class="notice-error">{problem.value}</p>}
          {result.value && <ResultView file={result.value} />}
          <ComparisonSection />
          <InsightSection />
        </>
      )}
    </>
  );
}

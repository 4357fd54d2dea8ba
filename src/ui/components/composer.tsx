import type { RefObject } from 'preact';
import { useLayoutEffect } from 'preact/hooks';
import { canSend, draft, generating, send, stop } from '../state/conversation';
import { modelState } from '../state/model';
import { ContextMeter } from './context-meter';

/** Where messages are written. Enter sends, Shift+Enter begins a line; an input method's Enter does neither. */
export function Composer({ inputRef }: { readonly inputRef: RefObject<HTMLTextAreaElement | null> }) {
  useLayoutEffect(() => {
    const input = inputRef.current;
    if (!input) return;
    input.style.height = 'auto';
    input.style.height = `${input.scrollHeight}px`;
  }, [draft.value]);
  const submit = () => {
    if (canSend.value) send(draft.value);
    inputRef.current?.focus();
  };
  return (
    <form
      class="composer"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <div class="composer-box">
        <label class="visually-hidden" for="composer">
          Message
        </label>
        <textarea
          id="composer"
          ref={inputRef}
          rows={1}
          data-testid="composer"
          placeholder="Write a message"
          enterkeyhint="send"
          value={draft.value}
          onInput={(event) => {
            draft.value = event.currentTarget.value;
          }}
          onKeyDown={(event) => {
            // Safari ends a composition before its Enter arrives; keyCode 229 still marks it.
            const composing = event.isComposing || event.keyCode === 229;
            if (event.key !== 'Enter' || event.shiftKey || composing) return;
            event.preventDefault();
            submit();
          }}
        />
        <SendOrStop onStopped={() => inputRef.current?.focus()} />
      </div>
      <div class="composer-foot">
        <Hint />
        <ContextMeter />
      </div>
    </form>
  );
}

function SendOrStop({ onStopped }: { readonly onStopped: () => void }) {
  if (!generating.value) {
    return (
      <button type="submit" class="button primary" data-testid="send" disabled={!canSend.value}>
        Send
      </button>
    );
  }
  return (
    <button
      type="button"
      class="button stop"
      data-testid="stop"
      onClick={() => {
        stop();
        onStopped();
      }}
    >
      Stop
    </button>
  );
}

function Hint() {
  const state = modelState.value;
  if (state.kind === 'ready') {
    return (
      <p class="composer-hint">
        Nothing leaves this device.{' '}
        <span class="composer-adapter">Runs on {adapterName(state.info.adapter)}.</span>
      </p>
    );
  }
  const idle = state.kind === 'failed' || state.kind === 'idle';
  return (
    <p class="composer-hint">
      {idle ? 'Load a model to chat with it.' : 'You can write while the model is loading.'}
    </p>
  );
}

function adapterName(adapter: { vendor: string; architecture: string; description: string }): string {
  const name = adapter.description || [adapter.vendor, adapter.architecture].filter(Boolean).join(' ');
  return name || 'your graphics processor';
}

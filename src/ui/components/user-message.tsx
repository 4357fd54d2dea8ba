import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { type Exchange, generating, resend } from '../state/conversation';
import { loadedModel } from '../state/model';
import { IconButton } from './icon-button';

/** What a person wrote: as text, exactly; and a way to say it differently. */
export function UserMessage({ exchange }: { readonly exchange: Exchange }) {
  const editing = useSignal(false);
  const button = useRef<HTMLButtonElement>(null);
  const done = (isSent: boolean) => {
    editing.value = false;
    if (!isSent) requestAnimationFrame(() => button.current?.focus());
  };
  if (editing.value) return <MessageEditor exchange={exchange} onDone={done} />;
  return (
    <div class="message-user">
      <IconButton
        buttonRef={button}
        icon="edit"
        label="Edit and send again"
        testId="edit"
        disabled={generating.value || loadedModel.value === null}
        onClick={() => {
          editing.value = true;
        }}
      />
      <span class="visually-hidden">You: </span>
      <span class="message-text" data-testid="message-user">
        {exchange.user}
      </span>
    </div>
  );
}

interface MessageEditorProps {
  readonly exchange: Exchange;
  readonly onDone: (isSent: boolean) => void;
}

function MessageEditor({ exchange, onDone }: MessageEditorProps) {
  const text = useSignal(exchange.user);
  const field = useRef<HTMLTextAreaElement>(null);
  useLayoutEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(text.value.length, text.value.length);
  }, []);
  const submit = () => {
    if (text.value.trim() === '') return;
    onDone(true);
    resend(exchange, text.value);
    document.getElementById('composer')?.focus();
  };
  return (
    <form
      class="message-editor"
      onSubmit={(event) => {
        event.preventDefault();
        submit();
      }}
    >
      <textarea
        ref={field}
        class="field"
        rows={3}
        aria-label="Your message"
        data-testid="edit-field"
        value={text.value}
        onInput={(event) => {
          text.value = event.currentTarget.value;
        }}
        onKeyDown={(event) => {
          if (event.isComposing || event.keyCode === 229) return;
          if (event.key === 'Escape') {
            event.preventDefault();
            onDone(false);
          } else if (event.key === 'Enter' && !event.shiftKey) {
            event.preventDefault();
            submit();
          }
        }}
      />
      <p class="setting-hint">What was said after this message is dropped.</p>
      <div class="dialog-actions">
        <button type="button" class="button small" onClick={() => onDone(false)}>
          Cancel
        </button>
        <button type="submit" class="button primary small" disabled={text.value.trim() === ''}>
          Send
        </button>
      </div>
    </form>
  );
}

import { useSignal } from '@preact/signals';
import { useLayoutEffect, useRef } from 'preact/hooks';
import { activeChat, type Chat, openChat, removeChat, renameChat } from '../state/chats';
import { stop, writingChat } from '../state/conversation';
import { ConfirmDialog } from './confirm-dialog';
import { IconButton } from './icon-button';

interface ChatItemProps {
  readonly chat: Chat;
  readonly onOpened: () => void;
  readonly onRemoved: () => void;
}

/** One conversation in the list: opens it, renames it, deletes it. */
export function ChatItem({ chat, onOpened, onRemoved }: ChatItemProps) {
  const renaming = useSignal(false);
  const confirming = useSignal(false);
  const renameButton = useRef<HTMLButtonElement>(null);
  const title = chat.title.value;
  if (renaming.value) {
    return (
      <li class="chat-item">
        <TitleField
          title={title}
          onDone={(text, byKey) => {
            renaming.value = false;
            if (text !== null) renameChat(chat, text);
            if (byKey) requestAnimationFrame(() => renameButton.current?.focus());
          }}
        />
      </li>
    );
  }
  const active = activeChat.value === chat;
  return (
    <li class={active ? 'chat-item chat-item-active' : 'chat-item'} data-testid="chat-item">
      <button
        type="button"
        class="chat-open"
        aria-current={active ? 'true' : undefined}
        title={title}
        onClick={() => {
          openChat(chat);
          onOpened();
        }}
      >
        {title}
        {writingChat.value === chat && <span class="visually-hidden"> (reply being written)</span>}
      </button>
      <span class="chat-tools">
        <IconButton
          buttonRef={renameButton}
          icon="edit"
          label={`Rename ${title}`}
          onClick={() => {
            renaming.value = true;
          }}
        />
        <IconButton
          icon="trash"
          label={`Delete ${title}`}
          onClick={() => {
            confirming.value = true;
          }}
        />
      </span>
      {confirming.value && (
        <ConfirmDialog
          question={`Delete “${title}”?`}
          action="Delete"
          onAnswer={(yes) => {
            confirming.value = false;
            if (!yes) return;
            if (writingChat.value === chat) stop();
            removeChat(chat);
            onRemoved();
          }}
        />
      )}
    </li>
  );
}

interface TitleFieldProps {
  readonly title: string;
  /** null when the change is given up; `byKey` when a key ended it, not a click elsewhere. */
  readonly onDone: (text: string | null, byKey: boolean) => void;
}

function TitleField({ title, onDone }: TitleFieldProps) {
  const input = useRef<HTMLInputElement>(null);
  useLayoutEffect(() => input.current?.select(), []);
  return (
    <input
      ref={input}
      class="field chat-title"
      aria-label="Name of the chat"
      data-testid="chat-title"
      defaultValue={title}
      onBlur={(event) => onDone(event.currentTarget.value, false)}
      onKeyDown={(event) => {
        if (event.isComposing) return;
        if (event.key !== 'Enter' && event.key !== 'Escape') return;
        event.preventDefault();
        onDone(event.key === 'Enter' ? event.currentTarget.value : null, true);
      }}
    />
  );
}

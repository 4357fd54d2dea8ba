import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { useFocusReturn } from '../focus-return';
import { shortcutText } from '../shortcuts';
import { announce } from '../state/announcement';
import {
  chatCount,
  chatStorageProblem,
  exportChats,
  importChats,
  listedChats,
  query,
  removeAllChats,
} from '../state/chats';
import { stop } from '../state/conversation';
import { showSidebar, sidebarHasPlace } from '../state/preferences';
import { ChatItem } from './chat-item';
import { ConfirmDialog } from './confirm-dialog';
import { IconButton } from './icon-button';

/** The conversations of this browser. Over the chat, not beside it, where there is no room for both. */
export function Sidebar({ onOpened }: { readonly onOpened: () => void }) {
  const sidebar = useRef<HTMLElement>(null);
  const search = useRef<HTMLInputElement>(null);
  useFocusReturn(sidebar);
  const covering = !sidebarHasPlace.value;
  useEffect(() => {
    if (covering) search.current?.focus();
  }, [covering]);
  const close = () => showSidebar(false);
  const focusSidebar = () => requestAnimationFrame(() => sidebar.current?.focus()); // behind the dialog that asked
  return (
    <>
      {/* biome-ignore lint/a11y/noStaticElementInteractions lint/a11y/useKeyWithClickEvents: Esc and a button do the same */}
      <div class="sidebar-backdrop" onClick={close} />
      <aside
        ref={sidebar}
        class="sidebar"
        id="chats"
        aria-label="Chats"
        tabIndex={-1} // takes the focus when the chat that had it is deleted
        onKeyDown={(event) => {
          if (event.key !== 'Escape' || !covering) return;
          event.preventDefault();
          close();
        }}
      >
        <div class="sidebar-head">
          <input
            ref={search}
            id="chat-search"
            class="field"
            type="search"
            aria-label="Search chats"
            placeholder="Search chats"
            title={shortcutText.search}
            data-testid="chat-search"
            value={query.value}
            onInput={(event) => {
              query.value = event.currentTarget.value;
            }}
          />
          <span class="sidebar-close">
            <IconButton icon="close" label="Close the list of chats" onClick={close} />
          </span>
        </div>
        <ChatList
          onOpened={() => {
            if (covering) close();
            onOpened();
          }}
          onRemoved={focusSidebar}
        />
        {chatStorageProblem.value && (
          <p class="notice notice-error">Chats are not kept: {chatStorageProblem.value}.</p>
        )}
        <SidebarTools onRemoved={focusSidebar} />
      </aside>
    </>
  );
}

interface ChatListProps {
  readonly onOpened: () => void;
  readonly onRemoved: () => void;
}

function ChatList(props: ChatListProps) {
  const chats = listedChats.value;
  if (chats.length === 0) {
    return (
      <p class="notice sidebar-empty">
        {chatCount.value === 0
          ? 'Your chats will be listed here. They are kept in this browser and nowhere else.'
          : 'No chat has these words.'}
      </p>
    );
  }
  return (
    <ul class="chat-list" data-testid="chat-list">
      {chats.map((chat) => (
        <ChatItem key={chat.id} chat={chat} {...props} />
      ))}
    </ul>
  );
}

/** Export, import, delete all. */
function SidebarTools({ onRemoved }: Pick<ChatListProps, 'onRemoved'>) {
  const confirming = useSignal(false);
  const problem = useSignal<string | null>(null);
  const file = useRef<HTMLInputElement>(null);
  return (
    <div class="sidebar-tools">
      {problem.value && (
        <p class="notice notice-error" role="alert">
          {problem.value}
        </p>
      )}
      <button
        type="button"
        class="button quiet small"
        data-testid="export-chats"
        disabled={chatCount.value === 0}
        onClick={() => download(exportChats(), 'mergequant-chats.json')}
      >
        Export
      </button>
      <button type="button" class="button quiet small" onClick={() => file.current?.click()}>
        Import
      </button>
      <input
        ref={file}
        class="visually-hidden"
        type="file"
        accept="application/json,.json"
        aria-label="File of exported chats"
        tabIndex={-1}
        data-testid="import-chats"
        onChange={async (event) => {
          problem.value = await importFile(event.currentTarget);
        }}
      />
      <button
        type="button"
        class="button quiet small"
        data-testid="delete-all-chats"
        disabled={chatCount.value === 0}
        onClick={() => {
          confirming.value = true;
        }}
      >
        Delete all
      </button>
      {confirming.value && (
        <ConfirmDialog
          question={`Delete ${chatCount.value === 1 ? 'the chat' : `all ${chatCount.value} chats`}? They are in no other place.`}
          action="Delete all"
          onAnswer={(yes) => {
            confirming.value = false;
            if (!yes) return;
            stop();
            removeAllChats();
            onRemoved();
          }}
        />
      )}
    </div>
  );
}

/** What went wrong, in words; null when nothing did. */
async function importFile(input: HTMLInputElement): Promise<string | null> {
  const [file] = input.files ?? [];
  if (!file) return null;
  try {
    const count = await importChats(await file.text());
    announce(count === 1 ? '1 chat imported' : `${count} chats imported`);
    return null;
  } catch (error) {
    return `${file.name}: ${error instanceof Error ? error.message : error}`;
  } finally {
    input.value = ''; // so that the same file can be chosen again
  }
}

/** Hands `text` to the browser as a file to save. */
function download(text: string, name: string): void {
  const url = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

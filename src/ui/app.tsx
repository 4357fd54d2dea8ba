import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { Announcer } from './components/announcer';
import { Composer } from './components/composer';
import { Header, type Side } from './components/header';
import { LoadProgressBar } from './components/load-progress';
import { MeasureDrawer } from './components/measure-drawer';
import { ModelManager } from './components/model-manager';
import { LoadError, Unavailable } from './components/problems';
import { SettingsPanel } from './components/settings-panel';
import { Sidebar } from './components/sidebar';
import { Transcript } from './components/transcript';
import { Welcome } from './components/welcome';
import { usePageDrop } from './page-drop';
import { useShortcuts } from './shortcuts';
import { exchanges, generating, newChat, send, stop } from './state/conversation';
import { loadedModel, modelState } from './state/model';
import { showSidebar, sidebarOpen } from './state/preferences';

const sideClasses: Readonly<Record<Side, string>> = {
  none: '',
  settings: ' page-with-panel',
  measure: ' page-with-drawer',
};

/** The page: a header, chats at the left, the conversation over the composer, settings or measurements at the right. */
export function App() {
  const side = useSignal<Side>('none');
  const managerOpen = useSignal(false);
  const composer = useRef<HTMLTextAreaElement>(null);
  const focusComposer = () => composer.current?.focus();
  const startNewChat = () => {
    newChat();
    focusComposer();
  };
  const close = () => {
    side.value = 'none';
  };
  useShortcuts({
    // Esc ends the reply; when none is being written it closes what is beside the chat.
    escape: () => (generating.value ? stop() : close()),
    newChat: startNewChat,
    search: () => {
      showSidebar(true);
      requestAnimationFrame(() => document.getElementById('chat-search')?.focus());
    },
  });
  usePageDrop(() => {
    managerOpen.value = true;
  });
  useFocusAfterReply(focusComposer);
  useEffect(() => {
    // Where a keyboard is at hand; on a phone it would cover half of the page.
    if (matchMedia('(pointer: fine)').matches) focusComposer();
  }, []);
  const state = modelState.value;
  if (state.kind === 'unavailable') return <Unavailable report={state.report} />;
  const empty = exchanges.value.length === 0;
  const sides = `${sidebarOpen.value ? ' page-with-sidebar' : ''}${sideClasses[side.value]}`;
  return (
    <div class={`page${sides}`}>
      <Header
        side={side.value}
        onToggleSide={(wanted) => {
          side.value = side.value === wanted ? 'none' : wanted;
        }}
        onOpenManager={() => {
          managerOpen.value = true;
        }}
        onNewChat={startNewChat}
      />
      {sidebarOpen.value && <Sidebar onOpened={focusComposer} />}
      <main class="chat">
        {state.kind === 'loading' && <LoadProgressBar progress={state.progress} />}
        <LoadError />
        {empty ? (
          <Welcome
            onPick={(text) => {
              focusComposer();
              if (loadedModel.value) send(text);
            }}
          />
        ) : (
          <Transcript onNewChat={focusComposer} />
        )}
        <Composer inputRef={composer} />
      </main>
      {side.value === 'settings' && <SettingsPanel onClose={close} />}
      {side.value === 'measure' && <MeasureDrawer onClose={close} />}
      {managerOpen.value && (
        <ModelManager
          onClose={() => {
            managerOpen.value = false;
          }}
        />
      )}
      <Announcer />
    </div>
  );
}

/** When a reply ends while nothing else has the focus (Stop just vanished under it), typing goes on in the composer. */
function useFocusAfterReply(focusComposer: () => void): void {
  const busy = generating.value;
  const was = useRef(busy);
  useEffect(() => {
    const ended = was.current && !busy;
    was.current = busy;
    if (ended && document.activeElement === document.body && matchMedia('(pointer: fine)').matches) {
      focusComposer();
    }
  }, [busy]);
}

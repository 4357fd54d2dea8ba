import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { Composer } from './components/composer';
import { Header } from './components/header';
import { LoadProgressBar } from './components/load-progress';
import { LoadError, Unavailable } from './components/problems';
import { SettingsPanel } from './components/settings-panel';
import { Transcript } from './components/transcript';
import { Welcome } from './components/welcome';
import { exchanges, generating, send, stop } from './state/conversation';
import { loadedModel, modelState } from './state/model';

/** The page: a header, the conversation over the composer, and the settings beside them. */
export function App() {
  const panelOpen = useSignal(false);
  const composer = useRef<HTMLTextAreaElement>(null);
  const focusComposer = () => composer.current?.focus();
  useEscape(panelOpen.value, () => {
    panelOpen.value = false;
  });
  useFocusAfterReply(focusComposer);
  const state = modelState.value;
  if (state.kind === 'unavailable') return <Unavailable report={state.report} />;
  const empty = exchanges.value.length === 0;
  return (
    <div class={panelOpen.value ? 'page page-with-panel' : 'page'}>
      <Header
        panelOpen={panelOpen.value}
        onTogglePanel={() => {
          panelOpen.value = !panelOpen.value;
        }}
        onNewChat={focusComposer}
      />
      <main class="chat">
        {state.kind === 'loading' && <LoadProgressBar progress={state.progress} />}
        {state.kind === 'failed' && <LoadError message={state.message} />}
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
      {panelOpen.value && (
        <SettingsPanel
          onClose={() => {
            panelOpen.value = false;
          }}
        />
      )}
    </div>
  );
}

/** Esc ends the reply; when none is being written it closes the panel. */
function useEscape(panelOpen: boolean, closePanel: () => void): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      if (event.key !== 'Escape' || event.isComposing) return;
      if (generating.value) stop();
      else if (panelOpen) closePanel();
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  });
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

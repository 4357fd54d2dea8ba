import { exchanges, newChat } from '../state/conversation';
import { modelState, statusText } from '../state/model';
import { ModelPicker } from './model-picker';

interface HeaderProps {
  readonly panelOpen: boolean;
  readonly onTogglePanel: () => void;
  readonly onNewChat: () => void;
}

export function Header({ panelOpen, onTogglePanel, onNewChat }: HeaderProps) {
  return (
    <header class="header">
      <h1 class="wordmark">
        MergeQuant <span>Web</span>
      </h1>
      <ModelPicker />
      <p class={`status status-${modelState.value.kind}`} role="status" aria-live="polite">
        <span class="status-dot" aria-hidden="true" />
        <span data-testid="status">{statusText.value}</span>
      </p>
      <div class="header-actions">
        <button
          type="button"
          class="button quiet"
          data-testid="new-chat"
          disabled={exchanges.value.length === 0}
          onClick={() => {
            newChat();
            onNewChat();
          }}
        >
          New chat
        </button>
        <button
          type="button"
          class="button quiet"
          data-testid="settings-toggle"
          aria-expanded={panelOpen}
          aria-controls="settings"
          onClick={onTogglePanel}
        >
          Settings
        </button>
      </div>
    </header>
  );
}

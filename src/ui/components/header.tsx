import { shortcutText } from '../shortcuts';
import { exchanges } from '../state/conversation';
import { modelState, statusText } from '../state/model';
import { sidebarOpen } from '../state/preferences';
import { Icon } from './icons';
import { ModelPicker } from './model-picker';

interface HeaderProps {
  readonly panelOpen: boolean;
  readonly onTogglePanel: () => void;
  readonly onOpenManager: () => void;
  readonly onNewChat: () => void;
}

export function Header({ panelOpen, onTogglePanel, onOpenManager, onNewChat }: HeaderProps) {
  return (
    <header class="header">
      <button
        type="button"
        class="icon-button"
        data-testid="sidebar-toggle"
        aria-label="Chats"
        title="Chats"
        aria-expanded={sidebarOpen.value}
        aria-controls="chats"
        onClick={() => {
          sidebarOpen.value = !sidebarOpen.value;
        }}
      >
        <Icon name="menu" />
      </button>
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
          title={shortcutText.newChat}
          disabled={exchanges.value.length === 0}
          onClick={onNewChat}
        >
          <Icon name="plus" />
          <span>New chat</span>
        </button>
        <button type="button" class="button quiet" data-testid="manager-open" onClick={onOpenManager}>
          <Icon name="models" />
          <span>Models</span>
        </button>
        <a class="button quiet" href="panel.html" data-testid="panel-link" title="Measure this GPU">
          <Icon name="gauge" />
          <span>Measure</span>
        </a>
        <button
          type="button"
          class="button quiet"
          data-testid="settings-toggle"
          aria-expanded={panelOpen}
          aria-controls="settings"
          onClick={onTogglePanel}
        >
          <Icon name="settings" />
          <span>Settings</span>
        </button>
      </div>
    </header>
  );
}

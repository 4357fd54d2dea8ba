import { shortcutText } from '../shortcuts';
import { exchanges } from '../state/conversation';
import { modelState, statusText } from '../state/model';
import { showSidebar, sidebarOpen } from '../state/preferences';
import { Icon } from './icons';
import { ModelPicker } from './model-picker';

export type Side = 'none' | 'settings' | 'measure';

interface HeaderProps {
  /** What is open beside the chat. */
  readonly side: Side;
  readonly onToggleSide: (side: Exclude<Side, 'none'>) => void;
  readonly onOpenManager: () => void;
  readonly onNewChat: () => void;
}

export function Header({ side, onToggleSide, onOpenManager, onNewChat }: HeaderProps) {
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
        onClick={() => showSidebar(!sidebarOpen.value)}
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
        <SideToggle side="measure" open={side} onToggle={onToggleSide} title="Measure this GPU" />
        <SideToggle side="settings" open={side} onToggle={onToggleSide} />
      </div>
    </header>
  );
}

const sides = {
  measure: { icon: 'gauge', text: 'Measure' },
  settings: { icon: 'settings', text: 'Settings' },
} as const;

interface SideToggleProps {
  readonly side: keyof typeof sides;
  /** What is open now. */
  readonly open: Side;
  readonly onToggle: HeaderProps['onToggleSide'];
  readonly title?: string;
}

/** Opens or closes what is beside the chat. */
function SideToggle({ side, open, onToggle, title }: SideToggleProps) {
  const { icon, text } = sides[side];
  return (
    <button
      type="button"
      class="button quiet"
      data-testid={`${side}-toggle`}
      title={title}
      aria-expanded={open === side}
      aria-controls={side}
      onClick={() => onToggle(side)}
    >
      <Icon name={icon} />
      <span>{text}</span>
    </button>
  );
}

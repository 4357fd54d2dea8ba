import type { RefObject } from 'preact';
import { Icon, type IconName } from './icons';

interface IconButtonProps {
  readonly icon: IconName;
  /** Read aloud, and shown on hovering. */
  readonly label: string;
  readonly onClick: () => void;
  readonly testId?: string;
  readonly disabled?: boolean;
  readonly buttonRef?: RefObject<HTMLButtonElement | null>;
}

export function IconButton({ icon, label, onClick, testId, disabled, buttonRef }: IconButtonProps) {
  return (
    <button
      ref={buttonRef}
      type="button"
      class="icon-button"
      aria-label={label}
      title={label}
      disabled={disabled}
      data-testid={testId}
      onClick={onClick}
    >
      <Icon name={icon} />
    </button>
  );
}

import { Dialog } from './dialog';

interface ConfirmDialogProps {
  readonly question: string;
  /** What the button that goes ahead says. */
  readonly action: string;
  readonly onAnswer: (yes: boolean) => void;
}

/** Asks before something is lost. */
export function ConfirmDialog({ question, action, onAnswer }: ConfirmDialogProps) {
  return (
    <Dialog class="confirm" labelledBy="confirm-question" testId="confirm" onClose={() => onAnswer(false)}>
      <p id="confirm-question">{question}</p>
      <div class="dialog-actions">
        <button type="button" class="button" onClick={() => onAnswer(false)}>
          Cancel
        </button>
        <button type="button" class="button danger" data-testid="confirm-yes" onClick={() => onAnswer(true)}>
          {action}
        </button>
      </div>
    </Dialog>
  );
}

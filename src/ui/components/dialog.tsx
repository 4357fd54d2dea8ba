import type { ComponentChildren } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';

interface DialogProps {
  readonly class: string;
  readonly labelledBy: string;
  readonly onClose: () => void;
  readonly testId?: string;
  readonly children: ComponentChildren;
}

/** A modal dialog of the browser's own: it keeps the focus inside, Esc closes it, and the focus goes back after. */
export function Dialog({ class: name, labelledBy, onClose, testId, children }: DialogProps) {
  const dialog = useRef<HTMLDialogElement>(null);
  useLayoutEffect(() => {
    const element = dialog.current;
    const before = document.activeElement;
    element?.showModal();
    return () => {
      element?.close();
      if (before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
  return (
    // biome-ignore lint/a11y/useKeyWithClickEvents: the browser closes a dialog on Esc; this is for clicks beside it
    <dialog
      ref={dialog}
      tabIndex={-1} // takes the focus when what had it inside is gone
      class={`dialog ${name}`}
      aria-labelledby={labelledBy}
      data-testid={testId}
      onCancel={(event) => {
        event.preventDefault();
        onClose();
      }}
      onClick={(event) => {
        if (event.target === dialog.current) onClose();
      }}
    >
      <div class="dialog-body">{children}</div>
    </dialog>
  );
}

/** The page's keys, wherever the focus is. */
import { useEffect } from 'preact/hooks';

interface ShortcutActions {
  readonly escape: () => void;
  readonly newChat: () => void;
  readonly search: () => void;
}

/** Ctrl on most keyboards, Cmd on a Mac's; as `aria-keyshortcuts` and as people read it. */
const isMac = /Mac|iPhone|iPad/.test(globalThis.navigator?.platform ?? '');
export const shortcutText = isMac
  ? { newChat: '⇧⌘O', search: '⌘K' }
  : { newChat: 'Ctrl+Shift+O', search: 'Ctrl+K' };

export function useShortcuts(actions: ShortcutActions): void {
  useEffect(() => {
    const onKey = (event: KeyboardEvent) => {
      // A dialog has keys of its own; what a component has handled is done.
      if (event.isComposing || event.defaultPrevented || document.querySelector('dialog[open]')) return;
      const action = actionOf(event, actions);
      if (!action) return;
      if (event.key !== 'Escape') event.preventDefault();
      action();
    };
    document.addEventListener('keydown', onKey);
    return () => document.removeEventListener('keydown', onKey);
  });
}

function actionOf(event: KeyboardEvent, actions: ShortcutActions): (() => void) | null {
  if (event.key === 'Escape') return actions.escape;
  const modified = (isMac ? event.metaKey : event.ctrlKey) && !event.altKey;
  const key = event.key.toLowerCase();
  if (modified && event.shiftKey && key === 'o') return actions.newChat;
  if (modified && !event.shiftKey && key === 'k') return actions.search;
  return null;
}

import './panel-page.css';
import { useEffect, useRef } from 'preact/hooks';
import { useFocusReturn } from '../focus-return';
import { PanelContents } from './panel-contents';
import { activity, start } from './state';

/** The developer panel beside the chat; what it measured stays when it is closed. */
export function PanelDrawer({ onClose }: { readonly onClose: () => void }) {
  const drawer = useRef<HTMLElement>(null);
  const closeButton = useRef<HTMLButtonElement>(null);
  useFocusReturn(drawer);
  useEffect(() => {
    closeButton.current?.focus();
    if (activity.value.kind === 'probing') start();
  }, []);
  return (
    <aside ref={drawer} class="drawer" id="measure" aria-label="Measurements">
      <div class="panel-head">
        <h2>Static against dynamic</h2>
        <div class="drawer-actions">
          <a class="button quiet" href="panel.html" data-testid="panel-link">
            As a page
          </a>
          <button ref={closeButton} type="button" class="button quiet" onClick={onClose}>
            Close
          </button>
        </div>
      </div>
      <div class="drawer-contents">
        <PanelContents />
      </div>
    </aside>
  );
}

import { useSignal } from '@preact/signals';
import type { ComponentType } from 'preact';
import { useEffect } from 'preact/hooks';

interface DrawerProps {
  readonly onClose: () => void;
}

/** The developer panel, whose code and charts are fetched when it is first opened. */
export function MeasureDrawer({ onClose }: DrawerProps) {
  const drawer = useSignal<{ readonly Drawer: ComponentType<DrawerProps> } | null>(null);
  const problem = useSignal(false);
  useEffect(() => {
    import('../panel/drawer').then(
      ({ PanelDrawer }) => {
        drawer.value = { Drawer: PanelDrawer };
      },
      () => {
        problem.value = true;
      },
    );
  }, []);
  if (drawer.value) return <drawer.value.Drawer onClose={onClose} />;
  return (
    <aside class="drawer" id="measure" aria-label="Measurements" aria-busy={!problem.value}>
      {problem.value && (
        <p class="notice-error" role="alert">
          The panel could not be loaded. Is there a network?{' '}
          <button type="button" class="link" onClick={onClose}>
            Close
          </button>
        </p>
      )}
    </aside>
  );
}

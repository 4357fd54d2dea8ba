import type { RefObject } from 'preact';
import { useLayoutEffect } from 'preact/hooks';

/** When `region` goes with the focus inside it, the focus goes back to where it was when the region came. */
export function useFocusReturn(region: RefObject<HTMLElement | null>): void {
  useLayoutEffect(() => {
    const element = region.current;
    const before = document.activeElement;
    return () => {
      const inside = element?.contains(document.activeElement);
      if (inside && before instanceof HTMLElement && before.isConnected) before.focus();
    };
  }, []);
}

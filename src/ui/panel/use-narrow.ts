import { useSignal } from '@preact/signals';
import type { RefObject } from 'preact';
import { useLayoutEffect, useRef } from 'preact/hooks';

/** Whether the element that gets `box` is narrower than `pixels`, now and after every change. */
export function useNarrow<E extends HTMLElement>(
  pixels: number,
): { box: RefObject<E | null>; narrow: boolean } {
  const box = useRef<E>(null);
  const narrow = useSignal(false);
  useLayoutEffect(() => {
    if (!box.current) return;
    const observer = new ResizeObserver(([entry]) => {
      narrow.value = entry!.contentRect.width < pixels;
    });
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  return { box, narrow: narrow.value };
}

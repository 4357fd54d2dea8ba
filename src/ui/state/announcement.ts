/** What a screen reader says without the focus moving: finished replies, and what a button did. */
import { signal } from '@preact/signals';

export const announcement = signal('');

/** Says `text`, again if it was the last thing said. */
export function announce(text: string): void {
  announcement.value = announcement.value === text ? `${text}\u00a0` : text;
}

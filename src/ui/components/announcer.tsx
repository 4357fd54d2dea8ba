import { announcement } from '../state/announcement';

/** Tells screen readers what happened, once: a reply when it is finished, not token by token. */
export function Announcer() {
  return (
    <div class="visually-hidden" role="status" aria-live="polite" data-testid="announcer">
      {announcement.value}
    </div>
  );
}

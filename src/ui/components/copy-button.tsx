import { useSignal } from '@preact/signals';
import { useEffect } from 'preact/hooks';
import { announce } from '../state/announcement';
import { IconButton } from './icon-button';

const shownMs = 1500;

/** Copies `text`; a check mark says for a moment that it did. */
export function CopyButton({ text, label }: { readonly text: string; readonly label: string }) {
  const copied = useSignal(false);
  useEffect(() => {
    if (!copied.value) return;
    const timer = setTimeout(() => {
      copied.value = false;
    }, shownMs);
    return () => clearTimeout(timer);
  }, [copied.value]);
  return (
    <IconButton
      icon={copied.value ? 'check' : 'copy'}
      label={label}
      testId="copy"
      onClick={async () => {
        try {
          await navigator.clipboard.writeText(text);
          copied.value = true;
          announce('Copied');
        } catch {
          announce('The browser did not allow copying');
        }
      }}
    />
  );
}

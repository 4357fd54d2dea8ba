import { useSignalEffect } from '@preact/signals';
import { useRef } from 'preact/hooks';
import { exchanges } from '../state/conversation';
import { AssistantMessage } from './assistant-message';
import { UserMessage } from './user-message';

/** Closer to the end than this counts as being at the end. */
const endPixels = 48;

/** The conversation. It follows the reply as it grows, unless the reader has scrolled up. */
export function Transcript({ onNewChat }: { readonly onNewChat: () => void }) {
  const box = useRef<HTMLDivElement>(null);
  const following = useRef(true);
  const count = useRef(0);
  useSignalEffect(() => {
    const list = exchanges.value;
    list.at(-1)?.reply.value; // a growing reply runs this again
    if (list.length !== count.current) following.current = true;
    count.current = list.length;
    if (following.current)
      requestAnimationFrame(() => box.current?.scrollTo({ top: box.current.scrollHeight }));
  });
  return (
    <div
      class="transcript"
      ref={box}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable with the keyboard
      tabIndex={0}
      role="log"
      aria-live="off" // the announcer reads each reply once, when it is finished
      aria-label="Conversation"
      onScroll={({ currentTarget: { scrollHeight, scrollTop, clientHeight } }) => {
        following.current = scrollHeight - scrollTop - clientHeight < endPixels;
      }}
    >
      <ol class="turns">
        {exchanges.value.map((exchange, index) => (
          <li key={exchange.id} class="turn">
            <UserMessage exchange={exchange} />
            <AssistantMessage
              reply={exchange.reply}
              model={exchange.model}
              first={index === 0}
              last={index === exchanges.value.length - 1}
              onNewChat={onNewChat}
            />
          </li>
        ))}
      </ol>
    </div>
  );
}

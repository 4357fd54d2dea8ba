import type { ChatCompletionMessage } from 'mergequant-web';
import { type FormEvent, useRef, useState } from 'react';
import { useEngine } from './use-engine';

/** A conversation with the model at `model`. */
export function Chat({ model }: { readonly model: string }) {
  const { engine, status } = useEngine(model);
  const [messages, setMessages] = useState<readonly ChatCompletionMessage[]>([]);
  const [draft, setDraft] = useState('');
  const running = useRef<AbortController | null>(null);

  async function send(event: FormEvent) {
    event.preventDefault();
    if (!engine || running.current || draft.trim() === '') return;
    const history = [...messages, { role: 'user' as const, content: draft }];
    const abort = new AbortController();
    running.current = abort;
    setDraft('');
    let reply = '';
    try {
      const stream = await engine.chat.completions.create(
        { messages: history, stream: true, max_tokens: 256 },
        { signal: abort.signal },
      );
      for await (const chunk of stream) {
        reply += chunk.choices[0]?.delta.content ?? '';
        setMessages([...history, { role: 'assistant', content: reply }]);
      }
    } catch (error) {
      if (!abort.signal.aborted) setMessages([...history, { role: 'assistant', content: String(error) }]);
    } finally {
      running.current = null;
    }
  }

  return (
    <main>
      <p role="status">{status}</p>
      <ol>
        {messages.map(({ role, content }, index) => (
          // biome-ignore lint/suspicious/noArrayIndexKey: messages are only ever added at the end
          <li key={index}>
            <b>{role}</b> {String(content)}
          </li>
        ))}
      </ol>
      <form onSubmit={send}>
        <input aria-label="Message" value={draft} onChange={(event) => setDraft(event.target.value)} />
        <button type="submit" disabled={!engine}>
          Send
        </button>
        <button type="button" onClick={() => running.current?.abort()}>
          Stop
        </button>
      </form>
    </main>
  );
}

import type { ReadonlySignal } from '@preact/signals';
import type { ReplyStats } from '../../engine/types';
import { formatMs, formatRate } from '../format';
import { Markdown } from '../markdown/markdown';
import { generating, newChat, type Reply, regenerate } from '../state/conversation';
import { loadedModel } from '../state/model';
import { CopyButton } from './copy-button';
import { IconButton } from './icon-button';

interface AssistantMessageProps {
  readonly reply: ReadonlySignal<Reply>;
  readonly model: string;
  /** Nothing was said before it. */
  readonly first: boolean;
  /** The conversation's last reply can be asked for again. */
  readonly last: boolean;
  readonly onNewChat: () => void;
}

export function AssistantMessage({ reply, model, first, last, onNewChat }: AssistantMessageProps) {
  const { text, state, stats } = reply.value;
  const notice = noticeOf(reply.value, first);
  return (
    <div class="message-assistant" aria-busy={state === 'writing'}>
      <span class="visually-hidden">Model: </span>
      <div class="message-text" data-testid="message-assistant" data-state={state}>
        <Markdown text={text} />
        {state === 'writing' && <span class="caret" aria-hidden="true" />}
      </div>
      {notice && (
        <p class={notice.failed ? 'notice notice-error' : 'notice'} data-testid="notice">
          {notice.text}{' '}
          {notice.offerNewChat && (
            <button
              type="button"
              class="link"
              onClick={() => {
                newChat();
                onNewChat();
              }}
            >
              Start a new chat
            </button>
          )}
        </p>
      )}
      {state !== 'writing' && (
        <div class="message-foot">
          {text !== '' && <CopyButton text={text} label="Copy the reply" />}
          {last && (
            <IconButton
              icon="again"
              label="Answer again"
              testId="regenerate"
              disabled={generating.value || loadedModel.value === null}
              onClick={regenerate}
            />
          )}
          {stats && <Stats stats={stats} model={model} />}
        </div>
      )}
    </div>
  );
}

function Stats({ stats, model }: { readonly stats: ReplyStats; readonly model: string }) {
  const { replyTokens, decodeTokensPerSecond, timeToFirstTokenMs, promptTokens, cachedTokens } = stats;
  const { prefillTokensPerSecond } = stats;
  const prompt = `${promptTokens} prompt tokens, ${cachedTokens} of them from the cache`;
  return (
    <p class="stats" data-testid="stats" title={`${model}; ${prompt}`}>
      <span>{tokens(replyTokens)}</span>
      {replyTokens > 1 && <span>{formatRate(decodeTokensPerSecond)} tok/s</span>}
      {replyTokens > 0 && <span>first token after {formatMs(timeToFirstTokenMs)}</span>}
      {promptTokens > cachedTokens && (
        <span class="stats-prompt">prompt at {formatRate(prefillTokensPerSecond)} tok/s</span>
      )}
      <span class="stats-model">{model}</span>
    </p>
  );
}

function tokens(count: number): string {
  return count === 1 ? '1 token' : `${count} tokens`;
}

interface Notice {
  readonly text: string;
  readonly failed?: boolean;
  readonly offerNewChat?: boolean;
}

/** What has to be said about how a reply ended. */
function noticeOf({ state, finishReason, error, stats }: Reply, first: boolean): Notice | null {
  if (state === 'failed' && error) {
    if (error.name !== 'ContextFullError') {
      return { text: `The reply failed: ${error.message}.`, failed: true };
    }
    return first
      ? { text: `The message is too long for this model: ${error.message}.`, failed: true }
      : {
          text: `This conversation no longer fits into the model’s context: ${error.message}.`,
          failed: true,
          offerNewChat: true,
        };
  }
  switch (finishReason) {
    case 'context':
      return { text: 'The model’s context is full, so the reply ends here.', offerNewChat: true };
    case 'length':
      return { text: `Ended at the limit of ${tokens(stats?.replyTokens ?? 0)} (see Settings).` };
    case 'cancelled':
      return { text: 'Stopped.' };
    default:
      return null;
  }
}

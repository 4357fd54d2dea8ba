/** Renders a model's chat template so that the template's text and the messages' text can be told apart. */
import { Template } from '@huggingface/jinja';
import { type ControlTokens, occurrencePattern } from './control-tokens';
import { ChatTemplateError } from './errors';
import { TextMask, TextMaskError } from './text-mask';

/** Longer than any template in use by a factor of ten; parsing is linear, but the file is untrusted. */
const MAX_TEMPLATE_CHARS = 256 * 1024;

/** Longer than any context; a template that multiplies its input is stopped here, before it is tokenized. */
const MAX_RENDERED_CHARS = 16 * 1024 * 1024;

const ROLES = ['system', 'user', 'assistant'] as const;

export interface ChatMessage {
  readonly role: (typeof ROLES)[number];
  readonly content: string;
}

/** A rendered conversation in which message text holds no control token; `mask.unmask` gives back what it says. */
export interface MaskedRendering {
  readonly text: string;
  readonly mask: TextMask;
}

export class ChatTemplate {
  readonly #source: string;
  readonly #file: string;
  readonly #variables: Readonly<Record<string, string>>;
  readonly #tokens: ControlTokens;
  #compiled: Template | null = null;

  /**
   * @param file name for errors
   * @param variables what templates expect besides the messages: `bos_token`, `eos_token`, …
   * @throws {ChatTemplateError} when the template is larger than 256 Ki characters
   */
  constructor(
    source: string,
    file: string,
    variables: Readonly<Record<string, string>>,
    tokens: ControlTokens,
  ) {
    if (source.length > MAX_TEMPLATE_CHARS) {
      throw new ChatTemplateError(
        file,
        `expected at most ${MAX_TEMPLATE_CHARS} characters, found ${source.length}`,
      );
    }
    this.#source = source;
    this.#file = file;
    this.#variables = variables;
    this.#tokens = tokens;
  }

  /**
   * The conversation as text, as the model's authors defined it.
   * @throws {ChatTemplateError} on a syntax error, on what the template refuses, and on malformed messages
   */
  render(messages: readonly ChatMessage[], addGenerationPrompt: boolean): string {
    this.#checkMessages(messages);
    let text: string;
    try {
      this.#compiled ??= new Template(this.#source);
      text = this.#compiled.render({
        messages: messages.map(({ role, content }) => ({ role, content })),
        add_generation_prompt: addGenerationPrompt,
        tools: null,
        documents: null,
        ...this.#variables,
      });
    } catch (cause) {
      throw new ChatTemplateError(this.#file, cause instanceof Error ? cause.message : String(cause), {
        cause,
      });
    }
    if (text.length > MAX_RENDERED_CHARS) {
      const found = `a text of ${text.length}`;
      throw new ChatTemplateError(
        this.#file,
        `expected at most ${MAX_RENDERED_CHARS} characters, found ${found}`,
      );
    }
    return text;
  }

  /**
   * The same text with message characters masked. Usually every character that occurs in a control token is
   * masked, and unmasking gives exactly `render`. A template may look into the messages, though (compare, search,
   * cut): then the two differ, and only whole control tokens are masked, so that the template sees everything
   * else. In that second way an assistant message keeps its non-special markup (`<think>`), which such templates
   * search for and which the model wrote itself.
   * @throws {ChatTemplateError}
   */
  renderMasked(messages: readonly ChatMessage[], addGenerationPrompt: boolean): MaskedRendering {
    const plain = this.render(messages, addGenerationPrompt);
    const mask = this.#maskFor(messages);
    const text = this.render(
      withContents(messages, ({ content }) => mask.mask(content)),
      addGenerationPrompt,
    );
    if (mask.unmask(text) === plain) return { text, mask };

    const any = occurrencePattern(this.#tokens.control);
    const special = occurrencePattern(this.#tokens.control.filter((token) => token.special));
    const careful = withContents(messages, ({ role, content }) => {
      const pattern = role === 'assistant' ? special : any;
      return pattern === null ? content : mask.maskOccurrences(content, pattern);
    });
    return { text: this.render(careful, addGenerationPrompt), mask };
  }

  #maskFor(messages: readonly ChatMessage[]): TextMask {
    const present = [
      this.#source,
      ...Object.values(this.#variables),
      ...messages.map(({ content }) => content),
    ];
    try {
      return new TextMask(
        this.#tokens.control.map((token) => token.content),
        present,
      );
    } catch (cause) {
      if (cause instanceof TextMaskError) throw new ChatTemplateError(this.#file, cause.message, { cause });
      throw cause;
    }
  }

  #checkMessages(messages: readonly ChatMessage[]): void {
    if (messages.length === 0)
      throw new ChatTemplateError(this.#file, 'expected at least one message, found none');
    for (const [index, { role, content }] of messages.entries()) {
      if (!ROLES.includes(role)) {
        const found = JSON.stringify(role);
        throw new ChatTemplateError(
          this.#file,
          `messages[${index}].role: expected ${ROLES.join('|')}, found ${found}`,
        );
      }
      if (typeof content !== 'string') {
        throw new ChatTemplateError(
          this.#file,
          `messages[${index}].content: expected text, found ${typeof content}`,
        );
      }
    }
  }
}

function withContents(
  messages: readonly ChatMessage[],
  content: (message: ChatMessage) => string,
): readonly ChatMessage[] {
  return messages.map((message) => ({ role: message.role, content: content(message) }));
}

import { CopyButton } from '../components/copy-button';

interface CodeBlockProps {
  readonly code: string;
  /** As the fence names it; may be empty. */
  readonly language: string;
}

export function CodeBlock({ code, language }: CodeBlockProps) {
  const text = code.replace(/\n$/, '');
  return (
    <div class="code-block">
      <div class="code-head">
        {/* Drawn by the style sheet: it is no part of what the model wrote. */}
        <span data-language={language} />
        <CopyButton text={text} label="Copy code" />
      </div>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable with the keyboard */}
      <pre tabIndex={0}>
        <code>{text}</code>
      </pre>
    </div>
  );
}

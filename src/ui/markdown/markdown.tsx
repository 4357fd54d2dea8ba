import { type ComponentChild, type ComponentChildren, h } from 'preact';
import { useMemo } from 'preact/hooks';
import { CodeBlock } from './code-block';
import { type MarkdownNode, parseMarkdown, safeHref } from './parse';

/**
 * A model's text as Markdown. It becomes elements, never an HTML string, so markup in the text stays text; pictures
 * are not fetched but shown as links.
 */
export function Markdown({ text }: { readonly text: string }) {
  const nodes = useMemo(() => parseMarkdown(text), [text]);
  return <div class="markdown">{renderAll(nodes)}</div>;
}

function renderAll(nodes: readonly MarkdownNode[]): ComponentChild[] {
  return nodes.map((node, index) => render(node, index));
}

/** Elements that carry nothing but their children. */
const plainTags: Readonly<Record<string, string>> = {
  blockquote_open: 'blockquote',
  bullet_list_open: 'ul',
  list_item_open: 'li',
  thead_open: 'thead',
  tbody_open: 'tbody',
  tr_open: 'tr',
  em_open: 'em',
  strong_open: 'strong',
  s_open: 's',
};

function render({ token, children }: MarkdownNode, key: number): ComponentChild {
  const tag = plainTags[token.type];
  if (tag) return h(tag, { key }, renderAll(children));
  switch (token.type) {
    case 'inline':
      return renderAll(children);
    case 'text':
    case 'text_special':
      return token.content;
    case 'softbreak':
      return '\n'; // shown as a line break, as chat models mean it
    case 'hardbreak':
      return <br key={key} />;
    case 'hr':
      return <hr key={key} />;
    case 'code_inline':
      return <code key={key}>{token.content}</code>;
    case 'fence':
    case 'code_block':
      return <CodeBlock key={key} code={token.content} language={token.info.trim().split(/\s+/)[0] ?? ''} />;
    case 'paragraph_open':
      return token.hidden ? renderAll(children) : <p key={key}>{renderAll(children)}</p>;
    default:
      return renderSpecial(token, children, key);
  }
}

/** What has attributes or needs care. */
function renderSpecial(
  token: MarkdownNode['token'],
  children: readonly MarkdownNode[],
  key: number,
): ComponentChild {
  switch (token.type) {
    case 'heading_open':
      // The page's own headings come first in its outline.
      return h(`h${Math.min(6, Number(token.tag[1]) + 2)}`, { key }, renderAll(children));
    case 'ordered_list_open':
      return (
        <ol key={key} start={Number(token.attrGet('start') ?? 1)}>
          {renderAll(children)}
        </ol>
      );
    case 'table_open':
      return (
        // biome-ignore lint/a11y/noNoninteractiveTabindex: a scrolling region must be reachable with the keyboard
        <section key={key} class="table-scroll" tabIndex={0} aria-label="Table">
          <table>{renderAll(children)}</table>
        </section>
      );
    case 'th_open':
    case 'td_open':
      return <Cell key={key} node={{ token, children }} />;
    case 'link_open':
      return (
        <Link key={key} href={String(token.attrGet('href'))}>
          {renderAll(children)}
        </Link>
      );
    case 'image':
      return (
        <Link key={key} href={String(token.attrGet('src'))}>
          {token.content || 'picture'}
        </Link>
      );
    default:
      return token.content || renderAll(children);
  }
}

function Cell({ node: { token, children } }: { readonly node: MarkdownNode }) {
  const align = /text-align:(left|center|right)/.exec(String(token.attrGet('style')))?.[1];
  const Tag = token.tag as 'th' | 'td';
  return <Tag {...(align ? { style: { textAlign: align } } : {})}>{renderAll(children)}</Tag>;
}

function Link({ href, children }: { readonly href: string; readonly children: ComponentChildren }) {
  const safe = safeHref(href);
  if (safe === null) return <span>{children}</span>;
  return (
    <a href={safe} target="_blank" rel="noopener noreferrer nofollow" referrerpolicy="no-referrer">
      {children}
    </a>
  );
}

/** CommonMark with tables and strikethrough, parsed to a token tree. Nothing here makes HTML. */
import MarkdownIt, { type Token } from 'markdown-it';

const parser = new MarkdownIt({ html: false, linkify: true });
// "example.com" without a scheme is more often a file name than an address.
parser.linkify.set({ fuzzyLink: false, fuzzyEmail: false });

/** An element with children, or a leaf whose text is `token.content`. */
export interface MarkdownNode {
  readonly token: Token;
  readonly children: readonly MarkdownNode[];
}

/** Parses `text`, finished or not: an open code fence reaches to the end. */
export function parseMarkdown(text: string): readonly MarkdownNode[] {
  return nest(parser.parse(text, {}));
}

/** markdown-it's flat list of opening and closing tokens as a tree. */
function nest(tokens: readonly Token[]): readonly MarkdownNode[] {
  const root: MarkdownNode[] = [];
  const open: MarkdownNode[][] = [root];
  for (const token of tokens) {
    if (token.nesting < 0) {
      open.pop();
      continue;
    }
    const children: MarkdownNode[] = token.children ? [...nest(token.children)] : [];
    open.at(-1)!.push({ token, children });
    if (token.nesting > 0) open.push(children);
  }
  return root;
}

const allowedProtocols = new Set(['http:', 'https:', 'mailto:']);

/** The address if a reader may be sent there; null for anything but web and mail addresses. */
export function safeHref(href: string): string | null {
  try {
    return allowedProtocols.has(new URL(href).protocol) ? href : null;
  } catch {
    return null; // relative: it would point into this page
  }
}

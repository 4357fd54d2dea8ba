import { expect, test } from 'vitest';
import { type MarkdownNode, parseMarkdown, safeHref } from './parse';

/** Types and contents, as one readable line. */
function outline(nodes: readonly MarkdownNode[]): string {
  return nodes
    .map(({ token, children }) => {
      const inner = children.length > 0 ? `(${outline(children)})` : token.content && `:${token.content}`;
      return `${token.type.replace('_open', '')}${inner}`;
    })
    .join(' ');
}

test('opening and closing tokens become a tree', () => {
  expect(outline(parseMarkdown('- a **b**\n- `c`'))).toBe(
    'bullet_list(list_item(paragraph(inline(text:a  strong(text:b) text))) list_item(paragraph(inline(code_inline:c))))',
  );
});

test('a fence that is still open reaches to the end', () => {
  expect(outline(parseMarkdown('Code:\n```js\nlet a = 1;\nlet'))).toBe(
    'paragraph(inline(text:Code:)) fence:let a = 1;\nlet',
  );
});

test('HTML stays text, and scripts are no links', () => {
  expect(outline(parseMarkdown('<img src=x onerror=alert(1)>'))).toBe(
    'paragraph(inline(text:<img src=x onerror=alert(1)>))',
  );
  expect(outline(parseMarkdown('[a](javascript:alert(1))'))).not.toContain('link');
});

test.each([
  ['https://example.org/a', true],
  ['mailto:a@example.org', true],
  ['javascript:alert(1)', false],
  ['JaVaScRiPt:alert(1)', false],
  ['data:text/html,hi', false],
  ['file:///etc/passwd', false],
  ['//example.org', false],
  ['#settings', false],
])('%s may be followed: %s', (href, allowed) => expect(safeHref(href) !== null).toBe(allowed));

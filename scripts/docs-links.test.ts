/** Links in the project's Markdown, and the files it names, exist. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, test } from 'vitest';

const files = execFileSync('git', ['ls-files', '*.md'], { encoding: 'utf8' }).trim().split('\n');
const withoutCode = (markdown: string) => markdown.replace(/^```[\s\S]*?^```/gm, '');

/** What GitHub makes of a heading. */
function slug(heading: string): string {
  return heading
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\s_-]/gu, '')
    .trim()
    .replace(/\s/g, '-');
}

function anchors(markdown: string): Set<string> {
  const headings = [...markdown.matchAll(/^#+\s+(.*)$/gm)].map(([, text]) => slug(text!));
  const ids = [...markdown.matchAll(/\bid="([^"]+)"/g)].map(([, id]) => id!);
  return new Set([...headings, ...ids]);
}

/** Relative links of a file's text that lead nowhere. */
function brokenLinks(file: string, markdown: string): string[] {
  const links = [...withoutCode(markdown).matchAll(/\]\(([^)\s]+)\)/g)].map(([, link]) => link!);
  return links.filter((link) => {
    if (/^[a-z]+:/.test(link)) return false;
    const [path, anchor] = link.split('#') as [string, string?];
    const target = path === '' ? file : join(dirname(file), decodeURI(path));
    if (!existsSync(target)) return true;
    return anchor !== undefined && !anchors(readFileSync(target, 'utf8')).has(anchor);
  });
}

/** Paths from the project's root, in backquotes, of nothing. */
function missingPaths(markdown: string): string[] {
  const named = withoutCode(markdown).matchAll(
    /`((?:bench|cli|docs|e2e|examples|scripts|shaders|src|workers)\/[\w@./-]+)`/g,
  );
  return [...named].map(([, path]) => path!).filter((path) => !existsSync(path));
}

test('links lead somewhere, and the files that are named exist', () => {
  expect(files).toContain('README.md');
  const broken = files.flatMap((file) => {
    const markdown = readFileSync(file, 'utf8');
    // the log tells of files that are gone
    const missing = file === 'docs/LOG.md' ? [] : missingPaths(markdown);
    return [...brokenLinks(file, markdown), ...missing].map((what) => `${file}: ${what}`);
  });
  expect(broken).toEqual([]);
});

test('broken ones are found', () => {
  const text =
    '[a](docs/none.md) [b](README.md#none) [c](README.md) [d](https://x.test) `src/none.ts` `src/engine`';
  expect(brokenLinks('README.md', text)).toEqual(['docs/none.md', 'README.md#none']);
  expect(missingPaths(text)).toEqual(['src/none.ts']);
});

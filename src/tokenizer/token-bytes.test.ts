import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ChatTokenizer } from './chat-tokenizer';
import { ASSORTED_TEXTS, llama3Files, sentencePieceFiles } from './testing';
import { compileTokenBytes } from './token-bytes';

const families = [
  ['byte-level', llama3Files()],
  ...(['prepend', 'first', 'always', 'never'] as const).map(
    (variant) => [`byte fallback, ${variant}`, sentencePieceFiles(variant)] as const,
  ),
] as const;

describe.each(families)('%s', (_, files) => {
  const tokenizer = ChatTokenizer.create(files);
  const bytesOf = (ids: readonly number[]) => ids.flatMap((id) => [...tokenizer.tokenBytes(id)!]);

  /** Bytes in a row are the text, but for the space that these tokenizers put in front of it. */
  function expectText(text: string): void {
    const ids = tokenizer.encodeText(text, { addBos: false });
    const decoded = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Uint8Array.from(bytesOf(ids)));
    expect([tokenizer.decode(ids), ` ${tokenizer.decode(ids)}`]).toContain(decoded);
  }

  test('the bytes of all tokens in a row are the decoded text', () => {
    for (const text of ASSORTED_TEXTS) expectText(text);
    fc.assert(fc.property(fc.string({ unit: 'binary' }), expectText), { numRuns: 300 });
  });

  test('special tokens and ids outside the vocabulary add nothing', () => {
    for (const id of [...tokenizer.eosTokenIds, -1, tokenizer.vocabSize, 1e9]) {
      expect(tokenizer.tokenBytes(id)).toBeNull();
    }
  });
});

test('single bytes of both families', () => {
  const byteLevel = compileTokenBytes({ type: 'ByteLevel' }, 'f');
  expect([...byteLevel('ĠÃ', false)]).toEqual([0x20, 0xc3]);
  expect([...byteLevel('Ġ', true)]).toEqual([...new TextEncoder().encode('Ġ')]);
  const fallback = compileTokenBytes({ type: 'ByteFallback' }, 'f');
  expect([...fallback('<0xE4>', false)]).toEqual([0xe4]);
  expect([...fallback('<0xE>', false)]).toEqual([...new TextEncoder().encode('<0xE>')]);
});

test('Strip before Fuse strips every token, after it none', () => {
  const strip = { type: 'Strip', content: ' ', start: 1, stop: 1 };
  const before = compileTokenBytes({ type: 'Sequence', decoders: [strip, { type: 'Fuse' }] }, 'f');
  const after = compileTokenBytes({ type: 'Sequence', decoders: [{ type: 'Fuse' }, strip] }, 'f');
  expect(new TextDecoder().decode(before('  a  ', false))).toBe(' a ');
  expect(new TextDecoder().decode(before(' ', false))).toBe('');
  expect(new TextDecoder().decode(after('  a  ', false))).toBe('  a  ');
});

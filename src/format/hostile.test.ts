/** Bad artifacts: a named corpus, one per rule, and properties over random ones. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { badHeaderFile, badHeaders, badManifests, withValueAt } from './corpus';
import { ManifestError, SafetensorsError } from './errors';
import { tinyManifest } from './manifest-fixture';
import { parseManifest } from './parse-manifest';
import { parseSafetensorsHeader } from './safetensors';

describe('a manifest with', () => {
  test.each(badManifests.map((bad) => [bad.name, bad] as const))('%s is refused', (_, bad) => {
    const json = JSON.parse(JSON.stringify(withValueAt(tinyManifest(), bad)));
    expect(() => parseManifest(json, 'manifest.json')).toThrow(ManifestError);
    expect(() => parseManifest(json, 'manifest.json')).toThrow(bad.message);
  });
});

describe('a shard with', () => {
  test.each(badHeaders.map((bad) => [bad.name, bad] as const))('%s is refused', (_, bad) => {
    const file = badHeaderFile(bad);
    expect(() => parseSafetensorsHeader(file, file.length, 'shard')).toThrow(SafetensorsError);
    expect(() => parseSafetensorsHeader(file, file.length, 'shard')).toThrow(bad.message);
  });
});

describe('properties', () => {
  test('any JSON is a manifest or is refused by name', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (json) => {
        expect(() => parseManifest(json, 'manifest.json')).toThrow(ManifestError);
      }),
      { numRuns: 500 },
    );
  });

  test('any value at any top-level key is accepted or refused by name', () => {
    const keys = Object.keys(tinyManifest());
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.jsonValue(), (path, value) => {
        try {
          parseManifest(withValueAt(tinyManifest(), { path, value }), 'manifest.json');
        } catch (error) {
          expect(error).toBeInstanceOf(ManifestError);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('any bytes are a header or are refused by name, and nothing outside the file is named', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
        try {
          const { tensors } = parseSafetensorsHeader(bytes, bytes.length, 'shard');
          for (const { begin, end } of tensors) {
            expect(begin).toBeGreaterThanOrEqual(8);
            expect(end).toBeLessThanOrEqual(bytes.length);
          }
        } catch (error) {
          expect(error).toBeInstanceOf(SafetensorsError);
        }
      }),
      { numRuns: 500 },
    );
  });
});

/** Random checkpoints, text and checks for tests of `runPrepare`. */
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterAll, expect } from 'vitest';
import type { LlamaConfig } from '../format/config';
import { parseSafetensorsHeader } from '../format/safetensors';
import { checkShardTensors } from '../format/shard-tensors';
import { readArtifact } from './artifact-reader';
import { type PrepareOptions, prepareDefaults } from './prepare';
import { type RandomCheckpointOptions, writeRandomCheckpoint } from './testing';

/** A folder of a test file's own, with calibration text, removed behind its last test. */
export class PrepareFolder {
  readonly path: string;
  readonly text: string;
  readonly chat: string;
  #cases = 0;

  constructor(name: string) {
    this.path = mkdtempSync(join(tmpdir(), `${name}-`));
    afterAll(() => rmSync(this.path, { recursive: true, force: true }));
    this.text = join(this.path, 'text.txt');
    this.chat = join(this.path, 'chat.jsonl');
    const words = 'The ship sailed on 7 seas, and nobody knew why it returned so late; the captain laughed. ';
    writeFileSync(this.text, Array.from({ length: 60 }, (_, i) => words.slice(i % 40)).join('\n'));
    const messages = [
      { role: 'user', content: 'Where is the harbour?' },
      { role: 'assistant', content: 'Down the road.' },
    ];
    writeFileSync(this.chat, `${JSON.stringify({ messages })}\n\n${JSON.stringify({ messages })}\n`);
  }

  freshPath(): string {
    this.#cases++;
    return join(this.path, `case-${this.#cases}`);
  }

  /** A random checkpoint and options to prepare it, quick. */
  setup(
    config: Partial<LlamaConfig>,
    random: RandomCheckpointOptions,
    options: Partial<PrepareOptions>,
  ): PrepareOptions {
    const checkpoint = this.freshPath();
    writeRandomCheckpoint(checkpoint, config, random);
    return {
      ...prepareDefaults,
      samples: 8,
      sequence: 64,
      // the probe's random tokens are nothing like the calibration text, which GPTQ would be fitted to
      weights: 'rtn',
      calibration: [this.text, this.chat],
      checkpoint,
      out: this.freshPath(),
      ...options,
    };
  }

  /** Half-written outputs. */
  leftovers(): string[] {
    return readdirSync(this.path).filter((name) => name.startsWith('.') && !name.includes('.layers-'));
  }

  /** Folders of finished layers. */
  kept(): string[] {
    return readdirSync(this.path).filter((name) => name.includes('.layers-'));
  }

  expectWholeArtifact(out: string): void {
    const { manifest } = readArtifact(out);
    const files = [...manifest.shards, ...manifest.tokenizerFiles];
    expect(readdirSync(out).sort()).toEqual([...files.map(({ name }) => name), 'manifest.json'].sort());
    for (const { name, bytes, sha256 } of files) {
      const content = readFileSync(join(out, name));
      expect(content.length).toBe(bytes);
      expect(createHash('sha256').update(content).digest('hex')).toBe(sha256);
    }
    const headers = manifest.shards.map(({ name, bytes }) => ({
      file: name,
      header: parseSafetensorsHeader(readFileSync(join(out, name)), bytes, name),
    }));
    checkShardTensors(manifest, headers);
    expect(this.leftovers()).toEqual([]);
    expect(this.kept().filter((name) => name.startsWith(`.${basename(out)}.`))).toEqual([]);
  }
}

/** Layers of a run that are done, one part folder each beside the output: a run that was killed goes on behind them. Node only. */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { claimFolder, workFolder } from './abandoned';
import { ArtifactWriter, type ArtifactWriterOptions } from './artifact-writer';
import { type Part, type PartManifest, readPart } from './parts';

/** What a layer's part is written by. */
export type WriteLayerPart = (
  writer: ArtifactWriter,
) => Promise<Omit<PartManifest, 'shards' | 'maxTensorBytes'>>;

/** Name, size and time of a checkpoint's files: enough to tell that another one took its place. */
export function checkpointFiles(folder: string): readonly (readonly [string, number, number])[] {
  const names = readdirSync(folder).filter((name) => /\.(safetensors|json)$/.test(name));
  return names.sort().map((name) => {
    const { size, mtimeMs } = statSync(join(folder, name));
    return [name, size, mtimeMs];
  });
}

export class FinishedLayers {
  /** `.<output>.layers-<hash>`, made with the first layer. */
  readonly folder: string;

  /** @param madeFrom everything that the layers depend on; layers of a run with anything else are not found */
  constructor(
    out: string,
    madeFrom: object,
    readonly options: ArtifactWriterOptions = {},
  ) {
    const key = createHash('sha256').update(JSON.stringify(madeFrom)).digest('hex').slice(0, 12);
    this.folder = workFolder(out, 'layers', key);
    if (existsSync(this.folder)) claimFolder(this.folder);
  }

  /** How many layers are there. */
  get count(): number {
    if (!existsSync(this.folder)) return 0;
    return readdirSync(this.folder).filter((name) => /^\d+$/.test(name)).length;
  }

  /** @throws FormatError for a folder that holds something else */
  find(index: number): Part | null {
    const folder = join(this.folder, String(index));
    return existsSync(folder) ? readPart(folder) : null;
  }

  /** Writes a layer; its folder has its name only when it is whole. */
  async save(index: number, write: WriteLayerPart): Promise<Part> {
    mkdirSync(this.folder, { recursive: true });
    claimFolder(this.folder);
    const folder = join(this.folder, String(index));
    const { maxShardBytes, maxTensorBytes } = this.options;
    const writer = new ArtifactWriter(folder, {
      ...(maxShardBytes !== undefined && { maxShardBytes }),
      ...(maxTensorBytes !== undefined && { maxTensorBytes }),
    });
    try {
      writer.finishPart(await write(writer));
    } finally {
      writer.discard();
    }
    return readPart(folder);
  }

  /** Once the output holds them. */
  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

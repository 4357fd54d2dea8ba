/** Reads a manifest.json as data from a stranger: validated whole before anything is allocated or fetched. */
import * as v from 'valibot';
import { configProblem } from './check-config';
import { ManifestError, shown } from './errors';
import type { FileEntry, Manifest, QuantSpec } from './manifest';
import { manifestSchema } from './manifest-schema';
import { schemeModes } from './scheme';
import { headerEntryBytes, maxShardBytes } from './shards';
import {
  linearInputs,
  paddedInputs,
  type StoredTensor,
  storedTensors,
  tensorBytes,
  tensorSpecs,
} from './tensors';
import { maxGroupSize } from './weight-grid';

/** Newest version that this code reads. It writes the oldest that has what an artifact needs. */
export const manifestVersion = 2;
const maxStoredTensors = 65_536;
/** Bytes of tokenizer files: far above real ones (Llama-3's tokenizer.json is 17 MB). */
const maxTokenizerFileBytes = 128 * 2 ** 20;

/** A transform of 2,048 floats takes 8 KiB of workgroup memory, half of what every WebGPU device has. */
export const maxHadamardBlock = 2048;

type Fail = (where: string, expected: string, found: unknown) => never;

/**
 * @param json what JSON.parse made of the file.
 * @param fileName named in errors.
 * @throws ManifestError with the path (such as `quant.layers[3].oAct`), what was expected and what was found.
 */
export function parseManifest(json: unknown, fileName: string): Manifest {
  const fail: Fail = (where, expected, found) => {
    throw new ManifestError({ file: fileName, where, expected, found: shown(found) });
  };
  checkVersion(json, fail);
  const manifest = checkStructure(json, fail);
  const problem = configProblem(manifest.config);
  if (problem) fail(`config.${problem.field}`, problem.expected, problem.found);
  checkQuant(manifest, fail);
  checkTables(manifest, fail);
  checkFiles(manifest, fail);
  checkTensorBytes(manifest, fail);
  return manifest;
}

/** Before the structure, so that a newer manifest is called newer and not malformed. */
function checkVersion(json: unknown, fail: Fail): void {
  if (typeof json !== 'object' || json === null || Array.isArray(json)) fail('', 'a JSON object', json);
  const { format, version } = json as Record<string, unknown>;
  if (format !== 'mergequant') fail('format', '"mergequant"', format);
  if (Number.isSafeInteger(version) && (version as number) > manifestVersion) {
    fail(
      'version',
      `${manifestVersion}, the newest this program knows; a newer program made this artifact`,
      version,
    );
  }
  if (version !== 1 && version !== manifestVersion) fail('version', `1 or ${manifestVersion}`, version);
}

function checkStructure(json: unknown, fail: Fail): Manifest {
  const result = v.safeParse(manifestSchema, json, { abortEarly: true, abortPipeEarly: true });
  if (result.success) return result.output;
  const [issue] = result.issues;
  // a text of our own where there is one; valibot's messages begin with "Invalid"
  const expected = issue.message.startsWith('Invalid') ? (issue.expected ?? issue.message) : issue.message;
  return fail(pathOf(issue), expected, issue.input);
}

/** `quant.layers[3].oAct` */
function pathOf(issue: v.BaseIssue<unknown>): string {
  const keys = (issue.path ?? []).map(({ key }) =>
    typeof key === 'number' ? `[${key}]` : `.${String(key)}`,
  );
  return keys.join('').replace(/^\./, '');
}

function checkQuant(manifest: Manifest, fail: Fail): void {
  const { scheme, quant, config } = manifest;
  if (scheme === 'fp16') {
    if (quant !== null) fail('quant', 'null for the scheme fp16', quant);
    return;
  }
  if (quant === null) fail('quant', `an object for the scheme ${scheme}`, quant);
  if (quant.layers.length !== config.numLayers) {
    fail('quant.layers', `${config.numLayers} layers, as the config says`, quant.layers.length);
  }
  const merged = schemeModes[scheme].norm === 'static';
  if (!merged && quant.reconstruct !== 'none') {
    fail('quant.reconstruct', `"none" for the scheme ${scheme}`, quant.reconstruct);
  }
  if (quant.reconstruct !== 'none' && quant.alpha === null) {
    fail('quant.alpha', `a threshold for the reconstruction ${quant.reconstruct}`, quant.alpha);
  }
  checkHadamard(quant, config.intermediateSize, fail);
  checkWeightGrid(manifest, quant, fail);
  checkZeroPoints(manifest, quant, fail);
  checkPrefix(manifest, quant, fail);
  for (let layer = 0; layer < quant.layers.length; layer++) {
    checkSite(quant, layer, 'attn', config.hiddenSize, merged, fail);
    checkSite(quant, layer, 'mlp', config.hiddenSize, merged, fail);
  }
}

/** Embedding and head as bytes. */
function checkTables(manifest: Manifest, fail: Fail): void {
  const { version, config } = manifest;
  for (const key of ['embeddingBits', 'headBits'] as const) {
    if (manifest[key] === undefined) continue;
    if (version < 2) fail('version', `2, which ${key} belongs to`, version);
    if (config.hiddenSize % 4 !== 0) {
      fail('config.hiddenSize', `a multiple of 4 with ${key} 8`, config.hiddenSize);
    }
  }
  if (config.tieWordEmbeddings && manifest.headBits !== undefined) {
    fail('headBits', 'nothing where the embedding is the head', manifest.headBits);
  }
}

function checkHadamard({ hadamard, reconstruct }: QuantSpec, ffnSize: number, fail: Fail): void {
  if (hadamard === null) return;
  const { downBlock } = hadamard;
  const fits = downBlock >= 2 && downBlock <= maxHadamardBlock && Number.isInteger(Math.log2(downBlock));
  if (!fits || ffnSize % downBlock !== 0) {
    const expected = `a power of two from 2 to ${maxHadamardBlock} that divides the intermediate size ${ffnSize}`;
    fail('quant.hadamard.downBlock', expected, downBlock);
  }
  if (reconstruct !== 'none') fail('quant.reconstruct', '"none" with quant.hadamard', reconstruct);
}

function checkWeightGrid(manifest: Manifest, { weightBits, weightGrid }: QuantSpec, fail: Fail): void {
  if (weightGrid === null) {
    if (weightBits !== 4) fail('quant.weightGrid', `an object for ${weightBits}-bit weights`, null);
    return;
  }
  const { groupSize } = weightGrid;
  if (groupSize !== null && (groupSize % 32 !== 0 || groupSize > maxGroupSize)) {
    fail('quant.weightGrid.groupSize', `null or a multiple of 32 up to ${maxGroupSize}`, groupSize);
  }
  if (manifest.version < 2) fail('version', '2, which quant.weightGrid belongs to', manifest.version);
  const longest = Math.max(...tensorSpecs(manifest).map((spec) => linearInputs(spec, weightBits) ?? 0));
  if (groupSize === null && longest > maxGroupSize) {
    fail('quant.weightGrid.groupSize', `a number where rows have ${longest} inputs`, null);
  }
}

function checkZeroPoints(
  { version, scheme }: Manifest,
  { zeroPoints, reconstruct }: QuantSpec,
  fail: Fail,
): void {
  if (!zeroPoints) return;
  if (version < 2) fail('version', '2, which quant.zeroPoints belongs to', version);
  if (schemeModes[scheme].norm !== 'static') {
    fail('quant.zeroPoints', `nothing for the scheme ${scheme}`, zeroPoints);
  }
  if (reconstruct === 'segment')
    fail('quant.reconstruct', 'another than segment with zero points', reconstruct);
}

function checkPrefix({ version, config }: Manifest, { prefix }: QuantSpec, fail: Fail): void {
  if (!prefix) return;
  if (version < 2) fail('version', '2, which quant.prefix belongs to', version);
  const { vocabSize, maxPositionEmbeddings } = config;
  if (prefix.ids.length >= maxPositionEmbeddings) {
    fail('quant.prefix.ids', `fewer tokens than the context's ${maxPositionEmbeddings}`, prefix.ids.length);
  }
  prefix.ids.forEach((id, i) => {
    if (id >= vocabSize) fail(`quant.prefix.ids[${i}]`, `a token below ${vocabSize}`, id);
  });
}

function checkSite(
  quant: QuantSpec,
  layer: number,
  site: 'attn' | 'mlp',
  hiddenSize: number,
  merged: boolean,
  fail: Fail,
): void {
  const spec = quant.layers[layer]!;
  const at = `quant.layers[${layer}].${site}`;
  const inputs = spec[`${site}Inputs`];
  const least = paddedInputs(hiddenSize);
  if (!merged && inputs !== least) fail(`${at}Inputs`, `${least}, the padded hidden size`, inputs);
  const most = paddedInputs(4 * hiddenSize);
  if (inputs % 32 !== 0 || inputs < 32 || inputs > most) {
    fail(`${at}Inputs`, `a multiple of 32 from 32 to ${most}`, inputs);
  }
  if (spec[`${site}Offsets`] && quant.reconstruct !== 'segment' && !quant.zeroPoints) {
    fail(`${at}Offsets`, `false for the reconstruction ${quant.reconstruct} without zero points`, true);
  }
  if (merged && spec[`${site}Act`] !== 1) {
    fail(`${at}Act`, '1, because the norm carries the step', spec[`${site}Act`]);
  }
}

function checkFiles({ shards, tokenizerFiles }: Manifest, fail: Fail): void {
  const seen = new Set(['manifest.json']);
  const check = (files: readonly FileEntry[], list: string, maxBytes: number) => {
    files.forEach(({ name, bytes }, i) => {
      const key = name.toLowerCase(); // some file systems do not tell case apart
      if (seen.has(key)) fail(`${list}[${i}].name`, 'each file name once', name);
      seen.add(key);
      if (bytes > maxBytes) fail(`${list}[${i}].bytes`, `at most ${maxBytes}`, bytes);
    });
  };
  check(shards, 'shards', maxShardBytes);
  check(tokenizerFiles, 'tokenizerFiles', maxTokenizerFileBytes);
}

/** The shards together must hold the tensors that the config implies, and headers, and nothing more. */
function checkTensorBytes(manifest: Manifest, fail: Fail): void {
  const { maxTensorBytes, shards } = manifest;
  if (maxTensorBytes > maxShardBytes) fail('maxTensorBytes', `at most ${maxShardBytes}`, maxTensorBytes);
  let stored = 0;
  for (const spec of tensorSpecs(manifest)) {
    const rowBytes = tensorBytes(spec) / spec.shape[0]!;
    if (rowBytes > maxTensorBytes) {
      fail('maxTensorBytes', `at least ${rowBytes}, one row of ${spec.name}`, maxTensorBytes);
    }
    stored += Math.ceil(spec.shape[0]! / Math.floor(maxTensorBytes / rowBytes));
  }
  if (stored > maxStoredTensors) {
    fail(
      'maxTensorBytes',
      `a size that gives at most ${maxStoredTensors} tensors, not ${stored}`,
      maxTensorBytes,
    );
  }
  const tensors = [...expectedStoredTensors(manifest).values()];
  const least = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
  const headers = tensors.reduce((sum, tensor) => sum + headerEntryBytes(tensor), 0) + 1024 * shards.length;
  const total = shards.reduce((sum, { bytes }) => sum + bytes, 0);
  if (total < least || total > least + headers) {
    fail('shards', `${least} to ${least + headers} bytes in all for this config and scheme`, total);
  }
}

/** Every tensor that the shards must hold, by the name it is stored under. */
export function expectedStoredTensors(manifest: Manifest): Map<string, StoredTensor> {
  const stored = storedTensors(tensorSpecs(manifest), manifest.maxTensorBytes);
  return new Map(stored.map((tensor) => [tensor.name, tensor]));
}

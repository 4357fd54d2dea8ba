import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ManifestError } from './errors';
import type { FileEntry, Manifest, QuantSpec } from './manifest';
import { tinyLayout, tinyManifest } from './manifest-fixture';
import { expectedStoredTensors, parseManifest } from './parse-manifest';
import { type SchemeName, schemeNames } from './scheme';
import { storedTensors, tensorSpecs } from './tensors';

type Path = readonly (string | number)[];

/** The tiny manifest with the value at `path` replaced; `undefined` removes the key. */
function withValue(path: Path, value: unknown, scheme: SchemeName = 'mergequant') {
  const manifest = tinyManifest(scheme);
  let node: Record<string | number, unknown> = manifest;
  for (const key of path.slice(0, -1)) node = node[key] as Record<string | number, unknown>;
  const last = path.at(-1)!;
  if (value === undefined) delete node[last];
  else node[last] = value;
  return manifest;
}

/** The tiny manifest in version 2 with these bits, and shards of the length that they make. */
function withTables(tables: Pick<Manifest, 'embeddingBits' | 'headBits'>): Record<string, unknown> {
  const manifest: Record<string, unknown> = { ...tinyManifest('mergequant'), version: 2, ...tables };
  const layout = { ...tinyLayout('mergequant'), ...tables };
  const bytes = storedTensors(tensorSpecs(layout), layout.maxTensorBytes).reduce(
    (sum, t) => sum + t.bytes,
    0,
  );
  const [shard] = manifest.shards as FileEntry[];
  return { ...manifest, shards: [{ ...shard!, bytes: bytes + 100 }] };
}

test.each(schemeNames)('a good %s manifest parses to itself', (scheme) => {
  const manifest = tinyManifest(scheme);
  expect(parseManifest(JSON.parse(JSON.stringify(manifest)), 'manifest.json')).toEqual(manifest);
});

test.each([{ groupSize: null }, { groupSize: 32 }, { groupSize: 128 }])('3-bit weights, %j', (grid) => {
  const manifest = tinyManifest('mergequant', grid);
  const parsed = parseManifest(JSON.parse(JSON.stringify(manifest)), 'manifest.json');
  expect(parsed).toEqual(manifest);
  const tensors = expectedStoredTensors(parsed);
  // three words for 32 elements, 96 inputs; groups of the 192 padded inputs of down
  expect(tensors.get('layers.0.qkv.weight')!.tensor.shape).toEqual([96, 9]);
  const groups = grid.groupSize === null ? 1 : Math.ceil(192 / grid.groupSize);
  expect(tensors.get('layers.0.down.grid')!.tensor).toMatchObject({ dtype: 'U32', shape: [64, groups] });
  expect(tensors.has('layers.0.down.scale')).toBe(false);
});

test('embedding and head as bytes, with a scale a row', () => {
  const manifest = withTables({ embeddingBits: 8, headBits: 8 });
  const parsed = parseManifest(manifest, 'manifest.json');
  expect(parsed).toMatchObject({ version: 2, embeddingBits: 8, headBits: 8 });
  const tensors = expectedStoredTensors(parsed);
  for (const name of ['embed', 'head']) {
    expect(tensors.get(`${name}.weight`)!.tensor).toMatchObject({ dtype: 'I8', shape: [512, 64] });
    expect(tensors.get(`${name}.scale`)!.tensor).toMatchObject({ dtype: 'F32', shape: [512] });
  }
  const floats = parseManifest(tinyManifest('mergequant'), 'manifest.json');
  expect(expectedStoredTensors(floats).get('embed.weight.rows.0')!.tensor.dtype).toBe('F16');
});

test.each([
  ['a tied head', { tieWordEmbeddings: true }, /headBits: expected nothing where the embedding is the head/],
  ['a hidden size of 66', { hiddenSize: 66 }, /hiddenSize: expected a multiple of 4 with embeddingBits 8/],
])('%s with bytes is refused', (_, config, message) => {
  const manifest = withTables({ embeddingBits: 8, headBits: 8 });
  Object.assign(manifest.config as object, config);
  const { quant } = manifest as { quant: { layers: object[] } };
  for (const layer of quant.layers) Object.assign(layer, { attnInputs: 96, mlpInputs: 96 });
  expect(() => parseManifest(manifest, 'm')).toThrow(message);
});

test('zero points bring offsets and two biases, and exclude what they do not fit', () => {
  const manifest = { ...tinyManifest('mergequant'), version: 2 } as Record<string, unknown>;
  const quant = manifest.quant as { layers: object[] };
  Object.assign(quant, { zeroPoints: true });
  for (const layer of quant.layers) Object.assign(layer, { attnOffsets: true, mlpOffsets: true });
  const layout = { ...tinyLayout('mergequant'), quant: manifest.quant as Manifest['quant'] };
  const specs = tensorSpecs(layout);
  expect(specs.filter(({ name }) => /^layers\.0\..*bias$/.test(name)).map(({ name }) => name)).toEqual([
    'layers.0.qkv.bias',
    'layers.0.gate_up.bias',
  ]);
  const bytes = storedTensors(specs, layout.maxTensorBytes).reduce((sum, t) => sum + t.bytes, 0);
  manifest.shards = [{ ...(manifest.shards as FileEntry[])[0]!, bytes: bytes + 100 }];
  expect(parseManifest(manifest, 'm')).toEqual(manifest);
  expect(() => parseManifest({ ...manifest, version: 1 }, 'm')).toThrow(
    /version: expected 2, which quant\.zeroPoints/,
  );
  Object.assign(quant, { reconstruct: 'segment', alpha: 5 });
  expect(() => parseManifest(manifest, 'm')).toThrow(/another than segment with zero points/);
  const dynamic = withValue(['quant', 'zeroPoints'], true, 'rtn-dynamic');
  expect(() => parseManifest({ ...dynamic, version: 2 }, 'm')).toThrow(/zeroPoints: expected nothing/);
});

test('a float prefix brings a vector a layer, of tokens that the model has', () => {
  const manifest = { ...tinyManifest('mergequant'), version: 2 } as Record<string, unknown>;
  const quant = Object.assign(manifest.quant as QuantSpec, { prefix: { ids: [1, 5] } });
  const layout = { ...tinyLayout('mergequant'), quant };
  const specs = tensorSpecs(layout);
  // 2 tokens, keys and values of 2 heads of 8
  expect(specs.find(({ name }) => name === 'layers.1.prefix')).toMatchObject({ dtype: 'F32', shape: [64] });
  const bytes = storedTensors(specs, layout.maxTensorBytes).reduce((sum, t) => sum + t.bytes, 0);
  manifest.shards = [{ ...(manifest.shards as FileEntry[])[0]!, bytes: bytes + 100 }];
  expect(parseManifest(manifest, 'm')).toEqual(manifest);
  expect(() => parseManifest({ ...manifest, version: 1 }, 'm')).toThrow(
    /version: expected 2, which quant\.prefix/,
  );
  Object.assign(quant, { prefix: { ids: [1, 512] } });
  expect(() => parseManifest(manifest, 'm')).toThrow(/ids\[1\]: expected a token below 512/);
  Object.assign(quant, { prefix: { ids: new Array(5000).fill(1) } });
  expect(() => parseManifest(manifest, 'm')).toThrow(/ids: expected fewer tokens than the context/);
});

test('one group for a row that is too long for exact sums is refused', () => {
  const manifest = tinyManifest('mergequant', { groupSize: null });
  Object.assign(manifest.config as object, { intermediateSize: 200_000 });
  expect(() => parseManifest(manifest, 'm')).toThrow(
    /groupSize: expected a number where rows have 200000 inputs/,
  );
});

test('llama3 rope scaling, biases, a tied head and no special tokens are fine', () => {
  const manifest = tinyManifest('fp16');
  const ropeScaling = {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 64,
  };
  Object.assign(manifest.config as object, { ropeScaling, bosTokenId: null, eosTokenIds: [] });
  expect(parseManifest(manifest, 'manifest.json').config.ropeScaling).toEqual(ropeScaling);
});

const wrong: [path: Path, value: unknown, where: string, expected: RegExp][] = [
  [['format'], 'gguf', 'format', /"mergequant"/],
  [['version'], 3, 'version', /a newer program made this artifact/],
  [['version'], 0, 'version', /^1 or 2$/],
  [['version'], '1', 'version', /^1 or 2$/],
  [['name'], '', 'name', /a name/],
  [['name'], undefined, 'name', /name/],
  [['extra'], 1, 'extra', /never/],
  [['scheme'], 'int4', 'scheme', /fp16.*mergequant-static/],
  [['config'], null, 'config', /Object/],
  [['config', 'hiddenSize'], '64', 'config.hiddenSize', /number/],
  [['config', 'hiddenSize'], 63, 'config.hiddenSize', /an even number/],
  [['config', 'hiddenSize'], 2 ** 30, 'config.hiddenSize', /from 1 to 65536/],
  [['config', 'numLayers'], 1.5, 'config.numLayers', /integer/],
  [['config', 'numLayers'], 0, 'config.numLayers', />=1/],
  [['config', 'numKvHeads'], 3, 'config.numKvHeads', /a divisor of the 8 heads/],
  [['config', 'headDim'], 7, 'config.headDim', /even/],
  [['config', 'rmsNormEps'], 0, 'config.rmsNormEps', />0/],
  [['config', 'rmsNormEps'], 1, 'config.rmsNormEps', /between 0 and 1/],
  [['config', 'ropeTheta'], 1, 'config.ropeTheta', /above 1/],
  [['config', 'ropeScaling'], { type: 'yarn' }, 'config.ropeScaling.type', /linear.*llama3/],
  [['config', 'ropeScaling'], { type: 'linear', factor: 0.5 }, 'config.ropeScaling', /at least 1/],
  [['config', 'eosTokenIds'], [2, 512], 'config.eosTokenIds', /token ids from 0 to 511/],
  [['config', 'bosTokenId'], 512, 'config.bosTokenId', /token ids from 0 to 511/],
  [['config', 'tieWordEmbeddings'], 1, 'config.tieWordEmbeddings', /boolean/],
  [['quant'], null, 'quant', /an object for the scheme mergequant/],
  [['quant', 'actBits'], 5, 'quant.actBits', /4 \| 8/],
  [['quant', 'weightBits'], 8, 'quant.weightBits', /3 \| 4/],
  [['quant', 'reconstruct'], 'split', 'quant.reconstruct', /none.*segment/],
  [['quant', 'alpha'], null, 'quant.alpha', /a threshold/],
  [['quant', 'alpha'], -1, 'quant.alpha', />0/],
  [['quant', 'hadamard'], true, 'quant.hadamard', /Object/],
  [['quant', 'hadamard'], { downBlock: 3 }, 'quant.hadamard.downBlock', /a power of two from 2 to 2048/],
  [['quant', 'hadamard'], { downBlock: 8 }, 'quant.hadamard.downBlock', /divides the intermediate size 172/],
  [['quant', 'hadamard'], { downBlock: 4 }, 'quant.reconstruct', /"none" with quant.hadamard/],
  [['quant', 'layers'], [], 'quant.layers', /2 layers/],
  [['quant', 'layers', 1, 'oAct'], 0, 'quant.layers[1].oAct', />0/],
  [['quant', 'layers', 1, 'oAct'], Number.POSITIVE_INFINITY, 'quant.layers[1].oAct', /finite/],
  [['quant', 'layers', 1, 'downAct'], undefined, 'quant.layers[1].downAct', /downAct/],
  [['quant', 'layers', 0, 'attnAct'], 0.5, 'quant.layers[0].attnAct', /the norm carries the step/],
  [['quant', 'layers', 0, 'attnInputs'], 80, 'quant.layers[0].attnInputs', /a multiple of 32 from 32 to 256/],
  [['quant', 'layers', 0, 'mlpInputs'], 288, 'quant.layers[0].mlpInputs', /a multiple of 32 from 32 to 256/],
  [
    ['quant', 'layers', 0, 'mlpOffsets'],
    true,
    'quant.layers[0].mlpOffsets',
    /false for the reconstruction pad/,
  ],
  [['denseDtype'], 'BF16', 'denseDtype', /F16.*F32/],
  [['maxTensorBytes'], 2 ** 27, 'maxTensorBytes', /at most 67108864/],
  [['maxTensorBytes'], 100, 'maxTensorBytes', /at least 128, one row of embed.weight/],
  [['shards'], [], 'shards', /at least one shard/],
  [['shards', 0, 'name'], '../shard', 'shards[0].name', /a plain file name/],
  [['shards', 0, 'name'], '.hidden', 'shards[0].name', /a plain file name/],
  [['shards', 0, 'name'], 'a/b', 'shards[0].name', /a plain file name/],
  [['shards', 0, 'name'], 'a%2Fb', 'shards[0].name', /a plain file name/],
  [['shards', 0, 'name'], 'Manifest.json', 'shards[0].name', /each file name once/],
  [['shards', 1, 'name'], 'shard-00001.safetensors', 'shards[1].name', /each file name once/],
  [['tokenizerFiles', 0, 'name'], 'shard-00001.safetensors', 'tokenizerFiles[0].name', /each file name once/],
  [['tokenizerFiles', 0, 'bytes'], 2 ** 30, 'tokenizerFiles[0].bytes', /at most 134217728/],
  [['shards', 0, 'bytes'], 2 ** 26 + 1, 'shards[0].bytes', /at most 67108864/],
  [['shards', 0, 'bytes'], -1, 'shards[0].bytes', />=1/],
  [['shards', 0, 'bytes'], 10, 'shards', /\d+ to \d+ bytes in all/],
  [['shards', 0, 'bytes'], 2 ** 26, 'shards', /\d+ to \d+ bytes in all/],
  [['shards', 0, 'sha256'], 'A'.repeat(64), 'shards[0].sha256', /64 lower-case hexadecimal digits/],
  [['provenance'], null, 'provenance', /Object/],
];

describe('a bad manifest is refused with path, expectation and value', () => {
  test.each(wrong)('%j = %j', (path, value, where, expected) => {
    try {
      parseManifest(withValue(path, value), 'manifest.json');
      expect.fail('parsed');
    } catch (error) {
      expect(error).toBeInstanceOf(ManifestError);
      const problem = error as ManifestError;
      expect(problem.where).toBe(where);
      expect(problem.expected).toMatch(expected);
      expect(problem.file).toBe('manifest.json');
    }
  });

  test.each([null, [], 'x', 3, undefined])('%j is no manifest', (json) => {
    expect(() => parseManifest(json, 'm')).toThrow(/m: expected a JSON object/);
  });

  test('schemes and quant must agree', () => {
    const quant = tinyManifest('mergequant').quant;
    expect(() => parseManifest(withValue(['quant'], quant, 'fp16'), 'm')).toThrow(/quant: expected null for/);
    const padded = withValue(['quant', 'layers', 0, 'attnInputs'], 96, 'rtn-dynamic');
    expect(() => parseManifest(padded, 'm')).toThrow(
      /attnInputs: expected 64, the padded hidden size, found 96/,
    );
    const split = withValue(['quant', 'reconstruct'], 'pad', 'rtn-dynamic');
    expect(() => parseManifest(split, 'm')).toThrow(/quant.reconstruct: expected "none"/);
  });

  test('a config that would need countless tensors is refused before they are listed', () => {
    const manifest = tinyManifest('fp16');
    const sizes = { vocabSize: 2_000_000, intermediateSize: 500_000, numLayers: 1000 };
    Object.assign(manifest.config as object, sizes);
    manifest.maxTensorBytes = 1_000_000;
    expect(() => parseManifest(manifest, 'm')).toThrow(
      /maxTensorBytes: expected a size that gives at most 65536/,
    );
  });
});

test('whatever the JSON, nothing but a ManifestError', () => {
  const paths = wrong.map(([path]) => path);
  const value = fc.oneof(
    fc.jsonValue(),
    fc.double(),
    fc.constant(undefined),
    fc.constant({ __proto__: null }),
  );
  fc.assert(
    fc.property(
      fc.constantFrom(...schemeNames.slice(1)),
      fc.constantFrom(...paths),
      value,
      (scheme, path, replacement) => {
        try {
          parseManifest(withValue(path, replacement, scheme), 'm');
        } catch (error) {
          expect(error).toBeInstanceOf(ManifestError);
        }
      },
    ),
    { numRuns: 2000 },
  );
});

test('large matrices are expected in row blocks', () => {
  const tensors = expectedStoredTensors(parseManifest(tinyManifest('fp16'), 'm'));
  expect(tensors.has('embed.weight')).toBe(false); // 512 rows of 128 bytes, 312 of them in 40,000 bytes
  expect(tensors.get('embed.weight.rows.0')).toMatchObject({ rowStart: 0, rows: 312 });
  expect(tensors.get('embed.weight.rows.312')).toMatchObject({ rowStart: 312, rows: 200, bytes: 25_600 });
});

/** Bad artifacts by name, one per rule: how a valid manifest or header is broken, and what the refusal must say. */

export interface BadManifest {
  readonly name: string;
  /** JSON path of what is changed, such as `config.headDim`; `[n]` indexes. */
  readonly path: string;
  /** The bad value; `undefined` removes the key. */
  readonly value: unknown;
  readonly message: RegExp;
}

const hash = 'a'.repeat(64);

export const badManifests: readonly BadManifest[] = [
  { name: 'another format', path: 'format', value: 'gguf', message: /format: expected "mergequant"/ },
  { name: 'a newer version', path: 'version', value: 3, message: /version: expected 2, the newest/ },
  { name: 'a version of zero', path: 'version', value: 0, message: /version: expected 1 or 2/ },
  { name: 'an unknown key', path: 'surprise', value: 1, message: /surprise/ },
  { name: 'no config', path: 'config', value: undefined, message: /config/ },
  { name: 'an unknown scheme', path: 'scheme', value: 'int2', message: /scheme/ },
  { name: 'a negative size', path: 'config.hiddenSize', value: -64, message: /hiddenSize/ },
  { name: 'a fractional size', path: 'config.hiddenSize', value: 64.5, message: /hiddenSize/ },
  { name: 'a size beyond safe integers', path: 'config.vocabSize', value: 2 ** 60, message: /vocabSize/ },
  {
    name: 'a size over the cap',
    path: 'config.vocabSize',
    value: 2 ** 22,
    message: /vocabSize: expected an integer/,
  },
  { name: 'a size as text', path: 'config.numLayers', value: '2', message: /numLayers/ },
  { name: 'an odd head size', path: 'config.headDim', value: 7, message: /headDim: expected an even number/ },
  {
    name: 'heads that do not divide',
    path: 'config.numKvHeads',
    value: 3,
    message: /numKvHeads: expected a divisor/,
  },
  { name: 'an epsilon of zero', path: 'config.rmsNormEps', value: 0, message: /rmsNormEps/ },
  {
    name: 'a token outside the vocabulary',
    path: 'config.eosTokenIds',
    value: [512],
    message: /eosTokenIds/,
  },
  { name: 'a prototype as config', path: 'config.__proto__', value: {}, message: /__proto__|config/ },
  {
    name: 'a file above the folder',
    path: 'shards[0].name',
    value: '../x.safetensors',
    message: /a plain file name/,
  },
  {
    name: 'a file on another server',
    path: 'shards[0].name',
    value: 'https://a.example/x',
    message: /a plain file name/,
  },
  { name: 'a file on a drive', path: 'shards[0].name', value: 'C:\\x', message: /a plain file name/ },
  { name: 'a hidden file', path: 'shards[0].name', value: '.htaccess', message: /a plain file name/ },
  {
    name: 'a file called manifest.json',
    path: 'shards[0].name',
    value: 'MANIFEST.json',
    message: /each file name once/,
  },
  {
    name: 'a short hash',
    path: 'shards[0].sha256',
    value: hash.slice(1),
    message: /64 lower-case hexadecimal/,
  },
  { name: 'a shard over the cap', path: 'shards[0].bytes', value: 2 ** 30, message: /at most/ },
  { name: 'a shard of no bytes', path: 'shards[0].bytes', value: 0, message: /bytes/ },
  {
    name: 'a shard larger than its tensors',
    path: 'shards[0].bytes',
    value: 2 ** 25,
    message: /bytes in all/,
  },
  { name: 'no shards', path: 'shards', value: [], message: /at least one shard/ },
  { name: 'a tokenizer file of 1 TB', path: 'tokenizerFiles[0].bytes', value: 1e12, message: /at most/ },
  { name: 'a row larger than a tensor may be', path: 'maxTensorBytes', value: 16, message: /one row of/ },
  { name: 'a layer missing', path: 'quant.layers', value: [], message: /quant\.layers: expected 2 layers/ },
  { name: 'a scale of zero', path: 'quant.layers[0].oAct', value: 0, message: /oAct/ },
  { name: 'a negative scale', path: 'quant.layers[0].oAct', value: -1, message: /oAct/ },
  { name: '2-bit weights', path: 'quant.weightBits', value: 2, message: /weightBits/ },
  {
    name: '3-bit weights without a grid',
    path: 'quant.weightBits',
    value: 3,
    message: /quant\.weightGrid: expected an object for 3-bit weights/,
  },
  {
    name: 'a weight grid in version 1',
    path: 'quant.weightGrid',
    value: { groupSize: 128 },
    message: /version: expected 2, which quant\.weightGrid belongs to/,
  },
  {
    name: 'groups that cut a load',
    path: 'quant.weightGrid',
    value: { groupSize: 48 },
    message: /groupSize: expected null or a multiple of 32/,
  },
  { name: 'groups of none', path: 'quant.weightGrid', value: { groupSize: 0 }, message: /groupSize/ },
  {
    name: 'groups whose sums overflow',
    path: 'quant.weightGrid',
    value: { groupSize: 2 ** 20 },
    message: /groupSize: expected null or a multiple of 32 up to 131072/,
  },
  { name: 'a grid of unknown kind', path: 'quant.weightGrid', value: { size: 128 }, message: /weightGrid/ },
  { name: '4-bit embeddings', path: 'embeddingBits', value: 4, message: /embeddingBits/ },
  { name: 'head bits as text', path: 'headBits', value: '8', message: /headBits/ },
  {
    name: '8-bit embeddings in version 1',
    path: 'embeddingBits',
    value: 8,
    message: /version: expected 2, which embeddingBits belongs to/,
  },
  {
    name: 'an 8-bit head in version 1',
    path: 'headBits',
    value: 8,
    message: /version: expected 2, which headBits belongs to/,
  },
  { name: 'inputs not padded', path: 'quant.layers[0].attnInputs', value: 65, message: /attnInputs/ },
  {
    name: 'inputs beyond any gather',
    path: 'quant.layers[0].attnInputs',
    value: 32 * 2 ** 20,
    message: /attnInputs/,
  },
  {
    name: 'no quantization for a quantized scheme',
    path: 'quant',
    value: null,
    message: /quant: expected an object/,
  },
  { name: 'a name of 10 kB', path: 'name', value: 'x'.repeat(10_000), message: /at most 200 characters/ },
];

export interface BadHeader {
  readonly name: string;
  /** The header's JSON text. */
  readonly json: string;
  /** Bytes after the header. */
  readonly dataBytes: number;
  /** Says another length than the text's. */
  readonly claimedBytes?: bigint;
  readonly message: RegExp;
}

const tensor = (begin: number, end: number, extra = '') =>
  `{"dtype":"F32","shape":[${(end - begin) / 4}],"data_offsets":[${begin},${end}]${extra}}`;

export const badHeaders: readonly BadHeader[] = [
  { name: 'no JSON', json: 'hello', dataBytes: 0, message: /JSON in UTF-8/ },
  { name: 'an array', json: '[]', dataBytes: 0, message: /JSON object/ },
  { name: 'a length of 2^63', json: '{}', dataBytes: 0, claimedBytes: 2n ** 63n, message: /header length/ },
  {
    name: 'a length beyond the file',
    json: '{}',
    dataBytes: 0,
    claimedBytes: 1000n,
    message: /header length/,
  },
  {
    name: 'a tensor twice',
    json: `{"a":${tensor(0, 4)},"a":${tensor(0, 4)}}`,
    dataBytes: 4,
    message: /name twice/,
  },
  {
    name: 'a tensor called __proto__',
    json: `{"__proto__":${tensor(0, 4)}}`,
    dataBytes: 4,
    message: /__proto__/,
  },
  {
    name: 'an unknown dtype',
    json: '{"a":{"dtype":"F8","shape":[4],"data_offsets":[0,4]}}',
    dataBytes: 4,
    message: /a: .*dtype|a\b/,
  },
  {
    name: 'offsets that overlap',
    json: `{"a":${tensor(0, 8)},"b":${tensor(4, 12)}}`,
    dataBytes: 12,
    message: /b/,
  },
  { name: 'a hole', json: `{"a":${tensor(0, 4)},"b":${tensor(8, 12)}}`, dataBytes: 12, message: /b/ },
  {
    name: 'bytes that belong to no tensor',
    json: `{"a":${tensor(0, 4)}}`,
    dataBytes: 8,
    message: /expected/,
  },
  { name: 'offsets beyond the file', json: `{"a":${tensor(0, 400)}}`, dataBytes: 4, message: /a/ },
  {
    name: 'offsets that run backwards',
    json: '{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}',
    dataBytes: 4,
    message: /a/,
  },
  {
    name: 'a shape whose product overflows',
    json: '{"a":{"dtype":"F32","shape":[9007199254740991,9007199254740991],"data_offsets":[0,4]}}',
    dataBytes: 4,
    message: /a/,
  },
  {
    name: 'a shape of negative sizes',
    json: '{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}',
    dataBytes: 4,
    message: /a/,
  },
  {
    name: 'metadata that is no text',
    json: `{"__metadata__":{"a":1},"a":${tensor(0, 4)}}`,
    dataBytes: 4,
    message: /__metadata__/,
  },
  { name: 'invalid UTF-8', json: '{"\uDC00":1}', dataBytes: 0, message: /expected/ },
];

/** A safetensors file of a {@link BadHeader}. */
export function badHeaderFile({ json, dataBytes, claimedBytes }: BadHeader): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(json);
  const file = new Uint8Array(8 + text.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, claimedBytes ?? BigInt(text.length), true);
  file.set(text, 8);
  return file;
}

/** A copy of `manifest` with `value` at `path`. */
export function withValueAt(
  manifest: unknown,
  { path, value }: Pick<BadManifest, 'path' | 'value'>,
): unknown {
  const copy = JSON.parse(JSON.stringify(manifest)) as Record<string, unknown>;
  const keys = path.split(/[.[\]]+/).filter((key) => key !== '');
  const last = keys.pop()!;
  let parent = copy;
  for (const key of keys) parent = parent[key] as Record<string, unknown>;
  if (value === undefined) delete parent[last];
  else Object.defineProperty(parent, last, { value, enumerable: true, configurable: true, writable: true });
  return copy;
}

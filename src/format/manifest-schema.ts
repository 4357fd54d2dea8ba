/** The manifest's structure: which keys there are and what types they have. What the values mean is checked elsewhere. */
import * as v from 'valibot';
import { reconstructModes, schemeNames } from './scheme';

const finite = v.pipe(v.number(), v.finite());
const positive = v.pipe(finite, v.gtValue(0));
const count = v.pipe(v.number(), v.safeInteger(), v.minValue(1));
const tokenId = v.pipe(v.number(), v.safeInteger(), v.minValue(0));

/** Plain names only: no folder, no leading dot, nothing that a URL or a file system would read otherwise. */
export const fileNamePattern = /^(?!\.)[A-Za-z0-9._-]{1,128}$/;

const fileEntry = v.strictObject({
  name: v.pipe(
    v.string(),
    v.regex(fileNamePattern, 'a plain file name of letters, digits, "-", "_" and "."'),
  ),
  bytes: count,
  sha256: v.pipe(v.string(), v.regex(/^[0-9a-f]{64}$/, '64 lower-case hexadecimal digits')),
});

const ropeScaling = v.variant('type', [
  v.strictObject({ type: v.literal('linear'), factor: finite }),
  v.strictObject({
    type: v.literal('llama3'),
    factor: finite,
    lowFreqFactor: finite,
    highFreqFactor: finite,
    originalMaxPositionEmbeddings: count,
  }),
]);

const config = v.strictObject({
  hiddenSize: count,
  intermediateSize: count,
  numLayers: count,
  numHeads: count,
  numKvHeads: count,
  headDim: count,
  vocabSize: count,
  maxPositionEmbeddings: count,
  rmsNormEps: positive,
  ropeTheta: positive,
  ropeScaling: v.nullable(ropeScaling),
  tieWordEmbeddings: v.boolean(),
  attentionBias: v.boolean(),
  mlpBias: v.boolean(),
  bosTokenId: v.nullable(tokenId),
  eosTokenIds: v.array(tokenId),
});

const layer = v.strictObject({
  attnInputs: count,
  mlpInputs: count,
  attnOffsets: v.boolean(),
  mlpOffsets: v.boolean(),
  attnAct: positive,
  oAct: positive,
  mlpAct: positive,
  downAct: positive,
});

const quant = v.strictObject({
  actBits: v.picklist([4, 8]),
  weightBits: v.picklist([3, 4]),
  weightGrid: v.optional(v.nullable(v.strictObject({ groupSize: v.nullable(count) })), null),
  reconstruct: v.picklist(reconstructModes),
  alpha: v.nullable(positive),
  hadamard: v.optional(v.nullable(v.strictObject({ downBlock: count })), null),
  zeroPoints: v.optional(v.literal(true)),
  prefix: v.optional(v.strictObject({ ids: v.pipe(v.array(tokenId), v.minLength(1, 'at least one token')) })),
  layers: v.array(layer),
});

export const manifestSchema = v.strictObject({
  format: v.literal('mergequant'),
  version: v.picklist([1, 2]),
  name: v.pipe(v.string(), v.minLength(1, 'a name'), v.maxLength(200, 'at most 200 characters')),
  config,
  scheme: v.picklist(schemeNames),
  quant: v.nullable(quant),
  denseDtype: v.picklist(['F16', 'F32']),
  embeddingBits: v.optional(v.literal(8)),
  headBits: v.optional(v.literal(8)),
  maxTensorBytes: count,
  shards: v.pipe(
    v.array(fileEntry),
    v.minLength(1, 'at least one shard'),
    v.maxLength(10_000, 'at most 10000 shards'),
  ),
  tokenizerFiles: v.pipe(v.array(fileEntry), v.maxLength(16, 'at most 16 tokenizer files')),
  provenance: v.record(v.string(), v.unknown()),
});

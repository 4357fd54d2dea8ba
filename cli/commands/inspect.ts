import type { Command } from 'commander';
import { meanClipRatios } from '../../src/format/clip-ratios';
import type { LayerSpec, Manifest, QuantSpec } from '../../src/format/manifest';
import { type SchemeModes, schemeModes } from '../../src/format/scheme';
import { type TensorSpec, tensorBytes, tensorSpecs } from '../../src/format/tensors';
import { bytesText } from '../../src/gpu/bytes-text';
import { readManifest } from '../artifact-folder';
import { print, table } from '../text';

/** `mergequant inspect`: what an artifact says about itself. Reads the manifest only; `verify` reads the rest. */
export function register(program: Command): void {
  program
    .command('inspect')
    .description('show what an artifact holds: config, scheme, layers, files, provenance')
    .argument('<artifact>', 'folder with a manifest.json')
    .option('--json', 'print the same as JSON')
    .action(async (folder: string, flags: { json?: boolean }) => {
      const manifest = await readManifest(folder);
      print(flags.json ? JSON.stringify(inspection(manifest), null, 1) : inspectionText(manifest));
    });
}

export interface Inspection extends Omit<Manifest, 'format'> {
  readonly modes: SchemeModes;
  /** Elements of embedding, linears, norms and head before quantization. */
  readonly parameters: number;
  /** Stored bits per weight of the linears, scales included. */
  readonly bitsPerLinearWeight: number;
  readonly bytes: { readonly shards: number; readonly tokenizer: number; readonly linears: number };
}

const linearPattern = /\.(qkv|o|gate_up|down)\.(weight|scale|grid)$/;

function bytesOf(specs: readonly TensorSpec[]): number {
  return specs.reduce((sum, spec) => sum + tensorBytes(spec), 0);
}

function elementsOf(specs: readonly TensorSpec[]): number {
  return specs.reduce((sum, { shape }) => sum + shape.reduce((product, size) => product * size, 1), 0);
}

/** The manifest and what follows from it. */
export function inspection({ format: _, ...manifest }: Manifest): Inspection {
  const floatSpecs = tensorSpecs({ ...manifest, scheme: 'fp16', quant: null });
  const isLinear = ({ name }: TensorSpec) => linearPattern.test(name);
  const linears = bytesOf(tensorSpecs(manifest).filter(isLinear));
  const sum = (files: Manifest['shards']) => files.reduce((total, { bytes }) => total + bytes, 0);
  return {
    ...manifest,
    modes: schemeModes[manifest.scheme],
    parameters: elementsOf(floatSpecs),
    bitsPerLinearWeight: (8 * linears) / elementsOf(floatSpecs.filter(isLinear)),
    bytes: { shards: sum(manifest.shards), tokenizer: sum(manifest.tokenizerFiles), linears },
  };
}

/** `F16`, `8 bits, F16`, `F16, tied` */
function tableText({ denseDtype, embeddingBits, headBits, config }: Manifest): string {
  const [embedding, head] = [embeddingBits, headBits].map((bits) => (bits ? `${bits} bits` : denseDtype));
  if (config.tieWordEmbeddings) return `${embedding}, tied`;
  return embedding === head ? `${embedding}` : `${embedding}, ${head}`;
}

/** The same for people. */
function inspectionText(manifest: Manifest): string {
  const facts = inspection(manifest);
  const { config, quant, shards, bytes } = facts;
  const group = config.numHeads / config.numKvHeads;
  const lines = [
    `${facts.name} (format version ${facts.version})`,
    `scheme          ${facts.scheme}${quant ? `, W${quant.weightBits}A${quant.actBits}` : ''}`,
    `activations     ${facts.modes.norm} behind norms, ${facts.modes.projection} in front of o and down`,
    `parameters      ${facts.parameters.toLocaleString('en-US')}`,
    `linears         ${facts.bitsPerLinearWeight.toFixed(3)} bits a weight, ${bytesText(bytes.linears)}`,
    `embedding, head ${tableText(manifest)}`,
    `shape           ${config.numLayers} layers, hidden ${config.hiddenSize}, FFN ${config.intermediateSize}, vocabulary ${config.vocabSize}`,
    `attention       ${config.numHeads} heads of ${config.headDim}, ${config.numKvHeads} key-value heads (${group} to 1)`,
    `positions       ${config.maxPositionEmbeddings}, RoPE theta ${config.ropeTheta}, scaling ${config.ropeScaling?.type ?? 'none'}`,
    `shards          ${shards.length}, ${bytesText(bytes.shards)}; tokenizer ${bytesText(bytes.tokenizer)}`,
  ];
  if (quant) {
    lines.push(`reconstruction  ${quant.reconstruct}${quant.alpha === null ? '' : `, alpha ${quant.alpha}`}`);
    lines.push(`rotations       ${rotationText(quant)}`);
    lines.push(`weight levels   ${levelsText(quant)}`);
    if (quant.zeroPoints) lines.push('zero points     behind norms, taken off again by biases');
    if (quant.prefix) lines.push(`float prefix    tokens ${quant.prefix.ids.join(' ')}`);
    lines.push('', layerTable(quant.layers, facts.provenance));
  }
  const files = [...shards, ...facts.tokenizerFiles].map((f) => [
    f.name,
    bytesText(f.bytes),
    f.sha256.slice(0, 16),
  ]);
  lines.push('', table(['file', 'size', 'SHA-256'], files), '', 'provenance');
  const { clipRatios: _, ...rest } = facts.provenance; // in the table above
  for (const [key, value] of Object.entries(rest)) lines.push(`  ${key}: ${JSON.stringify(value)}`);
  return lines.join('\n');
}

function rotationText({ hadamard }: QuantSpec): string {
  if (hadamard === null) return 'none';
  return `Hadamard in the weights, Walsh blocks of ${hadamard.downBlock} in front of down_proj`;
}

function levelsText({ weightBits, weightGrid }: QuantSpec): string {
  if (weightGrid === null) return `${2 ** weightBits} around 0, one scale a row`;
  const { groupSize } = weightGrid;
  return `${2 ** weightBits} with a zero point, a step for ${groupSize ? `each ${groupSize} inputs of a row` : 'each row'}`;
}

/**
 * K' of each norm, the mean clip ratio of its channels, and what quantizes each linear's input: a dynamic clip ratio, a static
 * step, or 1 for a merged one.
 */
function layerTable(layers: readonly LayerSpec[], provenance: unknown): string {
  const acts = ['attn act', 'o act', 'mlp act', 'down act'];
  const header = ['layer', "K' attn", "K' mlp", 'offsets', 'attn clip', 'mlp clip', ...acts];
  const clips = meanClipRatios(provenance, layers.length);
  const clipText = (mean: number | null | undefined) => mean?.toFixed(2) ?? '–';
  const rows = layers.map((layer, i) => [
    String(i),
    String(layer.attnInputs),
    String(layer.mlpInputs),
    [layer.attnOffsets ? 'attn' : '', layer.mlpOffsets ? 'mlp' : ''].filter(Boolean).join(', ') || 'none',
    clipText(clips?.[i]?.attn),
    clipText(clips?.[i]?.mlp),
    ...[layer.attnAct, layer.oAct, layer.mlpAct, layer.downAct].map((act) =>
      String(Number(act.toPrecision(4))),
    ),
  ]);
  return table(header, rows);
}

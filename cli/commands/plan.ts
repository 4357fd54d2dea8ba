import { readFile } from 'node:fs/promises';
import { type Command, Option } from 'commander';
import type { LlamaConfig } from '../../src/format/config';
import { ConfigError, FormatError } from '../../src/format/errors';
import { parseHfConfig } from '../../src/format/hf-config';
import type { KvCacheChoice } from '../../src/format/kv-cache';
import { type MemoryPlan, planMemory } from '../../src/format/memory-plan';
import {
  type ReconstructMode,
  reconstructModes,
  type SchemeName,
  schemeNames,
} from '../../src/format/scheme';
import { type ModelShapeName, modelShapes } from '../../src/format/shapes';
import { maxGroupSize, type WeightGrid } from '../../src/format/weight-grid';
import { bytesText } from '../../src/gpu/bytes-text';
import { chunkTokensOption, kvCacheOption, persistentOption, tableBitsOption, wholeNumber } from '../options';
import { print, table } from '../text';

interface PlanFlags {
  readonly shape: string;
  readonly scheme: SchemeName;
  readonly context?: number;
  readonly actBits: '4' | '8';
  readonly weightBits: '3' | '4';
  readonly groupSize?: number;
  readonly reconstruct: ReconstructMode;
  readonly embeddingBits: 8 | 16;
  readonly headBits: 8 | 16;
  readonly kvCache: KvCacheChoice;
  readonly persistent?: boolean;
  readonly chunkTokens: number;
  readonly json?: boolean;
}

const defaultContext = 2048;

/** `mergequant plan`: what a model will take before anyone has downloaded or quantized it. */
export function register(program: Command): void {
  program
    .command('plan')
    .description('files, download and GPU memory of a model, against the limits of WebGPU')
    .requiredOption(
      '--shape <shape>',
      `${Object.keys(modelShapes).join(', ')}, or a Hugging Face config.json`,
    )
    .addOption(new Option('--scheme <scheme>', 'how to quantize').choices(schemeNames).default('mergequant'))
    .option('--context <tokens>', `tokens in the KV cache (default: ${defaultContext})`, wholeNumber(1))
    .addOption(new Option('--act-bits <bits>', 'bits of activations').choices(['4', '8']).default('4'))
    .addOption(new Option('--weight-bits <bits>', 'bits of weights').choices(['3', '4']).default('4'))
    .option('--group-size <n>', 'inputs that share a weight step (default: a row)', wholeNumber(32))
    .addOption(
      new Option('--reconstruct <mode>', 'how strong channels are split')
        .choices(reconstructModes)
        .default('pad'),
    )
    .addOption(tableBitsOption('embedding'))
    .addOption(tableBitsOption('head'))
    .addOption(kvCacheOption())
    .addOption(persistentOption())
    .addOption(chunkTokensOption(256))
    .option('--json', 'print the plan as JSON')
    .action(runPlan);
}

async function runPlan(flags: PlanFlags): Promise<void> {
  const config = await loadShape(flags.shape);
  const plan = planMemory({
    config,
    scheme: flags.scheme,
    contextLength: flags.context ?? Math.min(defaultContext, config.maxPositionEmbeddings),
    chunkTokens: Math.min(flags.chunkTokens, config.maxPositionEmbeddings),
    actBits: flags.actBits === '8' ? 8 : 4,
    weightBits: flags.weightBits === '3' ? 3 : 4,
    weightGrid: weightGridOf(flags),
    reconstruct: flags.reconstruct,
    embeddingBits: flags.embeddingBits,
    headBits: flags.headBits,
    kvCache: flags.kvCache,
    persistentDecode: flags.persistent ?? false,
  });
  print(
    flags.json
      ? JSON.stringify({ shape: flags.shape, config, ...plan }, null, 1)
      : planText(flags.shape, plan),
  );
}

/** As `prepare` chooses it: 3 bits and groups need levels with zero points. @throws FormatError */
function weightGridOf({ weightBits, groupSize }: PlanFlags): WeightGrid | null {
  if (groupSize !== undefined && (groupSize % 32 !== 0 || groupSize > maxGroupSize)) {
    throw new FormatError(`group size: expected a multiple of 32 up to ${maxGroupSize}, found ${groupSize}`);
  }
  return weightBits === '3' || groupSize !== undefined ? { groupSize: groupSize ?? null } : null;
}

/** @throws ConfigError if `shape` is neither a known name nor a config.json that can be run */
async function loadShape(shape: string): Promise<LlamaConfig> {
  if (Object.hasOwn(modelShapes, shape)) return modelShapes[shape as ModelShapeName];
  const refuse = (found: string): never => {
    const expected = `${Object.keys(modelShapes).join(', ')}, or a config.json`;
    throw new ConfigError({ file: shape, where: '', expected, found });
  };
  let json: unknown;
  try {
    json = JSON.parse(await readFile(shape, 'utf8'));
  } catch (error) {
    return refuse(error instanceof Error ? error.message : String(error));
  }
  return parseHfConfig(json, shape);
}

function planText(shape: string, plan: MemoryPlan): string {
  const bits = plan.actBits === null ? '' : `, W${plan.weightBits}A${plan.actBits}`;
  const { files, largestBinding, largestMatrix } = plan;
  const buffers = plan.buffers.map(({ label, category, count, largestBytes, totalBytes }) => {
    return [label, category, String(count), bytesText(largestBytes), bytesText(totalBytes)];
  });
  const categories = Object.entries(plan.bytesByCategory).map(([name, bytes]) => [name, bytesText(bytes)]);
  const limits = plan.limits.map(({ name, maxStorageBufferBindingSize, maxBufferSize, fits }) => {
    return [name, bytesText(maxStorageBufferBindingSize), bytesText(maxBufferSize), fits ? 'yes' : 'no'];
  });
  return [
    `${shape}, ${plan.scheme}${bits}, ${plan.contextLength} tokens of context (${plan.kvCache} key-value cache), prefill in chunks of ${plan.chunkTokens}`,
    '',
    `download: ${files.shards} shards, ${files.tensors} tensors, ${bytesText(files.downloadBytes)} (${files.downloadBytes} bytes)`,
    `GPU memory: ${bytesText(plan.gpuBytes)} (${plan.gpuBytes} bytes)`,
    '',
    table(['category', 'GPU memory'], categories),
    '',
    table(['buffers', 'category', 'count', 'largest', 'total'], buffers),
    '',
    `largest matrix: ${largestMatrix.label}, ${bytesText(largestMatrix.bytes)}`,
    `largest binding, with matrices split by rows: ${largestBinding.label}, ${bytesText(largestBinding.bytes)}`,
    '',
    table(['limits', 'binding', 'buffer', 'fits'], limits),
    '',
    ...plan.assumptions.map((text) => `note: ${text}`),
  ].join('\n');
}

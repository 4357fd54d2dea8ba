/** Everything an engine allocates and compiles before its first reply. */
import { BufferArena, GpuMemoryError } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { PipelineCache } from '../gpu/pipelines';
import type { KernelContext } from '../kernels/op';
import { canFuseDecode } from '../model/forward-decode';
import { createScratch, type Scratch } from '../model/scratch';
import type { ModelWeights } from '../model/weights';
import { type TunedDecode, tuneDecode } from './decode-tuning';
import { DraftVerifier } from './draft-verifier';
import type { Drafting } from './drafting';
import { FloatPrefix } from './float-prefix';
import { LayerCheck } from './layer-check';
import type { ResolvedOptions } from './options';
import { buildPasses, type Passes } from './passes';
import { type PersistentState, tryPersistentDecode } from './persistent-decode';
import { createDrawArgs, type DrawArgs } from './sampler';

export interface EngineParts {
  readonly context: KernelContext;
  readonly scratch: Scratch;
  readonly draw: DrawArgs;
  readonly tuned: TunedDecode | null;
  /** Without the whole-token kernel. */
  readonly passes: Passes;
  readonly persistent: PersistentState | null;
  readonly drafting: Drafting | null;
  readonly check: LayerCheck | null;
  readonly prefix: FloatPrefix | null;
}

/** Leaves nothing allocated when it fails. @throws GpuMemoryError, ShaderError */
export async function buildParts(
  gpu: Gpu,
  weights: ModelWeights,
  options: ResolvedOptions,
): Promise<EngineParts> {
  const arena = new BufferArena(gpu.device);
  const context: KernelContext = { gpu, pipelines: PipelineCache.of(gpu), arena };
  try {
    const { scratch, draw } = await allocate(context, weights, options);
    const tuned = await tryTuning(context, weights, scratch, options);
    const passes = await buildPasses(context, weights, scratch, draw, tuned?.tuning);
    const persistent = await tryPersistent(context, weights, scratch, passes, options);
    const check = weights.checked ? new LayerCheck(gpu.device, scratch, weights.checked) : null;
    const drafting = await buildDrafting(context, weights, scratch, options);
    const prefix = await FloatPrefix.create(context, weights, scratch);
    return { context, scratch, draw, tuned, passes, persistent, drafting, check, prefix };
  } catch (error) {
    arena.destroy();
    throw error;
  }
}

async function allocate(
  { gpu, arena }: KernelContext,
  weights: ModelWeights,
  { contextLength, chunkTokens, kvCache, persistentDecode }: ResolvedOptions,
): Promise<{ scratch: Scratch; draw: DrawArgs }> {
  gpu.device.pushErrorScope('out-of-memory');
  const { software } = gpu.caps;
  const packed = persistentDecode !== null;
  const scratch = createScratch(arena, weights, contextLength, chunkTokens, { software, kvCache, packed });
  const draw = createDrawArgs(arena, scratch, weights.layout.config.vocabSize);
  const error = await gpu.device.popErrorScope();
  if (error) throw new GpuMemoryError('KV cache and scratch', arena.totalBytes, error.message);
  return { scratch, draw };
}

/** Tunes decode where that was asked for and its products are fused. */
async function tryTuning(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  { tune }: ResolvedOptions,
): Promise<TunedDecode | null> {
  if (!tune || !canFuseDecode(context.gpu, weights, scratch)) return null;
  return tuneDecode({ context, weights, scratch }, tune.store);
}

/** Tries the whole-token kernel where it was asked for. */
async function tryPersistent(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  { decode }: Passes,
  { persistentDecode }: ResolvedOptions,
): Promise<PersistentState | null> {
  if (!persistentDecode) return null;
  if (weights.checked) return { isOn: false, reason: 'the layer check looks between dispatches' };
  return tryPersistentDecode({ context, weights, scratch, ordinary: decode }, persistentDecode);
}

async function buildDrafting(
  context: KernelContext,
  weights: ModelWeights,
  scratch: Scratch,
  { promptLookup: most }: ResolvedOptions,
): Promise<Drafting | null> {
  if (most === 0) return null;
  return { verifier: await DraftVerifier.create(context, weights, scratch, most), most };
}

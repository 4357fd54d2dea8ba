/** One dispatch of a kernel: which pipeline, on which buffers, over which grid. */
import type { BufferArena, GpuMemory } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import type { PipelineCache, PipelineSpec } from '../gpu/pipelines';

/** What a kernel wrapper needs to build an {@link Op}. */
export interface KernelContext {
  readonly gpu: Gpu;
  readonly pipelines: PipelineCache;
  /** Owns the small uniform buffers that wrappers create. */
  readonly arena: BufferArena;
}

/** Workgroup counts in x, y, z. */
export type Grid = readonly [x: number, y: number, z: number];

export interface Op {
  readonly label: string;
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  /** Workgroup counts for a pass over `numTokens` tokens. */
  readonly grid: (numTokens: number) => Grid;
  /** What is complete once this operation has run, where that is something to look at. */
  readonly completes?: LayerPoint;
}

/** A point of a pass: after a layer's q,k,v product, its attention half, SwiGLU's gate, or all of it (−1: the embedding). */
export interface LayerPoint {
  readonly layer: number;
  readonly stage: 'qkv' | 'attention' | 'gated' | 'output';
}

export interface OpSpec extends PipelineSpec {
  /** Resources of `@group(0)` in binding order: 0, 1, 2, … */
  readonly bindings: readonly GpuMemory[];
  readonly grid: (numTokens: number) => Grid;
}

/** Compiles (or finds) the pipeline and builds the bind group. Done once per model, never per token. */
export async function makeOp(context: KernelContext, spec: OpSpec): Promise<Op> {
  const pipeline = await context.pipelines.get(spec);
  const entries = spec.bindings.map((resource, binding) => ({
    binding,
    resource: 'buffer' in resource ? resource : { buffer: resource },
  }));
  const layout = pipeline.getBindGroupLayout(0);
  const bindGroup = context.gpu.device.createBindGroup({ label: spec.label, layout, entries });
  return { label: spec.label, pipeline, bindGroup, grid: spec.grid };
}

/** The same operations, the last of them marked as completing `point`. */
export function completing(
  ops: readonly Promise<Op | readonly Op[]>[],
  layer: number,
  stage: LayerPoint['stage'],
): Promise<Op[]> {
  return Promise.all(ops).then((built) => {
    const flat = built.flat();
    return flat.map((op, i) => (i === flat.length - 1 ? { ...op, completes: { layer, stage } } : op));
  });
}

/** Records one dispatch; a grid with an empty side records nothing. */
export function encodeOp(pass: GPUComputePassEncoder, op: Op, numTokens: number): void {
  const [x, y, z] = op.grid(numTokens);
  if (x === 0 || y === 0 || z === 0) return;
  pass.setPipeline(op.pipeline);
  pass.setBindGroup(0, op.bindGroup);
  pass.dispatchWorkgroups(x, y, z);
}

/** A kernel was given buffers or sizes that do not fit each other. */
export class KernelShapeError extends Error {
  override readonly name = 'KernelShapeError';
}

/** @throws KernelShapeError naming the kernel and what was expected. */
export function requireShape(condition: boolean, kernel: string, expected: string): asserts condition {
  if (!condition) throw new KernelShapeError(`${kernel}: expected ${expected}`);
}

/** Grid of `count` workgroups folded into x and y so that neither exceeds 65,535 (WebGPU's default limit). */
export function foldGrid(count: number): readonly [x: number, y: number] {
  const x = Math.min(count, 32768);
  return [x, Math.ceil(count / Math.max(1, x))];
}

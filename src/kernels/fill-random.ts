import source from '../../shaders/fill_random.wgsl?raw';
import type { GpuMemory } from '../gpu/arena';
import { foldGrid, type KernelContext, makeOp, type Op, requireShape } from './op';

const workgroup = 256;

/** What the words of a buffer mean. */
export type RandomContent =
  | { readonly kind: 'int4' }
  | { readonly kind: 'f16' | 'f32'; readonly center: number; readonly spread: number };

const modes = { int4: 0, f16: 1, f32: 2 } as const;

/** Fills a whole buffer with reproducible random contents; same seed, same bits on every GPU. */
export function fillRandom(
  context: KernelContext,
  args: { readonly buffer: GpuMemory; readonly seed: number; readonly content: RandomContent },
): Promise<Op> {
  const { buffer, seed, content } = args;
  const words = buffer.size / 4;
  requireShape(Number.isInteger(words) && words > 0, 'fill_random', `whole words, got ${buffer.size} bytes`);
  const { center, spread } = 'center' in content ? content : { center: 0, spread: 0 };
  const params = context.arena.uniform('fill_random.params', {
    words,
    seed,
    center: { f32: center },
    spread: { f32: spread },
  });
  return makeOp(context, {
    label: 'fill_random',
    source,
    constants: { MODE: modes[content.kind], WORKGROUP: workgroup },
    bindings: [params, buffer],
    grid: () => [...foldGrid(Math.ceil(words / workgroup)), 1],
  });
}

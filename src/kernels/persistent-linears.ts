import linearsSource from '../../shaders/persistent_linears.wgsl?raw';
import productSource from '../../shaders/persistent_product.wgsl?raw';
import weightsSource from '../../shaders/persistent_weights.wgsl?raw';
import dotSource from '../../shaders/w4_dot.wgsl?raw';
import { type KernelContext, makeOp, type Op, requireShape } from './op';
import {
  capacityPieces,
  mostSites,
  type ProductSite,
  siteWords,
  tailRounds,
  wordsPerSite,
} from './persistent-sites';

export interface LinearSite extends ProductSite {
  /** In `tokens`: [K'] integers of 8 bits; their scale is 1. A multiple of 16. */
  readonly tokenBytes: number;
  /** Float of `y` that is the first of [N]. */
  readonly yStart: number;
}

export interface PersistentLinearsArgs {
  readonly sites: readonly LinearSite[];
  /** Of `sites`, the first ones that are computed: all when left out. With 0, the dispatch alone is left. */
  readonly count?: number;
  /** One or two. */
  readonly weights: readonly GPUBuffer[];
  readonly tables: GPUBuffer;
  readonly tokens: GPUBuffer;
  readonly y: GPUBuffer; // f32
  readonly groups: number;
  readonly threads: number;
}

/**
 * The int4 products of a model, a token each, in one dispatch and independent of each other: how fast the whole-token kernel's
 * products are when nothing waits. The same bits as `linearW4`.
 * @throws KernelShapeError
 */
export function persistentLinears(context: KernelContext, args: PersistentLinearsArgs): Promise<Op> {
  const { sites, weights, tables, tokens, y, groups, threads, count = sites.length } = args;
  const label = 'persistent_linears';
  requireShape(context.gpu.caps.subgroups, label, 'subgroups');
  requireShape(sites.length <= mostSites, label, `at most ${mostSites} products, not ${sites.length}`);
  requireShape(weights.length === 1 || weights.length === 2, label, `1 or 2 buffers, not ${weights.length}`);
  const isWhole = sites.every(({ inputs, rows }) => inputs % 32 === 0 && rows % 2 === 0);
  requireShape(isWhole, label, "K' in multiples of 32 and an even number of rows");
  const inputs = sites.map((site) => site.inputs);
  const words = siteWords(sites);
  sites.forEach(({ tokenBytes, yStart }, i) => {
    words.set([tokenBytes / 16, yStart], wordsPerSite * (i + 1) - 2);
  });
  const table = context.arena.upload('persistent_linears.sites', words, {
    category: 'uniforms',
    usage: 0x40 | 0x8, // UNIFORM | COPY_DST
  });
  const params = context.arena.uniform('persistent_linears.params', { count });
  return makeOp(context, {
    label,
    source: [dotSource, weightsSource, productSource, linearsSource].join('\n'),
    enables: ['subgroups'],
    constants: {
      WORKGROUP: threads,
      CAPACITY: capacityPieces(Math.max(...inputs)),
      TAIL: tailRounds(context.gpu, inputs),
    },
    bindings: [params, table, tokens, weights[0]!, weights[1] ?? weights[0]!, tables, y],
    grid: () => [groups, 1, 1],
  });
}

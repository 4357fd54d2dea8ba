import { expect, test } from 'vitest';
import { type KvCacheKind, kvCacheKinds } from '../src/format/kv-cache';
import { tinyLayout } from '../src/format/manifest-fixture';
import { planMemory } from '../src/format/memory-plan';
import { schemeNames } from '../src/format/scheme';
import type { ModelLayout } from '../src/format/tensors';
import { BufferArena } from '../src/gpu/arena';
import { openNodeGpu } from '../src/gpu/node';
import { randomModel, uploadModel } from '../src/model/reference-model';
import { createScratch } from '../src/model/scratch';

const cases: [(typeof schemeNames)[number], KvCacheKind][] = [
  ...schemeNames.map((scheme): (typeof cases)[number] => [scheme, 'f16']),
  ...kvCacheKinds.map((kvCache): (typeof cases)[number] => ['mergequant', kvCache]),
];

test.each(cases)(
  'the plan of a %s model with keys and values as %s is what the engine allocates',
  async (scheme, kvCache) => {
    const layout: ModelLayout = tinyLayout(scheme);
    const { config, quant, denseDtype } = layout;
    const weights = await uploadModel(await openNodeGpu(), randomModel(layout, 1));
    const scratch = new BufferArena(weights.arena.device);
    createScratch(scratch, weights, 100, 16, { kvCache });
    const plan = planMemory({
      config,
      scheme,
      quant,
      denseDtype,
      contextLength: 100,
      chunkTokens: 16,
      kvCache,
    });
    const { uniforms: _, ...working } = scratch.bytesByCategory;
    expect({ ...weights.arena.bytesByCategory, ...working }).toEqual(plan.bytesByCategory);
    scratch.destroy();
    weights.arena.destroy();
  },
);

import { expect, test } from 'vitest';
import { tinyLayout } from '../src/format/manifest-fixture';
import { planMemory } from '../src/format/memory-plan';
import { schemeNames } from '../src/format/scheme';
import type { ModelLayout } from '../src/format/tensors';
import { BufferArena } from '../src/gpu/arena';
import { openNodeGpu } from '../src/gpu/node';
import { randomModel, uploadModel } from '../src/model/reference-model';
import { createScratch } from '../src/model/scratch';

test.each(schemeNames)('the plan of a %s model is what the engine allocates', async (scheme) => {
  const layout: ModelLayout = tinyLayout(scheme);
  const { config, quant, denseDtype } = layout;
  const weights = await uploadModel(await openNodeGpu(), randomModel(layout, 1));
  const scratch = new BufferArena(weights.arena.device);
  createScratch(scratch, weights, 100, 16);
  const plan = planMemory({ config, scheme, quant, denseDtype, contextLength: 100, chunkTokens: 16 });
  const { uniforms: _, ...working } = scratch.bytesByCategory;
  expect({ ...weights.arena.bytesByCategory, ...working }).toEqual(plan.bytesByCategory);
  scratch.destroy();
  weights.arena.destroy();
});

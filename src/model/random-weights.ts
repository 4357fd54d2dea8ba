/** A model of random weights made on the GPU: any shape at full speed without a download. */
import type { ModelLayout, TensorSpec } from '../format/tensors';
import { BufferArena } from '../gpu/arena';
import type { Gpu } from '../gpu/gpu';
import { PipelineCache } from '../gpu/pipelines';
import { fillRandom, type RandomContent } from '../kernels/fill-random';
import { encodeOp, type KernelContext } from '../kernels/op';
import type { ModelWeights } from './weights';
import { WeightsLoader } from './weights-loader';

/** Magnitudes that keep activations near 1 through any number of layers. */
function contentOf(spec: TensorSpec, layout: ModelLayout): RandomContent {
  const inputs = spec.shape[1] ?? 1;
  const codeDeviation = 4.6; // of a uniform 4-bit code
  const activationDeviation = 2.5; // of an integer activation, about Qmax / 3
  if (spec.name.endsWith('.grid')) {
    // random low bits make zero points of 0 to 127, so codes deviate by about 50
    const integers = 50 * activationDeviation * Math.sqrt(layout.config.hiddenSize);
    return { kind: 'f32', center: 0.3 / integers, spread: 0.05 / integers };
  }
  if (spec.dtype === 'U32' || spec.dtype === 'I8') return { kind: 'int4' };
  if (/^(embed|head)\.scale$/.test(spec.name)) {
    const step = 0.5 / Math.sqrt(layout.config.hiddenSize) / 127; // bytes are uniform
    return { kind: 'f32', center: step, spread: step / 10 };
  }
  if (spec.name.endsWith('.mult')) return { kind: 'f32', center: activationDeviation, spread: 0.5 };
  if (spec.name.endsWith('.scale')) {
    const integers = codeDeviation * activationDeviation * Math.sqrt(layout.config.hiddenSize);
    return { kind: 'f32', center: 0.3 / integers, spread: 0.05 / integers };
  }
  if (spec.name.endsWith('norm.weight')) return { kind: 'f32', center: 1, spread: 0.2 };
  return { kind: spec.dtype === 'F16' ? 'f16' : 'f32', center: 0, spread: 0.5 / Math.sqrt(inputs) };
}

/**
 * Allocates the layout and fills every tensor on the GPU. Same seed, same weights.
 * @param isPacked as in {@link WeightsLoader.create}
 * @throws GpuMemoryError
 */
export async function randomWeights(
  gpu: Gpu,
  layout: ModelLayout,
  seed = 1,
  isPacked = false,
): Promise<ModelWeights> {
  const arena = new BufferArena(gpu.device);
  const context: KernelContext = { gpu, pipelines: PipelineCache.of(gpu), arena };
  const loader = WeightsLoader.create(gpu, layout, null, isPacked);
  let buffers = 0;
  await loader.fill(async (spec, buffer) => {
    const op = await fillRandom(context, {
      buffer,
      seed: seed * 65_537 + buffers,
      content: contentOf(spec, layout),
    });
    buffers++;
    const encoder = gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    encodeOp(pass, op, 1);
    pass.end();
    gpu.device.queue.submit([encoder.finish()]);
  });
  const weights = await loader.finish();
  await gpu.device.queue.onSubmittedWorkDone();
  arena.destroy();
  return weights;
}

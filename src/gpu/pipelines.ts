/** Compute pipelines, compiled once per source and constants, asynchronously and in parallel. */
import type { Gpu } from './gpu';

/** A WGSL compile error, with the shader's name and the offending lines. */
export class ShaderError extends Error {
  override readonly name = 'ShaderError';
}

export interface PipelineSpec {
  /** Names the kernel in errors, labels and profiles. */
  readonly label: string;
  /** The untouched text of a `.wgsl` file. */
  readonly source: string;
  /** Language extensions the file uses, e.g. `subgroups`; they become `enable` lines. */
  readonly enables?: readonly ('subgroups' | 'f16' | 'chromium_experimental_subgroup_matrix')[];
  /** Values of the file's `override` constants. */
  readonly constants?: Readonly<Record<string, number>>;
}

/** An equal of WGSL's `dot4I8Packed` for implementations without `packed_4x8_integer_dot_product`. */
const dot4Fallback = `
fn dot4I8Packed(a: u32, b: u32) -> i32 {
  let x = vec4i(i32(a << 24u), i32(a << 16u), i32(a << 8u), i32(a)) >> vec4u(24u);
  let y = vec4i(i32(b << 24u), i32(b << 16u), i32(b << 8u), i32(b)) >> vec4u(24u);
  return dot(x, y);
}
`;

/** The final WGSL: a small generated prelude and the untouched body. */
export function assembleSource(spec: PipelineSpec, packedDot: boolean): string {
  const enables = (spec.enables ?? []).map((name) => `enable ${name};\n`).join('');
  const fallback = !packedDot && spec.source.includes('dot4I8Packed') ? dot4Fallback : '';
  return `${enables}${fallback}${spec.source}`;
}

/** One cache per device, so that loading another model compiles nothing twice. */
const caches = new WeakMap<GPUDevice, PipelineCache>();

export class PipelineCache {
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();
  readonly #modules = new Map<string, GPUShaderModule>();

  private constructor(readonly gpu: Gpu) {}

  /** The cache of this GPU's device. */
  static of(gpu: Gpu): PipelineCache {
    let cache = caches.get(gpu.device);
    if (!cache) {
      cache = new PipelineCache(gpu);
      caches.set(gpu.device, cache);
    }
    return cache;
  }

  /** Compiles, or returns what was compiled before. @throws ShaderError */
  get(spec: PipelineSpec): Promise<GPUComputePipeline> {
    const code = assembleSource(spec, this.gpu.caps.packedDot);
    const key = `${JSON.stringify(spec.constants ?? {})}\n${code}`;
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(spec, code);
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  async #compile(spec: PipelineSpec, code: string): Promise<GPUComputePipeline> {
    const { device } = this.gpu;
    let module = this.#modules.get(code);
    if (!module) {
      module = device.createShaderModule({ label: spec.label, code });
      this.#modules.set(code, module);
    }
    try {
      return await device.createComputePipelineAsync({
        label: spec.label,
        layout: 'auto',
        compute: { module, constants: { ...spec.constants } },
      });
    } catch (cause) {
      const { messages } = await module.getCompilationInfo();
      const lines = code.split('\n');
      const shown = messages.map(
        (m) => `  ${m.lineNum}: ${lines[m.lineNum - 1] ?? ''}\n    ${m.type}: ${m.message}`,
      );
      const detail = shown.length > 0 ? shown.join('\n') : String(cause);
      throw new ShaderError(`kernel ${spec.label} does not compile:\n${detail}`, { cause });
    }
  }
}

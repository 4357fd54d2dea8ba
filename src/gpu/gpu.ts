/** What the engine knows about one GPU: its device, its name, and what its shaders may use. */

/** Optional capabilities. Every kernel has a version that needs none of them. */
export interface GpuCaps {
  /** Subgroup built-ins may be used; any subgroup size from `subgroupMinSize` to `subgroupMaxSize` can occur. */
  readonly subgroups: boolean;
  readonly subgroupMinSize: number;
  readonly subgroupMaxSize: number;
  readonly shaderF16: boolean;
  readonly timestampQuery: boolean;
  /** The adapter computes on the CPU: kernels without cooperation between invocations are the fast ones there. */
  readonly software: boolean;
  /** WGSL has `dot4I8Packed`; otherwise the prelude brings an equal function. */
  readonly packedDot: boolean;
  /** `chromium-experimental-subgroup-matrix` with i8 × i8 → i32 in 16×16×32, and subgroups of exactly 32. */
  readonly subgroupMatrixI8: boolean;
}

/** Names the adapter in statistics, benchmarks and error messages. */
export interface AdapterSummary {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
}

export interface Gpu {
  readonly device: GPUDevice;
  readonly adapter: AdapterSummary;
  readonly caps: GpuCaps;
}

/** Whether every subgroup has the same size, so that a pipeline may take it for a constant. */
export function hasOneSubgroupSize({ caps }: Gpu): boolean {
  return caps.subgroups && caps.subgroupMinSize === caps.subgroupMaxSize;
}

export interface OpenGpuOptions {
  /** Capabilities to leave unused although the adapter has them (tests, bug hunting). */
  readonly without?: readonly (
    | 'subgroups'
    | 'shader-f16'
    | 'timestamp-query'
    | 'packed-dot'
    | 'subgroup-matrix'
  )[];
  /** Treat the adapter as a software one, or not, whatever it is (tests). */
  readonly software?: boolean;
  /** Keep WebGPU's default limits instead of asking for all the adapter has (tests). */
  readonly defaultLimits?: boolean;
}

/** No usable WebGPU: says which step failed and what a user can do about it. */
export class WebGpuUnavailableError extends Error {
  override readonly name = 'WebGpuUnavailableError';
}

/** Limits worth raising above the defaults, when the adapter offers more. */
const raisedLimits = [
  'maxBufferSize',
  'maxStorageBufferBindingSize',
  'maxComputeWorkgroupStorageSize',
  'maxComputeInvocationsPerWorkgroup',
  'maxComputeWorkgroupSizeX',
] as const;

/** Requests an adapter and a device. Throws {@link WebGpuUnavailableError} when there is none. */
export async function openGpu(entry: GPU | undefined, options: OpenGpuOptions = {}): Promise<Gpu> {
  if (!entry) throw new WebGpuUnavailableError('this environment has no WebGPU (navigator.gpu is missing)');
  const adapter = await entry.requestAdapter({ powerPreference: 'high-performance' });
  if (!adapter) throw new WebGpuUnavailableError('WebGPU found no GPU adapter on this machine');
  const without = new Set(options.without ?? []);
  const wanted = (['subgroups', 'shader-f16', 'timestamp-query'] as const).filter(
    (feature) => adapter.features.has(feature) && !without.has(feature),
  );
  const matrices = !without.has('subgroups') && !without.has('subgroup-matrix') && hasInt8Matrices(adapter);
  const requiredFeatures = [...wanted, ...(matrices ? [subgroupMatrix] : [])];
  const requiredLimits: Record<string, number> = {};
  if (!options.defaultLimits) {
    for (const name of raisedLimits) requiredLimits[name] = adapter.limits[name];
  }
  const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
  const { vendor, architecture, device: model, description } = adapter.info;
  return {
    device,
    adapter: { vendor, architecture, device: model, description },
    caps: {
      subgroups: wanted.includes('subgroups'),
      subgroupMinSize: adapter.info.subgroupMinSize ?? 4,
      subgroupMaxSize: adapter.info.subgroupMaxSize ?? 128,
      shaderF16: wanted.includes('shader-f16'),
      timestampQuery: wanted.includes('timestamp-query'),
      software: options.software ?? isSoftware(adapter.info),
      packedDot:
        !without.has('packed-dot') && entry.wgslLanguageFeatures.has('packed_4x8_integer_dot_product'),
      subgroupMatrixI8: matrices,
    },
  };
}

/** Experimental, so the WebGPU types do not know it: offered by Chromium and Dawn where unsafe APIs are allowed. */
const subgroupMatrix = 'chromium-experimental-subgroup-matrix' as GPUFeatureName;

interface SubgroupMatrixConfig {
  readonly componentType: string;
  readonly resultComponentType: string;
  readonly M: number;
  readonly N: number;
  readonly K: number;
}

/** Whether int8 matrix products of the one shape that `matmul_w4_sgm` uses are there. */
function hasInt8Matrices({ features, info }: GPUAdapter): boolean {
  if (!features.has(subgroupMatrix) || !features.has('subgroups')) return false;
  if (info.subgroupMinSize !== 32 || info.subgroupMaxSize !== 32) return false;
  const { subgroupMatrixConfigs } = info as { subgroupMatrixConfigs?: Iterable<SubgroupMatrixConfig> };
  return [...(subgroupMatrixConfigs ?? [])].some(
    ({ componentType, resultComponentType, M, N, K }) =>
      componentType === 'i8' && resultComponentType === 'i32' && M === 16 && N === 16 && K === 32,
  );
}

/** Whether an adapter computes on the CPU. */
export function isSoftware({ architecture, description, isFallbackAdapter }: GPUAdapterInfo): boolean {
  return isFallbackAdapter || /swiftshader|llvmpipe|basic render/i.test(`${architecture} ${description}`);
}

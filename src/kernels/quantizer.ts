/** What the wrappers of the four activation quantizers share. */
import { type KernelContext, requireShape } from './op';

export interface QuantizerTuning {
  /** Invocations per token: a power of two from 1 to 256; 256 unless told, 4 on software adapters. Sums of a norm depend on it. */
  readonly threads?: number;
}

/** Buffers that every activation quantizer writes. */
export interface QuantizedOutput {
  readonly q: GPUBuffer; // [T, K'/4] u32: four signed 8-bit integers a word
  readonly qmeta: GPUBuffer; // [T, 2] u32: bits of the f32 scale, of the i32 sum of the token's integers
}

/** Checks what all quantizers require and returns the number of invocations. @throws KernelShapeError */
export function quantizerThreads(
  context: KernelContext,
  kernel: string,
  inputs: number,
  paddedInputs: number,
  output: QuantizedOutput,
  tuning: QuantizerTuning = {},
): number {
  const threads = tuning.threads ?? tokenThreads(context);
  requireShape(
    isPowerOfTwo(threads) && threads <= 256,
    kernel,
    `threads a power of two up to 256, not ${threads}`,
  );
  requireShape(Number.isInteger(inputs) && inputs > 0, kernel, `at least one input, not ${inputs}`);
  requireShape(
    paddedInputs % 32 === 0 && paddedInputs >= inputs,
    kernel,
    `padded inputs a multiple of 32, at least ${inputs}, not ${paddedInputs}`,
  );
  requireShape(
    output.q.size >= paddedInputs,
    kernel,
    `q of at least ${paddedInputs} bytes, not ${output.q.size}`,
  );
  return threads;
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && (value & (value - 1)) === 0;
}

/** Invocations that share one token's norm or quantization: barriers between many are slow on a software adapter. */
export function tokenThreads(context: KernelContext): number {
  return context.gpu.caps.software ? 4 : 256;
}

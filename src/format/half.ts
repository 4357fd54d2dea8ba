/**
 * Whole-array conversions between float32 and the 16-bit float formats, in bits: no float ever passes through a JS number,
 * so NaN payloads and signed zeros survive. Little-endian hosts only, as are all that run WebGPU.
 */
import { FormatError } from './errors';

const f32Infinity = 0x7f800000;
/** 65520, the smallest magnitude that rounds past float16's largest finite number, 65504. */
const f16OverflowStart = 0x477ff000;
const f16SmallestNormal = 0x38800000; // 2^-14
const f16Largest = 0x7bff;

export interface HalfOptions {
  /** Finite values beyond ±65504: refuse them (default) or store ±65504. */
  readonly overflow?: 'throw' | 'clamp';
}

/**
 * float32 → float16 bits, rounding to nearest even, with subnormals. Infinities stay infinite and NaN stays NaN.
 * @throws FormatError with the number of finite values that float16 cannot hold, unless `overflow` is `clamp`.
 */
export function f32ToF16Bits(values: Float32Array, options: HalfOptions = {}): Uint16Array {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const halves = new Uint16Array(values.length);
  let overflows = 0;
  for (let i = 0; i < bits.length; i++) {
    const word = bits[i]!;
    const magnitude = word & 0x7fffffff;
    let half: number;
    if (magnitude >= f32Infinity) half = magnitude === f32Infinity ? 0x7c00 : nanToF16(magnitude);
    else if (magnitude >= f16OverflowStart) {
      overflows++;
      half = f16Largest;
    } else if (magnitude < f16SmallestNormal) half = subnormalToF16(magnitude);
    else half = (magnitude + 0xfff + ((magnitude >>> 13) & 1) - 0x38000000) >>> 13; // a carry moves into the exponent
    halves[i] = ((word >>> 16) & 0x8000) | half;
  }
  if (overflows > 0 && options.overflow !== 'clamp') {
    throw new FormatError(
      `float16 holds magnitudes up to 65504: ${overflows} of ${values.length} values are larger`,
    );
  }
  return halves;
}

function nanToF16(magnitude: number): number {
  return 0x7e00 | ((magnitude >>> 13) & 0x3ff); // the quiet bit keeps a small payload from becoming infinity
}

/** Below 2^-14 one unit is 2^-24: shift the explicit mantissa there and round to nearest even. */
function subnormalToF16(magnitude: number): number {
  const exponent = magnitude >>> 23;
  if (exponent < 102) return 0; // below 2^-25, half a unit
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const shift = 126 - exponent;
  return (mantissa + (1 << (shift - 1)) - 1 + ((mantissa >>> shift) & 1)) >>> shift;
}

let table: Uint32Array | undefined;

/** float32 bits of all 65,536 bfloat16 values. */
export function bf16Table(): Uint32Array {
  return Uint32Array.from({ length: 0x10000 }, (_, half) => half << 16);
}

/** float32 bits of all 65,536 halves. */
export function f16Table(): Uint32Array {
  table ??= buildF16Table();
  return table;
}

function buildF16Table(): Uint32Array {
  return Uint32Array.from({ length: 0x10000 }, (_, half) => {
    const sign = (half & 0x8000) << 16;
    const exponent = (half >>> 10) & 0x1f;
    const mantissa = half & 0x3ff;
    if (exponent === 0x1f) return (sign | f32Infinity | (mantissa << 13)) >>> 0;
    if (exponent > 0) return (sign | ((exponent + 112) << 23) | (mantissa << 13)) >>> 0;
    if (mantissa === 0) return sign >>> 0;
    const lead = 31 - Math.clz32(mantissa); // value = mantissa · 2^-24 = 1.xxx · 2^(lead − 24)
    return (sign | ((lead + 103) << 23) | ((mantissa << (23 - lead)) & 0x7fffff)) >>> 0;
  });
}

/** float16 bits → float32, exactly. */
export function f16BitsToF32(halves: Uint16Array): Float32Array {
  const values = f16Table();
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < words.length; i++) words[i] = values[halves[i]!]!;
  return new Float32Array(words.buffer);
}

/** bfloat16 bits → float32, exactly. */
export function bf16BitsToF32(bits: Uint16Array): Float32Array {
  const words = new Uint32Array(bits.length);
  for (let i = 0; i < words.length; i++) words[i] = bits[i]! << 16;
  return new Float32Array(words.buffer);
}

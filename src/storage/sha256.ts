/** SHA-256 of a whole buffer, lower-case hex. WebCrypto copies its input: keep buffers at shard size (64 MiB) or below. */
export async function sha256Hex(bytes: ArrayBuffer): Promise<string> {
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

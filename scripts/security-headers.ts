/** What the servers tell browsers about the page: what it may load, and that it is isolated (docs/HOSTING.md). */

/**
 * Nothing may be loaded but what is named. Artifacts come from the page's own server, from any HTTPS server a person types, or
 * from this computer. No `unsafe-*`: no inline script, no `eval`, no WebAssembly.
 */
const directives = {
  'default-src': "'none'",
  'script-src': "'self'",
  'worker-src': "'self'",
  'style-src': "'self'",
  'img-src': "'self' data:",
  'connect-src': "'self' https: http://localhost:* http://127.0.0.1:*",
  'manifest-src': "'self'",
  'base-uri': "'none'",
  'form-action': "'none'",
};

function policy(changes: Readonly<Record<string, string>> = {}): string {
  return Object.entries({ ...directives, ...changes })
    .map(([name, value]) => `${name} ${value}`)
    .join('; ');
}

/** For a `<meta>` element, which cannot say who may frame the page. */
export const pagePolicy = policy();

/** COOP and COEP make the page cross-origin isolated: exact timers, and nobody else's documents in its process. */
export const securityHeaders = {
  'Content-Security-Policy': policy({ 'frame-ancestors': "'none'" }),
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'X-Content-Type-Options': 'nosniff',
  'Referrer-Policy': 'no-referrer',
};

/** Of the development server, whose client injects styles. */
export const developmentNonce = 'development';

/** The development server reloads over a WebSocket, and its client writes `<style>` elements that carry the nonce. */
export const developmentHeaders = {
  ...securityHeaders,
  'Content-Security-Policy': policy({
    'script-src': `'self' 'nonce-${developmentNonce}'`,
    'style-src': `'self' 'nonce-${developmentNonce}'`,
    'connect-src': `${directives['connect-src']} ws:`,
  }),
};

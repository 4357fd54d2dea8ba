/** Lets the page open without a network, once it was opened with one. */
export function registerServiceWorker(): void {
  if (!import.meta.env.PROD || !('serviceWorker' in navigator)) return;
  const url = new URL('sw.js', document.baseURI);
  // Without it the page works as long as there is a network: private windows may forbid it.
  navigator.serviceWorker.register(url).catch(() => undefined);
}

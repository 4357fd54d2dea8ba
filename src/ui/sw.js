// The page's service worker: keeps the page itself, so that it opens without a network. Models are none of its
// business; the engine keeps those, checked, in storage of their own. The build fills in __FILES__ and __VERSION__.

const cacheName = `page-${__VERSION__}`;
const base = new URL('./', self.location).href;
const kept = new Set(__FILES__.map((file) => new URL(file, base).href));
const catalog = new URL('models/index.json', base).href;

self.addEventListener('install', (event) => {
  const fill = async () => {
    const cache = await caches.open(cacheName);
    // Past the HTTP cache: a stale file under a new version would stay for good.
    await cache.addAll([...kept].map((url) => new Request(url, { cache: 'no-cache' })));
    await cache.add(catalog).catch(() => undefined); // a page without bundled models works, too
  };
  event.waitUntil(fill());
});

self.addEventListener('activate', (event) => {
  const clean = async () => {
    const names = await caches.keys();
    const old = names.filter((name) => name.startsWith('page-') && name !== cacheName);
    await Promise.all(old.map((name) => caches.delete(name)));
  };
  event.waitUntil(clean());
});

self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET') return;
  const url = request.url.replace(/[?#].*$/, '');
  if (request.mode === 'navigate') event.respondWith(freshOr(request, kept.has(url) ? url : base));
  else if (url === catalog) event.respondWith(freshOr(request, catalog));
  else if (kept.has(url)) event.respondWith(keptOr(request, url));
});

/** From the network, so that a new version is seen at once; without one, what is kept. */
async function freshOr(request, key) {
  try {
    return await fetch(request);
  } catch (error) {
    const response = await caches.match(key, { cacheName, ignoreVary: true });
    if (response) return response;
    throw error;
  }
}

/** Built files carry a hash in their names: what is kept is right. */
async function keptOr(request, key) {
  return (await caches.match(key, { cacheName, ignoreVary: true })) ?? fetch(request);
}

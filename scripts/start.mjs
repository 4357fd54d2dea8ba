// `npm start`: builds the page and serves it on http://localhost:$PORT (default 5173).
import { build, preview } from 'vite';

const port = Number(process.env.PORT ?? 5173);
if (!Number.isInteger(port) || port < 1 || port > 65535) {
  console.error(`PORT: expected a port number from 1 to 65535, got ${process.env.PORT}`);
  process.exit(1);
}
await build({ logLevel: 'warn' });
const server = await preview({ preview: { port, strictPort: true } });
console.log('MergeQuant Web is running. Open:');
server.printUrls();

// node main.mjs [--port 0] [--hooks-port 0] [--tls FOLDER] [--origin https://login.microsoftonline.com]
//
// Prints one line of JSON when ready, and ends when its standard input ends, so that it never outlives its owner.

import { createServer } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { parseArgs } from 'node:util';

// oidc-provider writes advice for production to standard output, which here holds one line of JSON.
console.info = () => {};
console.warn = () => {};

const { World } = await import('./world.mjs');
const { shim } = await import('./shim.mjs');
const { hooks } = await import('./hooks.mjs');
const { certificates } = await import('./tls.mjs');

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '0' },
    'hooks-port': { type: 'string', default: '0' },
    tls: { type: 'string' },
    origin: { type: 'string' },
  },
});

const tls = values.tls && certificates(values.tls);
let handler = (req, res) => res.writeHead(503).end();
const makeServer = () => (tls ? createTlsServer(tls, (req, res) => handler(req, res)) : createServer((req, res) => handler(req, res)));

const port = await listenOnLocalhost(Number(values.port));
const origin = values.origin ?? `${tls ? 'https' : 'http'}://localhost:${port}`;
const world = new World(origin);
handler = shim(world);
const hooksPort = await listen(createServer(hooks(world)), Number(values['hooks-port']), '127.0.0.1');
process.stdout.write(`${JSON.stringify({ origin, hooks: `http://127.0.0.1:${hooksPort}`, ca: tls ? tls.ca : null })}\n`);

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));

/** `localhost` is two addresses for a browser: the same port on both, where there is IPv6 at all. */
async function listenOnLocalhost(wanted) {
  for (;;) {
    const server = makeServer();
    const chosen = await listen(server, wanted, '127.0.0.1');
    try {
      await listen(makeServer(), chosen, '::1');
      return chosen;
    } catch (error) {
      if (error.code !== 'EADDRINUSE') return chosen;
      if (wanted !== 0) throw error;
      server.close();
    }
  }
}

function listen(server, wanted, host) {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(wanted, host, () => resolve(server.address().port));
  });
}

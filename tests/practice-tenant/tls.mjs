// A certificate authority of one's own and one leaf, with the names that Microsoft's clients insist on.

import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const NAMES = ['DNS:localhost', 'DNS:login.microsoftonline.com', 'DNS:login.windows.net', 'DNS:graph.microsoft.com', 'IP:127.0.0.1', 'IP:0:0:0:0:0:0:0:1'];
/** Some clients refuse long-lived leaves; a practice run is over in minutes. */
const DAYS = '30';

/** Makes `ca.pem` and a leaf in the folder, unless they are there. */
export function certificates(folder) {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const at = (name) => join(folder, name);
  if (!existsSync(at('leaf.pem'))) {
    const ec = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
    openssl('req', '-x509', ...ec, '-keyout', at('ca.key'), '-out', at('ca.pem'), '-days', DAYS, '-subj', '/CN=Practice CA',
      '-addext', 'basicConstraints=critical,CA:TRUE', '-addext', 'keyUsage=critical,keyCertSign');
    openssl('req', ...ec, '-keyout', at('leaf.key'), '-out', at('leaf.csr'), '-subj', '/CN=localhost');
    writeFileSync(at('leaf.ext'), `subjectAltName=${NAMES.join(',')}\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nkeyUsage=digitalSignature\n`);
    openssl('x509', '-req', '-in', at('leaf.csr'), '-CA', at('ca.pem'), '-CAkey', at('ca.key'), '-CAcreateserial',
      '-out', at('leaf.pem'), '-days', DAYS, '-extfile', at('leaf.ext'));
  }
  return { ca: at('ca.pem'), key: readFileSync(at('leaf.key')), cert: readFileSync(at('leaf.pem')) };
}

function openssl(...args) {
  execFileSync('openssl', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

// Everything of the practice tenant that a test may change or look at.

import { Store } from './store.mjs';
import { makeProvider, newSigningKey } from './provider.mjs';

/** Entra's usual access token lives 60–90 minutes, a refresh token 90 days. */
const LIFETIMES = { access: 3600, id: 3600, refresh: 90 * 24 * 3600 };
/** The log is for a test's assertions; a demo left running must not grow for ever. */
const LOG_LINES = 5000;

export class World {
  store = new Store();
  lifetimes = { ...LIFETIMES };
  autoSignIn = false;
  noRefreshToken = false;
  /** Object ids of users whose next consent is declined. */
  declines = new Set();
  /** Object id → ids of the grants that have stepped up. */
  stepUp = new Map();
  /** Object id → permissions that token answers name besides those asked, and ones that they leave out. */
  granted = new Map();
  /** Object id → what Graph says is the address of the mailbox. */
  mail = new Map();
  /** Object id, or '' for everybody → how Graph behaves. */
  graph = new Map();
  log = [];
  counts = {};
  keys = [newSigningKey()];
  /** What the store does not keep, for tests that look for it where it must not be. */
  verifiers = new Set();
  accessTokens = new Set();
  idTokens = new Set();
  #nextErrors = [];

  constructor(origin) {
    this.origin = origin;
    this.provider = makeProvider(this);
  }

  issuer(tid) {
    return `${this.origin}/${tid}/v2.0`;
  }

  /** As Entra publishes them: no `alg`. */
  publicKeys() {
    return this.keys.map(({ kty, use, kid, n, e }) => ({ kty, use, kid, x5t: kid, n, e, issuer: `${this.origin}/{tenantid}/v2.0` }));
  }

  /** Signs with a new key from now on; the old one stays published unless dropped. */
  rotateKeys(dropOld) {
    this.keys = [newSigningKey(), ...(dropOld ? [] : this.keys)];
    this.provider = makeProvider(this);
  }

  failNext(error) {
    this.#nextErrors.push(error);
  }

  /** The error that this request was made to meet, used up. */
  takeError(endpoint, grant) {
    const found = this.#nextErrors.find((e) => e.endpoint === endpoint && (!e.grant || e.grant === grant));
    if (!found) return undefined;
    found.times -= 1;
    if (found.times <= 0) this.#nextErrors.splice(this.#nextErrors.indexOf(found), 1);
    return found;
  }

  count(name) {
    this.counts[name] = (this.counts[name] ?? 0) + 1;
  }

  record(line) {
    this.log.push(line);
    if (this.log.length > LOG_LINES) this.log.shift();
  }
}

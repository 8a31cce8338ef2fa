// The levers of the tests, on a port of their own so that no client under test can pull one by accident.

import { MAIL_MARKS } from './graph.mjs';
import { json, readBody } from './http.mjs';
import { byName, byOid, users } from './users.mjs';

class BadHook extends Error {}

/** The request listener of the hooks: POST takes JSON, GET shows. Errors are 400 with words. */
export function hooks(world) {
  return async (req, res) => {
    const name = req.url.split('?')[0];
    const hook = (req.method === 'POST' ? POST : GET)[name];
    if (!hook) return json(res, 404, { problem: `no hook ${req.method} ${name}` });
    try {
      const input = req.method === 'POST' ? JSON.parse((await readBody(req)) || '{}') : undefined;
      return json(res, 200, hook(world, input) ?? {});
    } catch (error) {
      return json(res, 400, { problem: error.message });
    }
  };
}

const GET = {
  '/log': (world) => world.log,
  '/counts': (world) => world.counts,
  '/users': () => users,
  '/secrets': (world) => ({
    codes: [...world.store.issued('AuthorizationCode'), ...world.store.issued('DeviceCode')],
    verifiers: [...world.verifiers],
    access_tokens: [...world.accessTokens],
    refresh_tokens: world.store.issued('RefreshToken'),
    id_tokens: [...world.idTokens],
    mail: MAIL_MARKS,
  }),
};

const POST = {
  '/lifetimes': (world, { access, refresh, id, refresh_in: refreshIn }) => {
    for (const [key, value] of Object.entries({ access, refresh, id, refresh_in: refreshIn })) {
      if (value !== undefined) world.lifetimes[key] = seconds(value);
    }
  },
  '/revoke': (world, { user }) => ({ refresh_tokens: world.store.revokeUser(known(user).oid) }),
  '/next-error': (world, { times = 1, error = 'invalid_grant', ...rest }) => {
    oneOf(rest.endpoint, ['token', 'authorize', 'devicecode', 'discovery', 'jwks', 'graph', 'instance']);
    world.failNext({ times: seconds(times), error, ...rest });
  },
  '/step-up': (world, { user, on }) => {
    if (on) world.stepUp.set(known(user).oid, new Set());
    else world.stepUp.delete(known(user).oid);
  },
  '/granted': (world, { user, more = [], without = [] }) => {
    world.granted.set(known(user).oid, { more, without });
  },
  '/mail': (world, { user, mail }) => { world.mail.set(known(user).oid, mail); },
  '/graph': (world, { mode, user, times = Infinity, retry_after: retryAfter }) => {
    const key = user ? known(user).oid : '';
    if (oneOf(mode, ['ok', 'claims', 'throttle', 'no-licence']) === 'ok') world.graph.delete(key);
    else world.graph.set(key, { mode, times, retry_after: retryAfter });
  },
  '/reuse': (world, { mode }) => { world.store.reuse = oneOf(mode, ['tolerant', 'grace', 'strict']); },
  '/consent': (world, { user, mode }) => {
    if (oneOf(mode, ['ok', 'deny']) === 'deny') world.declines.add(known(user).oid);
    else world.declines.delete(known(user).oid);
  },
  '/no-refresh-token': (world, { on }) => { world.noRefreshToken = Boolean(on); },
  '/auto-sign-in': (world, { on }) => { world.autoSignIn = Boolean(on); },
  '/rotate-keys': (world, { drop_old: dropOld = false }) => world.rotateKeys(dropOld),
};

function known(user) {
  const found = byName(user) ?? byOid(user);
  if (!found) throw new BadHook(`no practice user ${user}`);
  return found;
}

function oneOf(value, allowed) {
  if (!allowed.includes(value)) throw new BadHook(`${value} is none of ${allowed.join(', ')}`);
  return value;
}

function seconds(value) {
  if (!Number.isInteger(value) || value < 1) throw new BadHook(`${value} is not a whole number above 0`);
  return value;
}

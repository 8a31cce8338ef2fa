// A Graph stub that checks the bearer as Graph does: signature, audience, expiry, permission.

import { createLocalJWKSet, jwtVerify } from 'jose';

import { json } from './http.mjs';
import { GRAPH } from './scopes.mjs';
import { byOid } from './users.mjs';

const GRAPH_APP = '00000003-0000-0000-c000-000000000000';
const RETRY_AFTER_SECONDS = 1;

/** What makes a person's mail recognisable wherever it must not be. */
export const MAIL_MARKS = ['practice-mail-subject', 'practice-mail-content'];
const [SUBJECT, CONTENT] = MAIL_MARKS;

const ROUTES = {
  '/me': { permission: 'User.Read', answer: me },
  '/me/messages': { permission: 'Mail.Read', answer: messages },
  '/me/calendarView': { permission: 'Calendars.Read', answer: events },
  '/me/events': { permission: 'Calendars.Read', answer: events },
};

/** @param path after the version: `/me/messages` */
export async function graph(world, path, req, res) {
  world.count(`graph:${path}`);
  let claims;
  try {
    const token = /^Bearer (.+)$/i.exec(req.headers.authorization ?? '')[1];
    ({ payload: claims } = await jwtVerify(token, createLocalJWKSet({ keys: world.publicKeys() }), { audience: GRAPH, algorithms: ['RS256'] }));
  } catch (error) {
    req.refusal = 'InvalidAuthenticationToken';
    const text = error.code === 'ERR_JWT_EXPIRED' ? 'Lifetime validation failed, the token is expired.' : 'Access token validation failure.';
    return fail(res, 401, 'InvalidAuthenticationToken', text, { 'www-authenticate': challenge(world) });
  }
  const user = byOid(claims.oid);
  if (misbehave(world, user, req, res)) return undefined;

  const route = ROUTES[path];
  if (!route) return fail(res, 404, 'ResourceNotFound', `Resource not found for the segment '${path.split('/').pop()}'.`);
  const permitted = String(claims.scp).split(' ').some((one) => one === route.permission || one === route.permission.replace('.Read', '.ReadWrite'));
  if (!permitted) return fail(res, 403, 'ErrorAccessDenied', 'Access is denied. Check credentials and try again.');
  return json(res, 200, route.answer(user, world));
}

/** What the hook `/graph` ordered for this user, if anything. */
function misbehave(world, user, req, res) {
  const key = world.graph.has(user.oid) ? user.oid : '';
  const order = world.graph.get(key);
  if (!order) return false;
  order.times -= 1;
  if (order.times <= 0) world.graph.delete(key);
  req.refusal = order.mode;
  if (order.mode === 'claims') {
    const wanted = { access_token: { nbf: { essential: true, value: String(Math.floor(Date.now() / 1000)) } } };
    const claims = Buffer.from(JSON.stringify(wanted)).toString('base64');
    fail(res, 401, 'InvalidAuthenticationToken', 'Continuous access evaluation resulted in challenge.', {
      'www-authenticate': `${challenge(world)}, error="insufficient_claims", claims="${claims}"`,
    });
  } else if (order.mode === 'throttle') {
    fail(res, 429, 'TooManyRequests', 'Please retry later.', { 'retry-after': String(order.retry_after ?? RETRY_AFTER_SECONDS) });
  } else {
    fail(res, 403, 'Forbidden', 'The user does not have a licence for this service.');
  }
  return true;
}

const challenge = (world) => `Bearer realm="", authorization_uri="${world.origin}/common/oauth2/authorize", client_id="${GRAPH_APP}"`;

function fail(res, status, code, message, headers) {
  json(res, status, { error: { code, message, innerError: { date: new Date().toISOString().slice(0, 19) } } }, headers);
}

function me(user, world) {
  return {
    '@odata.context': `${GRAPH}/v1.0/$metadata#users/$entity`,
    id: user.oid,
    displayName: user.name,
    mail: world.mail.get(user.oid) ?? user.mail,
    userPrincipalName: user.username,
  };
}

function messages(user) {
  const from = { emailAddress: { name: 'Practice', address: 'practice@contoso.example' } };
  return collection('messages', [
    { id: 'AAMk1', subject: `${SUBJECT}: Welcome, ${user.name}`, bodyPreview: `${CONTENT}: this message is not real.`, receivedDateTime: '2026-11-02T08:30:00Z', isRead: false, from },
    { id: 'AAMk2', subject: `${SUBJECT}: Quarterly figures`, bodyPreview: `${CONTENT}: the figures are made up.`, receivedDateTime: '2026-11-01T15:04:00Z', isRead: true, from },
  ]);
}

function events() {
  return collection('events', [{
    id: 'AAEv1',
    subject: 'Practice meeting',
    start: { dateTime: '2026-11-23T09:00:00.0000000', timeZone: 'UTC' },
    end: { dateTime: '2026-11-23T09:30:00.0000000', timeZone: 'UTC' },
  }]);
}

const collection = (name, value) => ({ '@odata.context': `${GRAPH}/v1.0/$metadata#users('me')/${name}`, value });

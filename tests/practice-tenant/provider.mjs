// The certified part: npm oidc-provider, configured as near to Entra as its options go.

import { createHash, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto';

import Provider, { interactionPolicy } from 'oidc-provider';

import { display, OFFLINE, OIDC_SCOPES, permissionsOf, resources } from './scopes.mjs';
import { body as entraError, translate } from './errors.mjs';
import * as pages from './pages.mjs';
import { byOid, clients } from './users.mjs';

/** Entra signs with RSA 2048. */
const RSA_BITS = 2048;
/** Seconds a device code lives; Entra's own value. */
const DEVICE_CODE_SECONDS = 900;
/** Seconds between two polls. Entra says 5; a test would only wait. */
const DEVICE_POLL_SECONDS = 1;
const SIGN_IN_SECONDS = 600;
const GRANT_SECONDS = 365 * 24 * 3600;

export function newSigningKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: RSA_BITS });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

/** A provider over the world's store and its present keys; made anew when the keys rotate. */
export function makeProvider(world) {
  const { Check, Prompt } = interactionPolicy;
  const once = new Check('sign_in', 'a person signs in, once', (ctx) => (
    ctx.oidc.result?.login ? Check.NO_NEED_TO_PROMPT : Check.REQUEST_PROMPT
  ));

  const provider = new Provider(world.origin, {
    adapter: world.store.adapter,
    clients,
    jwks: { keys: world.keys },
    cookies: { keys: [randomBytes(32).toString('hex')] },
    routes: {
      authorization: '/oauth2/v2.0/authorize',
      token: '/oauth2/v2.0/token',
      device_authorization: '/oauth2/v2.0/devicecode',
      code_verification: '/oauth2/deviceauth',
      jwks: '/discovery/v2.0/keys',
    },
    scopes: OIDC_SCOPES,
    claims: { openid: ['sub', 'tid', 'ver', 'nbf', 'email'], profile: ['oid', 'name', 'preferred_username'] },
    conformIdTokenClaims: false,
    responseTypes: ['code'],
    subjectTypes: ['public', 'pairwise'],
    pairwiseIdentifier: (ctx, accountId, client) => pairwise(accountId, client.clientId),
    pkce: { required: () => true },
    extraParams: ['entra_prompt', 'entra_claims'],
    findAccount: (ctx, accountId) => account(byOid(accountId)),
    interactions: { policy: [new Prompt({ name: 'login', requestable: true }, once)], url: (ctx, { uid }) => `${world.origin}/${tenantOf(ctx)}/login/${uid}` },
    rotateRefreshToken: true,
    issueRefreshToken: (ctx, client, source) => source.scopes.has(OFFLINE) && !world.noRefreshToken,
    expiresWithSession: () => false,
    ttl: {
      AccessToken: () => world.lifetimes.access,
      IdToken: () => world.lifetimes.id,
      RefreshToken: () => world.lifetimes.refresh,
      AuthorizationCode: SIGN_IN_SECONDS,
      Interaction: SIGN_IN_SECONDS,
      Session: SIGN_IN_SECONDS,
      DeviceCode: DEVICE_CODE_SECONDS,
      Grant: GRANT_SECONDS,
    },
    features: {
      devInteractions: { enabled: false },
      userinfo: { enabled: false },
      rpInitiatedLogout: { enabled: false },
      deviceFlow: {
        enabled: true,
        mask: '*********',
        userCodeInputSource: (ctx, form, out, err) => { ctx.body = pages.userCode(form, err); },
        userCodeConfirmSource: (ctx, form, client, device, code) => { ctx.body = pages.confirmCode(form, client.clientName, code); },
        successSource: (ctx) => { ctx.body = pages.message('You have signed in', 'You can close this window and go back to your device.'); },
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: (ctx, client, oneOf) => (Array.isArray(oneOf) ? oneOf[0] : oneOf),
        useGrantedResource: () => true,
        getResourceServerInfo: (ctx, resource) => ({
          scope: resources[resource].map((permission) => `${resource}/${permission}`).join(' '),
          audience: resource,
          accessTokenFormat: 'jwt',
          jwt: { sign: { alg: 'RS256' } },
        }),
      },
    },
    formats: { customizers: { jwt: (ctx, token, jwt) => dressAccessToken(world, token, jwt) } },
    renderError: (ctx, out) => { ctx.type = 'html'; ctx.body = pages.message('Sign-in could not start', out.error_description ?? out.error); },
  });

  // Its schema refuses pairwise subjects for public clients with the device flow; Entra has both.
  Object.defineProperty(provider.Client.prototype, 'subjectType', { get: () => 'pairwise', set() {} });
  // The issuer is the tenant of whoever signs in; Entra's authorization response names none.
  Object.defineProperty(provider, 'issuer', {
    get: () => {
      const user = Provider.ctx?.oidc?.entities.Account?.user;
      if (/authorization|resume/.test(Provider.ctx?.oidc?.route ?? '')) return undefined;
      return user ? world.issuer(user.tid) : world.origin;
    },
  });
  for (const event of ['grant.error', 'device_authorization.error']) provider.on(event, (ctx, error) => { ctx.state.refused = error; });
  provider.on('server_error', (ctx, error) => { process.stderr.write(`practice tenant: ${error.stack}\n`); });
  provider.use((ctx, next) => dressAnswers(world, ctx, next));
  return provider;
}

export const tenantOf = (ctx) => ctx.req.originalUrl.split('/')[1];

export const pairwise = (oid, clientId) => createHash('sha256').update(`${oid}${clientId}`).digest('base64url');

function account(user) {
  return user && {
    accountId: user.oid,
    user,
    claims: () => ({
      sub: user.oid,
      oid: user.oid,
      tid: user.tid,
      ver: '2.0',
      nbf: Math.floor(Date.now() / 1000),
      name: user.name,
      preferred_username: user.username,
      ...(user.emailClaim ? { email: user.mail } : {}),
    }),
  };
}

function dressAccessToken(world, token, { payload }) {
  const user = byOid(token.accountId);
  Object.assign(payload, {
    iss: world.issuer(user.tid),
    nbf: payload.iat,
    oid: user.oid,
    tid: user.tid,
    upn: user.username,
    name: user.name,
    appid: payload.client_id,
    azp: payload.client_id,
    scp: permissionsOf(String(payload.scope ?? '').split(' ')).join(' '),
    ver: '1.0',
  });
  delete payload.scope;
  delete payload.client_id;
}

/** Entra names what the client id has been allowed in all, which the hook `/granted` can make other than what was asked. */
function named(world, user, asked) {
  const { more = [], without = [] } = world.granted.get(user.oid) ?? {};
  return [...asked.filter((scope) => !without.includes(scope)), ...more];
}

/** Token and device answers: Entra's extra members on success, Entra's body on refusal. */
async function dressAnswers(world, ctx, next) {
  await next();
  const asked = ctx.req.entra;
  if (!asked || typeof ctx.body !== 'object') return;
  if (ctx.body.error) {
    const row = asked.form.refresh_token && world.store.peek('RefreshToken', asked.form.refresh_token);
    const refused = translate(ctx.body.error, ctx.state.refused?.error_detail ?? ctx.body.error_description, { revoked: row?.revoked });
    ctx.req.refusal = refused.code ? `AADSTS${refused.code}` : refused.error;
    ctx.status = 400;
    ctx.body = entraError(refused, asked.correlation);
  } else if (ctx.body.device_code) {
    const { verification_uri_complete: complete, ...rest } = ctx.body;
    const message = `To sign in, use a web browser to open the page ${rest.verification_uri} and enter the code ${rest.user_code} to authenticate.`;
    ctx.body = { ...rest, interval: DEVICE_POLL_SECONDS, message };
  } else if (ctx.body.access_token) {
    const { user } = ctx.oidc.entities.Account;
    world.accessTokens.add(ctx.body.access_token);
    if (ctx.body.id_token) world.idTokens.add(ctx.body.id_token);
    const oidc = ctx.body.id_token ? ['openid', 'profile', 'email'] : [];
    const clientInfo = Buffer.from(JSON.stringify({ uid: user.oid, utid: user.tid })).toString('base64url');
    ctx.body = {
      ...ctx.body,
      scope: [...named(world, user, display(ctx.body.scope, asked.scope)), ...oidc].join(' '),
      ext_expires_in: ctx.body.expires_in,
      ...(world.lifetimes.refresh_in ? { refresh_in: world.lifetimes.refresh_in } : {}),
      ...(asked.form.client_info === '1' ? { client_info: clientInfo } : {}),
    };
  }
}

// In front of oidc-provider: the tenant in the path, Entra's parameters in, Entra's answers out.

import { randomUUID } from 'node:crypto';

import { body as entraError } from './errors.mjs';
import { graph } from './graph.mjs';
import { json, readForm } from './http.mjs';
import { login, STEP_UP_CLAIMS } from './login.mjs';
import { OFFLINE, parse, UnknownScope } from './scopes.mjs';
import { admits, byOid, isMultiTenant, isTenant, PERSONAL_TENANT } from './users.mjs';

/** Where each grant keeps the code or token that it presents. */
const GRANTS = {
  authorization_code: ['AuthorizationCode', 'code'],
  refresh_token: ['RefreshToken', 'refresh_token'],
  device_code: ['DeviceCode', 'device_code'],
};
const DEVICE_GRANT = 'urn:ietf:params:oauth:grant-type:device_code';
const LOGGED = ['client_id', 'scope', 'prompt', 'login_hint', 'claims', 'response_mode'];

/** The request listener of the whole tenant, Graph included. */
export function shim(world) {
  return async (req, res) => {
    try {
      await route(world, req, res);
    } catch (error) {
      process.stderr.write(`practice tenant: ${error.stack}\n`);
      if (!res.headersSent) json(res, 500, entraError({ error: 'server_error', code: 90033 }));
    }
  };
}

async function route(world, req, res) {
  const [rawPath, query = ''] = req.url.split(/\?(.*)/s);
  const path = rawPath.replace(/\/{2,}/g, '/');
  const [, first, ...segments] = path.split('/');
  const rest = segments.join('/');
  req.correlation = req.headers['client-request-id'] ?? randomUUID();
  req.params = new URLSearchParams(query);
  req.logged = new URLSearchParams(query);

  req.began = performance.now();

  const endpoint = endpointOf(first, rest);
  world.count(endpoint);
  res.on('finish', () => record(world, endpoint, first, req, res));

  if (endpoint !== 'token' && endpoint !== 'authorize' && planned(world, endpoint, undefined, req, res)) return undefined;
  if (endpoint === 'graph') return graph(world, `/${rest}`.replace(/(.)\/$/, '$1'), req, res);
  if (endpoint === 'instance') return json(res, 200, instanceDiscovery());
  if (endpoint === 'nothing') return json(res, 404, { error: 'not_found' });
  if (!isTenant(first)) return refuse(req, res, { error: 'invalid_tenant', code: 90002 });

  switch (endpoint) {
    case 'discovery': return json(res, 200, discovery(world, first));
    case 'jwks': return json(res, 200, { keys: world.publicKeys() });
    case 'login': return login(world, first, req, res);
    case 'authorize': return authorize(world, first, req, res);
    case 'token': return token(world, first, req, res);
    case 'devicecode': return deviceCode(world, first, req, res);
    default: return pass(world, first, `/${rest}${query ? `?${query}` : ''}`, req, res);
  }
}

function endpointOf(first, rest) {
  if (first === 'v1.0' || first === 'beta') return 'graph';
  if (rest === 'discovery/instance') return 'instance';
  if (rest === 'v2.0/.well-known/openid-configuration') return 'discovery';
  if (rest === 'discovery/v2.0/keys') return 'jwks';
  if (rest.startsWith('login/')) return 'login';
  if (rest.startsWith('oauth2/v2.0/authorize/')) return 'resume';
  if (rest.startsWith('oauth2/deviceauth')) return 'deviceauth';
  return /^oauth2\/v2\.0\/(authorize|token|devicecode)$/.exec(rest)?.[1] ?? 'nothing';
}

/** oidc-provider finds its mount path as the difference of the two addresses. */
function pass(world, tenant, url, req, res) {
  req.originalUrl = `/${tenant}${url}`;
  req.url = url;
  return world.provider.callback()(req, res);
}

function authorize(world, tenant, req, res) {
  const { params } = req;
  const back = (error) => {
    const to = new URL(params.get('redirect_uri'));
    const { error_description: text } = entraError(error, req.correlation);
    for (const [key, value] of Object.entries({ error: error.error, error_description: text, state: params.get('state') })) {
      if (value) to.searchParams.set(key, value);
    }
    req.refusal = error.error;
    res.writeHead(302, { location: to.href }).end();
  };
  const error = world.takeError('authorize');
  if (error?.drop) return req.socket.destroy();
  if (error?.status >= 400) return refuse(req, res, error, error.status);
  if (error) return back(error);

  const asked = params.get('scope');
  if (asked) {
    let scopes;
    try {
      scopes = parse(asked, [world.origin]);
    } catch (problem) {
      if (!(problem instanceof UnknownScope)) throw problem;
      return back({ error: 'invalid_scope', code: 70011, description: `The scope '${problem.message}' is not valid.` });
    }
    setScopes(scopes, (key, values) => {
      params.delete(key);
      for (const value of values) params.append(key, value);
    });
  }
  rename(params, 'prompt', 'entra_prompt');
  rename(params, 'claims', 'entra_claims');
  return pass(world, tenant, `/oauth2/v2.0/authorize?${params}`, req, res);
}

async function deviceCode(world, tenant, req, res) {
  const form = await readForm(req);
  req.logged = new URLSearchParams(form);
  const scopes = understand(world, req, res, form.scope);
  if (!scopes) return undefined;
  setScopes(scopes, (key, values) => { form[key] = values; });
  form.entra_claims = form.claims;
  delete form.claims;
  return answer(world, tenant, form, req, res);
}

async function token(world, tenant, req, res) {
  const form = await readForm(req);
  req.logged = new URLSearchParams(form);
  const grant = String(form.grant_type ?? '').split(':').pop();
  // Entra takes the short name too, and msal-node sends it.
  if (grant === 'device_code') form.grant_type = DEVICE_GRANT;
  req.grant = grant;
  if (form.code_verifier) world.verifiers.add(form.code_verifier);
  world.count(`token:${grant}`);
  if (planned(world, 'token', grant, req, res)) return undefined;

  const [model, field] = GRANTS[grant] ?? [];
  const row = model && world.store.peek(model, form[field]);
  const live = row && !row.revoked && row.exp > Date.now() / 1000;
  const granted = String(row?.scope ?? '').split(' ');
  const scopes = understand(world, req, res, form.scope, granted);
  if (!scopes) return undefined;
  if (scopes.resources.length > 1) return refuse(req, res, { error: 'invalid_scope', code: 28000 });
  if (grant === 'refresh_token' && live) {
    const problem = policy(world, tenant, row, scopes, granted);
    if (problem) return refuse(req, res, problem);
    // Entra gives an id token again whenever `openid` is asked again, and forgives scopes of OpenID not asked before.
    const oidc = scopes.oidc.filter((scope) => granted.includes(scope));
    if (form.scope) setScopes({ ...scopes, oidc }, (key, values) => { form[key] = values; });
  } else if (scopes.resources.length) {
    form.resource = scopes.resources;
  }
  form.resource ??= [row?.resource].flat().filter(Boolean).slice(0, 1);
  return answer(world, tenant, form, req, res, form.scope);
}

/** What Entra itself would not allow with a refresh token that is otherwise good. */
function policy(world, tenant, row, scopes, granted) {
  const user = byOid(row.accountId);
  if (user.tid === PERSONAL_TENANT && tenant === 'common') return { error: 'invalid_grant', code: 70000 };
  if (!admits(tenant, user)) return { error: 'invalid_grant', code: 50020 };
  const steppedUp = world.stepUp.get(user.oid);
  if (steppedUp && !steppedUp.has(row.grantId)) return { error: 'invalid_grant', code: 50076, suberror: 'basic_action', claims: STEP_UP_CLAIMS };
  if (scopes.full.some((scope) => !granted.includes(scope))) return { error: 'invalid_grant', code: 65001, suberror: 'consent_required' };
  return undefined;
}

function understand(world, req, res, asked, granted = []) {
  req.asked = asked;
  try {
    return parse(asked, [world.origin], granted.filter((scope) => scope.includes('/')));
  } catch (problem) {
    if (!(problem instanceof UnknownScope)) throw problem;
    refuse(req, res, { error: 'invalid_scope', code: 70011, description: `The scope '${problem.message}' is not valid.` });
    return undefined;
  }
}

/** Without a permission asked, Entra gives a token for Graph's `User.Read`. */
function setScopes({ oidc, full, resources }, set) {
  const wanted = full.length ? { full, resources } : parse('User.Read');
  set('scope', [[...oidc, ...wanted.full].join(' ')]);
  set('resource', wanted.resources);
}

function answer(world, tenant, form, req, res) {
  req.entra = { form, scope: req.asked, correlation: req.correlation };
  req.body = Object.fromEntries(Object.entries(form).filter(([, value]) => value !== undefined));
  return pass(world, tenant, req.url.replace(/^\/[^/]*/, ''), req, res);
}

/** Meets the error that the hook `/next-error` put here, if any. */
function planned(world, endpoint, grant, req, res) {
  const error = world.takeError(endpoint, grant);
  if (error?.drop) req.socket.destroy();
  else if (error) refuse(req, res, error, error.status, error.retry_after);
  return error !== undefined;
}

function refuse(req, res, error, status = 400, retryAfter) {
  req.refusal = error.code ? `AADSTS${error.code}` : error.error;
  json(res, status, entraError(error, req.correlation), retryAfter ? { 'retry-after': String(retryAfter) } : {});
}

function rename(params, from, to) {
  const value = params.get(from);
  params.delete(from);
  if (value && !(from === 'prompt' && value === 'none')) params.set(to, value);
  else if (value) params.set(from, value);
}

/** No code, token or secret is ever logged. */
function record(world, endpoint, tenant, req, res) {
  const told = Object.fromEntries(LOGGED.map((key) => [key, req.logged.get(key)]).filter(([, value]) => value));
  world.record({ at: Date.now() / 1000, ms: performance.now() - req.began, endpoint, tenant, ...(req.grant ? { grant: req.grant } : {}), ...told, status: res.statusCode, ...(req.refusal ? { error: req.refusal } : {}) });
}

/** https://learn.microsoft.com/entra/identity-platform/v2-protocols-oidc; like Entra's, silent about PKCE. */
function discovery(world, tenant) {
  const at = (path) => `${world.origin}/${tenant}${path}`;
  return {
    token_endpoint: at('/oauth2/v2.0/token'),
    token_endpoint_auth_methods_supported: ['client_secret_post', 'private_key_jwt', 'client_secret_basic'],
    jwks_uri: at('/discovery/v2.0/keys'),
    response_modes_supported: ['query', 'fragment', 'form_post'],
    subject_types_supported: ['pairwise'],
    id_token_signing_alg_values_supported: ['RS256'],
    response_types_supported: ['code', 'id_token', 'code id_token', 'id_token token'],
    scopes_supported: ['openid', 'profile', 'email', 'offline_access'],
    issuer: world.issuer(isMultiTenant(tenant) ? '{tenantid}' : tenant === 'consumers' ? PERSONAL_TENANT : tenant),
    request_uri_parameter_supported: false,
    userinfo_endpoint: `${world.origin}/oidc/userinfo`,
    authorization_endpoint: at('/oauth2/v2.0/authorize'),
    device_authorization_endpoint: at('/oauth2/v2.0/devicecode'),
    claims_supported: ['sub', 'iss', 'aud', 'exp', 'iat', 'auth_time', 'nonce', 'preferred_username', 'name', 'tid', 'ver', 'email'],
    tenant_region_scope: null,
    cloud_instance_name: 'microsoftonline.com',
    cloud_graph_host_name: 'graph.windows.net',
    msgraph_host: 'graph.microsoft.com',
  };
}

function instanceDiscovery() {
  return {
    tenant_discovery_endpoint: 'https://login.microsoftonline.com/common/v2.0/.well-known/openid-configuration',
    'api-version': '1.1',
    metadata: [{
      preferred_network: 'login.microsoftonline.com',
      preferred_cache: 'login.windows.net',
      aliases: ['login.microsoftonline.com', 'login.windows.net', 'login.microsoft.com', 'sts.windows.net'],
    }],
  };
}

// Microsoft's library for Node, driven by a test: `node_client.mjs sign-in|device|token|silent CACHE_FILE`.
// The same conversation as python_client.py.

import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline/promises';

import { CryptoProvider, PublicClientApplication } from '@azure/msal-node';

const CLIENT_ID = '11111111-1111-4111-8111-111111111111';
const AUTHORITY = process.env.AUTHORITY;
const SCOPES = ['User.Read', 'Mail.Read'];
const REDIRECT = 'http://localhost:1/';

const say = (what) => process.stdout.write(`${JSON.stringify(what)}\n`);

async function signIn(app) {
  const { verifier, challenge } = await new CryptoProvider().generatePkceCodes();
  say({ open: await app.getAuthCodeUrl({ scopes: SCOPES, redirectUri: REDIRECT, codeChallenge: challenge, codeChallengeMethod: 'S256' }) });
  const lines = createInterface({ input: process.stdin });
  const landing = new URL((await lines[Symbol.asyncIterator]().next()).value);
  lines.close();
  return app.acquireTokenByCode({ scopes: SCOPES, redirectUri: REDIRECT, codeVerifier: verifier, code: landing.searchParams.get('code') });
}

const device = (app) => app.acquireTokenByDeviceCode({
  scopes: SCOPES,
  deviceCodeCallback: ({ verificationUri, userCode, message }) => say({ verify: verificationUri, code: userCode, message }),
});

async function token(app) {
  // As programs do it: the stored access token while it lasts, else a silent refresh.
  const [account] = await app.getTokenCache().getAllAccounts();
  return app.acquireTokenSilent({ account, scopes: SCOPES });
}

async function silent(app) {
  const [account] = await app.getTokenCache().getAllAccounts();
  const refresh = () => app.acquireTokenSilent({ account, scopes: SCOPES, forceRefresh: true });
  // Two refreshes: the second one shows that the first one's rotated token was kept.
  await refresh();
  return refresh();
}

async function outcome(result) {
  const me = await fetch('https://graph.microsoft.com/v1.0/me', { headers: { authorization: `Bearer ${result.accessToken}` } });
  return { mail: (await me.json()).mail, from: result.fromCache ? 'cache' : 'identity_provider', tid: result.tenantId };
}

const [verb, file] = process.argv.slice(2);
const cachePlugin = {
  beforeCacheAccess: async ({ tokenCache }) => { if (existsSync(file)) tokenCache.deserialize(readFileSync(file, 'utf8')); },
  afterCacheAccess: async ({ cacheHasChanged, tokenCache }) => { if (cacheHasChanged) writeFileSync(file, tokenCache.serialize()); },
};
const app = new PublicClientApplication({ auth: { clientId: CLIENT_ID, authority: AUTHORITY }, cache: { cachePlugin } });
try {
  say(await outcome(await { 'sign-in': signIn, device, token, silent }[verb](app)));
} catch (error) {
  say({ error: error.errorCode, suberror: error.subError, classification: error.constructor.name });
}

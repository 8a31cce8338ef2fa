// The interactive part: a person at the form, then consent.

import { html, readForm } from './http.mjs';
import * as pages from './pages.mjs';
import { permissionsOf, resourceOf } from './scopes.mjs';
import { admits, byName, clients, PASSWORD } from './users.mjs';

const CANCELLED = { error: 'access_denied', error_description: 'AADSTS65004: User declined to consent to access the app.' };
const NO_AUTO = ['login', 'select_account'];
/** Asked by our step-up's claims challenge, as Conditional Access asks with its policies' ids. */
export const STEP_UP_CLAIMS = '{"access_token":{"capolids":{"essential":true,"values":["5dc0de00-0000-4000-8000-000000000001"]}}}';

/** GET and POST of `/{tenant}/login/{uid}`. */
export async function login(world, tenant, req, res) {
  let interaction;
  try {
    interaction = await world.provider.interactionDetails(req, res);
  } catch {
    return html(res, 400, pages.message('This sign-in has ended', 'Start it again from the program that opened it.'));
  }
  const { params } = interaction;
  const asked = String(params.scope ?? '').split(' ').filter((scope) => scope.includes('/'));
  const show = (problem, username = params.login_hint) => html(res, 200, pages.signIn({
    client: clients.find((client) => client.client_id === params.client_id).client_name,
    permissions: permissionsOf(asked),
    username,
    problem,
  }));

  if (req.method !== 'POST') {
    const hinted = byName(params.login_hint);
    const auto = world.autoSignIn && hinted && admits(tenant, hinted) && !NO_AUTO.includes(params.entra_prompt);
    return auto ? finish(world, req, res, params, asked, hinted) : show();
  }
  const form = await readForm(req);
  if (form.action === 'cancel') return world.provider.interactionFinished(req, res, CANCELLED);
  const user = byName(form.username);
  if (!user) return show(`There is no practice account “${form.username ?? ''}”.`, form.username);
  if (form.password !== PASSWORD) return show('Your account or password is incorrect.', form.username);
  if (!admits(tenant, user)) return show('AADSTS50020: This account does not belong to the organisation you are signing in to.', form.username);
  return finish(world, req, res, params, asked, user);
}

async function finish(world, req, res, params, asked, user) {
  if (world.declines.has(user.oid)) return world.provider.interactionFinished(req, res, CANCELLED);
  const grant = new world.provider.Grant({ accountId: user.oid, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  for (const scope of asked) grant.addResourceScope(resourceOf(scope), scope);
  const grantId = await grant.save();
  if (String(params.entra_claims ?? '').includes('capolids')) world.stepUp.get(user.oid)?.add(grantId);
  return world.provider.interactionFinished(req, res, {
    login: { accountId: user.oid, amr: ['pwd'] },
    consent: { grantId },
  });
}

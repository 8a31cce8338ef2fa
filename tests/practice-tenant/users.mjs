// Who can sign in, to which tenant they belong, and what they may be asked to consent to.

/** The tenant of every personal Microsoft account. */
export const PERSONAL_TENANT = '9188040d-6c67-4c5b-b112-36a304b66dad';
export const PASSWORD = 'practice';

const CONTOSO = 'aaaaaaaa-0000-4000-8000-00000000c070';
const FABRIKAM = 'bbbbbbbb-0000-4000-8000-00000000fab0';

export const users = [
  {
    username: 'alice@contoso.example', name: 'Alice Example', mail: 'alice@contoso.example',
    emailClaim: true, tid: CONTOSO, oid: 'a11ce000-0000-4000-8000-000000000001',
  },
  {
    // Her sign-in name is not her mailbox, and her tokens have no `email`: only Graph knows.
    username: 'ana.upn@contoso.example', name: 'Ana Beispiel', mail: 'ana@contoso.example',
    emailClaim: false, tid: CONTOSO, oid: 'a0a00000-0000-4000-8000-000000000002',
  },
  {
    username: 'bob@fabrikam.example', name: 'Bob Exemple', mail: 'bob@fabrikam.example',
    emailClaim: true, tid: FABRIKAM, oid: 'b0b00000-0000-4000-8000-000000000003',
  },
  {
    // MSA writes a personal account's 64-bit id into a GUID.
    username: 'carol@outlook.example', name: 'Carol Esempio', mail: 'carol@outlook.example',
    emailClaim: true, tid: PERSONAL_TENANT, oid: '00000000-0000-0000-0c40-100000000004',
  },
];

export const byName = (name) => users.find((user) => user.username === String(name ?? '').trim().toLowerCase());
export const byOid = (oid) => users.find((user) => user.oid === oid);

const ALIASES = ['common', 'organizations', 'consumers'];
const TENANTS = new Set([...ALIASES, ...users.map((user) => user.tid)]);

export const isTenant = (name) => TENANTS.has(name);
export const isMultiTenant = (name) => name === 'common' || name === 'organizations';

/** Whether a sign-in at `login…/{tenant}` admits this user. */
export function admits(tenant, user) {
  if (tenant === 'common') return true;
  if (tenant === 'organizations') return user.tid !== PERSONAL_TENANT;
  return user.tid === (tenant === 'consumers' ? PERSONAL_TENANT : tenant);
}

const TRANSPORT = ['http://localhost', 'http://127.0.0.1'];

/** App registrations: a public client, any port on loopback, as "Mobile and desktop applications" in Entra. */
export const clients = [
  {
    client_id: '11111111-1111-4111-8111-111111111111',
    client_name: 'Valet Key (practice)',
    application_type: 'native',
    token_endpoint_auth_method: 'none',
    grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'],
    response_types: ['code'],
    // oidc-provider compares text after dropping the port; Entra takes a trailing slash or none.
    redirect_uris: TRANSPORT.flatMap((origin) => [origin, `${origin}/`]),
  },
];

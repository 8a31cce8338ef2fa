// Entra's scopes are "resource/permission", Graph's also in short; oidc-provider wants one spelling and RFC 8707 resources.

/** Asked of oidc-provider in the place of `offline_access`, which it only grants together with `prompt=consent`. */
export const OFFLINE = 'offline';
export const OIDC_SCOPES = ['openid', 'profile', 'email', OFFLINE];

export const GRAPH = 'https://graph.microsoft.com';

export const resources = {
  [GRAPH]: [
    'User.Read', 'Mail.Read', 'Mail.Read.Shared', 'Mail.ReadWrite', 'Mail.Send', 'MailboxSettings.Read',
    'Calendars.Read', 'Calendars.Read.Shared', 'Calendars.ReadWrite', 'Contacts.Read', 'People.Read.All',
    'Sites.Read.All', 'OnlineMeetingTranscript.Read.All', 'Chat.Read', 'ChannelMessage.Read.All', 'ExternalItem.Read.All',
  ],
  'https://outlook.office.com': ['IMAP.AccessAsUser.All', 'POP.AccessAsUser.All', 'SMTP.Send'],
  'api://workiq.svc.cloud.microsoft': ['WorkIQAgent.Ask'],
  'api://ea9ffc3e-8a23-4a7d-836d-234d7c7565c1': [
    'McpServers.Mail.All', 'McpServers.Calendar.All', 'McpServers.Teams.All', 'McpServersMetadata.Read.All',
  ],
};

const DEFAULT = '.default';

export class UnknownScope extends Error {}

/**
 * Reads a `scope` parameter.
 * @param asked space-separated, short, long or `.default`
 * @param graphAliases origins that also mean Graph (the practice tenant's own)
 * @param consented full scopes that `.default` stands for
 * @returns {{oidc: string[], full: string[], resources: string[]}} resources in the order asked
 */
export function parse(asked, graphAliases = [], consented = []) {
  const oidc = [];
  const full = [];
  const found = [];
  for (const scope of String(asked ?? '').split(' ').filter(Boolean)) {
    const plain = scope === 'offline_access' ? OFFLINE : scope;
    if (OIDC_SCOPES.includes(plain)) {
      oidc.push(plain);
      continue;
    }
    const [resource, permission] = split(scope, graphAliases);
    const permissions = permission === DEFAULT ? defaults(resource, consented) : [permission];
    if (!resources[resource] || permissions.some((one) => !resources[resource].includes(one))) throw new UnknownScope(scope);
    if (!found.includes(resource)) found.push(resource);
    full.push(...permissions.map((one) => `${resource}/${one}`));
  }
  return { oidc, full: [...new Set(full)], resources: found };
}

/** What a token response says: Graph's permissions in short, unless they were asked for in full. */
export function display(granted, asked) {
  return String(granted ?? '').split(' ').filter(Boolean).map((scope) => {
    const [resource, permission] = split(scope);
    return resource === GRAPH && !String(asked).includes(scope) ? permission : scope;
  });
}

export const permissionsOf = (full) => full.map((scope) => split(scope)[1]);
export const resourceOf = (full) => split(full)[0];

function split(scope, graphAliases = []) {
  const at = scope.lastIndexOf('/');
  if (at < 0) return [GRAPH, scope];
  const resource = scope.slice(0, at).replace(/\/$/, '');
  return [graphAliases.includes(resource) ? GRAPH : resource, scope.slice(at + 1)];
}

function defaults(resource, consented) {
  const known = consented.filter((scope) => resourceOf(scope) === resource);
  if (known.length) return permissionsOf(known);
  return resource === GRAPH ? ['User.Read'] : (resources[resource] ?? [DEFAULT]).slice(0, 1);
}

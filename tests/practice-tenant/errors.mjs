// Errors in Entra's body, with its numbers. https://learn.microsoft.com/entra/identity-platform/reference-error-codes

import { randomUUID } from 'node:crypto';

const TEXTS = {
  28000: 'Provided value for the input parameter scope is not valid because it contains more than one resource.',
  50020: 'User account from identity provider does not exist in tenant and cannot access the application in that tenant.',
  50076: 'Due to a configuration change made by your administrator, you must use multi-factor authentication to access the resource.',
  50173: 'The provided grant has expired due to it being revoked, a fresh auth token is needed.',
  54005: 'OAuth2 Authorization code was already redeemed, please retry with a new valid code or use an existing refresh token.',
  65001: 'The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource.',
  65004: 'User declined to consent to access the app.',
  70000: 'Provided grant is invalid or malformed.',
  70003: "The app requested an unsupported grant type.",
  70008: 'The provided authorization code or refresh token has expired due to inactivity. Send a new interactive authorization request for this user and resource.',
  70011: 'The provided value for the input parameter scope is not valid.',
  70016: 'OAuth 2.0 device flow error. Authorization is pending. Continue polling.',
  70020: 'The provided value for the input parameter device_code is not valid. This device code has expired.',
  90002: 'Tenant not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.',
  700016: 'Application was not found in the directory. This can happen if the application has not been installed by the administrator of the tenant.',
  700082: 'The refresh token has expired due to inactivity.',
  900144: 'The request body is missing a required parameter.',
  501481: 'The Code_Verifier does not match the code_challenge supplied in the authorization request.',
  500112: "The reply address does not match the reply address provided when requesting Authorization code.",
};

/**
 * @param {{error: string, code?: number, suberror?: string, claims?: string, description?: string}} what
 * @returns the JSON body of a token endpoint's refusal
 */
export function body({ error, code, suberror, claims, description }, correlation = randomUUID()) {
  const trace = randomUUID();
  const timestamp = `${new Date().toISOString().slice(0, 19).replace('T', ' ')}Z`;
  const text = description ?? TEXTS[code] ?? 'Practice error.';
  return {
    error,
    error_description: `${code ? `AADSTS${code}: ` : ''}${text} Trace ID: ${trace} Correlation ID: ${correlation} Timestamp: ${timestamp}`,
    ...(code ? { error_codes: [code] } : {}),
    timestamp,
    trace_id: trace,
    correlation_id: correlation,
    ...(code ? { error_uri: `https://login.microsoftonline.com/error?code=${code}` } : {}),
    ...(suberror ? { suberror } : {}),
    ...(claims ? { claims } : {}),
  };
}

/** oidc-provider's refusal in Entra's terms: its public `error`, and the detail that it keeps for its own log. */
export function translate(error, detail = '', { revoked = false } = {}) {
  switch (error) {
    case 'invalid_grant':
      if (revoked || /already used/.test(detail)) return { error, code: 50173, suberror: 'bad_token' };
      if (/refresh token is expired/.test(detail)) return { error, code: 700082 };
      if (/authorization code is expired/.test(detail)) return { error, code: 70008 };
      if (/already consumed/.test(detail)) return { error, code: 54005 };
      if (/verif|PKCE/i.test(detail)) return { error, code: 501481 };
      if (/redirect_uri/.test(detail)) return { error, code: 500112 };
      return { error, code: 70000 };
    case 'authorization_pending': return { error, code: 70016 };
    case 'expired_token': return { error, code: 70020 };
    case 'access_denied': return { error: 'authorization_declined', code: 65004 };
    case 'invalid_client': return { error: 'unauthorized_client', code: 700016 };
    case 'unsupported_grant_type': return { error, code: 70003 };
    case 'invalid_scope': case 'invalid_target': return { error: 'invalid_scope', code: 70011 };
    case 'invalid_request': return { error, code: 900144 };
    default: return { error, description: detail || undefined };
  }
}

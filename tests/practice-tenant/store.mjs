// What oidc-provider keeps, in memory, with Entra's ways: revoking a user, and old refresh tokens that may still work.

/** How long an old refresh token is still taken in the mode `grace`. */
export const GRACE_SECONDS = 60;

const SIGN_IN = new Set(['RefreshToken', 'AuthorizationCode', 'DeviceCode', 'Grant']);
const now = () => Math.floor(Date.now() / 1000);

export class Store {
  /** `tolerant`: old refresh tokens work, as Entra's do. `grace`: for a minute. `strict`: reuse ends the grant. */
  reuse = 'tolerant';

  #rows = new Map();

  /** For oidc-provider's `adapter`: one small object a model. */
  adapter = (model) => ({
    upsert: async (id, payload) => {
      // No single sign-on: a session never remembers who signed in, so every sign-in shows its form.
      const { accountId, authorizations, ...anonymous } = payload;
      this.#rows.set(`${model}:${id}`, { model, ...(model === 'Session' ? anonymous : payload) });
    },
    find: async (id) => this.#live(`${model}:${id}`),
    findByUid: async (uid) => this.#first((row) => row.model === model && row.uid === uid),
    findByUserCode: async (code) => this.#first((row) => row.model === model && row.userCode === code),
    consume: async (id) => {
      this.#rows.get(`${model}:${id}`).consumed ??= now();
    },
    destroy: async (id) => {
      if (SIGN_IN.has(model)) this.#revoke((row, key) => key === `${model}:${id}`);
      else this.#rows.delete(`${model}:${id}`);
    },
    revokeByGrantId: async (grantId) => this.#revoke((row) => row.grantId === grantId),
  });

  /** Ends every sign-in of a user; tokens already given out live on, as with Graph's revokeSignInSessions. */
  revokeUser(accountId) {
    return this.#revoke((row) => row.accountId === accountId);
  }

  /** The stored row of a code or token, revoked or not. */
  peek(model, id) {
    return this.#rows.get(`${model}:${id}`);
  }

  /** Every code or token of a model that was ever given out. */
  issued(model) {
    return [...this.#rows.keys()].filter((key) => key.startsWith(`${model}:`)).map((key) => key.slice(model.length + 1));
  }

  #live(key) {
    const row = this.#rows.get(key);
    if (!row || row.revoked) return undefined;
    const { model, ...payload } = row;
    if (model === 'RefreshToken' && payload.consumed && this.#forgives(payload.consumed)) delete payload.consumed;
    return payload;
  }

  #forgives(consumed) {
    return this.reuse === 'tolerant' || (this.reuse === 'grace' && now() < consumed + GRACE_SECONDS);
  }

  #first(matches) {
    for (const [key, row] of this.#rows) if (matches(row)) return this.#live(key);
    return undefined;
  }

  #revoke(matches) {
    let count = 0;
    for (const [key, row] of this.#rows) {
      if (SIGN_IN.has(row.model) && !row.revoked && matches(row, key)) {
        row.revoked = true;
        if (row.model === 'RefreshToken') count += 1;
      }
    }
    return count;
  }
}

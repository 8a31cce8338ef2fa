//! Accounts that are there on a device's word alone.

use std::sync::Arc;

use valetkey_entra::account::AccountId;
use valetkey_handoff::Thumbprint;

use crate::account_file::Facts;

/// So many accounts may a device name without a sign-in of it for any of them having worked, those included of which only a
/// tombstone is left. A person has a handful; each costs a file that is kept and a question to Microsoft.
pub(crate) const MOST: usize = 16;

/// Whether a device may name this account, besides those that it has named so far.
pub(crate) fn may_name(device: &Thumbprint, account: &AccountId, all: &[Arc<Facts>]) -> bool {
    let in_vain = |facts: &&Arc<Facts>| {
        facts.account != *account && facts.seen.contains_key(device) && !facts.brought_by(device)
    };
    all.iter().filter(in_vain).count() < MOST
}

//! From a pasted link to an offer that can be shown. Nothing is contacted and nothing is kept.

use std::path::PathBuf;

use jiff::Timestamp;
use valetkey_entra::cloud::Cloud;
use valetkey_handoff::Invite;

use crate::command::InviteLink;
use crate::pairing::host;
use crate::policy::Policies;
use crate::problem::InviteProblem;
use crate::state::Offer;

/// Reads the link and asks the organisation's policy.
pub(crate) async fn read(
    link: InviteLink,
    policy: Option<PathBuf>,
    now: Timestamp,
) -> Result<(Invite, Offer), InviteProblem> {
    let invite = Invite::parse(link.as_str()).map_err(|error| {
        tracing::info!(%error, "an invite link was not taken");
        InviteProblem::Unreadable
    })?;
    if invite.is_expired(now) {
        return Err(InviteProblem::Expired);
    }
    let policy = match Policies::read(policy.as_deref()) {
        Ok(policy) => policy,
        Err(error) => {
            tracing::error!(%error, "no invite is taken until the policy file is mended");
            return Err(InviteProblem::Forbidden);
        }
    };
    if !policy.allow(&invite) {
        return Err(InviteProblem::Forbidden);
    }
    if !policy.know_login(&invite.terms) {
        tracing::warn!(
            login = host(&invite.terms.authority),
            "an invite to sign in anywhere but at Microsoft was not taken"
        );
        return Err(InviteProblem::Elsewhere);
    }
    if let Err(error) = policy.certificates().check() {
        tracing::error!(%error, "no invite is taken until the certificates that the policy file names are mended");
        return Err(InviteProblem::Certificates);
    }
    let login_is_microsofts = Cloud::from_addresses(&invite.terms.authority, invite.terms.graph.as_deref())
        .is_ok_and(|cloud| cloud.is_microsofts());
    let keys = invite.agent.clone();
    // Slow on purpose, so not on a thread that others wait for.
    let words = tokio::task::spawn_blocking(move || keys.words().map(str::to_owned)).await;
    let offer = Offer {
        id: invite.id().to_string(),
        agent: invite.name.to_string(),
        email: invite.terms.email.clone(),
        capabilities: invite.terms.capabilities.clone(),
        words: words.map_err(|_| InviteProblem::Unreadable)?,
        expires_at: invite.expires_at,
        broker_host: host(invite.broker.url.as_str()),
        login_host: host(&invite.terms.authority),
        login_is_microsofts,
        replaces: None,
        another_failed: false,
    };
    Ok((invite, offer))
}

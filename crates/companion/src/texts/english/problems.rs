//! What went wrong, and what to do about it.

use valetkey_entra::refusal::Reason;

use crate::problem::{Distrust, Holder, InviteProblem, KeysProblem, Problem, Program, SignInProblem};
use crate::texts::AdminRequest;

const CERTIFICATE: &str = "A certificate this computer needs can't be used";

pub(super) fn what(problem: &Problem) -> String {
    match problem {
        Problem::Invite(problem) => match problem {
            InviteProblem::Unreadable => "This isn't a whole invite link",
            InviteProblem::Expired => "This invite seems to have run out",
            InviteProblem::Forbidden => "Your organisation doesn't allow this assistant",
            InviteProblem::Elsewhere => "This invite doesn't lead to Microsoft",
            InviteProblem::Certificates => CERTIFICATE,
            InviteProblem::Used => "This invite was already used or withdrawn",
        }
        .into(),
        Problem::Keys(problem) => match problem {
            KeysProblem::Locked => "Your keyring is locked",
            KeysProblem::Unavailable => "This computer has no keyring",
            KeysProblem::Unreadable => "Valet Key's own records can't be read",
            KeysProblem::Forbidden => "Your organisation no longer allows this assistant",
            KeysProblem::Certificates => CERTIFICATE,
            KeysProblem::InUse(Some(Holder { program: Program::Terminal, .. })) => {
                "Valet Key is at work in a terminal"
            }
            KeysProblem::InUse(_) => "Valet Key is running already",
        }
        .into(),
        Problem::SignIn(problem) => sign_in_what(problem),
        Problem::HandoffRefused(_) => "Your assistant couldn't use the sign-in".into(),
        Problem::CannotSave => "This computer couldn't save what it must".into(),
    }
}

pub(super) fn remedy(problem: &Problem) -> String {
    match problem {
        Problem::Invite(problem) => match problem {
            InviteProblem::Unreadable => {
                "Copy the whole link, from “valetkey” or “https” to its end, and paste it again."
            }
            InviteProblem::Expired => {
                "Ask whoever runs your assistant for a new one. If yours is new, check this computer's date and time."
            }
            InviteProblem::Forbidden => {
                "Nothing was sent. Ask your administrator which assistants are allowed."
            }
            InviteProblem::Elsewhere => {
                "It would have you sign in somewhere else, so it wasn't opened. If you didn't expect it, tell your administrator."
            }
            InviteProblem::Certificates => {
                "Without it nothing is sent to your assistant. Ask your administrator to put it right, then open the invite \
                 again."
            }
            InviteProblem::Used => {
                "Nothing was handed over. Ask whoever runs your assistant for a new invite."
            }
        }
        .into(),
        Problem::Keys(problem) => match problem {
            KeysProblem::Locked => {
                "Unlock it, usually by signing in to this computer again; nothing is lost."
            }
            KeysProblem::Unavailable => {
                "Install or start a keyring (GNOME Keyring or KWallet), then try again."
            }
            KeysProblem::Unreadable => "Ask whoever runs your assistant for a new invite and open it here.",
            KeysProblem::Forbidden => {
                "Nothing is sent to it. Ask your administrator which assistants are allowed."
            }
            KeysProblem::Certificates => {
                "Without it nothing is sent to your assistant. Ask your administrator to put it right; this goes on by itself then."
            }
            KeysProblem::InUse(Some(Holder { program, pid })) => {
                let name = match program {
                    Program::App => "Valet Key",
                    Program::Terminal => "valetkey-cli",
                };
                return format!(
                    "Use that one, or end it ({name}, process {pid}); this one goes on by itself then."
                );
            }
            KeysProblem::InUse(None) => "Use that one, or end it; this one goes on by itself then.",
        }
        .into(),
        Problem::SignIn(problem) => sign_in_remedy(problem),
        Problem::HandoffRefused(code) => handoff_remedy(code),
        Problem::CannotSave => "Nothing was sent. Make room on the disk, then try again.".into(),
    }
}

/// Why a new sign-in is wanted, from the assistant's reason code.
pub(super) fn reason(code: &str) -> &'static str {
    match code {
        "revoked" => "Your earlier sign-in was ended by you or an administrator.",
        "expired" | "invalid-grant" | "timed-out" => "Your earlier sign-in has run out.",
        "mfa" => "Microsoft wants to confirm it's you with a second step.",
        "consent" | "declined" => "Microsoft wants you to agree to what your assistant may read.",
        "password-changed" => "Your password has changed.",
        "password-expired" => "Your password has run out; choose a new one while signing in.",
        "sign-in-frequency" => "Your organisation asks for a new sign-in from time to time.",
        "claims-challenge" => "Your organisation asks for more proof that it's you.",
        "conditional-access" => "Your organisation's rules don't allow this sign-in.",
        "device-not-allowed" => "Your organisation admits known computers only.",
        "token-protection" => {
            "Your organisation ties sign-ins to one computer, so they can't be handed over."
        }
        "admin-consent" => "Your administrator must agree to what your assistant may read.",
        "user-blocked" => "Your account is blocked at Microsoft.",
        "not-assigned" => "Your administrator hasn't given you this app.",
        "service-not-enabled" => "Your organisation doesn't have the service asked for.",
        "forbidden" => "Microsoft says your account may not do this.",
        "no-licence" => "Your account has no licence for what your assistant asks.",
        "throttled" | "unavailable" => "Microsoft is too busy just now.",
        "authorization-pending" | "slow-down" => "The sign-in in your browser isn't finished yet.",
        "client-mismatch" => "Your earlier sign-in was for another app.",
        "unauthorized" => "Microsoft no longer lets your assistant in.",
        "interaction-required" => "Microsoft wants you to sign in again, and doesn't say why.",
        "client-misconfigured" | "client-secret" | "scope" | "request-loop" => {
            "Your assistant isn't set up right at Microsoft."
        }
        "granted-more" => "Microsoft allows this app more than your assistant asked for, so it wasn't taken.",
        "unrecognised" => "Microsoft gave a reason that this version doesn't know.",
        _ => "Microsoft didn't accept the earlier sign-in any more.",
    }
}

pub(super) fn admin_request(request: AdminRequest<'_>) -> String {
    let AdminRequest { agent, address, client_id, tenant, permissions, reason, aadsts } = request;
    format!(
        "Hello,\n\nI'd like to connect my account {address} to the assistant “{agent}”, and Microsoft says that an \
         administrator must allow it first ({reason}{}).\n\nPlease allow the app with the client id {client_id} in \
         tenant {tenant}, with these delegated permissions:\n{}\n\nThank you.\n",
        numbers(aadsts),
        permissions.iter().map(|name| format!("- {name}")).collect::<Vec<_>>().join("\n"),
    )
}

fn sign_in_what(problem: &SignInProblem) -> String {
    match problem {
        SignInProblem::TimedOut => "Signing in took too long".into(),
        SignInProblem::PortBusy { .. } => "Your browser has no way back to Valet Key".into(),
        SignInProblem::NoNetwork => "Microsoft can't be reached".into(),
        SignInProblem::NotSecure { .. } => "A secure connection to Microsoft couldn't be made".into(),
        SignInProblem::ProviderUnavailable => "Microsoft is too busy just now".into(),
        SignInProblem::ProviderMalformed => "The sign-in page gave an answer that makes no sense".into(),
        SignInProblem::Untrusted(Distrust::MixedUp) => "The answer came from another sign-in service".into(),
        SignInProblem::Untrusted(_) => "The sign-in couldn't be proved genuine".into(),
        SignInProblem::ClockWrong { behind_minutes: Some(minutes) } => {
            format!("Your computer's clock looks wrong by {minutes} minutes")
        }
        SignInProblem::ClockWrong { behind_minutes: None } => "Your computer's clock looks wrong".into(),
        SignInProblem::WrongTenant => "That account belongs to another organisation".into(),
        SignInProblem::WrongAccount { signed_in_as } => format!("You signed in as {signed_in_as}"),
        SignInProblem::PersonUnconfirmed => "Microsoft didn't confirm whose mailbox this is".into(),
        SignInProblem::NoLastingAccess => "Microsoft gave access for an hour only".into(),
        SignInProblem::AccessMissing { .. } => "Microsoft didn't allow everything that was asked".into(),
        SignInProblem::AccessExceeded { .. } => "Microsoft allowed more than was asked".into(),
        SignInProblem::Administrator { .. } => "An administrator must allow this first".into(),
        SignInProblem::Operator { .. } => "Your assistant isn't set up right at Microsoft".into(),
        SignInProblem::NoLicence => "Your account has no licence for this".into(),
        SignInProblem::Refused(_) => "Microsoft didn't accept the sign-in".into(),
    }
}

fn sign_in_remedy(problem: &SignInProblem) -> String {
    match problem {
        SignInProblem::TimedOut => "Nothing was sent. Try again; you have five minutes.".into(),
        SignInProblem::PortBusy { by: Some(program) } => {
            format!(
                "{program} has the port that the browser comes back to. Close it or choose another port, then try again."
            )
        }
        SignInProblem::PortBusy { by: None } => {
            "Close programs that listen on this computer, or restart it, then try again.".into()
        }
        SignInProblem::NoNetwork => {
            "Check this computer's network, then try again; nothing has changed.".into()
        }
        SignInProblem::NotSecure { expired: false } => {
            "Nothing was sent. If your company's network checks secure traffic, its certificate must be installed on this \
             computer; ask your administrator."
                .into()
        }
        SignInProblem::NotSecure { expired: true } => {
            "Nothing was sent. Correct this computer's date and time if they are wrong, or try another network.".into()
        }
        SignInProblem::ProviderUnavailable => "Try again in a few minutes; nothing has changed.".into(),
        SignInProblem::ProviderMalformed => {
            "Nothing was sent. Try again on another network, or ask your administrator.".into()
        }
        SignInProblem::Untrusted(kind) => {
            format!(
                "Nothing was sent. Try again on a network you trust; if it happens again, tell your administrator “{kind}”."
            )
        }
        SignInProblem::ClockWrong { .. } => {
            "Nothing was sent. Correct the date and time, then try again.".into()
        }
        SignInProblem::WrongTenant => {
            "Nothing was sent. Sign in with the account of the right organisation.".into()
        }
        SignInProblem::WrongAccount { .. } => {
            "Nothing was sent. Sign in again with the right account.".into()
        }
        SignInProblem::PersonUnconfirmed => "Nothing was sent. Try again in a few minutes.".into(),
        SignInProblem::NoLastingAccess => {
            "Nothing was sent. Tell whoever runs your assistant that “offline_access” was not given.".into()
        }
        SignInProblem::AccessMissing { permissions } => {
            format!(
                "Nothing was sent, because this is missing: {}. Try again, and accept all that you agree with.",
                permissions.join(", ")
            )
        }
        SignInProblem::AccessExceeded { permissions } => {
            format!(
                "Nothing was sent, because nobody asked you about this: {}. Tell whoever runs your assistant to take it out of \
                 the app's permissions.",
                permissions.join(", ")
            )
        }
        SignInProblem::Administrator { .. } => "Copy the request and send it to your administrator.".into(),
        SignInProblem::Operator { reason, aadsts } => {
            format!("Nothing was sent. Tell whoever runs your assistant “{reason}{}”.", numbers(aadsts))
        }
        SignInProblem::NoLicence => "Ask your administrator for a licence, or use another account.".into(),
        SignInProblem::Refused(code) => format!("{} Nothing was sent; try again.", refused(code)),
    }
}

/// From the code in the assistant's receipt: its own, or Microsoft's when it tried the sign-in.
fn handoff_remedy(code: &str) -> String {
    match code {
        "expired" => "It arrived too late. Sign in once more.".into(),
        "clock" => "Check the date and time of this computer, then sign in once more.".into(),
        "damaged" => "It arrived damaged. Sign in once more.".into(),
        "no-refresh-token" => {
            "Microsoft gave access for an hour only. Tell whoever runs your assistant that “offline_access” was not given."
                .into()
        }
        "account-mismatch" | "wrong-account" => {
            "It was for another account than it said. Sign in once more, with the right account.".into()
        }
        "terms-mismatch" | "capabilities-mismatch" => {
            "It isn't what the invite asked for. Ask whoever runs your assistant for a new invite.".into()
        }
        "generation-conflict" => {
            "A copy of this computer sends to your assistant, too. Ask whoever runs it for a new invite.".into()
        }
        "older" => "A newer sign-in arrived before it. Sign in once more if your assistant can't read.".into(),
        "not-yours" => "Another computer connected this account. Disconnect it there.".into(),
        "removed" => "Your assistant has given this account up. Sign in once more to connect it again.".into(),
        "too-many-accounts" => "Your assistant has too many accounts waiting. Tell whoever runs it.".into(),
        "unsupported" => "Your assistant can't do this yet. Tell whoever runs it.".into(),
        _ if code.parse::<Reason>().is_ok() => format!("{} Sign in once more.", refused(code)),
        _ => format!("Sign in once more; if it happens again, tell whoever runs your assistant “{code}”."),
    }
}

/// Why this sign-in, just now, was not accepted.
fn refused(code: &str) -> &'static str {
    match code {
        "expired" | "invalid-grant" | "timed-out" | "revoked" => "It was used already, or took too long.",
        _ => reason(code),
    }
}

fn numbers(aadsts: &[u32]) -> String {
    aadsts.iter().map(|number| format!(" AADSTS{number}")).collect()
}

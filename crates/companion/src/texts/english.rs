//! English. What happened, why, what next; two sentences at most.

use valetkey_entra::refusal::Reason;

mod doctor;

pub(super) use doctor::check;

use super::{AccountStatus, AdminRequest, Asks, Button, Label, Step, Text};
use crate::problem::{Distrust, Holder, InviteProblem, KeysProblem, Problem, Program, SignInProblem};

#[allow(clippy::too_many_lines)] // One line a text; splitting would only hide which are missing.
pub(super) fn say(text: Text<'_>) -> String {
    match text {
        Text::Checking => "Checking…".into(),
        Text::NotPaired => "Not linked to an assistant yet".into(),
        Text::NotPairedHow => "Ask whoever runs your assistant for an invite link, and open or paste it here.".into(),
        Text::InvitedBy { agent, to } => match to {
            Asks::Read => format!("{agent} asks to read your Microsoft 365"),
            Asks::Send => format!("{agent} asks to read your Microsoft 365 and send mail as you"),
            Asks::Change => format!("{agent} asks to read and change your Microsoft 365"),
            Asks::ChangeAndSend => {
                format!("{agent} asks to read and change your Microsoft 365 and send mail as you")
            }
            Asks::Unknown => format!("{agent} asks for access to your Microsoft 365"),
        },
        Text::InvitedFor { email } => {
            format!("This invite is for {email}. Compare the four words with the person who sent it before you connect.")
        }
        Text::InvitedForAnyone => "Compare the four words with the person who sent this before you connect.".into(),
        Text::InvitedReplaces { agent } => format!("Connecting ends your link to {agent}."),
        Text::InvitedElsewhere { host } => {
            format!("You would sign in at {host}, which isn't Microsoft's. Connect only if your organisation runs it.")
        }
        Text::NotConnected => "Microsoft 365 isn't connected".into(),
        Text::NotConnectedWhy { agent } => format!("Connect it, and {agent} can use what you allow."),
        Text::Pairing => "Linking to your assistant…".into(),
        Text::Starting => "Opening your browser…".into(),
        Text::Waiting => "Finish signing in in your browser".into(),
        Text::WaitingFor { address } => format!("Sign in as {address}. Closed the page? Open it again, or copy the link."),
        Text::WaitingWithCode { code } => format!("Enter the code {code} in a browser"),
        Text::DeviceCodeWarning { link } => {
            format!(
                "Open {link} there, and go on only if you asked for this code yourself. Signing in with a code is weaker \
                 than in your own browser, and many organisations block it."
            )
        }
        Text::Finishing => "Checking your sign-in…".into(),
        Text::HandingOver => "Handing over to your assistant…".into(),
        Text::HandingOverTo { agent } => format!("Waiting for {agent} to confirm."),
        Text::Connected { address, read_only: true } => format!("Connected · {address} · read-only"),
        Text::Connected { address, read_only: false } => format!("Connected · {address}"),
        Text::ConnectedRetrying => "Microsoft is slow to answer your assistant. It keeps trying by itself.".into(),
        Text::AgentOffline => "Your assistant is offline".into(),
        Text::AgentOfflinePending => "Nothing to do; we'll finish when it's back.".into(),
        Text::AgentOfflineIdle => "Nothing to do; your sign-in is kept, and we'll check again when it's back.".into(),
        Text::NoNetwork => "No connection to your assistant".into(),
        Text::NoNetworkDetail => "Check this computer's network; we keep trying by ourselves.".into(),
        Text::BrokerNotSecure => {
            "A secure connection could not be made. If your company's network checks secure traffic, its certificate \
             must be installed on this computer."
                .into()
        }
        Text::BrokerWrongName => {
            "Another server answers in its place: its certificate is for another name. Nothing was sent; tell whoever \
             runs your assistant."
                .into()
        }
        Text::BrokerExpired => {
            "The certificate of the server in between is not valid at this time. Check this computer's date and time; \
             if they are right, tell whoever runs your assistant."
                .into()
        }
        Text::BrokerRefused => {
            "The server between you and your assistant does not let this computer in. Ask whoever runs your assistant \
             for a new invite."
                .into()
        }
        Text::Reconnect | Text::LapseTitle => "Microsoft needs you to sign in again".into(),
        Text::WrongAccount { signed_in_as, wanted } => {
            format!("You signed in as {signed_in_as}, but this is for {wanted}")
        }
        Text::WrongAccountDetail => "Nothing was sent. Sign in again with the right account.".into(),
        Text::Blocked => "An administrator must allow this first".into(),
        Text::BlockedDetail => "Copy the request and send it to your administrator; then try again.".into(),
        Text::Reason(code) => reason(code).into(),
        Text::ProblemWhat(problem) => what(problem),
        Text::ProblemRemedy(problem) => remedy(problem),
        Text::AdminRequest(request) => admin_request(request),
        Text::Button(button) => self::button(button).into(),
        Text::ConfirmDisconnect { agent } => {
            format!("{agent} deletes its access to this account and can no longer read it.")
        }
        Text::ConfirmUnpair { agent } => {
            format!("{agent} is asked to delete its access, and this computer forgets it. You need a new invite to link again.")
        }
        Text::ConfirmReplace { agent } => format!("This ends your link to {agent}."),
        Text::Step(step) => self::step(step).into(),
        Text::AssistantOnline => "Online".into(),
        Text::AssistantOffline => "Offline".into(),
        Text::AssistantUnknown => "Not heard from yet".into(),
        Text::AccountStatus(status) => account_status(status),
        Text::AccountLine { address } => format!("Account: {address}"),
        Text::AssistantLine { agent, online: Some(true) } => format!("Assistant: {agent} · online"),
        Text::AssistantLine { agent, online: Some(false) } => format!("Assistant: {agent} · offline"),
        Text::AssistantLine { agent, online: None } => format!("Assistant: {agent}"),
        Text::Reads(capability) => reads(capability),
        Text::OpenWindow => "Open Valet Key".into(),
        Text::Quit => "Quit".into(),
        Text::Help => "Help".into(),
        Text::Label(label) => self::label(label).into(),
        Text::DidPair { agent } => format!("This computer was linked to {agent}"),
        Text::DidSignIn { address } => format!("You signed in as {address}"),
        Text::DidConnect { address } => format!("Your assistant confirmed its access to {address}"),
        Text::DidRenew => "Your assistant renewed its access".into(),
        Text::DidLapse { address } => format!("Microsoft asked for a new sign-in for {address}"),
        Text::DidBlock { address } => format!("An administrator's setting stopped access to {address}"),
        Text::DidDisconnect { address } => format!("Your assistant no longer has access to {address}"),
        Text::DidCancel => "Signing in was cancelled; nothing was sent".into(),
        Text::LapseBody { address } => {
            format!("Your assistant can't read {address} until you do. Open Valet Key and choose Reconnect.")
        }
        Text::BlockedTitle => "An administrator must allow something".into(),
        Text::BlockedBody { address } => {
            format!("Your assistant can't read {address}. Open Valet Key to copy the request for your administrator.")
        }
        Text::PageSignedIn { address } => format!("You're signed in as {address}"),
        Text::PageClose => "You can close this tab.".into(),
        Text::PageWrongAccount => "That's a different account".into(),
        Text::PageWrongAccountDetail { signed_in_as, wanted } => {
            format!("You signed in as {signed_in_as}, but this is for {wanted}. Nothing was sent; go back to Valet Key and choose “Use a different account”.")
        }
        Text::PageCancelled => "Sign-in cancelled".into(),
        Text::PageCancelledDetail => "Nothing was sent. You can close this tab, and connect whenever you like.".into(),
        Text::PageProblem => "Signing in didn't work".into(),
        Text::TerminalLink => "If no browser opens, open this address yourself:".into(),
        Text::TerminalNotAsked => "Nobody can be asked here. To agree without being asked, add --yes.".into(),
        Text::TerminalDeclined => "Nothing was linked and nothing was sent.".into(),
        Text::TerminalLater => {
            "It is sealed and kept on this computer; run `valetkey-cli connect` to send it when your assistant is back."
                .into()
        }
        Text::TerminalUnpaired => "This computer is not linked to an assistant any more.".into(),
        Text::PageOldLink => "This sign-in link isn't in use any more".into(),
        Text::PageBack => "You can close this tab and go back to Valet Key.".into(),
    }
}

fn button(button: Button) -> &'static str {
    match button {
        Button::PasteInvite => "Paste invite",
        Button::Accept => "Connect",
        Button::Decline => "Not now",
        Button::Connect => "Connect Microsoft 365",
        Button::Cancel => "Cancel",
        Button::OpenAgain => "Open again",
        Button::CopyLink => "Copy link",
        Button::Reconnect => "Reconnect",
        Button::Disconnect => "Disconnect",
        Button::UseDifferentAccount => "Use a different account",
        Button::CopyRequest => "Copy request",
        Button::TryAgain => "Try again",
        Button::CheckAgain => "Check again",
        Button::SendAgain => "Send again",
        Button::Unpair => "Unlink this computer",
        Button::Dismiss => "OK",
    }
}

fn step(step: Step) -> &'static str {
    match step {
        Step::SignedIn => "Signed in",
        Step::Checked => "Checked that it's you",
        Step::Sealed => "Sealed for your assistant",
        Step::Delivered => "Delivered",
        Step::Stored => "Confirmed by your assistant",
    }
}

fn account_status(status: AccountStatus<'_>) -> String {
    match status {
        AccountStatus::Connected => "Connected".into(),
        AccountStatus::Retrying => "Microsoft is slow to answer; trying again".into(),
        AccountStatus::ReconnectNeeded { reason: Some(code) } => reason(code).into(),
        AccountStatus::ReconnectNeeded { reason: None } => "Sign in again".into(),
        AccountStatus::Blocked => "Stopped by an administrator's setting".into(),
        AccountStatus::Unknown => "Not checked yet".into(),
    }
}

fn reads(capability: &str) -> String {
    match capability {
        "mail" => "Read your mail".into(),
        "calendar" => "Read your calendar".into(),
        "imap" => "Read, change and delete your mail with a mail program".into(),
        "workiq" => "Ask Microsoft 365 Copilot about your work".into(),
        "mail-shared" => "Read mailboxes shared with you".into(),
        "calendar-shared" => "Read calendars shared with you".into(),
        "mail-send" => "Send mail as you".into(),
        "mail-write" => "Change and delete your mail".into(),
        "calendar-write" => "Change and delete calendar entries".into(),
        other => format!("Something this version doesn't know: {other}"),
    }
}

/// Why a new sign-in is wanted, from the assistant's reason code.
fn reason(code: &str) -> &'static str {
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

/// Why this sign-in, just now, was not accepted.
fn refused(code: &str) -> &'static str {
    match code {
        "expired" | "invalid-grant" | "timed-out" | "revoked" => "It was used already, or took too long.",
        _ => reason(code),
    }
}

fn what(problem: &Problem) -> String {
    match problem {
        Problem::Invite(problem) => match problem {
            InviteProblem::Unreadable => "This isn't a whole invite link",
            InviteProblem::Expired => "This invite seems to have run out",
            InviteProblem::Forbidden => "Your organisation doesn't allow this assistant",
            InviteProblem::Used => "This invite was already used or withdrawn",
        }
        .into(),
        Problem::Keys(problem) => match problem {
            KeysProblem::Locked => "Your keyring is locked",
            KeysProblem::Unavailable => "This computer has no keyring",
            KeysProblem::Unreadable => "Valet Key's own records can't be read",
            KeysProblem::Forbidden => "Your organisation no longer allows this assistant",
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

fn remedy(problem: &Problem) -> String {
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
        "unsupported" => "Your assistant can't do this yet. Tell whoever runs it.".into(),
        _ if code.parse::<Reason>().is_ok() => format!("{} Sign in once more.", refused(code)),
        _ => format!("Sign in once more; if it happens again, tell whoever runs your assistant “{code}”."),
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

fn numbers(aadsts: &[u32]) -> String {
    aadsts.iter().map(|number| format!(" AADSTS{number}")).collect()
}

fn admin_request(request: AdminRequest<'_>) -> String {
    let AdminRequest { agent, address, client_id, tenant, permissions, reason, aadsts } = request;
    format!(
        "Hello,\n\nI'd like to connect my account {address} to the assistant “{agent}”, and Microsoft says that an \
         administrator must allow it first ({reason}{}).\n\nPlease allow the app with the client id {client_id} in \
         tenant {tenant}, with these delegated permissions:\n{}\n\nThank you.\n",
        numbers(aadsts),
        permissions.iter().map(|name| format!("- {name}")).collect::<Vec<_>>().join("\n"),
    )
}

fn label(label: Label) -> &'static str {
    match label {
        Label::Title => "Valet Key",
        Label::Assistant => "Assistant",
        Label::Accounts => "Accounts",
        Label::Activity => "Activity",
        Label::NoActivity => "Nothing yet",
        Label::Reads => "What it may do",
        Label::AskedBy => "Asked by",
        Label::For => "For",
        Label::Expires => "Invite ends",
        Label::CompareWords => "Four words",
        Label::CompareWordsHow => "The person who sent the invite sees the same four words.",
        Label::Broker => "Delivered through",
        Label::SignInAt => "Sign in at",
        Label::LastChecked => "Last checked",
        Label::LastSeen => "Last heard from",
        Label::TimeLeft => "Time left",
        Label::Steps => "Steps",
        Label::Done => "done",
        Label::Copied => "Copied",
        Label::InvitePlaceholder => "valetkey://invite/…",
        Label::InviteField => "Invite link",
        Label::InviteHint => "The whole message will do; the link in it is found.",
        Label::Request => "Message for your administrator",
        Label::Confirm => "Yes, go on",
        Label::Back => "Back",
        Label::Today => "Today",
        Label::Yesterday => "Yesterday",
        Label::Help => "Help",
        Label::HelpWhat => {
            "Valet Key lets your assistant use what you allow in Microsoft 365, and nothing else. You sign in on this \
             computer, at Microsoft; your password goes nowhere else."
        }
        Label::HelpPrivate => {
            "What your assistant receives is sealed for it alone, and this computer keeps no copy."
        }
        Label::HelpStop => "To stop, choose Disconnect: your assistant then deletes its access.",
        Label::HelpWho => "If something does not work, ask the person who sent you the invite.",
        Label::Settings => "Settings",
        Label::Autostart => "Start Valet Key when I log in",
        Label::AutostartFailed => "This computer did not let that setting be changed.",
        Label::Quit => "Quit",
    }
}

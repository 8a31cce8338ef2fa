//! What a check of the set-up says. One sentence for how it is, one for what to do.

use jiff::Timestamp;
use valetkey_checkup::{Finding, Level};
use valetkey_entra::reach::NotReached;
use valetkey_link::{Problem, Refusal};

use crate::doctor::Check;
use crate::doctor::facts::{Kept, Keys, Pairing, Policy};
use crate::state::Health;

pub(in crate::texts) fn check(check: &Check) -> Finding {
    let (text, action) = words(check);
    Finding { check: check.code(), level: check.level(), text, action: action.map(str::to_owned) }
}

/// What came of all of it.
pub(super) fn checked(problems: usize, warnings: usize) -> String {
    match (problems, warnings) {
        (0, 0) => "Nothing is wrong".into(),
        (0, 1) => "It works; one thing needs a look".into(),
        (0, warnings) => format!("It works; {warnings} things need a look"),
        (1, _) => "One thing doesn't work".into(),
        (problems, _) => format!("{problems} things don't work"),
    }
}

pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::Ok => "Fine",
        Level::Note => "Good to know",
        Level::Warning => "Needs a look",
        Level::Problem => "Doesn't work",
    }
}

/// How it is, and what to do where something is to be done.
fn words(check: &Check) -> (String, Option<&'static str>) {
    match check {
        Check::Browser { found: true } => ("Your browser can be opened.".into(), None),
        Check::Browser { found: false } => (
            "No program was found that opens your browser.".into(),
            Some("When you sign in, copy the link and open it in a browser on this computer."),
        ),
        Check::Loopback { works: true } => ("Your browser can come back to Valet Key.".into(), None),
        Check::Loopback { works: false } => (
            "Your browser cannot come back to Valet Key: this computer lets no program listen to itself."
                .into(),
            Some("Allow Valet Key in this computer's firewall or security program."),
        ),
        Check::DataDir { path, problem: None } => {
            (format!("Valet Key's own files in {path} are in order."), None)
        }
        Check::DataDir { path, problem: Some(problem) } => (
            format!("Valet Key cannot save anything in {path}: {problem}."),
            Some("Make room on the disk, or have whoever looks after this computer make the folder yours."),
        ),
        Check::Policy { file, state } => policy(file, *state),
        Check::Pairing(pairing) => paired(*pairing),
        Check::Keys(keys) => keyring(*keys),
        Check::InUse => (
            "Another Valet Key is at work on this computer and has the connection to your assistant.".into(),
            Some("Check there, or quit it and check again here."),
        ),
        Check::SignInService { host, proxy, problem } => sign_in_service(host, proxy.as_deref(), *problem),
        Check::Clock { ahead } => clock(*ahead),
        Check::Certificate { file } => (
            match file {
                Some(file) => format!(
                    "The certificate in {file} can't be used, and your assistant's server asks for it."
                ),
                None => "This computer's list of trusted certificates cannot be used.".into(),
            },
            Some("Without it nothing is sent to your assistant. Ask your administrator to put it right."),
        ),
        Check::BrokerNotSecure { host } => (
            format!(
                "The way to {host}, between you and your assistant, is not secure; your sign-ins are sealed all the same."
            ),
            Some("Ask whoever runs your assistant for an invite over a secure way."),
        ),
        Check::Broker { host, proxy, problem } => server(host, proxy.as_deref(), *problem),
        Check::Assistant { answered, said_online } => assistant(*answered, *said_online),
        Check::Account { address, health } => account(address, *health),
        Check::Waiting { what, since } => waiting(*what, *since),
        Check::NothingWaits => {
            ("Nothing waits to be handed over; your assistant has confirmed all of it.".into(), None)
        }
    }
}

fn policy(file: &str, state: Policy) -> (String, Option<&'static str>) {
    match state {
        Policy::None => ("No rules of your organisation apply here.".into(), None),
        Policy::InForce => (format!("Your organisation's rules in {file} apply here."), None),
        Policy::Forbids => (
            format!("Your organisation's rules in {file} do not allow your assistant."),
            Some(
                "Ask your administrator to allow it, or whoever runs your assistant for an invite that is allowed.",
            ),
        ),
        Policy::Unreadable => (
            format!("Your organisation's rules in {file} cannot be read, so nothing is allowed."),
            Some("Ask your administrator to mend that file."),
        ),
    }
}

fn paired(pairing: Pairing) -> (String, Option<&'static str>) {
    match pairing {
        Pairing::Missing => (
            "This computer is not linked to an assistant yet.".into(),
            Some("Ask whoever runs your assistant for an invite link."),
        ),
        Pairing::Unusable => (
            "What this computer knows of its assistant cannot be read.".into(),
            Some("Ask whoever runs your assistant for a new invite link."),
        ),
        Pairing::Begun => (
            "Your assistant has not confirmed the link with this computer yet.".into(),
            Some(
                "Leave Valet Key running; if it lasts, ask whoever runs your assistant for a new invite link.",
            ),
        ),
        Pairing::Paired => ("This computer is linked to your assistant.".into(), None),
    }
}

fn keyring(keys: Keys) -> (String, Option<&'static str>) {
    match keys {
        Keys::There => ("This computer's keys are where they belong.".into(), None),
        Keys::NotAsked => ("This computer's keys were not needed.".into(), None),
        Keys::Locked => (
            "The keyring of this computer is locked; the keys in it are fine.".into(),
            Some("Unlock it, or sign in to this computer once more."),
        ),
        Keys::NoKeyring => (
            "There is no keyring on this computer.".into(),
            Some("Have whoever looks after this computer start or install one (GNOME Keyring or KWallet)."),
        ),
        Keys::Missing => (
            "The keyring has no keys for this link.".into(),
            Some("Ask whoever runs your assistant for a new invite link."),
        ),
        Keys::Unusable => (
            "The keys of this link cannot be used, or others can read them.".into(),
            Some("Ask whoever runs your assistant for a new invite link."),
        ),
    }
}

fn sign_in_service(
    host: &str,
    proxy: Option<&str>,
    problem: Option<NotReached>,
) -> (String, Option<&'static str>) {
    let through = through(proxy);
    let Some(problem) = problem else {
        return (format!("{host}, where you sign in, answers{through}."), None);
    };
    match problem {
        NotReached::Unreachable => (
            format!("{host}, where you sign in, can't be reached{through}."),
            Some("Check this computer's network; your assistant goes on meanwhile."),
        ),
        NotReached::Untrusted => (
            format!("Somebody between this computer and {host} answers in its place{through}."),
            Some("If it is your company's network, have its certificate installed on this computer."),
        ),
        NotReached::Expired => (
            format!("The certificate of {host} is not valid at this time{through}."),
            Some("Check the date and time of this computer."),
        ),
        NotReached::Certificates => (
            "This computer's list of trusted certificates cannot be used.".into(),
            Some("Have whoever looks after this computer repair it."),
        ),
        _ => (
            format!("{host}, where you sign in, does not answer as it should{through}."),
            Some("Open a web page: a hotel's or a train's network may want you to agree to something first."),
        ),
    }
}

fn clock(ahead: i64) -> (String, Option<&'static str>) {
    let (minutes, way) = (ahead.abs() / 60, if ahead > 0 { "ahead" } else { "behind" });
    match minutes {
        0 => ("Your computer's clock is right.".into(), None),
        1 => (format!("Your computer's clock looks wrong by a minute ({way})."), Some(SET_THE_CLOCK)),
        _ => {
            (format!("Your computer's clock looks wrong by {minutes} minutes ({way})."), Some(SET_THE_CLOCK))
        }
    }
}

const SET_THE_CLOCK: &str = "Let your computer set its date and time by itself.";

fn server(host: &str, proxy: Option<&str>, problem: Option<Problem>) -> (String, Option<&'static str>) {
    let through = through(proxy);
    let Some(problem) = problem else {
        return (format!("{host}, between you and your assistant, lets this computer in{through}."), None);
    };
    match problem {
        Problem::Unreachable | Problem::NameNotFound | Problem::Stalled => (
            format!("{host}, between you and your assistant, can't be reached{through}."),
            Some("Check this computer's network and firewall; what waits here is sent when it is back."),
        ),
        Problem::TlsUntrusted => (
            format!("The certificate of {host} is not one that this computer trusts{through}."),
            Some(
                "If your company's network checks secure traffic, have its certificate installed; else tell whoever runs your assistant.",
            ),
        ),
        Problem::TlsWrongName => (
            format!("Another server answers in the place of {host}: its certificate is for another name."),
            Some("Nothing was sent to it. Tell whoever runs your assistant."),
        ),
        Problem::TlsExpired => (
            format!("The certificate of {host} is not valid at this time."),
            Some(
                "Check the date and time of this computer; if they are right, tell whoever runs your assistant.",
            ),
        ),
        Problem::Refused(Refusal::ClientCertificate) => (
            format!(
                "{host}, between you and your assistant, lets in only computers with a certificate that it accepts."
            ),
            Some("Tell your administrator that this computer needs one."),
        ),
        Problem::Refused(_) => (
            format!("{host}, between you and your assistant, does not let this computer in."),
            Some("Ask whoever runs your assistant for a new invite link."),
        ),
        Problem::Proxy => (
            format!("The way out of your network does not lead to {host}{through}."),
            Some("Ask whoever looks after your network to let this computer through to it."),
        ),
        _ => (
            format!("What answers at {host} is not what should be there."),
            Some("Tell whoever runs your assistant."),
        ),
    }
}

fn assistant(answered: bool, said_online: Option<bool>) -> (String, Option<&'static str>) {
    match (answered, said_online) {
        (true, _) => ("Your assistant answered just now.".into(), None),
        (false, Some(false)) => (
            "Your assistant is offline.".into(),
            Some("Nothing to do; what waits here is handed over when it's back."),
        ),
        (false, _) => (
            "Your assistant did not answer.".into(),
            Some("Try again in a few minutes; if it lasts, tell whoever runs it."),
        ),
    }
}

fn account(address: &str, health: Health) -> (String, Option<&'static str>) {
    match health {
        Health::Connected => (format!("{address} is connected."), None),
        Health::Retrying => (format!("{address}: Microsoft is slow to answer your assistant."), None),
        Health::Unknown => (format!("Your assistant has not said how {address} is."), None),
        Health::ReconnectNeeded => {
            (format!("Microsoft needs you to sign in again as {address}."), Some("Click Reconnect."))
        }
        Health::Blocked => (
            format!("An administrator must allow something for {address} first."),
            Some("Copy the request in Valet Key and send it to your administrator."),
        ),
    }
}

fn waiting(what: Kept, since: Timestamp) -> (String, Option<&'static str>) {
    let at = since.strftime("%Y-%m-%d %H:%M UTC");
    let what = match what {
        Kept::Link => "Your wish to link this computer",
        Kept::SignIn => "A sealed sign-in",
        Kept::Disconnect => "Your wish to disconnect",
    };
    (
        format!("{what} of {at} has not been confirmed by your assistant."),
        Some(
            "Leave Valet Key running: it is sent again until it is confirmed, whatever got lost on the way.",
        ),
    )
}

fn through(proxy: Option<&str>) -> String {
    proxy.map(|proxy| format!(" through {proxy}")).unwrap_or_default()
}

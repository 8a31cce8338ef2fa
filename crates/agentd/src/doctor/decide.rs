//! What the facts mean: a sentence for each, and what to do. Pure.

mod broker;

use jiff::Timestamp;
use valetkey_checkup::Finding;
use valetkey_entra::reach::NotReached;

use crate::problem::quoted;
use crate::show::count;
use crate::vault_key::Source;

use super::facts::{Account, Audit, Directory, Facts, Login, Met, Status, Vault};

/// One account's file has up to 4 MiB, and is written beside the old one; the audit grows by 1 MiB at a time.
const LITTLE_SPACE: u64 = 64 * 1024 * 1024;
/// Not even one more file for sure.
const NO_SPACE: u64 = 8 * 1024 * 1024;
/// Microsoft's tokens are checked with five minutes of allowance on either side.
const CLOCK_WRONG: i64 = 300;
/// A clock that is kept right is right to a second, and an answer takes a few.
const CLOCK_OFF: i64 = 60;

pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut found = directory(&facts.directory);
    found.extend(configuration(facts));
    if facts.directory.has_agent {
        found.extend(running(facts));
    }
    found.extend(facts.vault.as_ref().map(vault));
    if let Some(broker) = &facts.broker {
        found.extend(broker::itself(broker));
    }
    let status = match &facts.agent {
        Met::Running { status } | Met::NotRunning { status, .. } => Some(status),
        Met::Neither { .. } => None,
    };
    found.extend(broker::reached(facts));
    found.extend(facts.login.iter().flat_map(login));
    if let Some(status) = status {
        found.extend(pairing(status));
        found.extend(accounts(status, facts.at));
        found.extend(troubles(status));
        found.push(audit(facts.audit.as_ref()));
    }
    found
}

fn directory(directory: &Directory) -> Vec<Finding> {
    let Directory { owner, us, mode, .. } = *directory;
    let path = directory.path.display();
    let mut found = Vec::new();
    if !directory.exists {
        let text = format!("There is no agent in {path}.");
        return vec![Finding::problem("state_directory", text, "Make one: valetkey-agent init")];
    }
    if !directory.is_plain {
        let text = format!("{path} is not a directory of its own.");
        return vec![Finding::problem(
            "state_directory",
            text,
            "Move it away, or name another with --state-dir.",
        )];
    }
    found.push(if owner != us {
        Finding::problem(
            "state_directory",
            format!("{path} belongs to user {owner}, and this is user {us}."),
            format!(
                "Ask as that user: sudo -u '#{owner}' valetkey-agent --state-dir {} doctor",
                quoted(&directory.path.to_string_lossy())
            ),
        )
    } else if mode & 0o077 != 0 {
        Finding::problem(
            "state_directory",
            format!("{path} is open to others (mode {mode:o}), and sign-ins are in it."),
            format!(
                "Run: chmod 700 {}; then find out who could read it meanwhile.",
                quoted(&directory.path.to_string_lossy())
            ),
        )
    } else if !directory.has_agent {
        Finding::problem(
            "state_directory",
            format!("There is no agent in {path}."),
            "Make one: valetkey-agent init",
        )
    } else {
        Finding::ok("state_directory", format!("{path} is closed to everybody else."))
    });
    if owner == us {
        found.push(disk(directory));
    }
    found
}

fn disk(directory: &Directory) -> Finding {
    let path = directory.path.display();
    let megabytes = |bytes: u64| bytes / (1024 * 1024);
    match (&directory.unwritable, directory.free_bytes) {
        (Some(why), _) => Finding::problem(
            "disk",
            format!("Nothing can be written to {path}: {why}."),
            "Make room, or the disk writable again; what is held stays good meanwhile, and the agent goes on by itself.",
        ),
        (None, Some(free)) if free < NO_SPACE => Finding::problem(
            "disk",
            format!("Only {} MiB are free on the disk of {path}.", megabytes(free)),
            "Make room before a renewed sign-in cannot be saved.",
        ),
        (None, Some(free)) if free < LITTLE_SPACE => Finding::warning(
            "disk",
            format!("Only {} MiB are free on the disk of {path}.", megabytes(free)),
            "Make room soon.",
        ),
        (None, Some(free)) => {
            Finding::ok("disk", format!("{path} can be written to; {} MiB are free.", megabytes(free)))
        }
        (None, None) => Finding::ok("disk", format!("{path} can be written to.")),
    }
}

fn configuration(facts: &Facts) -> Vec<Finding> {
    if let Some(problem) = &facts.configuration_problem {
        if !facts.directory.has_agent {
            return Vec::new();
        }
        return vec![Finding::problem(
            "configuration",
            format!("The configuration cannot be used: {problem}."),
            "Mend it, then restart the agent.",
        )];
    }
    vec![if facts.has_client_id {
        Finding::ok("configuration", "The configuration can be used.")
    } else {
        Finding::warning(
            "configuration",
            "No app registration is configured, so nobody can be invited.",
            format!(
                "Set client_id in {}; docs/entra.md says how to get one.",
                facts.configuration_file.display()
            ),
        )
    }]
}

fn vault(vault: &Vault) -> Finding {
    if vault.interrupted {
        return Finding::warning(
            "vault",
            "Sealing, unsealing or a change of the vault's key was interrupted, or a file was put there by somebody. \
             Nothing is lost.",
            "Look at it with valetkey-agent vault status, then run again what was interrupted; docs/operating.md, \
             \"Sealing the vault\".",
        );
    }
    if !vault.sealed {
        return Finding::note(
            "vault",
            "The vault is not sealed at rest: whoever copies the directory has the sign-ins.",
        )
        .with_action("To seal it, see \"Sealing the vault\" in docs/operating.md.");
    }
    let key = match (vault.key_from, &vault.key_file) {
        (Some(Source::Descriptor), _) => "its key came by a file descriptor".to_owned(),
        (Some(Source::Credential), _) => "its key is systemd's credential vault-key".to_owned(),
        (Some(Source::File), Some(file)) => format!("its key is in {}", file.display()),
        (Some(Source::File), None) => "its key is in a file".to_owned(),
        (None, _) => "nobody gave this command its key".to_owned(),
    };
    Finding::ok("vault", format!("The vault is sealed at rest; {key}."))
}

/// Whether anybody renews and listens.
fn running(facts: &Facts) -> Option<Finding> {
    let Directory { holder, owner, us, mode, .. } = facts.directory;
    let process = holder.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    Some(match &facts.agent {
        Met::Running { .. } => Finding::ok("agent", format!("The agent runs{process} and answers.")),
        Met::NotRunning { .. } => Finding::problem(
            "agent",
            "The agent does not run: no sign-in is renewed and nobody is heard.",
            "Start it: systemctl start valetkey-agent, or: valetkey-agent serve",
        ),
        Met::Neither { code, .. } if code == "held" => Finding::problem(
            "agent",
            format!("Another process{process} holds the state directory and does not answer."),
            "If it is an agent that hangs, end that process and start the agent again.",
        ),
        // Said already, and better.
        Met::Neither { .. } if owner != us || mode & 0o077 != 0 || facts.configuration_problem.is_some() => {
            return None;
        }
        Met::Neither { message, .. } => Finding::problem(
            "agent",
            format!("The agent cannot be asked: {message}."),
            "See \"When something is wrong\" in docs/operating.md.",
        ),
    })
}

fn login(login: &Login) -> Vec<Finding> {
    let host = &login.host;
    let through = login.proxy.as_ref().map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let mut found = vec![match &login.problem {
        None => Finding::ok("sign_in_service", format!("{host} answers{through}.")),
        Some(problem) => {
            let action = if *problem == NotReached::Untrusted.to_string() {
                "If your network checks secure traffic, install its certificate on this machine."
            } else if *problem == NotReached::Unreachable.to_string() {
                "Check this machine's network, DNS and HTTPS_PROXY; sign-ins that are held stay good meanwhile."
            } else {
                "Check login_url, cloud and tenant in agent.toml, and what stands between this machine and it."
            };
            Finding::problem("sign_in_service", format!("{host} is of no use{through}: {problem}."), action)
        }
    }];
    found.extend(login.clock_ahead.map(clock));
    found
}

fn clock(ahead: i64) -> Finding {
    let way = if ahead > 0 { "ahead" } else { "behind" };
    let text = format!("This machine's clock is {} {way}.", count(ahead.unsigned_abs(), "second"));
    let action = "Set it right, and keep it so: timedatectl set-ntp true";
    match ahead.abs() {
        off if off >= CLOCK_WRONG => Finding::problem("clock", text, action),
        off if off >= CLOCK_OFF => Finding::warning("clock", text, action),
        _ => Finding::ok("clock", "This machine's clock is right."),
    }
}

fn pairing(status: &Status) -> Vec<Finding> {
    let mut found = Vec::new();
    let heard = status.devices.iter().filter_map(|device| device.heard_at).max();
    found.push(match (status.devices.len(), heard) {
        (0, _) => Finding::note("devices", "No computer is paired.")
            .with_action("Invite somebody: valetkey-agent invite --email …"),
        (count, Some(at)) => {
            Finding::ok("devices", format!("{} paired, last heard {}.", computers(count), minute(at)))
        }
        (count, None) => Finding::note(
            "devices",
            format!("{} paired, none heard since the agent started.", computers(count)),
        ),
    });
    if status.open_invites > 0 {
        let text = format!("Invites that can still be used: {}.", status.open_invites);
        found.push(Finding::note("invites", text));
    }
    if status.refused_messages > 0 {
        found.push(
            Finding::note(
                "messages",
                format!("Messages refused since the start: {}.", status.refused_messages),
            )
            .with_action("See whose: valetkey-agent audit"),
        );
    }
    found
}

fn computers(count: usize) -> String {
    format!("{} {}", self::count(count as u64, "computer"), if count == 1 { "is" } else { "are" })
}

fn accounts(status: &Status, now: Timestamp) -> Vec<Finding> {
    if status.accounts.is_empty() {
        return vec![Finding::note("accounts", "Nobody is connected.")];
    }
    status.accounts.iter().map(|one| account(one, now)).collect()
}

fn account(account: &Account, now: Timestamp) -> Finding {
    let who = &account.username;
    let reason = account.reason.as_deref().unwrap_or("unknown");
    match account.health.as_str() {
        "connected" => {
            let renewed =
                account.refreshed_at.map(|at| format!(", renewed {}", minute(at))).unwrap_or_default();
            Finding::ok("account", format!("{who} is connected{renewed}."))
        }
        "retrying" if reason == "storage" => Finding::problem(
            "account",
            format!("{who}: nothing new can be saved."),
            "The file and the system's own words are under \"files\"; it goes on by itself once that is mended.",
        ),
        "retrying" => Finding::warning(
            "account",
            format!(
                "{who}: Microsoft cannot be asked ({reason}), for {}.",
                count(minutes(account.since, now), "minute")
            ),
            "Nothing: it is tried again by itself, and what is held stays good to its end.",
        ),
        "reconnect_needed" => Finding::problem(
            "account",
            format!("{who} must sign in again ({reason})."),
            "Ask them to click Reconnect in Valet Key.",
        ),
        "blocked" => Finding::problem(
            "account",
            format!("{who} is blocked ({reason})."),
            "docs/entra.md says what an administrator or you must change; it is tried again every hour.",
        ),
        _ => Finding::warning("account", format!("Nothing is known of {who} yet."), "Ask again in a moment."),
    }
}

fn troubles(status: &Status) -> Vec<Finding> {
    let trouble = |file: &str, problem: &str| {
        Finding::problem(
            "files",
            format!("{file}: {problem}."),
            "See \"When something is wrong\" in docs/operating.md; the rest goes on.",
        )
    };
    status.troubles.iter().map(|one| trouble(&one.file, &one.problem)).collect()
}

fn audit(audit: Option<&Audit>) -> Finding {
    match audit {
        None => {
            Finding::warning("audit", "The audit could not be asked for.", "Try: valetkey-agent audit verify")
        }
        Some(audit) if audit.intact => {
            Finding::ok("audit", format!("The audit is as it was written, {}.", count(audit.lines, "line")))
        }
        Some(audit) => Finding::problem(
            "audit",
            format!(
                "The audit is not as it was written: {}.",
                audit.problems.first().map_or("no reason was given", String::as_str)
            ),
            "Take a copy of the directory, then find out who could write there: valetkey-agent audit verify shows all.",
        ),
    }
}

fn since(at: Option<Timestamp>) -> String {
    at.map(|at| format!(" since {}", minute(at))).unwrap_or_default()
}

/// To the minute, in UTC: a report is read elsewhere.
fn minute(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

fn minutes(since: Timestamp, now: Timestamp) -> u64 {
    now.duration_since(since).as_secs().max(0).unsigned_abs() / 60
}

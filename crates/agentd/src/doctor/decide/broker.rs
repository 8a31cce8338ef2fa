//! The broker: which it is, what it holds, and whether it lets the agent in.

use valetkey_checkup::Finding;
use valetkey_link::{Problem, Refusal};

use super::since;
use crate::doctor::facts::{Broker, Facts, Met, Tried};

pub(super) fn itself(broker: &Broker) -> Vec<Finding> {
    match broker {
        Broker::Own { mosquitto, max_queued_messages, address, open_without_tls } => {
            let mut found = vec![match mosquitto {
                None => Finding::problem(
                    "mosquitto",
                    "The agent is to run a mosquitto of its own, and mosquitto is not installed.",
                    "Install it (Debian and Ubuntu: sudo apt install mosquitto), or configure a broker of yours.",
                ),
                Some(mosquitto) => Finding::ok(
                    "mosquitto",
                    format!(
                        "The agent's own broker is mosquitto {}, at {address}.",
                        mosquitto.version.as_deref().unwrap_or("of an unknown version")
                    ),
                ),
            }];
            if *open_without_tls {
                found.push(Finding::warning(
                    "broker_tls",
                    format!("The agent's own broker is open to other machines without TLS, at {address}: logins can be \
                             read on the way."),
                    "Give it certificate_file and key_file under [own_broker].",
                ));
            }
            found.push(Finding::note(
                "broker_queue",
                format!(
                    "The agent's own broker holds up to {max_queued_messages} messages for whoever is away and drops \
                     more without a word. No sign-in is lost by that: a computer keeps it and sends it again until the \
                     agent's receipt, and valetkey-cli doctor there shows what still waits."
                ),
            ));
            found
        }
        Broker::Operators { url, tls, loopback, proxy } => {
            let mut found = Vec::new();
            if !tls && !loopback {
                found.push(Finding::warning(
                    "broker_tls",
                    format!("The way to {url} is not TLS: logins can be read on it, though no sign-in."),
                    "Use mqtts:// or wss://.",
                ));
            }
            if let Some(proxy) = proxy {
                found.push(Finding::note(
                    "broker_proxy",
                    format!("The broker is reached through the proxy {proxy}."),
                ));
            }
            found.push(
                Finding::note(
                    "broker_queue",
                    "How many messages your broker holds for an agent that is away cannot be asked from here; \
                     mosquitto drops what is above max_queued_messages, 1000 unless it is set, without a word. No \
                     sign-in is lost by that: a computer keeps it and sends it again until the agent's receipt, and \
                     valetkey-cli doctor there shows what still waits.",
                )
                .with_action("Look it up in the broker's configuration if many people use it."),
            );
            found
        }
    }
}

/// Whether the broker lets the agent in.
pub(super) fn reached(facts: &Facts) -> Option<Finding> {
    let own = matches!(facts.broker, Some(Broker::Own { .. }));
    match &facts.agent {
        Met::Running { status } => Some(match status.link.state.as_str() {
            "up" => Finding::ok("broker", format!("Connected to the broker{}.", since(status.link.since))),
            "down" => not_reached(status.link.problem.as_deref().unwrap_or_default(), own),
            _ => Finding::note("broker", "The agent is connecting to the broker; ask again in a moment."),
        }),
        Met::NotRunning { try_broker: Some(tried), .. } => Some(match tried {
            Tried::Reached => Finding::ok("broker", "The broker lets the agent in."),
            Tried::Failed(problem) => not_reached(problem, own),
            Tried::Unusable(problem) => Finding::problem(
                "broker",
                format!("The broker's settings cannot be used: {problem}."),
                "Mend them under [broker] in agent.toml.",
            ),
        }),
        Met::NotRunning { try_broker: None, .. } | Met::Neither { .. } => None,
    }
}

fn not_reached(problem: &str, own: bool) -> Finding {
    let text = format!("The agent is not connected: {problem}.");
    let known = Problem::ALL.into_iter().find(|known| known.to_string() == problem);
    let action = match known {
        Some(Problem::GivenBack) => {
            "See to what cannot be written: `valetkey-agent status` names it. The message is asked for again by itself."
        }
        _ if own => "Look into its log: RUST_LOG=debug valetkey-agent serve. It is started again by itself.",
        Some(Problem::Unreachable | Problem::Stalled) => {
            "Check that the broker runs and that a firewall lets this machine through to its port."
        }
        Some(Problem::NameNotFound) => "Check the name in `url` under [broker], and this machine's DNS.",
        Some(Problem::Refused(Refusal::ClientCertificate)) => {
            "Give client_certificate_file and client_key_file under [broker], of an authority that the broker trusts."
        }
        Some(Problem::Refused(_)) => {
            "Check username and password_file under [broker], and the broker's own log."
        }
        Some(Problem::TlsUntrusted) => {
            "Name the certificate's authority with ca_file under [broker], or have the broker show one of a public one."
        }
        Some(Problem::TlsWrongName) => {
            "Use the name that is in the broker's certificate in `url`, or give the broker one for this name."
        }
        Some(Problem::TlsExpired) => {
            "Renew the broker's certificate; if it is good, set this machine's clock right."
        }
        Some(Problem::Proxy) => "Check HTTPS_PROXY and NO_PROXY; only http and https proxies can carry MQTT.",
        _ => {
            "Check that the address and port are a broker's, with or without TLS as `url` says, and look into its log."
        }
    };
    Finding::problem("broker", text, action)
}

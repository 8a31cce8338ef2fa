//! What is read from disks: a file of the vault, the agent's configuration, an organisation's policy.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use age::x25519::Identity;
use toml::Table;
use url::Url;
use valetkey_agent::{AccountFile, AccountId};
use valetkey_agentd::config::{Config, parse_duration};
use valetkey_companion::policy::Policy;
use valetkey_handoff::{Invite, Thumbprint, age_file};
use valetkey_link::Settings;

use crate::people::{self, ACCOUNT, HONEST_VAULT_FILE, VAULT_KEY};

/// A file that is read is of the account that its name says, and is the same once it has been written. Of sealed files only
/// the very one that was made with the key is opened.
pub fn vault_file(bytes: &[u8]) -> bool {
    static NAME: LazyLock<AccountId> = LazyLock::new(|| ACCOUNT.parse().unwrap());
    static KEY: LazyLock<Identity> = LazyLock::new(|| VAULT_KEY.parse().unwrap());
    if bytes.starts_with(b"age-encryption.org/") {
        let Ok(opened) = age_file::open(bytes, &KEY) else { return false };
        assert!(bytes == HONEST_VAULT_FILE, "a changed file was opened");
        return vault_file(&opened);
    }
    let Ok(file) = AccountFile::parse(bytes, &NAME) else { return false };
    assert_eq!(file.facts.account, *NAME);
    let written = file.to_bytes().unwrap();
    let again = AccountFile::parse(&written, &NAME).expect("what was written can be read");
    assert!(again.to_bytes().unwrap() == written, "another file after writing");
    assert_eq!(again.facts.generation(), file.facts.generation(), "the generation went back");
    assert_eq!(again.facts.seen, file.facts.seen, "a sign-in could come back");
    true
}

/// A configuration that is read can be followed, and is the same once it has been written.
pub fn configuration(bytes: &[u8]) -> bool {
    const WEEK: Duration = Duration::from_secs(7 * 86_400);
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(config) = Config::parse(text, None) else { return false };
    config.label().expect("a name that can be shown");
    config.authority().expect("a place to sign in");
    let expires = parse_duration(&config.invite_expires).unwrap();
    assert!(expires > Duration::ZERO && expires <= WEEK);
    assert!(!config.allow.is_empty());
    assert!(config.link_base.as_ref().is_none_or(|page| page.scheme() == "https"));
    let broker = config.broker.iter().flat_map(|broker| [Some(&broker.url), broker.device_url.as_ref()]);
    for url in broker.chain([config.own_broker.device_url.as_ref()]).flatten() {
        assert!(Settings::new(url.as_str(), "x").is_ok() && url.password().is_none(), "{url}");
    }
    let written = toml::to_string(&config).unwrap();
    let again = Config::parse(&written, None).expect("what was written can be read");
    assert_eq!(again.digest().unwrap(), config.digest().unwrap(), "another configuration after writing");
    true
}

/// What a policy allows is what its lists say; nothing in it is passed over.
pub fn policy(bytes: &[u8]) -> bool {
    static INVITE: LazyLock<(Invite, Thumbprint)> = LazyLock::new(|| {
        let invite = people::invite();
        let agent = invite.agent.thumbprint();
        (invite, agent)
    });
    let Ok(text) = str::from_utf8(bytes) else { return false };
    let Ok(policy) = Policy::parse(text) else { return false };
    let (invite, agent) = &*INVITE;
    let mut table: Table = text.parse().expect("what was read is TOML");
    let pinned = table.contains_key("brokers");
    let agent = format!("{agent} {}", invite.agent.recipient());
    let is = |wanted: &str| Some(wanted.to_owned());
    let mut allows = |list: &str, wanted: Option<String>, meant: fn(&str) -> Option<String>| {
        let listed = table.remove(list);
        listed.is_none_or(|list| {
            list.as_array().unwrap().iter().any(|one| meant(one.as_str().unwrap()) == wanted)
        })
    };
    let as_written = |text: &str| Some(text.to_owned());
    let service = |text: &str| place(text, "https", "443");
    let allowed = [
        allows("agents", Some(agent), as_written),
        allows("brokers", is("mqtts broker.contoso.example 8883 "), |text| place(text, "mqtts", "8883")),
        allows("logins", is("https login.microsoftonline.com 443 "), service),
        allows("graphs", is("https graph.microsoft.com 443 "), service),
        allows("client_ids", is(&invite.terms.client_id), as_written),
    ];
    if let Some(broker) = table.remove("broker") {
        let rules = broker.as_table().unwrap();
        for (rule, file) in rules {
            assert!(["ca_file", "client_certificate_file", "client_key_file"].contains(&rule.as_str()));
            assert!(Path::new(file.as_str().unwrap()).is_absolute());
        }
        assert!(pinned, "certificates for brokers that are not named");
        let key = |name| rules.contains_key(name);
        assert_eq!(key("client_certificate_file"), key("client_key_file"));
    }
    assert!(table.is_empty(), "a rule was passed over: {table:?}");
    assert_eq!(policy.allows(invite), allowed.into_iter().all(|allowed| allowed));
    true
}

/// What an address in a policy means: scheme, name, port, path.
fn place(text: &str, scheme: &str, port: &str) -> Option<String> {
    let url: Url =
        if text.contains("://") { text.parse().ok()? } else { format!("{scheme}://{text}").parse().ok()? };
    let port = url.port().map_or_else(|| port.to_owned(), |port| port.to_string());
    let host = url.host_str()?.to_ascii_lowercase();
    Some(format!("{} {host} {port} {}", url.scheme(), url.path().trim_end_matches('/')))
}

//! What is read from disks: a file of the vault, the agent's configuration, an organisation's policy.

use std::sync::LazyLock;
use std::time::Duration;

use age::x25519::Identity;
use toml::{Table, Value};
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
    let host = |url: &str| url.parse::<Url>().unwrap().host_str().unwrap().to_owned();
    let rules = [
        ("agents", format!("{agent} {}", invite.agent.recipient())),
        ("brokers", host(invite.broker.url.as_str())),
        ("logins", host(&invite.terms.authority)),
        ("client_ids", invite.terms.client_id.clone()),
    ];
    let allowed = rules.map(|(list, wanted)| {
        table.remove(list).is_none_or(|list| list.as_array().unwrap().contains(&Value::String(wanted)))
    });
    assert!(table.is_empty(), "a rule was passed over: {table:?}");
    assert_eq!(policy.allows(invite), allowed.into_iter().all(|allowed| allowed));
    true
}

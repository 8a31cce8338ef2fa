//! What an operator is told.

use std::fs;
use std::path::Path;

use valetkey_agent::VaultKey;

use crate::support::{Home, ran};
use crate::{ANA, addresses, kept, key, keyed, rotate, with_descriptors};

/// Shows that nothing is lost by a key that is missing or wrong.
#[test]
fn a_missing_and_a_wrong_key_are_refused_with_what_mends_it_and_no_file_is_touched() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let (right, wrong) = (key(&home, "right"), key(&home, "wrong"));
    assert_eq!(keyed(&home, &right, &["vault", "seal"]).json()["files"], 2);
    let before = kept(&home);

    for command in ["serve", "accounts", "token", "status", "init"] {
        let none = home.json(&[command]);
        assert_eq!((none.code, none.error().0.as_str()), (4, "vault_key"), "{command}: {none:?}");
        for words in ["is sealed", "--vault-key-fd", "credential vault-key", "key_file"] {
            assert!(none.error().1.contains(words), "{none:?}");
        }
        let ran = keyed(&home, &wrong, &[command]);
        assert_eq!((ran.code, ran.error().0.as_str()), (4, "vault_key"), "{command}: {ran:?}");
        for words in ["sealed with another key", "Nothing was changed", "vault status"] {
            assert!(ran.error().1.contains(words), "{ran:?}");
        }
    }
    let status = keyed(&home, &wrong, &["vault", "status"]);
    assert_eq!((status.code, &status.json()["opens"]), (4, &false.into()));
    assert_eq!(kept(&home), before);
    assert!(fs::read_dir(home.state().join("quarantine")).unwrap().next().is_none());

    assert_eq!(addresses(&keyed(&home, &right, &["accounts"])), [ANA]);
}

#[test]
fn keygen_seal_status_rotate_and_unseal_say_what_they_did() {
    let home = Home::initialised();
    home.store(&[ANA], "connected");
    let old = key(&home, "old");
    let again = home.json(&["vault", "keygen", "--out", old.to_str().unwrap()]);
    assert_eq!((again.code, again.error().0.as_str()), (1, "exists"));
    let printed = home.run(&["vault", "keygen"]);
    assert!(VaultKey::parse(&printed.out).is_ok(), "{} bytes", printed.out.len());
    let new = key(&home, "new");
    let say = |arguments: &[&str], files: &[(u8, &Path)]| {
        let ran = ran(&mut with_descriptors(&home.command(arguments), files));
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.out
    };
    let three = ["--vault-key-fd", "3"];
    let vault = |command: &'static str| ["vault", command, three[0], three[1]];

    assert!(say(&["vault", "status"], &[]).contains("is not sealed"));
    let (code, message) = home.json(&["vault", "seal"]).error();
    assert!(code == "vault_key" && message.contains("vault keygen"), "{message}");
    assert!(say(&vault("seal"), &[(3, &old)]).contains("is sealed with the given key"));
    assert!(say(&vault("seal"), &[(3, &old)]).contains("already"));
    assert!(say(&vault("status"), &[(3, &old)]).contains("The given key opens it"));
    let (code, message) = keyed(&home, &old, &["vault", "rotate"]).error();
    assert!(code == "vault_key" && message.contains("--new-key-fd"), "{message}");
    let done = rotate(&home, &old, &new, &[]);
    assert_eq!((done.code, &done.json()["files"]), (0, &2.into()), "{done:?}");
    assert_eq!(rotate(&home, &old, &new, &[]).json()["files"], 0);
    assert!(say(&vault("status"), &[(3, &new)]).contains("The given key opens it"));
    let clear = say(&vault("unseal"), &[(3, &new)]);
    assert!(clear.contains("in clear again") && clear.contains("does not start"), "{clear}");
    assert_eq!(addresses(&home.json(&["accounts"])), [ANA]);
    let (code, message) = rotate(&home, &new, &old, &[]).error();
    assert!(code == "vault_key" && message.contains("run: valetkey-agent vault seal"), "{message}");
    home.configure(&format!("[vault]\nkey_file = {:?}\n", new.display().to_string()));
    for command in ["accounts", "token", "serve"] {
        let (code, message) = home.json(&[command]).error();
        assert!(code == "vault_key" && message.contains("run: valetkey-agent vault seal"), "{message}");
        assert!(message.contains("put a backup back"), "{message}");
    }
    assert!(say(&["vault", "status"], &[]).contains("is not sealed"), "only vault seal seals");
    let audit = fs::read_to_string(home.state().join("audit/audit.jsonl")).unwrap();
    for event in ["vault_sealed", "vault_key_changed", "vault_unsealed"] {
        assert_eq!(audit.matches(&format!("\"{event}\"")).count(), 1, "{event}");
    }
    assert_eq!(home.json(&["audit", "verify"]).code, 0);
}

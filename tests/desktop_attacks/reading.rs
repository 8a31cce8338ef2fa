//! What others may read: command lines, environments and files, while a sign-in waits, is sealed, and is done.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use valetkey_companion::pairing::Entry;
use valetkey_entra::secret::Secret as Sensitive;
use valetkey_handoff::{Invite, Keys};
use valetkey_tests::http_sign_in::http_sign_in;
use valetkey_tests::tenant::ALICE;

use crate::evidence::{Evidence, NOTHING};
use crate::known::secrets;
use crate::person::{PLANTED, Person, address};
use crate::search::{Kind, Search, Secret};
use crate::support::World;

/// Shows of H14 that the companion keeps no token, and of J4 that none is on the person's disk.
#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_a_command_line_an_environment_or_a_file_of_the_companion() {
    let world = World::with_own_broker().await;
    let person = Person::new();
    let mut evidence = Evidence::start();
    let serving = world.daemon.serve().await.unwrap();
    let link = world.daemon.invite(ALICE.mail).unwrap();
    let invite = Invite::parse(&link).unwrap();

    let mut companion = person.accepts(&link, &[]);
    let url = address(&mut companion).await;
    look(&person, &mut evidence);
    evidence.add_processes();
    serving.stop().unwrap();
    http_sign_in(url.as_str(), ALICE.username).await.unwrap();
    companion.line("Handing over").await.unwrap();
    look(&person, &mut evidence);
    assert!(fs::read_dir(person.data_dir().join("outbox")).unwrap().next().is_some(), "it waits here");
    let serving = world.daemon.serve().await.unwrap();
    evidence.watch.look();
    companion.line("Connected").await.unwrap();
    assert!(companion.ended().await.unwrap().success());
    // So that not finding means something.
    let mut planted = fs::File::create(person.data_dir().join("planted")).unwrap();
    planted.write_all(PLANTED.as_bytes()).unwrap();
    evidence.add_files(&person.data_dir(), &|_| NOTHING);
    evidence.add_processes();
    let keys = fs::read(person.key_file()).unwrap();
    evidence.add("the file of keys", keys.clone(), &[Kind::DeviceKey, Kind::BrokerPassword]);
    evidence.add("the invite", link, &[Kind::Invite, Kind::BrokerPassword]);

    let (device, agent) = (device_keys(&keys), agent_keys(&world));
    let mut known = secrets(&world, &device, &agent).await;
    let password = invite.broker.password.as_ref().unwrap().expose().as_bytes().to_vec();
    known.push(Secret { kind: Kind::BrokerPassword, bytes: password });
    known.push(Secret { kind: Kind::Planted, bytes: PLANTED.into() });
    for kind in [Kind::Code, Kind::Verifier, Kind::AccessToken, Kind::RefreshToken, Kind::IdToken] {
        assert!(known.iter().any(|secret| secret.kind == kind), "{kind:?}");
    }
    let (found, at_home) = Search::for_secrets(&known).findings(&evidence.exhibits);
    let leaked: Vec<_> = found.iter().filter(|finding| finding.kind != Kind::Planted).collect();
    assert!(leaked.is_empty(), "{leaked:#?}");
    assert!(at_home.contains(&Kind::DeviceKey) && at_home.contains(&Kind::BrokerPassword), "{at_home:?}");
    let planted = |place: &str| found.iter().any(|finding| finding.place.contains(place));
    assert!(planted("/data/planted"), "files are looked at");
    // Only root reads the environment of a program that keeps it to itself.
    let root = rustix::process::geteuid().is_root();
    assert!(!root || planted("environment of valetkey-cli"), "environments are looked at: {found:#?}");
    for (place, part) in [
        ("command line of valetkey-cli", "accept"),
        ("command line of valetkey-agent", "serve"),
        ("command line of mosquitto", "-c"),
        ("environment of mosquitto", "="),
    ] {
        let seen = evidence
            .exhibits
            .iter()
            .any(|exhibit| exhibit.place == place && String::from_utf8_lossy(&exhibit.bytes).contains(part));
        assert!(seen, "{place} was not looked at");
    }
    serving.stop().unwrap();
}

/// What stands on the person's disk and in the list of processes now, and that it is for its owner alone.
fn look(person: &Person, evidence: &mut Evidence) {
    evidence.watch.look();
    evidence.add_files(&person.data_dir(), &|_| NOTHING);
    private(&person.data_dir());
    assert_eq!(mode(&person.key_file()), 0o600);
}

fn private(dir: &Path) {
    assert_eq!(mode(dir), 0o700, "{}", dir.display());
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        // One that was on its way has become another meanwhile.
        match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => private(&path),
            Ok(facts) => assert_eq!(facts.permissions().mode() & 0o7777, 0o600, "{}", path.display()),
            Err(_) => {}
        }
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn device_keys(file: &[u8]) -> Keys {
    let file: Value = serde_json::from_slice(file).unwrap();
    let (_, entry) = file["devices"].as_object().unwrap().iter().next().expect("one device");
    Entry::open(&Sensitive::new(entry.as_str().unwrap())).unwrap().0
}

fn agent_keys(world: &World) -> Keys {
    let file = fs::read(world.daemon.state_dir().join("agent.json")).unwrap();
    let file: Value = serde_json::from_slice(&file).unwrap();
    Keys::from_secret_json(file["keys"].as_str().unwrap()).unwrap()
}

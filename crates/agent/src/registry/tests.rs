use super::*;

fn now() -> Timestamp {
    "2026-11-21T12:00:00Z".parse().unwrap()
}

fn minutes(n: i64) -> Timestamp {
    now() + SignedDuration::from_mins(n)
}

fn terms() -> Terms {
    Terms {
        email: Some("ana@contoso.example".into()),
        authority: "https://login.microsoftonline.com/".into(),
        graph: None,
        tenant: "organizations".into(),
        client_id: "11111111-1111-4111-8111-111111111111".into(),
        capabilities: vec!["mail".into()],
    }
}

struct Fixture {
    _home: tempfile::TempDir,
    path: std::path::PathBuf,
    registry: Registry,
    invite: InviteId,
}

fn fixture() -> Fixture {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("state");
    let dir = Arc::new(StateDir::open(&path).unwrap());
    let (registry, _) = Registry::open(dir, now()).unwrap();
    let secret = InviteSecret::generate();
    let invite = secret.id();
    registry.invite(secret, terms(), minutes(10), now()).unwrap();
    Fixture { _home: home, path, registry, invite }
}

fn keys() -> PublicKeys {
    valetkey_handoff::Keys::generate().public()
}

fn label() -> Label {
    Label::tidy("Ana's laptop")
}

#[test]
fn of_two_racing_devices_one_wins_and_the_other_is_told() {
    let Fixture { _home, registry, invite, .. } = fixture();
    let contenders: Vec<PublicKeys> = (0..8).map(|_| keys()).collect();
    let outcomes: Vec<Enrolment> = std::thread::scope(|scope| {
        let racing: Vec<_> = contenders
            .iter()
            .map(|keys| scope.spawn(|| registry.enrol(&invite, keys.clone(), label(), now()).unwrap()))
            .collect();
        racing.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let won = outcomes.iter().filter(|outcome| matches!(outcome, Enrolment::Paired(_))).count();
    let told = outcomes.iter().filter(|o| **o == Enrolment::Refused(EnrolmentRefused::Used)).count();
    assert_eq!((won, told), (1, 7));
    assert_eq!(registry.devices().len(), 1);
}

/// Whoever removes a device may be killed before its login is ended at the broker.
#[test]
fn the_login_of_a_removed_device_is_to_end_until_its_end_is_noted_and_that_of_a_paired_one_is_not() {
    let Fixture { _home, path, registry, invite } = fixture();
    let device = keys();
    registry.enrol(&invite, device.clone(), label(), now()).unwrap();
    assert_eq!(registry.lapsed(minutes(10_000)), []);
    registry.remove(&device.thumbprint()).unwrap();
    assert_eq!(registry.lapsed(now()), std::slice::from_ref(&invite));
    drop(registry);
    let (again, _) = Registry::open(Arc::new(StateDir::open(&path).unwrap()), now()).unwrap();
    assert_eq!(again.lapsed(now()), std::slice::from_ref(&invite), "also after a restart");
    again.end(&invite).unwrap();
    assert_eq!(again.lapsed(minutes(10_000)), []);
}

#[test]
fn an_invite_that_somebody_else_used_is_used_for_a_paired_device_too() {
    let Fixture { _home, registry, invite, .. } = fixture();
    let secret = InviteSecret::generate();
    let another = secret.id();
    registry.invite(secret, terms(), minutes(10), now()).unwrap();
    let loser = keys();
    assert!(matches!(registry.enrol(&invite, keys(), label(), now()), Ok(Enrolment::Paired(_))));
    assert!(matches!(registry.enrol(&another, loser.clone(), label(), now()), Ok(Enrolment::Paired(_))));
    let told = registry.enrol(&invite, loser, label(), now()).unwrap();
    assert_eq!(told, Enrolment::Refused(EnrolmentRefused::Used));
}

#[test]
fn the_winner_may_ask_again_even_late_until_it_is_removed() {
    let Fixture { _home, registry, invite, .. } = fixture();
    let keys = keys();
    assert!(matches!(registry.enrol(&invite, keys.clone(), label(), now()), Ok(Enrolment::Paired(_))));
    assert!(matches!(registry.enrol(&invite, keys.clone(), label(), minutes(60)), Ok(Enrolment::Again(_))));
    registry.remove(&keys.thumbprint()).unwrap().unwrap();
    assert_eq!(
        registry.enrol(&invite, keys, label(), minutes(1)).unwrap(),
        Enrolment::Refused(EnrolmentRefused::Used)
    );
}

#[test]
fn an_expired_invite_pairs_nobody_and_an_unknown_one_neither() {
    let Fixture { _home, registry, invite, .. } = fixture();
    let refused = |outcome| match outcome {
        Ok(Enrolment::Refused(why)) => why.code(),
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(registry.enrol(&invite, keys(), label(), minutes(10))), "invite-expired");
    let unknown = InviteSecret::generate().id();
    assert_eq!(refused(registry.enrol(&unknown, keys(), label(), now())), "invite-unknown");
    assert!(registry.devices().is_empty());
}

#[test]
fn an_unused_invite_lapses_an_hour_after_its_expiry_and_only_once() {
    let Fixture { _home, registry, invite, .. } = fixture();
    assert_eq!(registry.lapsed(minutes(69)), []);
    assert_eq!(registry.lapsed(minutes(70)), std::slice::from_ref(&invite));
    registry.end(&invite).unwrap();
    assert_eq!(registry.lapsed(minutes(70)), []);

    let used = InviteSecret::generate();
    let id = used.id();
    registry.invite(used, terms(), minutes(10), now()).unwrap();
    registry.enrol(&id, keys(), label(), now()).unwrap();
    assert_eq!(registry.lapsed(minutes(70)), []);
}

#[test]
fn invite_and_device_survive_a_restart_together() {
    let Fixture { _home, path, registry, invite } = fixture();
    let keys = keys();
    registry.enrol(&invite, keys.clone(), label(), now()).unwrap();
    drop(registry);
    let dir = Arc::new(StateDir::open(&path).unwrap());
    let (registry, aside) = Registry::open(dir, now()).unwrap();
    assert_eq!(aside, None);
    assert_eq!(registry.device(&keys.thumbprint()).unwrap().terms, terms());
    assert_eq!(registry.invited(&invite).unwrap().used_by, Some(keys.thumbprint()));
}

/// Shows M15 and M17 for the registry.
#[test]
fn a_pairing_that_could_not_be_written_has_not_happened() {
    let Fixture { _home, path, registry, invite } = fixture();
    std::fs::remove_file(path.join(FILE)).unwrap();
    std::fs::create_dir(path.join(FILE)).unwrap();
    registry.enrol(&invite, keys(), label(), now()).unwrap_err();
    assert!(registry.devices().is_empty());
    assert_eq!(registry.invited(&invite).unwrap().used_by, None);
}

/// There is no older format yet: 1 is the first, and what came to it later is left out where it says nothing.
#[test]
fn a_damaged_registry_is_set_aside_and_a_newer_one_left_alone() {
    let home = tempfile::tempdir().unwrap();
    let dir = Arc::new(StateDir::open(home.path().join("state")).unwrap());
    dir.replace(FILE, b"{\"format\": 1, \"invites\": [").unwrap();
    let (registry, aside) = Registry::open(Arc::clone(&dir), now()).unwrap();
    assert!(registry.devices().is_empty());
    let aside = dir.set_aside().read(&aside.unwrap()).unwrap().unwrap();
    assert_eq!(aside.as_slice(), b"{\"format\": 1, \"invites\": [");

    let newer = br#"{"format": 2, "anything": true}"#;
    dir.replace(FILE, newer).unwrap();
    assert!(matches!(Registry::open(Arc::clone(&dir), now()), Err(RegistryError::Newer { found: 2 })));
    assert_eq!(dir.read(FILE).unwrap().unwrap().as_slice(), newer);
}

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use valetkey_entra::account::AccountId;
use valetkey_entra::capability::Resource;

use super::chain::{Link, Tip};
use super::flood::LISTED_A_MINUTE;
use super::store::Head;
use super::verify::{AuditFile, Scan};
use super::*;

mod earlier;
#[cfg(target_os = "linux")]
mod rotation;

const SMALL: Limits = Limits { rotate_at: 1000, kept_files: 3 };

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_795_262_400 + seconds).unwrap()
}

fn served(pid: i32) -> Event {
    let account = AccountId { tid: uuid::Uuid::nil(), oid: uuid::Uuid::max() };
    let caller = Caller::Socket { uid: 1000, pid: Some(pid) };
    Event::TokenServed { account, resource: Resource::Graph, capabilities: vec!["mail", "calendar"], caller }
}

/// A state directory and what an operator would do to its audit.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("state")
    }

    fn audit(&self, limits: Limits) -> Audit {
        Audit::with_limits(Arc::new(StateDir::open(self.path()).unwrap()), Clock::system(), limits)
    }

    /// An audit with this many lines, closed in order.
    fn with_lines(limits: Limits, count: i32) -> Self {
        let home = Self::new();
        let audit = home.audit(limits);
        (1..count).for_each(|pid| audit.record(served(pid)));
        drop(audit);
        home
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(FOLDER).join(name)
    }

    fn current(&self) -> PathBuf {
        self.file(CURRENT)
    }

    /// The lines of the file that grows, put back as `change` leaves them.
    fn edit(&self, change: impl FnOnce(&mut Vec<String>)) {
        let text = fs::read_to_string(self.current()).unwrap();
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        change(&mut lines);
        rewrite(&self.current(), &lines.concat());
    }

    fn full(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path().join(FOLDER)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|name| store::first_of(name).is_some()).collect();
        names.sort();
        names
    }

    fn verify(&self) -> Report {
        verify(&self.path()).unwrap()
    }

    fn events(&self) -> Vec<String> {
        let lines = last_lines(&self.path(), usize::MAX).unwrap();
        lines.iter().map(|line| Link::read(line.as_bytes()).unwrap().event).collect()
    }
}

fn rewrite(path: &Path, text: &str) {
    fs::File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
}

#[test]
fn every_line_is_one_object_with_the_hash_of_the_line_before() {
    let home = Home::with_lines(Limits::default(), 3);
    let text = fs::read_to_string(home.current()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let parsed: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(parsed[0]["event"], "audit_begun");
    assert_eq!(parsed[0]["prev"], "0".repeat(64));
    assert_eq!(parsed[2]["seq"], 3);
    assert_eq!(parsed[2]["event"], "token_served");
    assert_eq!(parsed[2]["caller"], serde_json::json!({ "via": "socket", "uid": 1000, "pid": 2 }));
    assert_eq!(parsed[2]["prev"], LineHash::of(lines[1].as_bytes()).to_string());
    let report = home.verify();
    assert!(report.intact, "{report:?}");
    assert_eq!((report.lines, report.first, report.last), (3, Some(1), Some(3)));
    assert_eq!(report.last_hash, Some(LineHash::of(lines[2].as_bytes())));
}

#[cfg(unix)]
#[test]
fn files_and_folder_are_their_owners_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let home = Home::with_lines(SMALL, 10);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&home.path().join(FOLDER)), 0o700);
    assert!(!home.full().is_empty());
    for entry in fs::read_dir(home.path().join(FOLDER)).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn an_altered_line_is_found() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| lines[4] = lines[4].replace("\"uid\":1000", "\"uid\":1001"));
    assert_eq!(home.verify().findings, [Finding::Altered { file: CURRENT.into(), line: 6 }]);
}

#[test]
fn a_lost_line_is_found() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| drop(lines.remove(4)));
    assert_eq!(home.verify().findings, [Finding::Missing { from: 5, to: 5 }]);
}

#[test]
fn reordered_lines_are_found() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| lines.swap(4, 5));
    let report = home.verify();
    let moved = Finding::OutOfOrder { file: CURRENT.into(), line: 6, seq: 5, expected: 7 };
    assert!(report.findings.contains(&moved), "{report:?}");
}

#[test]
fn a_line_put_in_is_found() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| lines.insert(4, lines[3].clone()));
    assert!(!home.verify().intact);
}

#[test]
fn lines_cut_from_the_end_are_found_and_stay_found_after_a_restart() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| lines.truncate(6));
    assert_eq!(home.verify().findings, [Finding::CutShort { last: 6, head: 9 }]);
    drop(home.audit(Limits::default()));
    assert_eq!(home.events().last().unwrap(), "lines_lost");
    assert_eq!(home.verify().findings, [Finding::Missing { from: 7, to: 9 }]);
}

#[test]
fn a_last_line_that_was_altered_is_found_and_stays_found_after_a_restart() {
    let home = Home::with_lines(Limits::default(), 9);
    home.edit(|lines| lines[8] = lines[8].replace("\"uid\":1000", "\"uid\":1001"));
    assert_eq!(home.verify().findings, [Finding::NotTheOne { seq: 9 }]);
    let audit = home.audit(Limits::default());
    audit.record(served(1));
    drop(audit);
    let findings = home.verify().findings;
    assert!(findings.contains(&Finding::WasAltered { seq: 10, altered: 9 }), "{findings:?}");
    assert!(findings.contains(&Finding::Altered { file: CURRENT.into(), line: 10 }), "{findings:?}");
}

#[test]
fn an_audit_that_was_deleted_but_for_its_head_is_found_and_stays_found() {
    let home = Home::with_lines(Limits::default(), 9);
    fs::remove_file(home.current()).unwrap();
    assert_eq!(home.verify().findings, [Finding::CutShort { last: 0, head: 9 }]);
    drop(home.audit(Limits::default()));
    assert_eq!(home.verify().findings, [Finding::Missing { from: 1, to: 9 }]);
}

#[test]
fn a_head_that_is_gone_is_found_and_stays_found() {
    let home = Home::with_lines(Limits::default(), 3);
    fs::remove_file(home.file(store::HEAD)).unwrap();
    assert_eq!(home.verify().findings, [Finding::HeadLost]);
    drop(home.audit(Limits::default()));
    assert_eq!(home.verify().findings, [Finding::HeadWasLost { seq: 4 }]);
}

#[test]
fn what_is_no_line_or_under_another_name_or_no_file_of_the_audits_is_called_that() {
    let home = Home::with_lines(Limits::default(), 4);
    home.edit(|lines| "no line\n".clone_into(&mut lines[1]));
    let (file, line) = (CURRENT.to_owned(), 2);
    assert!(home.verify().findings.contains(&Finding::NotALine { file, line }));

    let home = Home::with_lines(SMALL, 10);
    let file = "audit-00000000000000000002.jsonl".to_owned();
    fs::rename(home.file(&home.full()[0]), home.file(&file)).unwrap();
    assert_eq!(home.verify().findings, [Finding::Misnamed { file }]);

    let home = Home::with_lines(Limits::default(), 4);
    fs::hard_link(home.current(), home.0.path().join("its other name")).unwrap();
    let unreadable = |found: &Finding| matches!(found, Finding::Unreadable { file, .. } if file == CURRENT);
    assert!(!cfg!(unix) || home.verify().findings.iter().any(unreadable));
}

#[test]
fn where_there_is_no_audit_that_is_said() {
    let home = Home::new();
    drop(StateDir::open(home.path()).unwrap());
    assert_eq!(home.verify().findings, [Finding::Nothing]);
}

#[test]
fn the_chain_goes_on_in_the_next_file() {
    let home = Home::with_lines(Limits { kept_files: 100, ..SMALL }, 30);
    let mut files = home.full();
    assert!(files.len() > 3, "{files:?}");
    files.push(CURRENT.into());
    let texts: Vec<String> = files.iter().map(|name| fs::read_to_string(home.file(name)).unwrap()).collect();
    for pair in texts.windows(2) {
        let last = pair[0].split_inclusive('\n').next_back().unwrap();
        let first = Link::read(pair[1].lines().next().unwrap().as_bytes()).unwrap();
        assert_eq!(first.prev, LineHash::of(last.as_bytes()));
    }
    let report = home.verify();
    assert!(report.intact && report.lines == 30 && report.files == files.len(), "{report:?}");

    let lines = last_lines(&home.path(), 12).unwrap();
    assert_eq!(lines.len(), 12);
    assert!(lines.first().unwrap().starts_with("{\"seq\":19,") && lines[11].starts_with("{\"seq\":30,"));
}

#[test]
fn a_full_file_that_is_lost_or_exchanged_is_found() {
    let limits = Limits { kept_files: 100, ..SMALL };
    let home = Home::with_lines(limits, 30);
    fs::remove_file(home.file(&home.full()[1])).unwrap();
    assert!(matches!(home.verify().findings[..], [Finding::Missing { .. }]), "{:?}", home.verify());

    let home = Home::with_lines(limits, 30);
    fs::remove_file(home.file(&home.full()[0])).unwrap();
    assert!(matches!(home.verify().findings[..], [Finding::Missing { from: 1, .. }]), "{:?}", home.verify());

    let home = Home::with_lines(limits, 30);
    let (one, other) = (home.file(&home.full()[0]), home.file(&home.full()[1]));
    let away = home.file("away");
    fs::rename(&one, &away).unwrap();
    fs::rename(&other, &one).unwrap();
    fs::rename(&away, &other).unwrap();
    assert!(!home.verify().intact);
}

#[test]
fn the_oldest_files_go_when_there_are_too_many_and_only_those_may_be_missing() {
    let home = Home::with_lines(SMALL, 60);
    assert_eq!(home.full().len(), SMALL.kept_files);
    let report = home.verify();
    assert!(report.intact && report.first > Some(1), "{report:?}");
    assert!(home.events().contains(&"trimmed".to_owned()));
    fs::remove_file(home.file(&home.full()[0])).unwrap();
    assert!(matches!(home.verify().findings[..], [Finding::Missing { .. }]), "{:?}", home.verify());
}

#[test]
fn a_crash_between_two_files_loses_nothing() {
    let home = Home::with_lines(Limits { rotate_at: 1_000_000, ..SMALL }, 9);
    // As rotation leaves it for a moment.
    fs::rename(home.current(), home.file("audit-00000000000000000001.jsonl")).unwrap();
    assert!(home.verify().intact);
    let audit = home.audit(SMALL);
    audit.record(served(9));
    drop(audit);
    let report = home.verify();
    assert!(report.intact && report.lines == 10, "{report:?}");
}

#[test]
fn a_line_torn_by_a_crash_is_set_aside_and_noted() {
    let home = Home::with_lines(Limits::default(), 3);
    let torn = "{\"seq\":4,\"at\":\"2026-";
    fs::File::options().append(true).open(home.current()).unwrap().write_all(torn.as_bytes()).unwrap();
    assert_eq!(home.verify().findings, [Finding::Torn { file: CURRENT.into() }]);

    drop(home.audit(Limits::default()));
    let report = home.verify();
    assert!(report.intact && report.lines == 4, "{report:?}");
    let noted: serde_json::Value =
        serde_json::from_str(&last_lines(&home.path(), 1).unwrap().concat()).unwrap();
    assert_eq!((noted["event"].as_str(), noted["bytes"].as_u64()), (Some("torn_line_set_aside"), Some(20)));
    let aside = home.path().join("quarantine").join(noted["set_aside_as"].as_str().unwrap());
    assert_eq!(fs::read_to_string(aside).unwrap(), torn);
}

#[test]
fn what_a_kill_leaves_is_intact_and_goes_on() {
    let home = Home::new();
    let audit = home.audit(Limits::default());
    (1..20).for_each(|pid| audit.record(served(pid)));
    // Written, and not noted in the head: as a process leaves it that is killed now.
    assert_eq!(audit.last_lines(usize::MAX).unwrap().len(), 20);
    let copy = Home::new();
    drop(StateDir::open(copy.path()).unwrap());
    let to = copy.path().join(FOLDER);
    Folder::open(&to).unwrap();
    for entry in fs::read_dir(home.path().join(FOLDER)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let head: Head = serde_json::from_slice(&fs::read(copy.file(store::HEAD)).unwrap()).unwrap();
    assert_eq!(head.seq, 1);
    assert!(copy.verify().intact, "{:?}", copy.verify());
    drop(copy.audit(Limits::default()));
    assert!(copy.verify().intact && copy.events().len() == 20, "{:?}", copy.verify());
}

#[test]
fn what_the_disk_refused_waits_and_is_written_when_it_can_be() {
    let home = Home::new();
    drop(StateDir::open(home.path()).unwrap());
    // A directory in the place of the file: nobody can write it, root neither.
    Folder::open(&home.path().join(FOLDER)).unwrap();
    fs::create_dir(home.current()).unwrap();
    let audit = home.audit(Limits::default());
    assert!(audit.problem().is_some());
    audit.record(served(1));
    assert!(!home.current().is_file());
    fs::remove_dir(home.current()).unwrap();
    let report = audit.verify().unwrap();
    assert!(report.intact && report.lines == 2, "{report:?}");
    assert_eq!(audit.problem(), None);
}

#[test]
fn what_the_disk_refuses_for_too_long_is_counted_and_fills_no_memory() {
    let home = Home::new();
    drop(StateDir::open(home.path()).unwrap());
    Folder::open(&home.path().join(FOLDER)).unwrap();
    fs::create_dir(home.current()).unwrap();
    let audit = home.audit(Limits::default());
    (0..MAX_WAITING + 5).for_each(|_| audit.record(served(1)));
    assert_eq!(locked(&audit.shared.queue).waiting.len(), MAX_WAITING);
    fs::remove_dir(home.current()).unwrap();
    assert!(audit.verify().unwrap().intact);
    drop(audit);
    let last = last_lines(&home.path(), 1).unwrap().concat();
    assert!(last.ends_with(r#""event":"events_missed","count":5}"#), "{last}");
}

#[test]
fn a_configuration_is_noted_when_it_is_another_one_also_across_restarts() {
    let home = Home::new();
    for digest in ["one", "one", "two", "two"] {
        home.audit(Limits::default()).configuration(digest);
    }
    assert_eq!(home.events(), ["audit_begun", "configuration_changed", "configuration_changed"]);
    let last = last_lines(&home.path(), 1).unwrap().concat();
    assert!(last.ends_with(r#""event":"configuration_changed","digest":"two","before":"one"}"#), "{last}");
}

#[test]
fn what_was_refused_and_not_listed_is_counted_at_the_end() {
    let home = Home::new();
    let audit = home.audit(Limits::default());
    let invite = Known::Invite(valetkey_handoff::InviteSecret::generate().id());
    for n in 0..=LISTED_A_MINUTE {
        audit.message_refused("the device is not paired", || n.to_string(), at(0));
        audit.refused(&invite, [served(1)]);
    }
    drop(audit);
    let events = home.events();
    assert_eq!(events.len(), 1 + 2 * (LISTED_A_MINUTE as usize + 1));
    assert_eq!(events[events.len() - 2..], ["more_messages_refused", "more_devices_refused"]);
}

/// A chain in three files, and its head.
fn written() -> (Vec<AuditFile>, Head) {
    let mut tip = Tip::NOTHING;
    let mut files = Vec::new();
    for name in ["audit-00000000000000000001.jsonl", "audit-00000000000000000005.jsonl", CURRENT] {
        let mut bytes = Vec::new();
        for n in 0..4 {
            let event = if tip.seq == 0 { Event::AuditBegun } else { served(n) };
            let (line, next) = tip.next(at(i64::from(n)), &event).unwrap();
            bytes.extend(line);
            tip = next;
        }
        files.push(AuditFile { name: name.to_owned(), bytes });
    }
    (files, Head::at(tip, None))
}

fn intact(files: &[AuditFile], head: &Head) -> bool {
    let mut scan = Scan::default();
    for file in files {
        scan.file(file);
    }
    scan.report(Some(head)).intact
}

#[test]
fn a_chain_as_it_was_written_is_intact() {
    let (files, head) = written();
    assert!(intact(&files, &head));
}

#[derive(Debug, Clone)]
enum Edit {
    Replace(Vec<u8>),
    Insert(Vec<u8>),
    Delete(usize),
}

fn edits() -> impl Strategy<Value = Edit> {
    // What an editor types, and any bytes.
    let bytes = || {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 1..200),
            "[ -~\n]{1,40}".prop_map(String::into_bytes)
        ]
    };
    prop_oneof![
        bytes().prop_map(Edit::Replace),
        bytes().prop_map(Edit::Insert),
        (1_usize..1200).prop_map(Edit::Delete)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_single_edit_of_any_file_is_found(
        which in 0_usize..3, place in any::<proptest::sample::Index>(), edit in edits(),
    ) {
        let (mut files, head) = written();
        let bytes = &mut files[which].bytes;
        let before = bytes.clone();
        let at = place.index(bytes.len());
        match edit {
            Edit::Replace(with) => {
                let end = (at + with.len()).min(before.len());
                bytes.splice(at..end, with);
            }
            Edit::Insert(what) => drop(bytes.splice(at..at, what)),
            Edit::Delete(count) => drop(bytes.drain(at..(at + count).min(before.len()))),
        }
        prop_assume!(*bytes != before);
        prop_assert!(!intact(&files, &head));
    }

    #[test]
    fn any_other_order_of_the_lines_is_found(order in Just((0_usize..12).collect::<Vec<_>>()).prop_shuffle()) {
        prop_assume!(!order.is_sorted());
        let (mut files, head) = written();
        let all: Vec<Vec<u8>> = files.iter().flat_map(|file| chain::lines(&file.bytes).map(<[u8]>::to_vec)).collect();
        for (file, lines) in files.iter_mut().zip(order.chunks(4)) {
            file.bytes = lines.iter().flat_map(|line| all[*line].clone()).collect();
        }
        prop_assert!(!intact(&files, &head));
    }
}

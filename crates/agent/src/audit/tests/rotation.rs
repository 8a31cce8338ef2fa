//! A disk that refuses, once, in the middle of a rotation.

use std::process::Command;

use super::*;

const LINES: i32 = 13;
const INSIDE: &str = "VALETKEY_TEST_AUDIT_REFUSED";

/// What the test does when it is told where, with a disk that refuses to save the folder's names once.
fn write_all(path: &Path) {
    let limits = Limits { rotate_at: 1000, kept_files: 100 };
    let dir = Arc::new(StateDir::open(path).unwrap());
    let audit = Audit::with_limits(dir, Clock::system(), limits);
    (1..LINES).for_each(|pid| audit.record(served(pid)));
    // Each look has everything written that waits.
    let complete = |report: Report| report.last == Some(u64::from(LINES.unsigned_abs()));
    assert!((0..100).any(|_| audit.verify().is_ok_and(complete)));
}

/// Shows of H4 that what was written to the audit is not written over. Every save of the folder in turn is the one that fails.
#[test]
fn a_file_that_is_full_keeps_its_lines_though_the_disk_refuses_to_save_its_new_name() {
    if let Some(path) = std::env::var_os(INSIDE) {
        return write_all(path.as_ref());
    }
    let name = "audit::tests::rotation::a_file_that_is_full_keeps_its_lines_though_the_disk_refuses_to_save_its_new_name";
    let mut refused = 0;
    for save in 1..=8 {
        let home = Home::new();
        drop(StateDir::open(home.path()).unwrap().root().sub_folder(FOLDER).unwrap());
        let log = home.0.path().join("calls");
        let inside = Command::new("strace")
            .args(["-f", "-e", "trace=fsync", "-e", &format!("inject=fsync:error=EIO:when={save}"), "-P"])
            .arg(home.path().join(FOLDER))
            .arg("-o")
            .arg(&log)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(INSIDE, home.path())
            .output()
            .unwrap();
        assert!(inside.status.success(), "save {save}: {inside:?}");
        refused += usize::from(fs::read_to_string(log).unwrap().contains("EIO"));
        let report = home.verify();
        assert!(report.intact && report.lines == u64::from(LINES.unsigned_abs()), "save {save}: {report:?}");
    }
    assert!(refused >= 5, "{refused} saves were refused: the test sees rotations");
}

/// Whoever can write the folder can put a file there by the very name that the next full one gets.
#[test]
fn a_file_in_the_way_of_a_full_one_is_set_aside_and_not_written_over() {
    let home = Home::with_lines(SMALL, 3);
    let in_the_way = home.file("audit-00000000000000000001.jsonl");
    let audit = home.audit(SMALL);
    rewrite(&in_the_way, "not ours\n");
    (3..9).for_each(|pid| audit.record(served(pid)));
    drop(audit);
    let aside = home.path().join("quarantine");
    let kept = fs::read_dir(aside).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    assert_eq!(kept.collect::<Vec<_>>(), [b"not ours\n"]);
    assert!(home.verify().intact);
}

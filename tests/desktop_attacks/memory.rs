//! Its memory: core files, and other programs of the same person.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::Duration;

use valetkey_tests::program::{PATIENCE, Program};
use valetkey_tests::tenant::ALICE;

use crate::person::{PERSON, Person, STRANGER, address, can, only_root_can_be_others};
use crate::support::World;

/// A program of the person's without our precautions.
async fn control(person: &Person) -> Program {
    let mut sleep = Command::new("sleep");
    sleep.arg("1000");
    let control = person.start(&sleep, "");
    let comm = format!("/proc/{}/comm", control.pid());
    let itself = async {
        while !fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n") {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, itself).await.expect("it is itself");
    control
}

fn signal(pid: u32, name: &str) {
    assert!(Command::new("kill").args([format!("-{name}"), pid.to_string()]).status().unwrap().success());
}

/// Shows of J4 that no token comes to the person's disk by way of a core file.
#[tokio::test(flavor = "multi_thread")]
async fn no_core_is_left_of_a_sign_in_and_no_other_program_of_the_person_reads_it() {
    let world = World::with_operators_broker().await;
    let person = Person::new();
    let mut unguarded = control(&person).await;
    let mut companion = person.accepts(&world.daemon.invite(ALICE.mail).unwrap(), &[]);
    address(&mut companion).await;

    if only_root_can_be_others() {
        for what in ["environ", "maps", "auxv", "mem"] {
            let opens = |uid: u32, pid: u32| can(uid, &["sh", "-c", &format!(": </proc/{pid}/{what}")]);
            assert!(opens(PERSON, unguarded.pid()), "the control can be read: {what}");
            for uid in [PERSON, STRANGER] {
                assert!(!opens(uid, companion.pid()), "{uid} reads {what}");
            }
        }
        for file in [person.data_dir(), person.key_file()] {
            let file = file.to_str().unwrap();
            assert!(can(PERSON, &["test", "-r", file]) && !can(STRANGER, &["test", "-r", file]), "{file}");
        }
    }
    // Not SIGSEGV: the first one that somebody sends is taken for a stack overflow by Rust's own handler, and passes.
    for (pid, name) in [(unguarded.pid(), "SEGV"), (companion.pid(), "ABRT")] {
        signal(pid, name);
    }
    let dumps_here = unguarded.ended().await.unwrap().core_dumped();
    let status = companion.ended().await.unwrap();
    assert!(status.signal().is_some() && !status.core_dumped(), "{status:?}");
    assert!(person.cores().len() <= usize::from(dumps_here), "{:?}", person.cores());
    if !dumps_here {
        eprintln!("this machine lets nobody leave a core: that ours leaves none shows nothing here");
    }
}

//! A fault in a program itself, with secrets at hand: it says where it was and nothing else, and ends.

use std::io::{Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use valetkey_handoff::Keys;
use valetkey_tests::program::program;

use crate::search::{Kind, Search, Secret};

/// As in `valetkey_checkup::FAULT_CODE`, which is documented.
const FAULT: i32 = 70;
/// Whether the child is to say what Rust says of a panic.
const CHILD: &str = "VALETKEY_TEST_PANIC";

/// Run by [`a_panic_says_where_it_was_and_nothing_of_what_was_at_hand`] in a process of its own.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "breaks on purpose"]
async fn breaks_with_a_secret_in_its_hands() {
    let Ok(how) = std::env::var(CHILD) else { return };
    if how == "quiet" {
        valetkey_checkup::keep_quiet("a program of ours");
    }
    let mut secret = String::new();
    std::io::stdin().read_to_string(&mut secret).unwrap();
    let keys = Keys::from_secret_json(&secret).unwrap();
    // A task, as in the daemon and the companion: what breaks there must not leave a program that only seems to work.
    let broken = tokio::spawn(async move {
        let file = keys.to_secret_json().expose().clone();
        // An error that holds what could not be read, as errors of many crates do.
        let number: u64 = file.parse().map_err(|_| file).unwrap();
        println!("{number}");
    });
    let _ = broken.await;
    println!("it went on");
}

fn child(how: &str, secret: &str) -> Output {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "panics::breaks_with_a_secret_in_its_hands", "--ignored", "--nocapture"]);
    command.env(CHILD, how).env("RUST_BACKTRACE", "1");
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(secret.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn a_panic_says_where_it_was_and_nothing_of_what_was_at_hand() {
    let keys = Keys::generate();
    let json = keys.to_secret_json().expose().clone();
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    let secrets = [&value["sign"]["d"], &value["age"]]
        .map(|text| Secret { kind: Kind::DeviceKey, bytes: text.as_str().unwrap().into() });
    let search = Search::for_secrets(&secrets);
    let said = |output: &Output| [output.stdout.clone(), output.stderr.clone()].concat();

    let quiet = child("quiet", &json);
    assert!(search.found_in(&said(&quiet)).is_empty(), "a secret was said");
    let text = String::from_utf8_lossy(&quiet.stderr).into_owned();
    assert!(
        text.contains("a program of ours: a fault in the program itself, at ") && text.contains("panics.rs:"),
        "{text}"
    );
    assert_eq!(quiet.status.code(), Some(FAULT), "{text}");
    assert!(!String::from_utf8_lossy(&quiet.stdout).contains("it went on"));

    // The control: what Rust says by itself holds it, and the program goes on without the part that broke.
    let loud = child("loud", &json);
    assert!(!search.found_in(&said(&loud)).is_empty(), "the search would not have found it");
    assert!(String::from_utf8_lossy(&loud.stdout).contains("it went on"));
}

/// The programs themselves: where the system has no room for another thread, Rust's own runtime panics.
#[test]
fn the_programs_end_so_when_they_break() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments) in
        [("valetkey-agent", ["--state-dir", "x", "status"]), ("valetkey-cli", ["--data-dir", "x", "status"])]
    {
        let mut command = Command::new("strace");
        command.args([
            "-f",
            "-qq",
            "-o",
            "/dev/null",
            "-e",
            "trace=clone,clone3",
            "-e",
            "inject=clone,clone3:error=EAGAIN",
        ]);
        command.arg(program(name).unwrap()).args(arguments).current_dir(folder.path()).stdin(Stdio::null());
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(FAULT), "{name}: {text}");
        assert!(text.starts_with(&format!("{name}: a fault in the program itself, at ")), "{text}");
        assert!(
            !text.contains("EAGAIN") && !text.contains("Resource temporarily"),
            "what the panic would have said: {text}"
        );
    }
}

//! The commands as an operator types them: what they say, what they exit with, what they leave on disk.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{CLIENT_ID, Home, mode};
use valetkey_handoff::Invite;

const COMMANDS: &[&str] = &[
    "init",
    "serve",
    "invite",
    "devices",
    "accounts",
    "token",
    "export",
    "remove",
    "status",
    "audit",
    "vault",
    "completions",
];

fn every_file(folder: &Path, look: &mut impl FnMut(&Path, bool)) {
    look(folder, true);
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { every_file(&path, look) } else { look(&path, false) }
    }
}

/// Its broker's files too. Shows of H4 the modes.
#[tokio::test]
async fn everything_in_the_state_directory_is_its_owners_alone_whatever_the_umask() {
    for umask in ["000", "777"] {
        let home = Home::new();
        // The parents of the directory are the person's own affair; here they are there already.
        fs::create_dir_all(home.state().parent().unwrap()).unwrap();
        let program = env!("CARGO_BIN_EXE_valetkey-agent");
        let port = valetkey_tests::process::free_port().unwrap();
        let line = format!(
            "umask {umask}; {program} init --client-id {CLIENT_ID} && \
             {program} invite --email ana@contoso.example && \
             sed -i 's/^port = .*/port = {port}/' {config} && chmod 600 {config} && exec {program} serve --json",
            config = home.config().display()
        );
        let mut shell = Command::new("sh");
        shell.args(["-c", &line]).env_clear().env("HOME", home.folder.path());
        shell.env("PATH", std::env::var_os("PATH").unwrap());
        let mut serving =
            valetkey_tests::program::Program::start(&mut shell, &home.folder.path().join("log")).unwrap();
        serving.event("online").await.unwrap();
        let mut files = 0;
        every_file(&home.state(), &mut |path, is_folder| {
            // What was being put in its place has its own name by now.
            let Ok(facts) = fs::metadata(path) else { return };
            let mode = facts.permissions().mode();
            files += 1;
            let expected = if is_folder { 0o700 } else { 0o600 };
            assert_eq!(mode & 0o077, 0, "{} under umask {umask}", path.display());
            assert_eq!(mode & 0o700, expected, "{} under umask {umask}", path.display());
        });
        assert!(files > 12, "{files}");
        serving.stop().unwrap();
    }
}

#[test]
fn init_keeps_the_configuration_that_is_there_and_the_keys() {
    let home = Home::new();
    let first = home.json(&["init", "--name", "Ana's assistant", "--client-id", CLIENT_ID]);
    assert_eq!(first.code, 0, "{first:?}");
    let first = first.json();
    assert_eq!((&first["name"], &first["config_made"]), (&"Ana's assistant".into(), &true.into()));
    assert_eq!(first["words"].as_array().unwrap().len(), 4);
    let before = fs::read(home.config()).unwrap();

    // What cannot be done is said, with what to do instead, and is not called done.
    let other = home.json(&["init", "--name", "Another", "--client-id", "other"]);
    assert_eq!((other.code, other.error().0.as_str()), (1, "exists"), "{other:?}");
    let said = other.error().1;
    for part in [home.config().to_str().unwrap(), "name = \"Another\"", "client_id = \"other\"", CLIENT_ID] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert_eq!(fs::read(home.config()).unwrap(), before);
    let again = home.json(&["init", "--name", "Ana's assistant", "--client-id", CLIENT_ID]).json();
    assert_eq!(again["config_made"], false);
    assert_eq!((&again["agent"], &again["name"]), (&first["agent"], &first["name"]));
    assert_eq!(fs::read(home.config()).unwrap(), before);
    assert!(home.run(&["init"]).out.contains("left as it is"));
}

#[test]
fn init_without_a_client_id_says_what_is_missing_and_not_that_all_is_ready() {
    let home = Home::new();
    for _ in 0..2 {
        let ran = home.run(&["init"]);
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(!ran.out.contains("is ready") && ran.out.contains("set client_id"), "{ran:?}");
    }
    assert!(home.json(&["init"]).json()["client_id"].is_null());
}

/// Each one is run as it was printed, from another directory.
#[test]
fn a_command_that_a_message_suggests_works_as_it_stands() {
    let home = Home::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let folder = home.folder.path().join("the agent's");
    let (state, config) = (folder.join("state"), folder.join("agent.toml"));
    fs::create_dir_all(&folder).unwrap();
    let mut place = vec!["--state-dir", state.to_str().unwrap(), "--config", config.to_str().unwrap()];
    let run = |command: &[&str], place: &[&str]| {
        let mut command = home.command(&[command, place].concat());
        support::ran(command.current_dir(home.folder.path()))
    };
    let as_it_says = |text: &str| {
        let (_, line) =
            text.split_once("valetkey-agent --").unwrap_or_else(|| panic!("no command in {text:?}"));
        let line = line.lines().next().unwrap().replace('…', "ana@contoso.example");
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {} --{line}", env!("CARGO_BIN_EXE_valetkey-agent"))]).env_clear();
        shell.env("HOME", elsewhere.path()).env("PATH", std::env::var_os("PATH").unwrap());
        support::ran(shell.current_dir(elsewhere.path()))
    };
    let missing = run(&["status"], &place);
    assert_eq!(missing.code, 4);
    let made = as_it_says(&missing.err);
    assert_eq!(made.code, 0, "{made:?}");
    assert!(state.join("agent.json").exists() && config.exists());
    let port = valetkey_tests::process::free_port().unwrap();
    support::write(&config, &format!("client_id = \"{CLIENT_ID}\"\n[own_broker]\nport = {port}\n"));
    // The same in a program's answer, and for a place that is named from where one is.
    place = vec!["--state-dir", "the agent's/state", "--config", "the agent's/agent.toml"];
    let nobody = run(&["token", "--json"], &place);
    let invited = as_it_says(&nobody.error().1);
    assert_eq!(invited.code, 0, "{invited:?}");
    assert!(invited.out.contains("valetkey://invite/"), "{invited:?}");
    let doctor = run(&["doctor", "--json"], &place).json();
    let action = doctor["findings"].as_array().unwrap().iter().find(|one| one["check"] == "devices").unwrap();
    assert_eq!(as_it_says(action["action"].as_str().unwrap()).code, 0, "{action}");
    // Where the convention holds, nothing is added.
    assert!(Home::new().run(&["status"]).err.ends_with("make one with: valetkey-agent init\n"));
}

#[test]
fn init_with_settings_that_cannot_work_makes_nothing() {
    let home = Home::new();
    let ran = home.json(&["init", "--tenant", "no such tenant"]);
    assert_eq!((ran.code, ran.error().0.as_str()), (4, "configuration"));
    assert!(ran.error().1.contains("no such tenant"));
    assert!(!home.state().exists());
}

/// Shows M12.
#[test]
fn a_configuration_that_is_wrong_is_called_that_with_its_file_and_key() {
    let home = Home::initialised();
    for (wrong, names) in [
        ("clent_secret = \"x\"", "clent_secret"),
        ("[own_broker]\nprot = 1", "prot"),
        ("allow = [\"maill\"]", "maill"),
        ("tenant = 7", "tenant"),
        ("name = ", "line 2"),
    ] {
        home.configure(wrong);
        for command in [&["serve"][..], &["token"], &["invite"], &["status"]] {
            let ran = home.json(command);
            let (code, message) = ran.error();
            assert_eq!((ran.code, code.as_str()), (4, "configuration"), "{wrong}: {ran:?}");
            assert!(message.contains(names), "{message}");
            assert!(message.contains(home.config().to_str().unwrap()), "{message}");
        }
    }
    support::write(&home.config(), "");
    let (code, message) = home.json(&["invite", "--email", "ana@contoso.example"]).error();
    assert_eq!(code, "configuration");
    assert!(message.contains("docs/entra.md"), "{message}");
    assert!(message.contains(&format!("Set client_id in {};", home.config().display())), "{message}");
}

#[test]
fn a_configuration_that_is_missing_or_anybodys_to_write_is_not_run_with() {
    let home = Home::initialised();
    let (code, message) = home.json(&["serve", "--config", "/nowhere/agent.toml"]).error();
    assert_eq!(code, "configuration");
    assert!(
        message.ends_with("make one with: valetkey-agent --config /nowhere/agent.toml init"),
        "{message}"
    );

    fs::set_permissions(home.config(), fs::Permissions::from_mode(0o666)).unwrap();
    let (code, message) = home.json(&["serve"]).error();
    assert_eq!(code, "configuration");
    assert!(message.contains(&format!("chmod o-w {}", home.config().display())), "{message}");
}

#[test]
fn every_commands_help_has_an_example() {
    let home = Home::new();
    for command in COMMANDS {
        let help = home.run(&[command, "--help"]);
        assert_eq!(help.code, 0);
        let (_, example) = help.out.split_once("Example").unwrap_or_else(|| panic!("{command} has none"));
        assert!(example.contains(&format!("valetkey-agent {command}")), "{}", help.out);
    }
    let help = home.run(&["--help"]).out;
    for command in COMMANDS {
        assert!(help.contains(&format!("  {command} ")), "{command} is missing: {help}");
    }
    assert!(help.contains("Exit codes:"), "{help}");
}

#[test]
fn completions_are_printed_for_every_shell_without_a_home() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_valetkey-agent"))
            .args(["completions", shell])
            .env_clear()
            .output()
            .unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(script.contains("invite") && script.contains("state-dir"), "{shell}: {script}");
    }
}

#[test]
fn errors_for_programs_are_one_object_with_a_code_and_words() {
    let home = Home::initialised();
    for (arguments, exit, code) in [
        (&["no-such-command"][..], 2, "usage"),
        (&["remove"], 2, "usage"),
        (&["serve", "--broker", "nonsense"], 2, "usage"),
        (&["token"], 3, "auth_required"),
        (&["token", "--account", "ana@contoso.example"], 3, "no_account"),
        (&["serve", "--broker", "ftp://broker.example"], 4, "configuration"),
        (&["token", "--resource", "nonsense"], 1, "resource"),
        (&["devices", "--remove", "-x"], 1, "no_device"),
        (&["devices", "--remove", ""], 1, "no_device"),
    ] {
        let ran = home.json(arguments);
        assert_eq!(ran.code, exit, "{arguments:?}: {ran:?}");
        let (said, message) = ran.error();
        assert_eq!(said, code, "{arguments:?}");
        assert!(!message.is_empty());
        assert_eq!(ran.json().as_object().unwrap().len(), 1);
    }
    let ran = home.run(&["token", "--account", "ana@contoso.example"]);
    assert!(ran.out.is_empty() && ran.err.starts_with("valetkey-agent: no account"), "{ran:?}");
    let (code, message) = Home::new().json(&["status"]).error();
    assert_eq!(code, "configuration");
    assert!(message.contains("valetkey-agent init"), "{message}");
}

#[test]
fn an_answer_that_could_not_be_printed_is_a_failure() {
    let home = Home::initialised();
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let status = home.command(&["status"]).stdout(full).stderr(Stdio::null()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn an_invite_without_a_running_daemon_is_the_same_as_one_with() {
    let home = Home::initialised();
    let ran = home.json(&["invite", "--email", "ana@contoso.example", "--allow", "mail", "--expires", "1h"]);
    assert_eq!(ran.code, 0, "{ran:?}");
    let answer = ran.json();
    let invite = Invite::parse(answer["link"].as_str().unwrap()).unwrap();
    assert_eq!(invite.terms.email.as_deref(), Some("ana@contoso.example"));
    assert_eq!(invite.terms.capabilities, ["mail"]);
    assert_eq!(invite.broker.username.as_deref(), Some(invite.id().as_str()));
    assert_eq!(answer["words"].as_array().unwrap().len(), 4);

    assert_eq!(
        answer["this_machine_only"], true,
        "the agent's own broker, unless it is configured otherwise"
    );

    let shown = home.run(&["invite", "--email", "ana@contoso.example"]).out;
    assert!(shown.contains("works on this machine only"), "{shown}");
    assert!(shown.contains("valetkey://invite/") && shown.contains("ana@contoso.example"), "{shown}");
    assert_eq!(home.json(&["status"]).json()["open_invites"], 2);
}

#[test]
fn an_invite_that_others_can_use_does_not_warn() {
    let home = Home::initialised();
    for (broker, only) in [
        ("[own_broker]\ndevice_url = \"mqtts://agent.example.com:8883\"", false),
        ("[own_broker]\naddress = \"0.0.0.0\"\ndevice_url = \"mqtt://localhost:1883\"", true),
        ("[broker]\nurl = \"mqtts://broker.example.com\"", false),
        ("[broker]\nurl = \"mqtt://127.0.0.1\"\ndevice_url = \"mqtts://broker.example.com\"", false),
        ("[broker]\nurl = \"mqtt://[::1]\"", true),
    ] {
        home.configure(broker);
        let ran = home.json(&["invite"]);
        assert_eq!(ran.json()["this_machine_only"], only, "{broker}: {ran:?}");
        let shown = home.run(&["invite"]).out;
        assert_eq!(shown.contains("works on this machine only"), only, "{broker}: {shown}");
    }
}

#[test]
fn an_invite_that_makes_no_sense_is_refused_in_clear_words_and_nothing_is_stored() {
    let home = Home::initialised();
    for (arguments, names) in [
        (["--email", "ana"], "\"ana\" is not an e-mail address"),
        (["--email", "ana @contoso.example"], "is not an e-mail address"),
        (["--allow", "mail,maill"], "maill"),
        (["--expires", "soon"], "`soon` is not a duration"),
        (["--expires", "8d"], "7 days"),
        (["--expires", "0m"], "out of range"),
    ] {
        let ran = home.json(&["invite", arguments[0], arguments[1]]);
        assert_eq!(ran.code, 1, "{ran:?}");
        let (code, message) = ran.error();
        assert_eq!(code, "invite");
        assert!(message.contains(names), "{message}");
    }
    assert_eq!(home.json(&["status"]).json()["open_invites"], 0);
    assert!(!home.state().join("registry.json").exists());
    assert!(!home.state().join("broker/users.json").exists());
}

#[test]
fn a_state_directory_open_to_others_is_refused_with_the_command_that_mends_it() {
    let home = Home::initialised();
    fs::set_permissions(home.state(), fs::Permissions::from_mode(0o755)).unwrap();
    for command in [&["serve"][..], &["accounts"]] {
        let ran = home.json(command);
        assert_eq!((ran.code, ran.error().0.as_str()), (1, "state_dir"));
        let mending = format!("chmod 700 {}", home.state().display());
        assert!(ran.error().1.ends_with(&mending), "{ran:?}");
    }
    let (_, message) = home.json(&["accounts"]).error();
    let command = message.rsplit_once("run: ").unwrap().1;
    assert!(Command::new("sh").args(["-c", command]).status().unwrap().success());
    assert_eq!(home.run(&["accounts"]).code, 0);
}

/// Shows M13.
#[test]
fn a_name_that_means_several_accounts_is_an_error_that_lists_them() {
    let home = Home::initialised();
    home.store(&["ana@contoso.example", "andrea@contoso.example"], "connected");
    for arguments in [
        &["token", "--account", "an"][..],
        &["token"],
        &["export", "--msal", "x"],
        &["remove", "--account", "an"],
    ] {
        let ran = home.json(arguments);
        assert_eq!((ran.code, ran.error().0.as_str()), (1, "ambiguous"), "{ran:?}");
        let message = ran.error().1;
        assert!(
            message.contains("ana@contoso.example") && message.contains("andrea@contoso.example"),
            "{message}"
        );
    }
    assert_eq!(home.json(&["accounts"]).json().as_array().unwrap().len(), 2);
}

/// Shows M16.
#[test]
fn removing_an_account_deletes_its_tokens_and_does_not_claim_to_have_revoked_them() {
    let home = Home::initialised();
    home.store(&["ana@contoso.example"], "connected");
    let secret = "refresh_token";
    let vault = || fs::read_dir(home.state().join("vault")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(vault()).unwrap().to_lowercase().contains("refreshtoken"), "{secret}");

    let words = home.run(&["remove", "--account", "ana@contoso.example"]).out;
    assert!(words.contains("deleted from this agent"), "{words}");
    assert!(!words.to_lowercase().contains("revoked"), "{words}");
    let left: serde_json::Value = serde_json::from_slice(&fs::read(vault()).unwrap()).unwrap();
    for kind in ["RefreshToken", "AccessToken", "IdToken"] {
        assert!(left[kind].as_object().is_none_or(serde_json::Map::is_empty), "{kind}: {left}");
    }
    assert!(home.run(&["accounts"]).out.contains("Nobody is connected"));

    home.store(&["ana@contoso.example"], "connected");
    assert_eq!(home.json(&["remove", "--account", "ana@contoso.example"]).json()["revoked"], false);
}

/// A paired device decides what that one is called.
#[test]
fn an_account_that_never_worked_is_in_no_commands_way_and_named_by_its_whole_id() {
    let home = Home::initialised();
    home.store(&["ana@contoso.example", "ana@contoso.example"], "reconnect_needed");
    let (id, unproven) = {
        let mut files: Vec<_> = fs::read_dir(home.state().join("vault")).unwrap().collect();
        files.sort_by_key(|file| file.as_ref().unwrap().file_name());
        let file = files.pop().unwrap().unwrap();
        (file.file_name().into_string().unwrap().trim_end_matches(".json").to_owned(), file.path())
    };
    let mut facts: serde_json::Value = serde_json::from_slice(&fs::read(&unproven).unwrap()).unwrap();
    facts["ValetKey"].as_object_mut().unwrap().remove("refreshed_at").unwrap();
    support::write(&unproven, &facts.to_string());
    let copy = |name: &str| home.folder.path().join(name).to_str().unwrap().to_owned();

    for (name, account) in [("one", None), ("two", Some("ana@contoso.example")), ("three", Some("ana"))] {
        let account = account.map_or(vec![], |account| vec!["--account", account]);
        let ran = home.json(&[&["export", "--msal", &copy(name)][..], &account].concat());
        assert_eq!(ran.code, 0, "{ran:?}");
        assert!(!fs::read_to_string(copy(name)).unwrap().contains(&id), "the other one's");
    }
    assert_eq!(home.json(&["accounts"]).json().as_array().unwrap().len(), 2, "it is shown all the same");
    assert_eq!(home.json(&["remove", "--account", "ana@contoso.example"]).code, 0);
    let (code, message) = home.json(&["remove", "--account", "ana@contoso.example"]).error();
    assert_eq!(code, "no_account");
    assert!(message.contains(&id) && message.contains("say its whole id"), "{message}");
    let ran = home.json(&["token"]);
    assert_eq!((ran.code, ran.error().0.as_str()), (5, "unavailable"), "{ran:?}");
    assert_eq!(home.json(&["remove", "--account", &id]).code, 0);
}

#[test]
fn an_exported_cache_is_its_owners_alone_and_takes_no_files_place() {
    let home = Home::initialised();
    home.store(&["ana@contoso.example"], "connected");
    let file = home.folder.path().join("cache.json");
    let path = file.to_str().unwrap();
    let mut command = Command::new("sh");
    let program = env!("CARGO_BIN_EXE_valetkey-agent");
    command.args(["-c", &format!("umask 000; exec {program} export --msal {path}")]);
    assert!(command.env_clear().env("HOME", home.folder.path()).status().unwrap().success());
    assert_eq!(mode(&file), 0o600);
    let cache: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(!cache["RefreshToken"].as_object().unwrap().is_empty());
    assert!(cache.get("ValetKey").is_none(), "ours does not go with it");

    support::write(&file, "something of mine");
    let ran = home.json(&["export", "--msal", path]);
    assert_eq!((ran.code, ran.error().0.as_str()), (1, "exists"));
    assert_eq!(fs::read_to_string(&file).unwrap(), "something of mine");
    let link = home.folder.path().join("link.json");
    std::os::unix::fs::symlink(home.folder.path().join("elsewhere"), &link).unwrap();
    assert_eq!(home.json(&["export", "--msal", link.to_str().unwrap()]).error().0, "exists");
    assert!(!home.folder.path().join("elsewhere").exists());
}

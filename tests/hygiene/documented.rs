//! What `docs/operating.md` tells an operator to write, word for word.

const DOCUMENT: &str = include_str!("../../docs/operating.md");

/// The lines of the block that is marked so.
fn block(mark: &str) -> Vec<String> {
    let (_, after) =
        DOCUMENT.split_once(&format!("```{mark}\n")).unwrap_or_else(|| panic!("no block {mark}"));
    let (block, _) = after.split_once("```").unwrap();
    block.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect()
}

/// The access list of one user with a login for each device: its topics.
pub fn device_acl(agent: &str, invite: &str, device: &str) -> Vec<String> {
    let mut lines = block("acl-device");
    assert_eq!(lines.remove(0), "user {login}");
    lines
        .into_iter()
        .map(|line| line.replace("{agent}", agent).replace("{invite}", invite).replace("{device}", device))
        .collect()
}

/// The agent's own lines.
pub fn agent_acl(agent: &str) -> Vec<String> {
    let lines = block("acl");
    let own = lines.iter().skip_while(|line| *line != "user valetkey-agent").skip(1);
    own.take_while(|line| !line.starts_with("user ")).map(|line| line.replace("{agent}", agent)).collect()
}

/// The broker's settings and its listener's, less those whose files the test's broker names itself.
pub fn settings() -> (Vec<String>, Vec<String>) {
    let ours =
        ["allow_anonymous", "password_file", "acl_file", "persistence", "autosave", "certfile", "keyfile"];
    let is_ours = |line: &String| ours.iter().any(|ours| line.starts_with(ours));
    let lines: Vec<String> = block("mosquitto").into_iter().filter(|line| !line.starts_with('#')).collect();
    let listener = lines.iter().position(|line| line.starts_with("listener ")).unwrap();
    let (broker, of_listener) = (&lines[..listener], &lines[listener + 1..]);
    let keep = |lines: &[String]| lines.iter().filter(|line| !is_ours(line)).cloned().collect();
    (keep(broker), keep(of_listener))
}

//! Everybody who may log in to the agent's own broker, and what each may do. Pure: what mosquitto's files say.
//!
//! An invite's holder may enroll. Once a device has proved the invite, the same login opens that device's topics and
//! nothing else. Two devices may prove one invite: the second is only told that it came too late.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use serde::{Deserialize, Serialize};

/// The user the agent itself connects as. An invite's id has 22 characters, so none is called that.
pub const AGENT_USER: &str = "agent";
/// Two computers may race with one invite; more than a few is somebody playing.
const MAX_DEVICES_PER_INVITE: usize = 4;

/// By name: invites' ids and [`AGENT_USER`].
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Users(BTreeMap<String, User>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct User {
    /// As `mosquitto_passwd` writes it.
    hash: String,
    /// The devices that proved this user's invite, by thumbprint.
    devices: Vec<String>,
}

impl Users {
    /// A new password is a new user: what was there under that name is gone.
    pub fn put(&mut self, name: &str, hash: &str) {
        self.0.insert(name.to_owned(), User { hash: hash.to_owned(), devices: Vec::new() });
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Opens its topics to a device that proved this invite.
    pub fn enrolled(&mut self, invite: &str, device: &str) -> Result<()> {
        let user = self.0.get_mut(invite);
        let user = user.with_context(|| format!("there is no broker user for the invite {invite}"))?;
        if user.devices.iter().any(|known| known == device) {
            return Ok(());
        }
        ensure!(user.devices.len() < MAX_DEVICES_PER_INVITE, "too many devices tried the invite {invite}");
        user.devices.push(device.to_owned());
        Ok(())
    }

    /// mosquitto's password file.
    pub fn passwords(&self) -> String {
        self.0.iter().map(|(name, user)| format!("{name}:{}\n", user.hash)).collect()
    }

    /// mosquitto's access list. `agent` is the agent's name in topics.
    pub fn acl(&self, agent: &str) -> String {
        let root = format!("valetkey/v1/{agent}");
        let mut text = format!(
            "user {AGENT_USER}\n\
             topic read {root}/in/+\n\
             topic read {root}/enroll/+\n\
             topic write {root}/out/+\n\
             topic write {root}/presence/{agent}\n"
        );
        for (name, user) in self.0.iter().filter(|(name, _)| *name != AGENT_USER) {
            // Written to a String: cannot fail.
            let _ = write!(
                text,
                "\nuser {name}\ntopic write {root}/enroll/{name}\ntopic read {root}/presence/{agent}\n"
            );
            for device in &user.devices {
                let _ = write!(
                    text,
                    "topic write {root}/in/{device}\n\
                     topic write {root}/presence/{device}\n\
                     topic read {root}/out/{device}\n"
                );
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invites_user_may_enroll_and_then_has_its_own_devices_topics() {
        let mut users = Users::default();
        users.put(AGENT_USER, "$7$a");
        users.put("inv", "$7$b");
        assert_eq!(users.passwords(), "agent:$7$a\ninv:$7$b\n");
        let invited =
            "\nuser inv\ntopic write valetkey/v1/A/enroll/inv\ntopic read valetkey/v1/A/presence/A\n";
        assert!(users.acl("A").ends_with(invited));

        users.enrolled("inv", "dev").unwrap();
        users.enrolled("inv", "dev").unwrap();
        let enrolled = "topic write valetkey/v1/A/in/dev\ntopic write valetkey/v1/A/presence/dev\n\
                        topic read valetkey/v1/A/out/dev\n";
        assert!(users.acl("A").ends_with(&format!("{invited}{enrolled}")));
    }

    #[test]
    fn an_unknown_invite_opens_nothing_and_one_invite_opens_little() {
        let mut users = Users::default();
        assert!(users.enrolled("other", "one").is_err());
        users.put("inv", "$7$b");
        for device in 0..MAX_DEVICES_PER_INVITE {
            users.enrolled("inv", &device.to_string()).unwrap();
        }
        assert!(users.enrolled("inv", "one more").is_err());
        users.remove("inv");
        users.remove("inv");
        assert_eq!(users, Users::default());
    }
}

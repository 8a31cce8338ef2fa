//! Models, a million steps each. They are tests of the crates whose rules they walk through, and run there.

use anyhow::{Context as _, Result};
use tokio::process::Command;

use crate::report::Row;

struct Model {
    package: &'static str,
    /// As the test prints it before its counts.
    name: &'static str,
    test: &'static str,
    /// A test that lets the same model meet a rule that is broken.
    control: &'static str,
    broken: &'static str,
    shows: &'static str,
}

const MODELS: [Model; 4] = [
    Model {
        package: "valetkey-handoff",
        name: "the generation rule",
        test: "generation::tests::however_messages_are_repeated_and_reordered_the_stored_one_only_moves_up",
        control: "generation::tests::a_rule_that_takes_an_older_message_or_the_same_number_again_is_found_out",
        broken: "a rule that takes an older message, and one that takes a number again",
        shows: "never an older message in the place of a newer one",
    },
    Model {
        package: "valetkey-agent",
        name: "sign-ins",
        test: "progress::model::never_an_older_sign_in_and_never_another_accounts",
        control: "progress::model::an_agent_that_takes_every_message_is_found_out",
        broken: "an agent that takes every message",
        shows: "never an older cache in the place of one that works, never another account's",
    },
    Model {
        package: "valetkey-companion",
        name: "the state machine",
        test: "step::model::there_is_always_a_way_on_one_sign_in_at_most_and_no_unfounded_green",
        control: "step::model::a_state_machine_that_does_what_it_must_not_is_found_out",
        broken: "green at the broker's word, two sign-ins at once, and no way on",
        shows: "always a way on, never Connected without the agent's word, never two sign-ins",
    },
    Model {
        package: "valetkey-entra",
        name: "the error table",
        test: "refusal::model::every_answer_has_one_class_and_a_busy_service_ends_no_sign_in",
        control: "refusal::model::an_error_table_that_ends_what_it_must_not_is_found_out",
        broken: "a number that nobody knows ends a sign-in, and so does a service that is out of order",
        shows: "whatever is answered has one class, and none that its parts do not stand for",
    },
];
/// Of each.
const PROMISED: u64 = 1_000_000;

pub async fn all() -> Result<Vec<Row>> {
    // All at once: one set of features, so that what was built for it is not built again.
    let mut test = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()));
    test.args(["test", "--locked", "--no-fail-fast", "--lib"]).env("VALETKEY_TORTURE", "full");
    test.current_dir(env!("CARGO_MANIFEST_DIR"));
    test.args(MODELS.iter().flat_map(|model| ["-p", model.package]));
    test.args(["--", "--exact", "--nocapture"]);
    test.args(MODELS.iter().flat_map(|model| [model.test, model.control]));
    let output = test.kill_on_drop(true).output().await.context("cargo test")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        // With the history that broke a promise: another run may take long to find it again.
        println!("{said}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(MODELS.iter().map(|model| model.row(&said)).collect())
}

impl Model {
    fn row(&self, said: &str) -> Row {
        let mut row = Row::new(format!("Model of {}: {}", self.name, self.shows));
        for what in ["histories", "steps"] {
            row.add(what, self.counted(said, what).unwrap_or_default());
        }
        if self.counted(said, "steps").is_none_or(|steps| steps < PROMISED) || !passed(said, self.test) {
            row.failures.push(format!(
                "it did not come to {PROMISED} steps: cargo test -p {} {}",
                self.package, self.test
            ));
        }
        row.caught(u64::from(passed(said, self.control)), 1, self.broken);
        row
    }

    /// `name: 12 histories, 34 steps`
    fn counted(&self, said: &str, what: &str) -> Option<u64> {
        let (_, rest) = said.lines().find_map(|line| line.split_once(&format!("{}: ", self.name)))?;
        let count = rest.split(", ").find_map(|part| part.strip_suffix(what))?;
        count.trim().parse().ok()
    }
}

/// With what a test prints, its line may be broken in two.
fn passed(said: &str, test: &str) -> bool {
    let mut after = said.lines().skip_while(|line| !line.contains(&format!("test {test} ...")));
    after
        .find(|line| line.ends_with("ok") || line.ends_with("FAILED"))
        .is_some_and(|line| line.ends_with("ok"))
}

//! "Check my set-up": looks at everything between the person and the assistant, and says of each thing in one sentence how
//! it is and what to do. [`look`] gathers the facts, [`decide`] says what they mean, the words are in [`crate::texts`].
//!
//! It changes nothing, and asks nobody but the sign-in service and the assistant that this computer is linked to.

mod ask;
mod decide;
pub mod facts;
mod look;
mod sheet;
#[cfg(test)]
mod tests;
mod within;

pub use decide::Check;
pub use facts::Facts;
pub use look::look;
pub use sheet::{Line, Sheet};
pub use within::Doctor;
pub(crate) use within::Pulse;

use valetkey_checkup::{Finding, Redactor, Report};

use crate::texts::{self, Language};

/// What was found, in words.
pub fn findings(facts: &Facts, language: Language) -> Vec<Finding> {
    decide::checks(facts).iter().map(|check| texts::check(language, check)).collect()
}

/// A report for whoever helps, which names nobody. The person may read all of it first.
pub fn report(facts: &Facts, program: &'static str, language: Language) -> String {
    let home = std::env::home_dir().map(|home| home.display().to_string());
    let redactor = Redactor::new().with_home(home);
    let mut redactor = facts.people().into_iter().fold(redactor, Redactor::with_person);
    let findings = findings(facts, language);
    Report::new((program, env!("CARGO_PKG_VERSION")), facts.at, &findings, facts).text(&mut redactor)
}

//! What a doctor found, a report of it that may be sent to somebody for help, and what a program says when it breaks.
//!
//! It knows nobody and looks at nothing: each side gathers its own facts and decides what they mean. Here is what both
//! have in common: how a finding looks, and that nothing secret or personal leaves with it.

mod finding;
mod panic;
mod redact;
mod report;

pub use finding::{Finding, Level, has_problem, shown};
pub use panic::{FAULT_CODE, keep_quiet};
pub use redact::Redactor;
pub use report::Report;

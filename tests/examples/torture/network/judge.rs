//! What must be true of the handoffs that an agent has accepted. Pure.

use std::collections::{HashMap, HashSet};

use super::lane::Handoff;

pub const LOST: &str = "handoffs lost";
pub const TWICE: &str = "handoffs stored twice";
pub const ORDER: &str = "handoffs stored out of order";

/// How far the order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Everything of a device is stored in the order in which it was sealed.
    OfDevice,
    /// Everything of an account is. A broker that forgets may have lost the first of two accounts and delivered the second.
    OfAccount,
}

/// What is wrong: `accepted` in the order of the audit, `last` as it was handed over and not overtaken.
pub fn judge(accepted: &[Handoff], last: &[Handoff], order: Order) -> Vec<(&'static str, String)> {
    let mut wrong = Vec::new();
    let mut seen = HashSet::new();
    for handoff in accepted {
        if !seen.insert(handoff) {
            wrong.push((TWICE, shown(handoff)));
        }
    }
    for handoff in last.iter().filter(|handoff| !seen.contains(handoff)) {
        wrong.push((LOST, shown(handoff)));
    }
    let mut newest: HashMap<&str, u64> = HashMap::new();
    for handoff in accepted {
        let line = match order {
            Order::OfDevice => "",
            Order::OfAccount => handoff.0.as_str(),
        };
        let newest = newest.entry(line).or_default();
        if handoff.1 < *newest {
            wrong.push((ORDER, format!("{} after {newest}", shown(handoff))));
        }
        *newest = handoff.1.max(*newest);
    }
    wrong
}

fn shown((account, generation): &Handoff) -> String {
    format!("number {generation} of {account}")
}

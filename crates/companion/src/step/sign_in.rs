//! How a sign-in begins, is renewed, given up, and ends in a sealed handoff.

use jiff::Timestamp;

use super::{Ask, Effect, SignInStep, Then};
use crate::problem::{Problem, SignInProblem};
use crate::state::{Delivery, Flow, Happening, Health, Pairing, State};

impl State {
    /// Whether a sign-in may begin: there is an assistant, nothing is under way, and there is a need.
    pub fn can_begin(&self) -> bool {
        self.assistant().is_some()
            && self.flow.running().is_none()
            && self.flow != Flow::Pairing
            && self.delivery.is_none()
            && !self.account().is_some_and(|a| matches!(a.health, Health::Connected | Health::Retrying))
    }

    pub(super) fn begin(&mut self, choose_account: bool, effects: &mut Vec<Effect>) {
        let Some(assistant) = self.assistant().filter(|_| self.can_begin()) else { return };
        let pinned = assistant.pinned.as_ref().map(|pinned| pinned.address.clone());
        let login_hint = pinned.or_else(|| assistant.email.clone()).filter(|_| !choose_account);
        let claims = self.account().and_then(|account| account.claims.clone());
        self.flows += 1;
        let id = self.flows;
        self.flow = Flow::Starting { id };
        effects.push(Effect::StartSignIn(Ask { id, login_hint, choose_account, claims }));
    }

    pub(super) fn renew(&mut self, then: Then, effects: &mut Vec<Effect>) {
        if let Flow::Waiting { id, .. } = self.flow {
            effects.push(Effect::RenewSignIn { id, then });
        }
    }

    pub(super) fn cancel(&mut self, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.flow.running().is_some() {
            self.give_up_sign_in(effects);
            self.note(Happening::Cancelled, now);
        } else if self.flow == Flow::Pairing {
            // Keys that are being saved are not undone, but no browser will open. What came of it is said soon.
            effects.push(Effect::GiveUpPairing);
            self.offer = None;
            self.flow = Flow::Idle;
            self.pairing = Pairing::Checking;
        }
    }

    /// Whatever takes its place: one that goes on unseen would open a browser for nobody.
    pub(super) fn give_up_sign_in(&mut self, effects: &mut Vec<Effect>) {
        if let Some(id) = self.flow.running() {
            effects.push(Effect::StopSignIn { id });
            self.flow = Flow::Idle;
        }
    }

    pub(super) fn sign_in(&mut self, id: u64, step: SignInStep, now: Timestamp, effects: &mut Vec<Effect>) {
        if self.flow.running() != Some(id) {
            // Given up in the very moment it was sealed: it is still on hold, and nothing is sent.
            if let SignInStep::Sealed { generation, .. } = step {
                effects.push(Effect::Discard { generation });
            }
            return;
        }
        let before = match self.flow {
            Flow::Finishing { signed_in, checked, .. } => (signed_in, checked),
            _ => (false, false),
        };
        match step {
            SignInStep::Waiting { link, until, device_code, then } => {
                effects.push(match then {
                    Then::Open => Effect::OpenBrowser(link.clone()),
                    Then::Copy => Effect::CopyLink(link.clone()),
                });
                self.flow = Flow::Waiting { id, link, until, device_code };
            }
            SignInStep::Returned => {
                self.flow = Flow::Finishing { id, signed_in: before.0, checked: before.1 }
            }
            SignInStep::SignedIn => self.flow = Flow::Finishing { id, signed_in: true, checked: before.1 },
            SignInStep::Checked => self.flow = Flow::Finishing { id, signed_in: true, checked: true },
            SignInStep::Sealed { account, address, generation } => {
                self.note(Happening::SignedIn { address: address.clone() }, now);
                self.delivery = Some(Delivery { account, address, generation, delivered: false });
                self.flow = Flow::Idle;
                effects.push(Effect::HandOver { generation });
            }
            SignInStep::Cancelled => {
                self.note(Happening::Cancelled, now);
                self.flow = Flow::Idle;
            }
            SignInStep::Failed(Problem::SignIn(SignInProblem::WrongAccount { signed_in_as })) => {
                self.flow = Flow::WrongAccount { signed_in_as };
            }
            SignInStep::Failed(Problem::SignIn(SignInProblem::Administrator { reason, aadsts })) => {
                self.flow = Flow::Blocked { reason, aadsts };
            }
            SignInStep::Failed(problem) => self.flow = Flow::Failed(problem),
        }
    }
}

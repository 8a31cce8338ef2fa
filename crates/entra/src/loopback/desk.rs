//! What is known of the sign-in that is being waited for: which state is expected, whether its callback has been taken,
//! and what the browser is to be shown.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::parameters::Parameters;
use super::{Callback, Page};
use crate::secret::Secret;

/// Longest a browser is kept waiting for the verification: three requests at their own limits, and some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);
/// A browser that has been redirected asks for the page within milliseconds, if it is there at all.
const LAST_PAGE_TIMEOUT: Duration = Duration::from_millis(700);

#[derive(Debug)]
pub(super) struct Desk {
    port: u16,
    expected: Mutex<Expected>,
    answer: watch::Sender<Answer>,
    shown: watch::Sender<bool>,
    refusal: OnceLock<String>,
}

#[derive(Debug)]
enum Expected {
    Nothing,
    Callback {
        state: Secret,
    },
    /// It has come; the state tells its duplicates from strangers.
    Duplicates {
        state: Secret,
    },
}

#[derive(Debug)]
enum Answer {
    Awaited,
    Page(Page),
    Ended,
}

/// What became of a callback.
pub(super) enum Taken {
    Accepted(Callback),
    Duplicate,
    Refused,
}

impl Desk {
    pub fn new(port: u16) -> Self {
        Self {
            port,
            expected: Mutex::new(Expected::Nothing),
            answer: watch::Sender::new(Answer::Awaited),
            shown: watch::Sender::new(false),
            refusal: OnceLock::new(),
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn refuse_with(&self, html: String) {
        // The first one stays.
        let _ = self.refusal.set(html);
    }

    pub fn refusal(&self) -> Option<&str> {
        self.refusal.get().map(String::as_str)
    }

    pub fn expect(&self, state: &Secret) {
        let mut expected = self.expected();
        if !matches!(*expected, Expected::Duplicates { .. }) {
            *expected = Expected::Callback { state: state.clone() };
        }
    }

    /// The first callback with the expected state is accepted and no other, however many come at once.
    pub fn take(self: &Arc<Self>, parameters: Parameters) -> Taken {
        let mut expected = self.expected();
        match &*expected {
            Expected::Callback { state } if *state == parameters.state => {
                *expected = Expected::Duplicates { state: parameters.state };
                let Parameters { outcome, iss, .. } = parameters;
                Taken::Accepted(Callback { outcome, iss, desk: self.clone() })
            }
            Expected::Duplicates { state } if *state == parameters.state => Taken::Duplicate,
            _ => Taken::Refused,
        }
    }

    pub fn show(&self, page: Page) {
        self.answer.send_replace(Answer::Page(page));
    }

    pub fn end_unanswered(&self) {
        self.answer.send_if_modified(|answer| {
            let awaited = matches!(answer, Answer::Awaited);
            if awaited {
                *answer = Answer::Ended;
            }
            awaited
        });
    }

    /// The page, as soon as there is one; `None` when there is no callback, or there will be no page.
    pub async fn page(&self) -> Option<Page> {
        if !matches!(*self.expected(), Expected::Duplicates { .. }) {
            return None;
        }
        let mut answers = self.answer.subscribe();
        let answered = answers.wait_for(|answer| !matches!(answer, Answer::Awaited));
        match &*tokio::time::timeout(ANSWER_TIMEOUT, answered).await.ok()?.ok()? {
            Answer::Page(page) => Some(page.clone()),
            Answer::Awaited | Answer::Ended => None,
        }
    }

    /// The page has gone out whole.
    pub fn page_was_shown(&self) {
        self.shown.send_replace(true);
    }

    /// Until the page has been shown once, if there is one.
    pub async fn last_page(&self) {
        if matches!(*self.answer.borrow(), Answer::Page(_)) {
            let mut shown = self.shown.subscribe();
            // Nobody asking for it is no fault.
            let _ = tokio::time::timeout(LAST_PAGE_TIMEOUT, shown.wait_for(|shown| *shown)).await;
        }
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

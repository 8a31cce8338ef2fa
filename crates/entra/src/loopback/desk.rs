//! What is known of the sign-in that is being waited for: which state is expected, whether its callback has been taken,
//! and what the browser is to be shown.

use std::sync::{Mutex, OnceLock, PoisonError};
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
    shown: watch::Sender<bool>,
    refusal: OnceLock<String>,
}

#[derive(Debug)]
enum Expected {
    Nothing,
    Callback {
        state: Secret,
    },
    /// It has come; the state tells its duplicates from strangers. The page is sent by whoever has the callback.
    Duplicates {
        state: Secret,
        page: watch::Receiver<Option<Page>>,
    },
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

    /// Another state than before makes the earlier one void, taken or not.
    pub fn expect(&self, new: &Secret) {
        let mut expected = self.expected();
        match &*expected {
            Expected::Duplicates { state, .. } if state == new => {}
            _ => *expected = Expected::Callback { state: new.clone() },
        }
    }

    /// The first callback with the expected state is accepted and no other, however many come at once.
    pub fn take(&self, parameters: Parameters) -> Taken {
        let Parameters { state: found, outcome, iss } = parameters;
        let mut expected = self.expected();
        match &*expected {
            Expected::Callback { state } if *state == found => {
                let (sender, page) = watch::channel(None);
                *expected = Expected::Duplicates { state: found.clone(), page };
                Taken::Accepted(Callback { outcome, iss, state: found, page: sender })
            }
            Expected::Duplicates { state, .. } if *state == found => Taken::Duplicate,
            _ => Taken::Refused,
        }
    }

    /// The page, as soon as there is one; `None` when there is no callback, or there will be no page.
    pub async fn page(&self) -> Option<Page> {
        let mut page = self.page_of_callback()?;
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, page.wait_for(Option::is_some));
        answered.await.ok()?.ok()?.clone()
    }

    /// The page has gone out whole.
    pub fn page_was_shown(&self) {
        self.shown.send_replace(true);
    }

    /// Until the page has been shown once, if there is one.
    pub async fn last_page(&self) {
        if self.page_of_callback().is_some_and(|page| page.borrow().is_some()) {
            let mut shown = self.shown.subscribe();
            // Nobody asking for it is no fault.
            let _ = tokio::time::timeout(LAST_PAGE_TIMEOUT, shown.wait_for(|shown| *shown)).await;
        }
    }

    fn page_of_callback(&self) -> Option<watch::Receiver<Option<Page>>> {
        match &*self.expected() {
            Expected::Duplicates { page, .. } => Some(page.clone()),
            _ => None,
        }
    }

    fn expected(&self) -> std::sync::MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

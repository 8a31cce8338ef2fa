//! The audit: what was done with people's sign-ins, one JSON object a line, in `audit/` of the state directory.
//!
//! Lines are only ever added, and each carries the SHA-256 of the line before it, across files that are full; so an
//! altered, lost or reordered line is found by [`verify`]. There is no key in it: whoever can write the directory can make
//! a whole chain anew, and only a hash noted down elsewhere shows that. `docs/audit.md` says what is found and what not.
//!
//! Nobody waits for the audit: events go into a queue, and a thread of its own writes them. Where it cannot write, it
//! says so in the log and in the status, keeps the events and tries again; tokens are served all the same.

mod chain;
mod event;
mod flood;
mod served;
mod store;
mod verify;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use valetkey_link::Clock;

pub use chain::{LineHash, NotAHash};
pub use event::Caller;
pub(crate) use event::{Event, short};
pub(crate) use flood::Known;
pub use verify::{Finding, Report};

use crate::folder::Folder;
use crate::state_dir::{LOCK, StateDir, StateDirError};
use flood::Refusals;
pub(crate) use store::FOLDER;
use store::{CURRENT, Entry, Limits, Store, full_files};

/// A line that is not urgent is on disk within this time: seldom enough for a memory card, and all that a power cut can take.
const SYNC_WITHIN: Duration = Duration::from_secs(10);
/// Between two tries to write where the disk refuses.
const RETRY: Duration = Duration::from_secs(1);
/// Events kept in memory (some 300 bytes each) while the disk refuses. Later ones are counted.
const MAX_WAITING: usize = 10_000;

/// The audit of an open agent. Dropped, it has everything on disk.
#[derive(Debug)]
pub(crate) struct Audit {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    dir: Arc<StateDir>,
    clock: Clock,
    limits: Limits,
    /// Locked before the queue by whoever locks both.
    store: Mutex<Option<Store>>,
    queue: Mutex<Queue>,
    wake: Condvar,
    problem: Mutex<Option<String>>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Entry>,
    missed: u64,
    refusals: Refusals,
    ending: bool,
}

impl Audit {
    /// Opens the files and starts the writer. A directory that cannot be written is a [`Audit::problem`], no error.
    pub(crate) fn start(dir: Arc<StateDir>, clock: Clock) -> Self {
        Self::with_limits(dir, clock, Limits::default())
    }

    fn with_limits(dir: Arc<StateDir>, clock: Clock, limits: Limits) -> Self {
        let shared = Arc::new(Shared {
            dir,
            clock,
            limits,
            store: Mutex::default(),
            queue: Mutex::default(),
            wake: Condvar::new(),
            problem: Mutex::default(),
        });
        shared.drain(&mut locked(&shared.store), false);
        let its = Arc::clone(&shared);
        let writer = std::thread::Builder::new().name("audit".to_owned()).spawn(move || its.keep_writing());
        if let Err(error) = &writer {
            shared.noted(Err(error.to_string()));
        }
        Self { shared, writer: writer.ok() }
    }

    /// Adds a line. Returns at once.
    pub(crate) fn record(&self, event: Event) {
        self.shared.push(event);
    }

    /// A message that nobody answers for, or its count if there are many. The digest is only made of those that are listed.
    pub(crate) fn message_refused(&self, reason: &str, digest: impl FnOnce() -> String, now: Timestamp) {
        if self.is_listed(None, now) {
            self.record(Event::MessageRefused { reason: short(reason), digest: digest() });
        }
    }

    /// What was refused of a known device or invite, or its count if there is much. Whether it is listed.
    pub(crate) fn refused(&self, of: &Known, events: impl IntoIterator<Item = Event>) -> bool {
        let list = self.is_listed(Some(of), self.shared.clock.now());
        if list {
            for event in events {
                self.record(event);
            }
        }
        list
    }

    fn is_listed(&self, of: Option<&Known>, now: Timestamp) -> bool {
        let (before, list) = locked(&self.shared.queue).refusals.one_more(of, now);
        if let Some(before) = before {
            self.record(before);
        }
        list
    }

    fn configuration(&self, digest: &str) {
        let before = {
            let mut store = locked(&self.shared.store);
            self.shared.drain(&mut store, false);
            store.as_ref().and_then(Store::configuration).map(str::to_owned)
        };
        if before.as_deref() != Some(digest) {
            self.record(Event::ConfigurationChanged { digest: digest.to_owned(), before });
        }
    }

    /// Why nothing is written at the moment.
    pub(crate) fn problem(&self) -> Option<String> {
        locked(&self.shared.problem).clone()
    }

    fn verify(&self) -> Result<Report, StateDirError> {
        let mut store = locked(&self.shared.store);
        self.shared.drain(&mut store, true);
        match store.as_ref() {
            Some(store) => verify::verify_folder(store.folder()),
            None => verify::verify_folder(&self.shared.dir.root().sub_folder(FOLDER)?),
        }
    }

    fn last_lines(&self, count: usize) -> Result<Vec<String>, StateDirError> {
        let mut store = locked(&self.shared.store);
        self.shared.drain(&mut store, false);
        match store.as_ref() {
            Some(store) => last_lines_of(store.folder(), count),
            None => Ok(Vec::new()),
        }
    }
}

impl Drop for Audit {
    fn drop(&mut self) {
        {
            let mut queue = locked(&self.shared.queue);
            queue.ending = true;
            let now = self.shared.clock.now();
            let counts = queue.refusals.end();
            queue.waiting.extend(counts.into_iter().map(|event| (now, event)));
        }
        self.shared.wake.notify_all();
        if let Some(writer) = self.writer.take() {
            // It cannot panic, and there would be nobody left to tell.
            let _ = writer.join();
        }
    }
}

/// Checks the audit of a state directory on which no agent runs. Nothing in the audit is changed.
pub fn verify(state_dir: &Path) -> Result<Report, StateDirError> {
    offline(state_dir, verify::verify_folder)
}

/// The last `count` lines of the audit of a state directory on which no agent runs, oldest first.
pub fn last_lines(state_dir: &Path, count: usize) -> Result<Vec<String>, StateDirError> {
    offline(state_dir, |folder| last_lines_of(folder, count))
}

fn offline<T>(
    state_dir: &Path,
    look: impl FnOnce(&Folder) -> Result<T, StateDirError>,
) -> Result<T, StateDirError> {
    let root = Folder::open(state_dir)?;
    let _lock = root.lock(LOCK)?;
    look(&root.sub_folder(FOLDER)?)
}

fn last_lines_of(folder: &Folder, count: usize) -> Result<Vec<String>, StateDirError> {
    let mut names = full_files(folder)?;
    names.push(CURRENT.to_owned());
    let mut found = Vec::new();
    for name in names.iter().rev() {
        let Some(bytes) = folder.read(name)? else { continue };
        let newest = chain::lines(&bytes).rev().take(count - found.len());
        found.extend(newest.map(|line| String::from_utf8_lossy(line).trim_end().to_owned()));
        if found.len() == count {
            break;
        }
    }
    found.reverse();
    Ok(found)
}

impl Shared {
    fn push(&self, event: Event) {
        let now = self.clock.now();
        let mut queue = locked(&self.queue);
        if queue.waiting.len() < MAX_WAITING {
            queue.waiting.push_back((now, event));
        } else {
            queue.missed += 1;
        }
        drop(queue);
        self.wake.notify_one();
    }

    /// Writes everything that waits; what could not be written waits on. `false`: the disk refused.
    fn drain(&self, slot: &mut Option<Store>, sync: bool) -> bool {
        let outcome = self.try_drain(slot, sync).map_err(|error| error.to_string());
        let done = outcome.is_ok();
        self.noted(outcome);
        done
    }

    fn try_drain(&self, slot: &mut Option<Store>, sync: bool) -> Result<(), StateDirError> {
        let now = self.clock.now();
        let store = match slot {
            Some(store) => store,
            None => {
                let (store, found) = Store::open(Arc::clone(&self.dir), self.limits, now)?;
                // In front of what already waits: the writer sees to the rest.
                let mut queue = locked(&self.queue);
                for event in found.into_iter().rev() {
                    queue.waiting.push_front((now, event));
                }
                slot.insert(store)
            }
        };
        let mut waiting = {
            let mut queue = locked(&self.queue);
            let mut waiting = std::mem::take(&mut queue.waiting);
            let count = std::mem::take(&mut queue.missed);
            if count > 0 {
                waiting.push_back((now, Event::EventsMissed { count }));
            }
            waiting
        };
        let written = store.write(&mut waiting);
        if !waiting.is_empty() {
            let mut queue = locked(&self.queue);
            waiting.append(&mut queue.waiting);
            queue.waiting = waiting;
        }
        written?;
        if sync { store.sync() } else { Ok(()) }
    }

    /// Told once when it begins and once when it ends.
    fn noted(&self, outcome: Result<(), String>) {
        let mut problem = locked(&self.problem);
        match (&*problem, &outcome) {
            (None, Err(problem)) => {
                tracing::error!(problem, "the audit cannot be written; its events wait in memory");
            }
            (Some(_), Ok(())) => tracing::info!("the audit is written again"),
            _ => {}
        }
        *problem = outcome.err();
    }

    fn keep_writing(&self) {
        let mut sync_at: Option<Instant> = None;
        let mut not_before: Option<Instant> = None;
        loop {
            let ending = self.wait(sync_at, not_before);
            let mut store = locked(&self.store);
            let sync = ending || sync_at.is_some_and(|at| at <= Instant::now());
            let done = self.drain(&mut store, sync);
            not_before = (!done).then(|| Instant::now() + RETRY);
            sync_at = match store.as_ref() {
                Some(store) if !store.is_synced() => sync_at
                    .filter(|at| *at > Instant::now())
                    .or_else(|| Some(Instant::now() + if done { SYNC_WITHIN } else { RETRY })),
                _ => None,
            };
            drop(store);
            if ending {
                let lost = locked(&self.queue).waiting.len();
                if lost > 0 {
                    tracing::error!(
                        lost,
                        "the audit could not be written; the agent ends without these lines"
                    );
                }
                return;
            }
        }
    }

    /// Until there is something to do and it may be done. `true`: the last time.
    fn wait(&self, sync_at: Option<Instant>, not_before: Option<Instant>) -> bool {
        let mut queue = locked(&self.queue);
        loop {
            if queue.ending {
                return true;
            }
            let now = Instant::now();
            let work = if queue.waiting.is_empty() && queue.missed == 0 { sync_at } else { Some(now) };
            let due = match (work, not_before) {
                (Some(work), Some(not_before)) => Some(work.max(not_before)),
                // The files are still to be opened.
                (None, not_before) => not_before,
                (work, None) => work,
            };
            queue = match due {
                Some(due) if due <= now => return false,
                Some(due) => {
                    self.wake.wait_timeout(queue, due - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;

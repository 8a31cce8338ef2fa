//! The audit's files: one that grows, older ones that are full, and a small one that remembers how far the audit was on
//! disk. It writes and recovers; it judges nothing.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::chain::{LineHash, Link, Tip, lines};
use super::event::Event;
use crate::folder::Folder;
use crate::state_dir::{StateDir, StateDirError};

/// The folder in the state directory.
pub(crate) const FOLDER: &str = "audit";
/// The file that grows.
pub(crate) const CURRENT: &str = "audit.jsonl";
/// What remembers the end.
pub(crate) const HEAD: &str = "head.json";
/// A file is full at this size: some 4,000 lines, quick to read at each start, and far below what a file may have
/// ([`crate::state_dir::MAX_FILE`]).
pub(crate) const ROTATE_AT: u64 = 1024 * 1024;
/// Full files kept. Together 100 MiB: years of people, some days of a program that asks for a token every second. The
/// oldest goes rather than that the disk fills up and sign-ins cannot be saved.
pub(crate) const KEPT_FILES: usize = 100;

const HEAD_FORMAT: u32 = 1;

pub(crate) type Entry = (Timestamp, Event);

/// Up to this line the audit was on disk. Never ahead of the disk, so a power cut alone never looks like a loss.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    format: u32,
    pub seq: u64,
    pub hash: LineHash,
    /// The configuration that was noted last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration: Option<String>,
}

impl Head {
    pub(crate) fn at(tip: Tip, configuration: Option<String>) -> Self {
        Self { format: HEAD_FORMAT, seq: tip.seq, hash: tip.hash, configuration }
    }
}

/// The limits, so that tests need not write megabytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub rotate_at: u64,
    pub kept_files: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rotate_at: ROTATE_AT, kept_files: KEPT_FILES }
    }
}

/// The open files.
#[derive(Debug)]
pub(crate) struct Store {
    dir: Arc<StateDir>,
    folder: Folder,
    limits: Limits,
    file: Option<File>,
    /// Of the file that grows, whole lines only.
    length: u64,
    /// The number of its first line, or of the one to come.
    first: u64,
    tip: Tip,
    head: Option<Head>,
    configuration: Option<String>,
    /// A write failed half-way: what is behind `length` must go first.
    unsure: bool,
}

impl Store {
    /// Opens the files and finds the end of the chain. What was found wrong is returned as events to write first.
    pub(crate) fn open(
        dir: Arc<StateDir>,
        limits: Limits,
        now: Timestamp,
    ) -> Result<(Self, Vec<Event>), StateDirError> {
        let folder = dir.root().sub_folder(FOLDER)?;
        folder.clear_left_over()?;
        let mut found = Vec::new();
        let head_bytes = folder.read(HEAD)?;
        let head: Option<Head> = head_bytes.as_ref().and_then(|bytes| serde_json::from_slice(bytes).ok());

        let mut bytes = folder.read(CURRENT)?.map(|bytes| bytes.to_vec()).unwrap_or_default();
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let torn = bytes.split_off(whole);
        let full = full_files(&folder)?;
        let before = match full.last() {
            Some(name) => folder.read(name)?.map(|bytes| bytes.to_vec()).unwrap_or_default(),
            None => Vec::new(),
        };
        let mut tip = end_of(&bytes, end_of(&before, Tip::NOTHING));

        if let Some(head) = &head {
            let there = lines(&before)
                .chain(lines(&bytes))
                .find(|line| Link::read(line).is_some_and(|link| link.seq == head.seq));
            let intact = there.is_some_and(|line| LineHash::of(line) == head.hash);
            if tip.seq < head.seq {
                found.push(Event::LinesLost { from: tip.seq + 1, to: head.seq });
            } else if !intact {
                found.push(Event::LineAltered { altered: head.seq });
            }
            if !intact {
                // The next line holds on to the true one, so that what was done to the audit stays visible.
                tip = Tip { seq: head.seq, hash: head.hash };
            }
        } else if tip == Tip::NOTHING && head_bytes.is_none() {
            found.push(Event::AuditBegun);
        } else {
            found.push(Event::HeadLost);
        }
        let first = lines(&bytes).find_map(Link::read).map_or(tip.seq.saturating_add(1), |link| link.seq);

        let mut store = Self {
            configuration: head.as_ref().and_then(|head| head.configuration.clone()),
            dir,
            folder,
            limits,
            file: None,
            length: bytes.len() as u64,
            first,
            tip,
            head,
            unsure: false,
        };
        if !torn.is_empty() {
            let set_aside_as = format!("audit-torn-{}.jsonl", now.as_millisecond());
            store.dir.set_aside().replace(&set_aside_as, &torn)?;
            store.current()?;
            store.cut_to_length()?;
            found.push(Event::TornLineSetAside { set_aside_as, bytes: torn.len() });
        }
        Ok((store, found))
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// The configuration that was noted last.
    pub(crate) fn configuration(&self) -> Option<&str> {
        self.configuration.as_deref()
    }

    /// Writes what waits, and takes it off the queue line by line as it is written. Urgent lines are on disk when this
    /// returns `Ok`.
    pub(crate) fn write(&mut self, waiting: &mut VecDeque<Entry>) -> Result<(), StateDirError> {
        let mut urgent = false;
        while !waiting.is_empty() {
            self.current()?;
            if self.unsure {
                self.cut_to_length()?;
            }
            if self.length >= self.limits.rotate_at {
                let at = waiting.front().map_or(Timestamp::UNIX_EPOCH, |(at, _)| *at);
                self.rotate(at)?;
                continue;
            }
            let mut bytes = Vec::new();
            let mut tip = self.tip;
            let mut taken = 0;
            for (at, event) in waiting.iter() {
                if self.length + bytes.len() as u64 >= self.limits.rotate_at {
                    break;
                }
                let (line, next) = tip.next(*at, event).map_err(|e| self.failed("writing", e.into()))?;
                bytes.extend(line);
                tip = next;
                taken += 1;
            }
            self.append(&bytes)?;
            self.tip = tip;
            for (_, event) in waiting.drain(..taken) {
                urgent |= event.is_urgent();
                if let Event::ConfigurationChanged { digest, .. } = event {
                    self.configuration = Some(digest);
                }
            }
        }
        if urgent { self.sync() } else { Ok(()) }
    }

    /// Whether there are lines that a power cut could take.
    pub(crate) fn is_synced(&self) -> bool {
        self.head.as_ref().is_some_and(|head| head.seq == self.tip.seq) || self.tip == Tip::NOTHING
    }

    /// Has every line on disk, and then its number in the head.
    pub(crate) fn sync(&mut self) -> Result<(), StateDirError> {
        if self.is_synced() {
            return Ok(());
        }
        if let Some(file) = &self.file {
            file.sync_data().map_err(|e| self.failed("saving", e))?;
        }
        let head = Head::at(self.tip, self.configuration.clone());
        let bytes = serde_json::to_vec(&head).map_err(|e| self.failed("writing", e.into()))?;
        self.folder.replace(HEAD, &bytes)?;
        self.head = Some(head);
        Ok(())
    }

    /// The full file keeps its lines; the chain goes on in a new one. The oldest go when there are too many, and the
    /// audit says so first.
    fn rotate(&mut self, at: Timestamp) -> Result<(), StateDirError> {
        self.sync()?;
        self.file = None;
        let name = full_name(self.first);
        if self.folder.exists(&name)? {
            // Somebody else's doing. Whatever it is, it is not written over.
            self.dir.quarantine(&self.folder, &name, at)?;
        }
        self.folder.rename(CURRENT, &name)?;
        // From here on it has its new name, whether or not that is on disk yet: this must not be done again with an empty file.
        self.length = 0;
        self.first = self.tip.seq + 1;
        // It has the names in the folder on disk, too.
        self.current()?;
        let full = full_files(&self.folder)?;
        let surplus = full.len().saturating_sub(self.limits.kept_files);
        if let Some(first) = full.get(surplus).filter(|_| surplus > 0).and_then(|name| first_of(name)) {
            let trimmed = Event::Trimmed { first };
            let (line, tip) = self.tip.next(at, &trimmed).map_err(|e| self.failed("writing", e.into()))?;
            self.append(&line)?;
            self.tip = tip;
            self.sync()?;
            for name in &full[..surplus] {
                self.folder.remove(name)?;
            }
        }
        Ok(())
    }

    /// The file that grows, opened.
    fn current(&mut self) -> Result<(), StateDirError> {
        if self.file.is_none() {
            self.file = Some(self.folder.append(CURRENT)?);
        }
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), StateDirError> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if let Err(e) = file.write_all(bytes) {
            self.unsure = true;
            let _ = self.cut_to_length();
            return Err(self.failed("writing", e));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn cut_to_length(&mut self) -> Result<(), StateDirError> {
        if let Some(file) = &self.file {
            file.set_len(self.length).map_err(|e| self.failed("mending", e))?;
        }
        self.unsure = false;
        Ok(())
    }

    fn failed(&self, doing: &'static str, source: std::io::Error) -> StateDirError {
        StateDirError::Io { doing, path: self.folder.path().join(CURRENT), source }
    }
}

/// The name of a full file: the number of its first line, so that names sort as the chain runs.
fn full_name(first: u64) -> String {
    format!("audit-{first:020}.jsonl")
}

pub(crate) fn first_of(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".jsonl")?;
    if digits.len() == 20 { digits.parse().ok() } else { None }
}

/// The full files, oldest first.
pub(crate) fn full_files(folder: &Folder) -> Result<Vec<String>, StateDirError> {
    Ok(folder.list()?.into_iter().filter(|name| first_of(name).is_some()).collect())
}

/// The end of the chain after these lines. A last line that cannot be read counts as what it is now.
fn end_of(bytes: &[u8], before: Tip) -> Tip {
    let Some(last) = lines(bytes).next_back() else { return before };
    let readable =
        lines(bytes).rev().zip(0_u64..).find_map(|(line, behind)| Some((Link::read(line)?, behind)));
    let seq = match readable {
        Some((link, behind)) => link.seq.saturating_add(behind),
        None => before.seq.saturating_add(lines(bytes).count() as u64),
    };
    Tip { seq, hash: LineHash::of(last) }
}

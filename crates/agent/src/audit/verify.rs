//! Whether the audit is as it was written. Pure but for reading the files.

use std::cmp::Ordering;

use jiff::Timestamp;
use serde::Serialize;

use super::chain::{LineHash, Link, Tip, lines};
use super::store::{CURRENT, HEAD, Head, first_of, full_files};
use crate::folder::Folder;
use crate::state_dir::StateDirError;

/// More would tell nothing new.
const MAX_FINDINGS: usize = 100;

/// What the audit is found to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing was altered, lost or reordered, as far as that can be seen (`docs/audit.md` says how far).
    pub intact: bool,
    pub files: usize,
    pub lines: u64,
    /// The first line that is there.
    pub first: Option<u64>,
    /// The last line, and when it was written.
    pub last: Option<u64>,
    pub last_at: Option<Timestamp>,
    /// The SHA-256 of the last line. Noted down somewhere else, it also shows a chain that was made anew.
    pub last_hash: Option<LineHash>,
    pub findings: Vec<Finding>,
}

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "finding", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Finding {
    #[error("there is no audit here")]
    Nothing,
    #[error("{file}, line {line}: this is no line of an audit")]
    NotALine { file: String, line: u64 },
    #[error("{file}, line {line}: this line or the one before it was altered")]
    Altered { file: String, line: u64 },
    #[error("numbers {from} to {to} are missing")]
    Missing { from: u64, to: u64 },
    #[error("{file}, line {line}: number {seq} stands where {expected} belongs")]
    OutOfOrder { file: String, line: u64, seq: u64, expected: u64 },
    #[error("{file} ends in the middle of a line")]
    Torn { file: String },
    #[error("{file} does not begin with the number in its name")]
    Misnamed { file: String },
    #[error("the audit ends with number {last}, and had gone up to {head}")]
    CutShort { last: u64, head: u64 },
    #[error("number {seq} is not the line that was written")]
    NotTheOne { seq: u64 },
    #[error("{HEAD}, which remembers the end of the audit, is missing or damaged")]
    HeadLost,
    #[error("number {seq} tells that {HEAD} was missing or damaged at a start")]
    HeadWasLost { seq: u64 },
    #[error("number {seq} tells that number {altered} was found altered at a start")]
    WasAltered { seq: u64, altered: u64 },
    #[error("{file} cannot be read: {problem}")]
    Unreadable { file: String, problem: String },
}

/// A file of the audit.
#[derive(Debug)]
pub(crate) struct AuditFile {
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Reads every file and checks it.
pub(crate) fn verify_folder(folder: &Folder) -> Result<Report, StateDirError> {
    let mut names = full_files(folder)?;
    names.push(CURRENT.to_owned());
    let mut scan = Scan::default();
    for name in names {
        match folder.read(&name) {
            Ok(Some(bytes)) => scan.file(&AuditFile { name, bytes: bytes.to_vec() }),
            // Between two files there is a moment without this one.
            Ok(None) => {}
            Err(problem) => scan.find(Finding::Unreadable { file: name, problem: problem.to_string() }),
        }
    }
    let head = folder.read(HEAD)?.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    Ok(scan.report(head.as_ref()))
}

/// Goes along the chain.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    files: usize,
    lines: u64,
    first: Option<u64>,
    tip: Option<Tip>,
    last_at: Option<Timestamp>,
    /// Where the audit says that it begins, since the oldest files went.
    trimmed_to: u64,
    /// Every line's hash by its number would be much; those of one file and the end of the one before are enough, because
    /// the head is renewed before a file is full.
    recent: Vec<Tip>,
    findings: Vec<Finding>,
}

impl Scan {
    /// The next file, oldest first.
    pub(crate) fn file(&mut self, file: &AuditFile) {
        self.files += 1;
        let end = self.recent.pop();
        self.recent.clear();
        self.recent.extend(end);
        for (line, number) in lines(&file.bytes).zip(1_u64..) {
            if line.ends_with(b"\n") {
                self.line(&file.name, number, line);
            } else {
                self.find(Finding::Torn { file: file.name.clone() });
            }
        }
        let begins_with = lines(&file.bytes).find_map(Link::read).map(|link| link.seq);
        if first_of(&file.name).is_some_and(|named| begins_with != Some(named)) {
            self.find(Finding::Misnamed { file: file.name.clone() });
        }
    }

    fn line(&mut self, file: &str, number: u64, bytes: &[u8]) {
        self.lines += 1;
        let hash = LineHash::of(bytes);
        let Some(link) = Link::read(bytes) else {
            self.find(Finding::NotALine { file: file.to_owned(), line: number });
            self.arrive(Tip { seq: self.tip.map_or(0, |tip| tip.seq.saturating_add(1)), hash });
            return;
        };
        // Where the oldest files are gone, nothing is known of what was before.
        if let Some(before) = self.tip.or((link.seq == 1).then_some(Tip::NOTHING)) {
            let seq = link.seq;
            let expected = before.seq.saturating_add(1);
            match seq.cmp(&expected) {
                Ordering::Equal if link.prev == before.hash => {}
                Ordering::Equal => self.find(Finding::Altered { file: file.to_owned(), line: number }),
                Ordering::Greater => self.find(Finding::Missing { from: expected, to: seq - 1 }),
                Ordering::Less => {
                    self.find(Finding::OutOfOrder { file: file.to_owned(), line: number, seq, expected });
                }
            }
        }
        match (link.event.as_str(), link.first, link.altered) {
            ("trimmed", Some(first), _) => self.trimmed_to = self.trimmed_to.max(first),
            ("line_altered", _, Some(altered)) => {
                self.find(Finding::WasAltered { seq: link.seq, altered });
            }
            ("head_lost", ..) => self.find(Finding::HeadWasLost { seq: link.seq }),
            _ => {}
        }
        self.first.get_or_insert(link.seq);
        self.last_at = Some(link.at);
        self.arrive(Tip { seq: link.seq, hash });
    }

    fn arrive(&mut self, tip: Tip) {
        self.tip = Some(tip);
        self.recent.push(tip);
    }

    fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        }
    }

    pub(crate) fn report(mut self, head: Option<&Head>) -> Report {
        if let Some(first) = self.first
            && first > 1
            && first > self.trimmed_to
        {
            self.find(Finding::Missing { from: 1.max(self.trimmed_to), to: first - 1 });
        }
        match (self.tip, head) {
            (None, None) => self.find(Finding::Nothing),
            (Some(_), None) => self.find(Finding::HeadLost),
            (tip, Some(head)) => {
                let last = tip.map_or(0, |tip| tip.seq);
                if last < head.seq {
                    self.find(Finding::CutShort { last, head: head.seq });
                } else if !self.recent.contains(&Tip { seq: head.seq, hash: head.hash }) {
                    self.find(Finding::NotTheOne { seq: head.seq });
                }
            }
        }
        Report {
            intact: self.findings.is_empty(),
            files: self.files,
            lines: self.lines,
            first: self.first,
            last: self.tip.map(|tip| tip.seq),
            last_at: self.last_at,
            last_hash: self.tip.map(|tip| tip.hash),
            findings: self.findings,
        }
    }
}

//! Files that others made, opened as a message's payload is opened: C2SP's age test vectors (whose README has their
//! format) and those of rage. Where the outcome is another than theirs, a list here says why.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::*;
use crate::encoding;
use crate::seal::MAX_MESSAGE_BYTES;

/// A good file that is not taken, and a bad one that is.
const DIFFERENCES: &[(&str, &[&str])] = &[
    (
        "armor is a form for people; a message has the binary one",
        &[
            "armor_crlf",
            "armor_full_last_line",
            "armor_hybrid",
            "armor_no_eol",
            "armor_scrypt",
            "armor_whitespace_outside",
            "armor_x25519",
        ],
    ),
    (
        "16 MiB are no message, and are refused by their size before anything else",
        &["stream_257_chunks", "stream_257_chunks_full", "stream_258_chunks"],
    ),
    ("no passphrase ever opens a message", &["scrypt"]),
    (
        "the library has no post-quantum recipients, and no key of ours is one",
        &["hybrid", "hybrid_and_x25519", "hybrid_grease", "hybrid_multiple_recipients"],
    ),
    (
        "rage reads a stanza without its last, empty line, as the first age did; the MAC still covers what was written",
        &["stanza_missing_body", "stanza_missing_final_line"],
    ),
];

struct Vector {
    name: String,
    expect: String,
    /// Hexadecimal SHA-256 of the plaintext.
    payload: String,
    identities: Vec<Identity>,
    file: Vec<u8>,
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors").join(name)
}

impl Vector {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|two| two == b"\n\n").unwrap();
        let mut facts: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for line in str::from_utf8(&bytes[..end]).unwrap().lines() {
            let (name, value) = line.split_once(": ").unwrap();
            facts.entry(name).or_default().push(value);
        }
        let body = &bytes[end + 2..];
        let file = if facts.contains_key("compressed") {
            let mut file = Vec::new();
            let one_too_many = u64::try_from(MAX_MESSAGE_BYTES).unwrap() + 1;
            flate2::read::ZlibDecoder::new(body).take(one_too_many).read_to_end(&mut file).unwrap();
            file
        } else {
            body.to_vec()
        };
        let all = |name| facts.get(name).into_iter().flatten();
        let one = |name| all(name).next().map_or_else(String::new, ToString::to_string);
        // An agent always has an identity to try: a file for a passphrase meets one, too.
        let mut identities: Vec<Identity> = all("identity").filter_map(|text| text.parse().ok()).collect();
        identities.push(Identity::generate());
        Self {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            expect: one("expect"),
            payload: one("payload"),
            identities,
            file,
        }
    }

    /// The plaintext's SHA-256, if the file fits a message and one of the identities opens it.
    fn open(&self) -> Option<String> {
        if self.file.len() > MAX_MESSAGE_BYTES {
            return None;
        }
        let plaintext = self.identities.iter().find_map(|identity| decrypt(&self.file, identity).ok())?;
        Some(Sha256::digest(&*plaintext).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

#[test]
fn the_age_files_of_c2sp_are_opened_or_refused_as_they_should_be() {
    let mut paths: Vec<_> = fs::read_dir(folder("cctv-age")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    let vectors: Vec<Vector> = paths.iter().map(|path| Vector::read(path)).collect();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for vector in &vectors {
        let opened = vector.open();
        if let Some(found) = &opened {
            assert_eq!(*found, vector.payload_or_that_of_the_lenient(), "{}", vector.name);
        }
        let outcome = if opened.is_some() { "opened" } else { "refused" };
        *counts.entry(format!("{}: {outcome}", vector.expect)).or_default() += 1;
        if opened.is_some() != (vector.expect == "success") {
            differences.push(vector.name.as_str());
        }
    }
    println!("{} age files of C2SP; {} differ as listed", vectors.len(), differences.len());
    println!("{counts:#?}");
    let mut listed: Vec<&str> = DIFFERENCES.iter().flat_map(|(_, names)| *names).copied().collect();
    listed.sort_unstable();
    assert_eq!(differences, listed);
    assert_eq!(vectors.len(), 143);
}

impl Vector {
    /// A file that must be refused has no hash; those that are taken all the same hold what every other one does.
    fn payload_or_that_of_the_lenient(&self) -> &str {
        const USUAL: &str = "013f54400c82da08037759ada907a8b864e97de81c088a182062c4b5622fd2ab";
        if self.payload.is_empty() { USUAL } else { &self.payload }
    }
}

/// One is for an SSH key, one for a passphrase, and one holds a file key of the wrong length.
#[test]
fn none_of_rages_files_is_for_a_key_like_ours() {
    let read = |name: &str| fs::read(folder("rage").join(name)).unwrap();
    let key = String::from_utf8(read("fail_large_filekey_x25519_key.txt")).unwrap();
    let key: Identity = key.lines().find(|line| !line.starts_with('#')).unwrap().parse().unwrap();
    for name in ["empty_recipient_body", "fail_large_filekey_scrypt", "fail_large_filekey_x25519"] {
        let file = read(&format!("{name}.age"));
        assert_eq!(decrypt(&file, &key).err(), Some(DecryptFailed::Age), "{name}");
    }
    println!("3 age files of rage with their 3 keys: refused");
}

/// Nothing of a payload is believed that was changed after it was made, wherever it was changed.
#[test]
fn a_changed_bit_anywhere_is_noticed() {
    let identity = Identity::generate();
    let file = encrypt(br#"{"v":1}"#, &identity.to_public()).unwrap();
    for at in 0..file.len() {
        let mut changed = file.clone();
        changed[at] ^= 1;
        assert!(decrypt(&changed, &identity).is_err(), "byte {at} of {}", encoding::encode(&file));
    }
}

//! Encrypting to X25519 recipients and decrypting with one identity, in the binary age format
//! (<https://age-encryption.org/v1>), with bounds on what reaches age's parser. For messages, and for files of the agent's
//! that are sealed at rest.

use std::io::{Read as _, Write as _};
use std::iter;

use age::x25519::{Identity, Recipient};
use age::{DecryptError, Decryptor, Encryptor};
use thiserror::Error;
use zeroize::Zeroizing;

/// A header to one recipient has 132 to 302 bytes with the random extra stanza that age adds. Its parser
/// needs quadratic time and has no limit of its own (64 KiB of stanzas cost 12 s), so a longer header never
/// reaches it.
pub(crate) const MAX_HEADER_BYTES: usize = 1024;

/// One for the recipient, one that age adds at random, one to spare.
pub(crate) const MAX_STANZAS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the age file could not be encrypted")]
pub struct EncryptFailed;

/// Why [`open`] did not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenFailed {
    /// Refused before age saw it.
    #[error("the header of the age file is too large")]
    Header,
    /// No stanza is for this identity. Damage to the stanza looks the same.
    #[error("the age file is not for this key")]
    OtherKey,
    /// Not an age file, or cut or changed after it was made.
    #[error("the age file is damaged")]
    Damaged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecryptFailed {
    /// Refused before age saw it.
    Header,
    /// age could not open it with this identity, or it was cut or changed.
    Age,
}

pub(crate) fn encrypt(plaintext: &[u8], recipient: &Recipient) -> Result<Vec<u8>, EncryptFailed> {
    encrypt_to(plaintext, &[recipient])
}

/// Each of the recipients can open it. [`open`] takes up to two; age may add a stanza at random.
pub fn encrypt_to(plaintext: &[u8], recipients: &[&Recipient]) -> Result<Vec<u8>, EncryptFailed> {
    let write = || {
        let recipients = recipients.iter().map(|recipient| *recipient as &dyn age::Recipient);
        let encryptor = Encryptor::with_recipients(recipients).ok()?;
        let mut file = Vec::with_capacity(plaintext.len() + MAX_HEADER_BYTES);
        let mut writer = encryptor.wrap_output(&mut file).ok()?;
        writer.write_all(plaintext).ok()?;
        writer.finish().ok()?;
        Some(file)
    };
    write().ok_or(EncryptFailed)
}

/// The plaintext, in memory that was never moved and is wiped. Only an X25519 identity is ever offered, so a
/// passphrase stanza costs nothing.
pub(crate) fn decrypt(file: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
    open(file, identity).map_err(|failed| match failed {
        OpenFailed::Header => DecryptFailed::Header,
        OpenFailed::OtherKey | OpenFailed::Damaged => DecryptFailed::Age,
    })
}

/// [`decrypt`] for whoever has to know whether another key would do.
pub fn open(file: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, OpenFailed> {
    if !has_small_header(file) {
        return Err(OpenFailed::Header);
    }
    let decryptor = Decryptor::new_buffered(file).map_err(|_| OpenFailed::Damaged)?;
    let reader =
        decryptor.decrypt(iter::once(identity as &dyn age::Identity)).map_err(|error| match error {
            DecryptError::NoMatchingKeys => OpenFailed::OtherKey,
            _ => OpenFailed::Damaged,
        })?;
    // A plaintext is always shorter than its file, so the buffer never grows (growing would leave copies
    // behind).
    let mut plaintext = Zeroizing::new(Vec::with_capacity(file.len()));
    let limit = u64::try_from(file.len()).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(&mut plaintext).map_err(|_| OpenFailed::Damaged)?;
    Ok(plaintext)
}

fn has_small_header(file: &[u8]) -> bool {
    const END: &[u8] = b"\n--- ";
    const STANZA: &[u8] = b"\n-> ";
    let start = &file[..file.len().min(MAX_HEADER_BYTES)];
    let Some(end) = start.windows(END.len()).position(|bytes| bytes == END) else {
        return false;
    };
    let stanzas = start[..end].windows(STANZA.len()).filter(|bytes| *bytes == STANZA);
    stanzas.count() <= MAX_STANZAS
}

#[cfg(test)]
mod vectors;

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn file_with_header(stanzas: &str, body: &[u8]) -> Vec<u8> {
        let mut file = format!("age-encryption.org/v1\n{stanzas}--- {}\n", "A".repeat(43)).into_bytes();
        file.extend_from_slice(body);
        file
    }

    #[test]
    fn what_is_encrypted_is_decrypted_without_moving_in_memory() {
        let identity = Identity::generate();
        for size in [0, 1, 63, 8 * 1024, 64 * 1024, 64 * 1024 + 1, 150 * 1024] {
            let plaintext = vec![7; size];
            let file = encrypt(&plaintext, &identity.to_public()).unwrap();
            let decrypted = decrypt(&file, &identity).unwrap();
            assert_eq!(*decrypted, plaintext);
            assert_eq!(decrypted.capacity(), file.len(), "the buffer was never made larger");
        }
    }

    #[test]
    fn every_header_that_age_writes_is_small_enough() {
        let identity = Identity::generate();
        for _ in 0..500 {
            let file = encrypt(b"", &identity.to_public()).unwrap();
            assert!(has_small_header(&file), "{:?}", String::from_utf8_lossy(&file));
        }
    }

    #[test]
    fn a_file_for_two_is_opened_by_each_within_the_bounds_and_another_key_is_called_that() {
        let (one, other) = (Identity::generate(), Identity::generate());
        for _ in 0..200 {
            let file = encrypt_to(b"x", &[&one.to_public(), &other.to_public()]).unwrap();
            assert_eq!(open(&file, &one).unwrap().as_slice(), b"x");
            assert_eq!(open(&file, &other).unwrap().as_slice(), b"x");
        }
        let file = encrypt(b"x", &one.to_public()).unwrap();
        assert_eq!(open(&file, &other).err(), Some(OpenFailed::OtherKey));
        assert_eq!(open(&file[..file.len() - 1], &one).err(), Some(OpenFailed::Damaged));
        assert_eq!(open(b"age-encryption.org/v1\n", &one).err(), Some(OpenFailed::Header));
    }

    #[test]
    fn a_header_swollen_with_stanzas_is_refused_before_age_reads_it() {
        let swollen = file_with_header(&"-> x\n\n".repeat(64 * 1024 / 6), &[0; 64]);
        let started = Instant::now();
        assert_eq!(decrypt(&swollen, &Identity::generate()).err(), Some(DecryptFailed::Header));
        // age takes seconds over it; reading 1 KiB takes microseconds, with room for a busy machine.
        assert!(started.elapsed() < Duration::from_millis(20), "{:?}", started.elapsed());
    }

    #[test]
    fn a_fourth_stanza_a_long_line_and_a_missing_end_are_refused_before_age_reads_them() {
        let identity = Identity::generate();
        for stanzas in ["-> x\n\n".repeat(4), format!("-> {}\n\n", "x".repeat(MAX_HEADER_BYTES))] {
            let file = file_with_header(&stanzas, &[0; 64]);
            assert_eq!(decrypt(&file, &identity).err(), Some(DecryptFailed::Header));
        }
        assert_eq!(decrypt(b"", &identity).err(), Some(DecryptFailed::Header));
        assert_eq!(decrypt(&[b'\n'; 4096], &identity).err(), Some(DecryptFailed::Header));
        let three = file_with_header(&"-> x\n\n".repeat(3), &[0; 64]);
        assert_eq!(decrypt(&three, &identity).err(), Some(DecryptFailed::Age));
    }

    #[test]
    fn a_header_of_1024_bytes_reaches_age_and_one_of_1025_does_not() {
        let identity = Identity::generate();
        let around = "age-encryption.org/v1\n-> \n\n--- ".len();
        for (length, failed) in [(1024, DecryptFailed::Age), (1025, DecryptFailed::Header)] {
            let file = file_with_header(&format!("-> {}\n\n", "x".repeat(length - around)), &[0; 64]);
            let end = file.windows(5).position(|bytes| bytes == b"\n--- ").unwrap() + 5;
            assert_eq!((end, decrypt(&file, &identity).err()), (length, Some(failed)));
        }
    }

    #[test]
    fn a_passphrase_file_costs_nothing() {
        // 2^40 rounds of scrypt, if anybody did them.
        let stanza = format!("-> scrypt {} 40\n{}\n", "A".repeat(22), "A".repeat(43));
        let started = Instant::now();
        let file = file_with_header(&stanza, &[0; 64]);
        assert_eq!(decrypt(&file, &Identity::generate()).err(), Some(DecryptFailed::Age));
        assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
    }

    #[test]
    fn a_cut_file_is_refused_at_every_length() {
        let identity = Identity::generate();
        let file = encrypt(b"{\"v\":1}", &identity.to_public()).unwrap();
        for length in 0..file.len() {
            assert!(decrypt(&file[..length], &identity).is_err(), "{length} of {}", file.len());
        }
    }
}

//! Encrypting to one recipient and decrypting with one identity, in the binary age format (<https://age-encryption.org/v1>).

use std::io::{Read as _, Write as _};
use std::iter;

use age::x25519::{Identity, Recipient};
use age::{Decryptor, Encryptor};
use thiserror::Error;
use zeroize::Zeroizing;

/// A header to one recipient has 132 to 302 bytes with the random extra stanza that age adds. Its parser needs quadratic time
/// and has no limit of its own (64 KiB of stanzas cost 12 s), so a longer header never reaches it.
pub(crate) const MAX_HEADER_BYTES: usize = 1024;

/// One for the recipient, one that age adds at random, one to spare.
pub(crate) const MAX_STANZAS: usize = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the age file could not be encrypted")]
pub(crate) struct EncryptFailed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecryptFailed {
    /// Refused before age saw it.
    Header,
    /// age could not open it with this identity, or it was cut or changed.
    Age,
}

pub(crate) fn encrypt(plaintext: &[u8], recipient: &Recipient) -> Result<Vec<u8>, EncryptFailed> {
    let write = || {
        let encryptor = Encryptor::with_recipients(iter::once(recipient as &dyn age::Recipient)).ok()?;
        let mut file = Vec::with_capacity(plaintext.len() + MAX_HEADER_BYTES);
        let mut writer = encryptor.wrap_output(&mut file).ok()?;
        writer.write_all(plaintext).ok()?;
        writer.finish().ok()?;
        Some(file)
    };
    write().ok_or(EncryptFailed)
}

/// The plaintext, in memory that was never moved and is wiped. Only an X25519 identity is ever offered, so a passphrase stanza
/// costs nothing.
pub(crate) fn decrypt(file: &[u8], identity: &Identity) -> Result<Zeroizing<Vec<u8>>, DecryptFailed> {
    if !has_small_header(file) {
        return Err(DecryptFailed::Header);
    }
    let decryptor = Decryptor::new_buffered(file).map_err(|_| DecryptFailed::Age)?;
    let reader =
        decryptor.decrypt(iter::once(identity as &dyn age::Identity)).map_err(|_| DecryptFailed::Age)?;
    // A plaintext is always shorter than its file, so the buffer never grows (growing would leave copies behind).
    let mut plaintext = Zeroizing::new(Vec::with_capacity(file.len()));
    let limit = u64::try_from(file.len()).unwrap_or(u64::MAX);
    reader.take(limit).read_to_end(&mut plaintext).map_err(|_| DecryptFailed::Age)?;
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

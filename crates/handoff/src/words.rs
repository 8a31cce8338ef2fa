//! Four words for a pair of keys, so that two people can compare keys over the phone.

use scrypt::{Params, scrypt};
use zeroize::Zeroizing;

use crate::keys::Thumbprint;

/// Cost of one guess: 2^16 rounds over 64 MiB, about 0.2 s. A look-alike for one agent takes 2^44 guesses on
/// average, some 100,000 core-years; a person waits once.
const LOG_N: u8 = 16;
const BLOCK_SIZE: u32 = 8;
const PARALLELISM: u32 = 1;

/// 2,048 words (11 bits each). Origin and licence: `words/README.md`.
const LIST: &str = include_str!("../words/english.txt");
const BITS: u32 = 11;

const SALT: &[u8] = b"valetkey/words/v1";

pub(crate) fn of(thumbprint: &Thumbprint, recipient: &str) -> [&'static str; 4] {
    let mut hash = [0; 8];
    derive(format!("{thumbprint}\n{recipient}").as_bytes(), &mut hash);
    let number = u64::from_be_bytes(hash);
    let list: Vec<&str> = LIST.lines().collect();
    [0, 1, 2, 3].map(|i| {
        let index = number >> (64 - BITS * (i + 1)) & ((1 << BITS) - 1);
        usize::try_from(index).map_or("", |index| list[index])
    })
}

#[expect(clippy::expect_used, reason = "fails only for bad constants, which the first test would meet")]
fn derive(password: &[u8], hash: &mut [u8; 8]) {
    let mut output = Zeroizing::new([0; 32]);
    let params = Params::new(LOG_N, BLOCK_SIZE, PARALLELISM, output.len())
        .expect("the parameters are within scrypt's bounds");
    scrypt(password, SALT, &params, &mut *output).expect("scrypt gives up to 128 GiB");
    hash.copy_from_slice(&output[..8]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_holds_2048_different_words() {
        let mut words: Vec<&str> = LIST.lines().collect();
        assert_eq!(words.len(), 1 << BITS);
        assert!(words.is_sorted());
        words.dedup();
        assert_eq!(words.len(), 1 << BITS);
    }
}

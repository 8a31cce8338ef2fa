//! Looks for secrets in what was left lying about: as they are, cut short, and in the ways programs write them differently.

use std::collections::{BTreeSet, HashMap};

use base64::Engine as _;
use base64::alphabet::{Alphabet, STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use url::form_urlencoded::byte_serialize;

/// So much of a secret is recognised: what is longer may be cut short in a log, and is found all the same. Nothing of this
/// length is found by chance.
pub const MARK_BYTES: usize = 32;
/// What the index tells marks apart by; every form of a secret is longer.
const PREFIX_BYTES: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Code,
    Verifier,
    AccessToken,
    RefreshToken,
    IdToken,
    /// How every token of the provider begins: also one that was cut short.
    AnyToken,
    DeviceKey,
    AgentKey,
    Invite,
    BrokerPassword,
    Mail,
    /// What the provider says of an error, in its own words.
    ErrorText,
    /// No secret: planted to see that the search finds.
    Planted,
}

#[derive(Clone)]
pub struct Secret {
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

/// Something that others may see, and the kinds of secrets that it is there to hold.
pub struct Exhibit {
    pub place: String,
    pub bytes: Vec<u8>,
    pub may: &'static [Kind],
}

/// Where one was found, and how it was written there. Never the secret.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    pub kind: Kind,
    pub place: String,
    pub form: &'static str,
}

/// What a secret is recognised by, the secret's kind, and the form this one has.
type Mark = (Vec<u8>, Kind, &'static str);

/// Every mark of every secret in every form, by its first bytes.
pub struct Search {
    marks: HashMap<[u8; PREFIX_BYTES], Vec<Mark>>,
    /// Which pairs of bytes any mark begins with: rules most places out at once.
    begins: Vec<bool>,
}

impl Search {
    pub fn for_secrets(secrets: &[Secret]) -> Self {
        let mut search = Self { marks: HashMap::new(), begins: vec![false; 1 << 16] };
        for secret in secrets {
            assert!(
                secret.bytes.len() > PREFIX_BYTES,
                "{:?} is too short to be told from chance",
                secret.kind
            );
            for (form, mark) in forms(mark(&secret.bytes)) {
                search.begins[usize::from(u16::from_le_bytes([mark[0], mark[1]]))] = true;
                let prefix = *mark.first_chunk().expect("every form is longer than the secret");
                search.marks.entry(prefix).or_default().push((mark, secret.kind, form));
            }
        }
        search
    }

    /// Everything found: where it has no business, and the kinds that were where they belong.
    pub fn findings(&self, exhibits: &[Exhibit]) -> (BTreeSet<Finding>, BTreeSet<Kind>) {
        let (mut astray, mut at_home) = (BTreeSet::new(), BTreeSet::new());
        for exhibit in exhibits {
            for (kind, form) in self.found_in(&exhibit.bytes) {
                if exhibit.may.contains(&kind) {
                    at_home.insert(kind);
                } else {
                    astray.insert(Finding { kind, place: exhibit.place.clone(), form });
                }
            }
        }
        (astray, at_home)
    }

    pub fn found_in(&self, bytes: &[u8]) -> BTreeSet<(Kind, &'static str)> {
        let mut found = BTreeSet::new();
        for (at, prefix) in bytes.windows(PREFIX_BYTES).enumerate() {
            if !self.begins[usize::from(u16::from_le_bytes([prefix[0], prefix[1]]))] {
                continue;
            }
            let here = prefix.first_chunk::<PREFIX_BYTES>().and_then(|prefix| self.marks.get(prefix));
            let here = here.into_iter().flatten().filter(|(mark, ..)| bytes[at..].starts_with(mark));
            found.extend(here.map(|(_, kind, form)| (*kind, *form)));
        }
        found
    }
}

/// A secret's beginning; a token's signature's, because all tokens begin alike.
fn mark(secret: &[u8]) -> &[u8] {
    let signature = secret.rsplit(|byte| *byte == b'.').next().filter(|_| secret.starts_with(b"eyJ"));
    let part = signature.unwrap_or(secret);
    &part[..part.len().min(MARK_BYTES)]
}

fn forms(mark: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let each = |write: &dyn Fn(&u8) -> String| mark.iter().map(write).collect::<String>().into_bytes();
    let decimal = mark.iter().map(u8::to_string).collect::<Vec<_>>();
    let mut forms = vec![
        ("as it is", mark.to_vec()),
        ("hex", each(&|byte| format!("{byte:02x}"))),
        ("hex", each(&|byte| format!("{byte:02X}"))),
        ("list of bytes", decimal.join(", ").into_bytes()),
        ("list of bytes", decimal.join(",").into_bytes()),
        ("percent-encoded", byte_serialize(mark).collect::<String>().into_bytes()),
    ];
    for upper in [true, false] {
        let escaped = each(&|byte| match (byte.is_ascii_alphanumeric() || b"-_.~".contains(byte), upper) {
            (true, _) => char::from(*byte).to_string(),
            (false, true) => format!("%{byte:02X}"),
            (false, false) => format!("%{byte:02x}"),
        });
        forms.push(("percent-encoded", escaped));
    }
    for (form, alphabet) in [("base64", &STANDARD), ("base64url", &URL_SAFE)] {
        forms.extend((0..3).map(|offset| (form, base64_at(offset, mark, alphabet))));
    }
    forms.sort_by(|(_, a), (_, b)| a.cmp(b));
    forms.dedup_by(|(_, a), (_, b)| a == b);
    forms
}

/// The base64 characters that `bytes` alone decide when they stand `offset` bytes (of three) into something longer.
fn base64_at(offset: usize, bytes: &[u8], alphabet: &Alphabet) -> Vec<u8> {
    let shifted = [&vec![0; offset], bytes].concat();
    let encoded = GeneralPurpose::new(alphabet, NO_PAD).encode(&shifted).into_bytes();
    let undecided = [0, 2, 3][offset];
    encoded[undecided..shifted.len() * 8 / 6].to_vec()
}

#[test]
fn a_secret_is_found_however_it_is_written() {
    const WORD: &str = "correct horse/battery+staple?";
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6IjEifQ.eyJzdWIiOiIxIn0.c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4tb25seQ";
    let secrets = [
        Secret { kind: Kind::BrokerPassword, bytes: WORD.into() },
        Secret { kind: Kind::AccessToken, bytes: token.into() },
    ];
    let search = Search::for_secrets(&secrets);
    let found = |text: &str| search.found_in(text.as_bytes());
    let is = |form: &'static str| BTreeSet::from([(Kind::BrokerPassword, form)]);
    assert_eq!(found(&format!("password={WORD}.")), is("as it is"));
    assert_eq!(found("?p=correct+horse%2Fbattery%2Bstaple%3F&"), is("percent-encoded"));
    assert_eq!(found("?p=correct%20horse%2fbattery%2bstaple%3f&"), is("percent-encoded"));
    assert_eq!(found(&format!("{:?}", WORD.as_bytes())), is("list of bytes"));
    for user in ["u", "us", "use"] {
        let basic =
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{WORD}!")));
        assert_eq!(found(&basic), is("base64"), "{basic}");
    }
    assert_eq!(found(token), BTreeSet::from([(Kind::AccessToken, "as it is")]));
    assert_eq!(found("signature: c2lnbmF0dXJlLW9mLXRoaXMtdG9rZW4tb2…").len(), 1);
    assert_eq!(found("correct horse, battery, staple"), BTreeSet::new());
}

//! Pseudonyms: keyed, stable replacements of values that must not leave the database.
//!
//! A pseudonym is `p_` followed by 26 lower-case base32 characters (RFC 4648 alphabet, no padding): the
//! first 130 bits of HMAC-SHA-256(key, the value's output text). Whoever owns the key resolves one by
//! computing it over the table of users; nobody else can.

#![forbid(unsafe_code)]

use crate::record::Buffer;
use data_encoding::BASE32_NOPAD;
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;

/// Bytes of a pseudonym, the `p_` included. All of them are ASCII, and none needs escaping in JSON.
pub const PSEUDONYM_LEN: usize = 28;

/// The fewest whole bytes that hold 130 bits, and the characters they encode to.
const TAG_BYTES: usize = 17;
const ENCODED_LEN: usize = 28;

/// Turns values into pseudonyms under one key.
///
/// It holds the keyed state of the MAC, from which the key cannot be read back. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Pseudonymizer {
    keyed: Hmac<Sha256>,
}

impl Pseudonymizer {
    /// Prepares `key`, which may have any length. More than 32 random bytes add no security.
    ///
    /// `None` when the key is empty: everybody could compute the pseudonyms of an empty key.
    pub fn new(key: &[u8]) -> Option<Pseudonymizer> {
        if key.is_empty() {
            return None;
        }
        let keyed = Hmac::new_from_slice(key).ok()?;
        Some(Pseudonymizer { keyed })
    }

    /// Appends the pseudonym of `value` (its output text) to `out`: [`PSEUDONYM_LEN`] bytes.
    pub fn append(&self, value: &str, out: &mut Buffer) {
        out.extend_from_slice(&self.render(value));
    }

    /// The pseudonym of `value` (its output text).
    pub fn pseudonym(&self, value: &str) -> String {
        self.render(value).into_iter().map(char::from).collect()
    }

    /// Cloning the keyed state saves hashing the key's two pads for every value.
    fn render(&self, value: &str) -> [u8; PSEUDONYM_LEN] {
        let mut mac = self.keyed.clone();
        mac.update(value.as_bytes());
        let tag = mac.finalize().into_bytes();
        let mut encoded = [0; ENCODED_LEN];
        BASE32_NOPAD.encode_mut(&tag[..TAG_BYTES], &mut encoded);
        encoded.make_ascii_lowercase();
        let mut pseudonym = [0; PSEUDONYM_LEN];
        pseudonym[..2].copy_from_slice(b"p_");
        pseudonym[2..].copy_from_slice(&encoded[..PSEUDONYM_LEN - 2]);
        pseudonym
    }
}

/// Whether a text has the form of a pseudonym.
pub fn is_pseudonym(text: &str) -> bool {
    let is_digit = |byte: u8| byte.is_ascii_lowercase() || (b'2'..=b'7').contains(&byte);
    text.len() == PSEUDONYM_LEN && text.strip_prefix("p_").is_some_and(|digits| digits.bytes().all(is_digit))
}

impl fmt::Debug for Pseudonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pseudonymizer(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(key: &[u8], value: &str, expected: &str) {
        let pseudonymizer = Pseudonymizer::new(key).unwrap();
        assert_eq!(pseudonymizer.pseudonym(value), expected);
        assert!(is_pseudonym(expected) && !is_pseudonym(value) && !is_pseudonym(&expected.to_uppercase()));
        let mut out = Buffer::default();
        out.extend_from_slice(b"before");
        pseudonymizer.append(value, &mut out);
        assert_eq!(*out, *format!("before{expected}").as_bytes());
    }

    /// The expected texts were computed with Python's hmac and base64 modules.
    #[test]
    fn known_answers() {
        let counting: Vec<u8> = (0..32).collect();
        check(b"key", "", "p_lvorhfldzfnvsz5zxwnizgzdhk");
        check(b"key", "42", "p_6kmrw7hjqhilllof42qpggwk5n");
        check(b"key", "Anna Müller", "p_eyxfozre2xndw7e5oudsxer5rq");
        check(&counting, "user@example.com", "p_uizyuwjkkqpnbmhwm7qkwxvbnz");
        check(&counting, &"x".repeat(1000), "p_fk2o2okw6fyjjsnrq6evh2i2zh");
    }

    /// Test cases 1 and 6 of RFC 4231: the second key is longer than a block of SHA-256.
    #[test]
    fn rfc_4231() {
        check(&[0x0b; 20], "Hi There", "p_wa2eyyoy3m4fgxfiv7hk6c7rfo");
        let value = "Test Using Larger Than Block-Size Key - Hash Key First";
        check(&[0xaa; 131], value, "p_mdsdcwi64c3h6dmke2vmx5nxp6");
    }

    #[test]
    fn an_empty_key_is_refused() {
        assert!(Pseudonymizer::new(b"").is_none());
    }

    #[test]
    fn debug_shows_no_key() {
        let pseudonymizer = Pseudonymizer::new(b"secret").unwrap();
        assert_eq!(format!("{pseudonymizer:?}"), "Pseudonymizer(***)");
    }
}

//! A value that must never be shown: a key of Algolia, a key for pseudonyms.
//!
//! The type has no `Display`, and its `Debug` hides the value, so that no message, log line or test snapshot prints it
//! by accident. Code that needs the value calls [`Secret::expose`].
#![forbid(unsafe_code)]

use std::fmt;

/// Replaces a secret in a text.
pub const HIDDEN: &str = "***";

/// A text that no output shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value without its surrounding white space, such as the newline at the end of a key file.
    pub fn new(value: &str) -> Self {
        Secret(value.trim().to_owned())
    }

    /// The value itself, for the one place that puts it on the wire or computes with it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether no secret was configured.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Replaces every occurrence of the secret by `***`, for texts of others that may echo it.
    pub fn redact(&self, text: &str) -> String {
        if self.is_empty() {
            return text.to_owned();
        }
        text.replace(&self.0, HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_value() {
        let secret = Secret::new("s3cr3t");
        assert_eq!(format!("{secret:?} {:?}", Some(&secret)), "*** Some(***)");
    }

    #[test]
    fn a_key_read_from_a_file_loses_its_newline() {
        assert_eq!(Secret::new("key\n"), Secret::new("key"));
        assert!(Secret::new(" \n").is_empty());
    }

    #[test]
    fn an_echoed_secret_is_redacted() {
        assert_eq!(Secret::new("abc").redact("key abc, again abc"), "key ***, again ***");
        assert_eq!(Secret::default().redact("nothing to hide"), "nothing to hide");
    }
}

//! Secured keys: search keys that contain their restrictions and are signed with their parent key.
//!
//! A secured key is base64 of two parts: the lower-case hexadecimal HMAC-SHA-256 of its parameters under the parent
//! key, and the parameters: `name=value` joined by `&`, sorted by name, values percent-encoded. Making one takes no
//! request; Algolia checks it when it is used.

#![forbid(unsafe_code)]

use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac};
use percent_encoding::{utf8_percent_encode, AsciiSet, NON_ALPHANUMERIC};
use sha2::Sha256;
use std::collections::BTreeMap;
use thiserror::Error;

use crate::secret::Secret;

/// Characters that need no encoding in a parameter: RFC 3986's unreserved characters.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The restrictions of a key.
#[derive(Clone, Debug, Default)]
pub struct Restrictions {
    /// Filters that Algolia adds to those of each search; empty: none.
    pub filters: String,
    /// In Unix seconds.
    pub valid_until: Option<i64>,
    /// Patterns of the indices that the key may search.
    pub indices: Option<Vec<String>>,
}

/// Why no key can be made.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SecuredKeyError {
    #[error("parent_key must not be empty")]
    NoParent,
    #[error("restrict_indices names no index")]
    NoIndex,
    #[error("restrict_indices must not contain empty names")]
    EmptyIndex,
    #[error("index name \"{0}\" contains a comma, which separates the names")]
    Comma(String),
}

impl SecuredKeyError {
    /// A sentence that says how to fix it.
    pub fn hint(&self) -> &'static str {
        match self {
            SecuredKeyError::NoParent => "Pass a search key of the Algolia application.",
            // Algolia could read an empty list as no restriction.
            SecuredKeyError::NoIndex => "Leave restrict_indices out to allow all indices of the parent key.",
            SecuredKeyError::EmptyIndex => "Leave the entry out.",
            SecuredKeyError::Comma(_) => "Name the index by a pattern such as 'audit_*'.",
        }
    }
}

/// Makes the key with these restrictions.
pub fn secured_key(parent: &Secret, restrictions: &Restrictions) -> Result<String, SecuredKeyError> {
    if parent.is_empty() {
        return Err(SecuredKeyError::NoParent);
    }
    let mut parameters = BTreeMap::new();
    if !restrictions.filters.is_empty() {
        parameters.insert("filters", restrictions.filters.clone());
    }
    if let Some(until) = restrictions.valid_until {
        parameters.insert("validUntil", until.to_string());
    }
    if let Some(names) = &restrictions.indices {
        parameters.insert("restrictIndices", joined(names)?);
    }
    Ok(sign(parent, &parameters))
}

fn joined(names: &[String]) -> Result<String, SecuredKeyError> {
    if names.is_empty() {
        return Err(SecuredKeyError::NoIndex);
    }
    for name in names {
        if name.is_empty() {
            return Err(SecuredKeyError::EmptyIndex);
        }
        if name.contains(',') {
            return Err(SecuredKeyError::Comma(name.clone()));
        }
    }
    Ok(names.join(","))
}

fn sign(parent: &Secret, parameters: &BTreeMap<&str, String>) -> String {
    let pairs: Vec<String> = parameters
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, ENCODED)))
        .collect();
    let text = pairs.join("&");
    let mut key = signature(parent, &text);
    key.push_str(&text);
    BASE64.encode(key.as_bytes())
}

fn signature(parent: &Secret, text: &str) -> String {
    // HMAC takes keys of any length, so this never fails.
    let mac = Hmac::<Sha256>::new_from_slice(parent.expose().as_bytes());
    mac.map(|mac| HEXLOWER.encode(&mac.chain_update(text).finalize().into_bytes())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "2640659426d5107b6e47d75db9cbaef8";

    fn parent() -> Secret {
        Secret::new(PARENT)
    }

    fn parameters_of(key: &str) -> String {
        let decoded = String::from_utf8(BASE64.decode(key.as_bytes()).unwrap()).unwrap();
        decoded[64..].to_owned()
    }

    /// Both known answers are those of the common test suite of Algolia's own clients.
    #[test]
    fn a_key_is_the_one_that_official_clients_make() {
        let restrictions = Restrictions {
            valid_until: Some(2_524_604_400),
            indices: Some(vec!["Movies".to_owned()]),
            ..Restrictions::default()
        };
        assert_eq!(
            secured_key(&parent(), &restrictions).unwrap(),
            "NjFhZmE0OGEyMTI3OThiODc0OTlkOGM0YjcxYzljY2M2NmU2NDE5ZWY0NDZjMWJhNjA2NzBkMjAwOTI2YWQyZnJlc3Rya\
             WN0SW5kaWNlcz1Nb3ZpZXMmdmFsaWRVbnRpbD0yNTI0NjA0NDAw"
        );
    }

    #[test]
    fn parameters_are_sorted_and_encoded_as_official_clients_do() {
        let parameters = [
            ("validUntil", "2524604400"),
            ("restrictIndices", "Movies,cts_e2e_settings"),
            ("restrictSources", "192.168.1.0/24"),
            ("filters", "category:Book OR category:Ebook AND _tags:published"),
            ("userToken", "user123"),
            ("query", "batman"),
            ("typoTolerance", "strict"),
            ("aroundRadius", "all"),
            ("mode", "neuralSearch"),
            ("hitsPerPage", "10"),
            ("optionalWords", "one,two"),
        ];
        let parameters = parameters.map(|(name, value)| (name, value.to_owned())).into();
        assert_eq!(
            sign(&parent(), &parameters),
            "MzAxMDUwYjYyODMxODQ3ZWM1ZDYzNTkxZmNjNDg2OGZjMjAzYjQyOTZhMGQ1NDJhMDFiNGMzYTYzODRhNmMxZWFyb3VuZ\
             FJhZGl1cz1hbGwmZmlsdGVycz1jYXRlZ29yeSUzQUJvb2slMjBPUiUyMGNhdGVnb3J5JTNBRWJvb2slMjBBTkQlMjBfdGF\
             ncyUzQXB1Ymxpc2hlZCZoaXRzUGVyUGFnZT0xMCZtb2RlPW5ldXJhbFNlYXJjaCZvcHRpb25hbFdvcmRzPW9uZSUyQ3R3b\
             yZxdWVyeT1iYXRtYW4mcmVzdHJpY3RJbmRpY2VzPU1vdmllcyUyQ2N0c19lMmVfc2V0dGluZ3MmcmVzdHJpY3RTb3VyY2V\
             zPTE5Mi4xNjguMS4wJTJGMjQmdHlwb1RvbGVyYW5jZT1zdHJpY3QmdXNlclRva2VuPXVzZXIxMjMmdmFsaWRVbnRpbD0yN\
             TI0NjA0NDAw"
        );
    }

    #[test]
    fn only_what_is_restricted_is_in_a_key() {
        let plain = secured_key(&parent(), &Restrictions::default()).unwrap();
        assert_eq!(parameters_of(&plain), "");
        let filtered = Restrictions { filters: "a:\"é & +%\"".to_owned(), ..Restrictions::default() };
        let key = secured_key(&parent(), &filtered).unwrap();
        assert_eq!(parameters_of(&key), "filters=a%3A%22%C3%A9%20%26%20%2B%25%22");
    }

    #[test]
    fn what_could_be_taken_for_no_restriction_is_refused() {
        let on = |names: &[&str]| {
            let indices = Some(names.iter().map(|name| (*name).to_owned()).collect());
            secured_key(&parent(), &Restrictions { indices, ..Restrictions::default() })
        };
        assert_eq!(on(&[]), Err(SecuredKeyError::NoIndex));
        assert_eq!(on(&["a", ""]), Err(SecuredKeyError::EmptyIndex));
        assert_eq!(on(&["a,b"]), Err(SecuredKeyError::Comma("a,b".to_owned())));
        assert!(on(&["a", "b_*"]).is_ok());
        let nobody = Secret::new("");
        assert_eq!(secured_key(&nobody, &Restrictions::default()), Err(SecuredKeyError::NoParent));
    }
}

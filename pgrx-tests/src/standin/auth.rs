//! Identifies the caller: both headers for credentials, keys, index patterns and secured keys.

use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use hmac::{Hmac, Mac};
use serde_json::Value;
use sha2::Sha256;

use super::clock::unix_micros;
use super::config::{ApiKey, StandinConfig};
use super::reply::Refusal;
use super::route::parse_query;

/// What one request may do.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    acl: Vec<String>,
    indexes: Vec<String>,
    /// From a secured key: indices it is further restricted to.
    restricted_to: Option<Vec<String>>,
    /// From a secured key: filters that are added to every query.
    pub(super) filters: Option<String>,
    /// The most hits and objects that one request may ask for.
    pub(super) max_hits: Option<usize>,
}

impl Caller {
    pub(super) fn may(&self, acl: &str) -> bool {
        self.acl.iter().any(|own| own == acl)
    }

    pub(super) fn sees(&self, index: &str) -> bool {
        let allowed = |patterns: &[String]| patterns.iter().any(|pattern| matches(pattern, index));
        (self.indexes.is_empty() || allowed(&self.indexes))
            && self.restricted_to.as_deref().is_none_or(allowed)
    }

    /// Refuses what the key's permission or index patterns do not allow.
    pub(super) fn check(&self, acl: &str, index: &str) -> Result<(), Refusal> {
        if !self.may(acl) {
            return Err(Refusal::method_not_allowed());
        }
        if !index.is_empty() && index != "*" && !self.sees(index) {
            return Err(Refusal::index_not_allowed());
        }
        Ok(())
    }
}

/// Identifies the sender by these headers.
pub(super) fn identify(
    config: &StandinConfig,
    app_id: Option<&str>,
    key: Option<&str>,
) -> Result<Caller, Refusal> {
    let key = key.unwrap_or_default();
    if app_id != Some(config.app_id.as_str()) {
        return Err(Refusal::bad_credentials());
    }
    let known = config.keys.iter().find(|known| known.key == key).map(plain);
    known.or_else(|| secured(config, key)).ok_or_else(Refusal::bad_credentials)
}

fn plain(key: &ApiKey) -> Caller {
    Caller {
        acl: key.acl.clone(),
        indexes: key.indexes.clone(),
        restricted_to: None,
        filters: None,
        max_hits: key.max_hits,
    }
}

/// A secured key is base64 of the hex HMAC-SHA-256 of its parameters under a parent key, then the parameters.
/// The parent must be a search key and the key must not have expired.
fn secured(config: &StandinConfig, key: &str) -> Option<Caller> {
    let decoded = BASE64.decode(key.as_bytes()).ok()?;
    let (hex, params) = decoded.split_at_checked(64)?;
    let signature = HEXLOWER_PERMISSIVE.decode(hex).ok()?;
    let parent = config.keys.iter().find(|parent| {
        Hmac::<Sha256>::new_from_slice(parent.key.as_bytes())
            .is_ok_and(|mac| mac.chain_update(params).verify_slice(&signature).is_ok())
    })?;
    const ONLY_FOR_OTHER_KEYS: [&str; 4] = ["addObject", "deleteObject", "deleteIndex", "editSettings"];
    if parent.acl.iter().any(|acl| ONLY_FOR_OTHER_KEYS.contains(&acl.as_str())) {
        return None;
    }
    let params = parse_query(std::str::from_utf8(params).ok()?);
    if let Some(until) = params.get("validUntil") {
        if until.parse::<i64>().ok()? < unix_micros() / 1_000_000 {
            return None;
        }
    }
    let mut caller = plain(parent);
    caller.restricted_to = params.get("restrictIndices").map(|list| names(list));
    caller.filters = params.get("filters").cloned();
    Some(caller)
}

/// A list as a secured key writes it: `a,b` or a JSON array.
fn names(list: &str) -> Vec<String> {
    match serde_json::from_str(list) {
        Ok(Value::Array(items)) => items.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => list.split(',').map(str::to_owned).collect(),
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        _ if pattern == "*" => true,
        (Some(rest), Some(_)) => name.contains(rest.trim_end_matches('*')),
        (Some(end), None) => name.ends_with(end),
        (None, Some(start)) => name.starts_with(start),
        (None, None) => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_at_either_end() {
        for (pattern, name, expected) in [
            ("audit_*", "audit_a", true),
            ("audit_*", "x_audit_a", false),
            ("*_tmp", "a_tmp", true),
            ("*mid*", "amidb", true),
            ("a", "ab", false),
            ("*", "anything", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_published_secured_key_is_understood() {
        let parent = ApiKey::new("2640659426d5107b6e47d75db9cbaef8", &["search"]);
        let config = StandinConfig { keys: vec![parent], ..StandinConfig::default() };
        let key = "NjFhZmE0OGEyMTI3OThiODc0OTlkOGM0YjcxYzljY2M2NmU2NDE5ZWY0NDZjMWJhNjA2NzBkMjAwOTI2YWQyZnJlc3RyaWN0SW5kaWNlcz1Nb3ZpZXMmdmFsaWRVbnRpbD0yNTI0NjA0NDAw";
        let caller = identify(&config, Some("STANDIN"), Some(key)).unwrap();
        assert!(caller.sees("Movies") && !caller.sees("Books"));
    }
}

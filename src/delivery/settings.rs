//! The settings that a delivery needs, as one checked value.
#![forbid(unsafe_code)]

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

pub use crate::delivery::host_url::{parse_hosts, HostUrl, HostsError};
use crate::secret::Secret;

/// All settings that a delivery reads. A worker makes a new snapshot, and a new sink, at each reload. A session makes
/// one for each call that asks Algolia.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliverySettings {
    /// Algolia's application id. It is part of the host names and of every request.
    pub application_id: String,
    /// The write key. It needs the right `addObject`, and `deleteObject` where records are deleted.
    pub api_key: Secret,
    /// Hosts to try in this order; empty: Algolia's own hosts of the application.
    pub hosts: Vec<HostUrl>,
    /// Limits an attempt's name lookup, and separately its TCP and TLS set-up.
    pub connect_timeout: Duration,
    /// Limits the whole attempt.
    pub request_timeout: Duration,
    /// Whether bodies of at least 1 kB are sent with gzip.
    pub compression: bool,
    /// Certificate authorities in PEM that are trusted in addition to the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// Appended to the user agent, without characters that a header cannot contain.
    pub user_agent_suffix: String,
    /// PostgreSQL's version for the user agent, such as `15.18`; empty: omitted.
    pub server_version: String,
}

/// Why a sink cannot be made from the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No application id is configured.
    #[error("no application id is set")]
    NoApplicationId,
    /// The application id cannot be part of a host name.
    #[error("application id \"{0}\" may only contain letters, digits, \"-\" and \"_\"")]
    BadApplicationId(String),
    /// No key is configured.
    #[error("no API key is set")]
    NoApiKey,
    /// The key contains characters that a header cannot contain. The error does not quote the key.
    #[error("the API key may only contain visible ASCII characters")]
    BadApiKey,
    /// With a timeout of zero, every attempt would fail.
    #[error("timeouts must be longer than zero")]
    ZeroTimeout,
    /// The certificate authorities cannot be used.
    #[error("{0}")]
    BadCertificate(String),
}

impl DeliverySettings {
    /// Checks that these settings allow a delivery.
    pub fn check(&self) -> Result<(), SettingsError> {
        let id = &self.application_id;
        if id.is_empty() {
            return Err(SettingsError::NoApplicationId);
        }
        // A DNS label has at most 63 characters and "-1" to "-3" are appended to it.
        let label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.len() > 60 || !id.chars().all(label) {
            return Err(SettingsError::BadApplicationId(id.escape_default().take(80).collect()));
        }
        if self.api_key.is_empty() {
            return Err(SettingsError::NoApiKey);
        }
        if !self.api_key.expose().chars().all(|c| c.is_ascii_graphic()) {
            return Err(SettingsError::BadApiKey);
        }
        if self.connect_timeout.is_zero() || self.request_timeout.is_zero() {
            return Err(SettingsError::ZeroTimeout);
        }
        Ok(())
    }

    /// Whether requests go to the same hosts with the same credentials under other settings.
    pub fn goes_where(&self, other: &DeliverySettings) -> bool {
        let of = |s: &DeliverySettings| (s.hosts.clone(), s.application_id.clone(), s.ca_pem.clone());
        of(self) == of(other) && self.api_key == other.api_key
    }

    /// A number other than 0 that identifies where deliveries go, whatever the key: tasks of one application mean
    /// nothing to another.
    pub fn destination(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.application_id, &self.hosts).hash(&mut hasher);
        hasher.finish().max(1)
    }

    /// The user agent in the form of Algolia's clients, `Algolia for audit_algolia (0.1.0); PostgreSQL (15.18)`, with
    /// the suffix as another segment.
    pub fn user_agent(&self) -> String {
        let mut agent = format!("Algolia for audit_algolia ({})", env!("CARGO_PKG_VERSION"));
        let printable = |text: &str| text.chars().filter(|c| (' '..='~').contains(c)).collect::<String>();
        if !self.server_version.is_empty() {
            agent.push_str(&format!("; PostgreSQL ({})", printable(&self.server_version)));
        }
        let suffix = printable(&self.user_agent_suffix);
        let suffix = suffix.trim_matches([' ', ';']);
        if !suffix.is_empty() {
            agent.push_str("; ");
            agent.push_str(suffix);
        }
        agent
    }
}

#[cfg(test)]
pub(crate) fn for_tests() -> DeliverySettings {
    DeliverySettings {
        application_id: "TESTAPP".to_owned(),
        api_key: Secret::new("0123456789abcdef"),
        hosts: Vec::new(),
        connect_timeout: Duration::from_secs(2),
        request_timeout: Duration::from_secs(30),
        compression: true,
        ca_pem: None,
        user_agent_suffix: String::new(),
        server_version: "15.18".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_has_the_form_of_the_official_clients() {
        let mut settings = for_tests();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!(
            settings.user_agent(),
            format!("Algolia for audit_algolia ({version}); PostgreSQL (15.18)")
        );
        settings.user_agent_suffix = "; my gateway (2)\r\nx-evil: 1".to_owned();
        assert!(settings.user_agent().ends_with("(15.18); my gateway (2)x-evil: 1"));
    }

    #[test]
    fn another_application_or_host_is_another_destination_and_another_key_is_not() {
        let with = |change: fn(&mut DeliverySettings)| {
            let mut settings = for_tests();
            change(&mut settings);
            settings.destination()
        };
        let here = with(|_| ());
        assert_eq!(with(|s| (s.api_key, s.compression) = (Secret::new("another"), false)), here);
        assert_ne!(with(|s| s.application_id = "OTHER".into()), here);
        assert_ne!(with(|s| s.hosts = parse_hosts("http://a:1").unwrap()), here);
    }

    #[test]
    fn settings_that_cannot_work_are_refused_without_showing_the_key() {
        assert_eq!(for_tests().check(), Ok(()));
        let with = |change: fn(&mut DeliverySettings)| {
            let mut settings = for_tests();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert_eq!(with(|s| s.application_id.clear()), SettingsError::NoApplicationId);
        assert!(matches!(with(|s| s.application_id = "a.b/".into()), SettingsError::BadApplicationId(_)));
        assert_eq!(with(|s| s.api_key = Secret::default()), SettingsError::NoApiKey);
        assert_eq!(with(|s| s.api_key = Secret::new("a\nb")), SettingsError::BadApiKey);
        assert_eq!(with(|s| s.request_timeout = Duration::ZERO), SettingsError::ZeroTimeout);
    }
}

//! What the delivery needs to know, as one checked value, and the hosts an operator may list.
#![forbid(unsafe_code)]

use std::fmt;
use std::time::Duration;

use crate::secret::Secret;

/// A snapshot of every setting the delivery reads. A reload makes a new one, and with it a new sink.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Algolia's application id; part of the host names and of every request.
    pub application_id: String,
    /// The write key. Needs the right `addObject`, and `deleteObject` where records are deleted.
    pub api_key: Secret,
    /// Hosts to try in this order; empty: Algolia's own hosts for the application.
    pub hosts: Vec<HostUrl>,
    /// Longest time for name lookup, and again for TCP and TLS set-up, of one attempt.
    pub connect_timeout: Duration,
    /// Longest time of one attempt as a whole.
    pub request_timeout: Duration,
    /// Whether bodies of 1 KB and more are sent with gzip.
    pub compression: bool,
    /// Certificates in PEM that are trusted in addition to the platform's.
    pub ca_pem: Option<Vec<u8>>,
    /// Appended to the user agent; characters that a header cannot carry are left out.
    pub user_agent_suffix: String,
    /// PostgreSQL's version for the user agent, such as `15.18`; empty: left out.
    pub server_version: String,
}

/// Why a sink cannot be made from the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No application id is configured.
    #[error("no application id is set")]
    NoApplicationId,
    /// The application id would not survive as part of a host name.
    #[error("application id \"{0}\" may only contain letters, digits, \"-\" and \"_\"")]
    BadApplicationId(String),
    /// No key is configured.
    #[error("no API key is set")]
    NoApiKey,
    /// The key holds characters that a header cannot carry. The key itself is not named.
    #[error("the API key may only contain visible ASCII characters")]
    BadApiKey,
    /// A timeout of zero would make every attempt fail.
    #[error("timeouts must be longer than zero")]
    ZeroTimeout,
}

impl Settings {
    /// Checks what must hold before anything can be sent.
    pub fn check(&self) -> Result<(), SettingsError> {
        let id = &self.application_id;
        if id.is_empty() {
            return Err(SettingsError::NoApplicationId);
        }
        // A DNS label has at most 63 characters and "-1" to "-3" are appended to it.
        let label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.len() > 60 || !id.chars().all(label) {
            return Err(SettingsError::BadApplicationId(
                id.escape_default().take(80).collect(),
            ));
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

    /// The agent string, in the form of Algolia's clients:
    /// `Algolia for audit_algolia (0.1.0); PostgreSQL (15.18)` and the suffix as one more segment.
    pub fn user_agent(&self) -> String {
        let mut agent = format!("Algolia for audit_algolia ({})", env!("CARGO_PKG_VERSION"));
        let printable = |text: &str| {
            text.chars()
                .filter(|c| (' '..='~').contains(c))
                .collect::<String>()
        };
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

/// The base URL of a host: scheme, name and port, nothing else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostUrl {
    url: String,
}

impl HostUrl {
    /// A host reached over https on the usual port. The name is taken as it is.
    pub(crate) fn https(name: &str) -> Self {
        HostUrl {
            url: format!("https://{name}"),
        }
    }

    /// The base URL without a slash at its end, to which a path is appended.
    pub fn as_str(&self) -> &str {
        &self.url
    }

    /// Host and port without the scheme, as reports show it.
    pub fn name(&self) -> &str {
        self.url
            .split_once("://")
            .map_or(self.url.as_str(), |(_, name)| name)
    }
}

impl fmt::Display for HostUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.url)
    }
}

/// One part of the list that is not the base URL of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{part}\" {problem}")]
pub struct HostsError {
    /// The part at fault as it was written; anything before an `@` is hidden, since it may be a password.
    pub part: String,
    /// What is wrong with it, as the rest of a sentence.
    pub problem: &'static str,
}

/// Reads a comma-separated list of base URLs: `scheme://host[:port]` with http or https, no path.
/// White space around a part and one slash at its end are fine; a list of nothing but space is empty.
///
/// The error names the first part at fault.
pub fn parse_hosts(list: &str) -> Result<Vec<HostUrl>, HostsError> {
    if list.trim().is_empty() {
        return Ok(Vec::new());
    }
    list.split(',').map(|part| parse_host(part.trim())).collect()
}

fn parse_host(part: &str) -> Result<HostUrl, HostsError> {
    let fault = |problem| {
        Err(HostsError {
            part: shown(part),
            problem,
        })
    };
    if part.is_empty() {
        return fault("is not a URL: an entry of the list is empty");
    }
    let Some((scheme, rest)) = part.split_once("://") else {
        return fault("does not start with http:// or https://");
    };
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return fault("does not start with http:// or https://");
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return fault("must not contain a user name or password");
    }
    if authority.contains(['/', '?', '#']) {
        return fault("must not have a path");
    }
    let (host, port) = split_port(authority);
    if let Some(port) = port {
        if !port.bytes().all(|b| b.is_ascii_digit()) || port.parse::<u16>().map_or(true, |port| port == 0) {
            return fault("has a port that is not a number from 1 to 65535");
        }
    }
    if !is_host_name(host) {
        return fault("has no valid host name");
    }
    Ok(HostUrl {
        url: format!("{scheme}://{authority}"),
    })
}

/// Splits at the colon before the port. An IPv6 address keeps its own colons inside its brackets.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn is_host_name(host: &str) -> bool {
    if let Some(inner) = host.strip_prefix('[') {
        let address = inner.strip_suffix(']').unwrap_or_default();
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    let label = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !host.is_empty()
        && host.len() <= 253
        && host
            .split('.')
            .all(|part| !part.is_empty() && part.chars().all(label))
}

fn shown(part: &str) -> String {
    let text = match part.rsplit_once('@') {
        Some((_, host)) => format!("{}@{host}", crate::secret::HIDDEN),
        None => part.to_owned(),
    };
    text.escape_default().take(120).collect()
}

#[cfg(test)]
pub(crate) fn for_tests() -> Settings {
    Settings {
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
    fn hosts_keep_their_order() {
        let hosts =
            parse_hosts(" https://a.example , http://127.0.0.1:8080/,HTTP://[::1]:9,https://gw_1").unwrap();
        let urls: Vec<_> = hosts.iter().map(HostUrl::as_str).collect();
        assert_eq!(
            urls,
            [
                "https://a.example",
                "http://127.0.0.1:8080",
                "http://[::1]:9",
                "https://gw_1"
            ]
        );
        assert_eq!(hosts[1].name(), "127.0.0.1:8080");
        assert_eq!(parse_hosts("  ").unwrap(), []);
    }

    #[test]
    fn errors_name_the_part_at_fault() {
        for (list, part, word) in [
            ("https://a,ftp://b", "ftp://b", "http://"),
            ("a.example", "a.example", "http://"),
            ("https://a,,https://b", "", "empty"),
            ("https://a/1/indexes", "https://a/1/indexes", "path"),
            ("https://a?x", "https://a?x", "path"),
            ("https://a:0", "https://a:0", "port"),
            ("https://a:+80", "https://a:+80", "port"),
            ("https://a:70000", "https://a:70000", "port"),
            ("https://", "https://", "host name"),
            ("https://a b", "https://a b", "host name"),
            ("https://[::1", "https://[::1", "host name"),
            ("https://[zz]:1", "https://[zz]:1", "host name"),
        ] {
            let error = parse_hosts(list).unwrap_err();
            assert_eq!(error.part, part);
            assert!(error.problem.contains(word), "{list}: {error}");
        }
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        let error = parse_hosts("https://user:hunter2@a").unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn the_user_agent_has_the_form_of_the_official_clients() {
        let mut settings = for_tests();
        assert_eq!(
            settings.user_agent(),
            "Algolia for audit_algolia (0.1.0); PostgreSQL (15.18)"
        );
        settings.user_agent_suffix = "; my gateway (2)\r\nx-evil: 1".to_owned();
        assert!(settings
            .user_agent()
            .ends_with("(15.18); my gateway (2)x-evil: 1"));
    }

    #[test]
    fn settings_that_cannot_work_are_refused_without_showing_the_key() {
        assert_eq!(for_tests().check(), Ok(()));
        let with = |change: fn(&mut Settings)| {
            let mut settings = for_tests();
            change(&mut settings);
            settings.check().unwrap_err()
        };
        assert_eq!(with(|s| s.application_id.clear()), SettingsError::NoApplicationId);
        assert!(matches!(
            with(|s| s.application_id = "a.b/".into()),
            SettingsError::BadApplicationId(_)
        ));
        assert_eq!(with(|s| s.api_key = Secret::default()), SettingsError::NoApiKey);
        assert_eq!(
            with(|s| s.api_key = Secret::new("a\nb")),
            SettingsError::BadApiKey
        );
        assert_eq!(
            with(|s| s.request_timeout = Duration::ZERO),
            SettingsError::ZeroTimeout
        );
    }
}

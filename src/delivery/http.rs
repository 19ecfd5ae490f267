//! Sends requests with ureq. Only this module and those below it name that crate.
//!
//! One client serves all threads of a worker and keeps their connections open between requests. It follows no
//! redirects, returns every status as a response, and limits the time and size of everything.
#![forbid(unsafe_code)]

mod dns_cache;
mod failure;

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ureq::http::header::{HeaderMap, HeaderValue, CONTENT_TYPE, RETRY_AFTER};
use ureq::tls::{parse_pem, Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;
use ureq::{Agent, RequestBuilder};

use crate::delivery::http::dns_cache::DnsCache;
use crate::delivery::http::failure::explain;
use crate::delivery::settings::{DeliverySettings, SettingsError};
use crate::delivery::transport::{Method, Request, Response, Transport, TransportError};

/// Algolia closes connections that are idle for a minute; ours are closed earlier.
const MAX_IDLE: Duration = Duration::from_secs(45);

/// An application has this many hosts, and connections to all of them are kept open.
const HOSTS_KEPT: usize = 4;

/// The buffers of one connection limit how much of the worker's memory it takes.
const INPUT_BUFFER: usize = 32 << 10;
const OUTPUT_BUFFER: usize = 64 << 10;
const MAX_RESPONSE_HEADER: usize = 16 << 10;

/// At most this much of a refusal is read.
const MAX_REFUSAL: usize = 256 << 10;

/// Why no client can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// The PEM text contains no certificate, or a damaged one.
    #[error("{0}")]
    BadCertificate(String),
}

/// A client with its pool of connections.
pub struct HttpClient {
    agent: Agent,
    dns_cache: DnsCache,
    closed: AtomicBool,
}

impl HttpClient {
    /// A client for `concurrent` requests at a time; as many connections are kept open to each host.
    ///
    /// It trusts the platform's certificate authorities and those in `ca_pem`. A machine without any is no error here,
    /// because the hosts may use plain http; otherwise the first attempt over https reports it.
    pub fn new(concurrent: usize, ca_pem: Option<&[u8]>) -> Result<Self, ClientError> {
        let roots = match ca_pem {
            None => RootCerts::PlatformVerifier,
            Some(pem) => RootCerts::from(platform_roots().into_iter().chain(certificates(pem)?)),
        };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .tls_config(TlsConfig::builder().root_certs(roots).build())
            .max_idle_age(MAX_IDLE)
            .max_idle_connections_per_host(concurrent.max(1))
            .max_idle_connections(concurrent.max(1).saturating_mul(HOSTS_KEPT))
            .max_response_header_size(MAX_RESPONSE_HEADER)
            .input_buffer_size(INPUT_BUFFER)
            .output_buffer_size(OUTPUT_BUFFER)
            .build();
        let dns_cache = DnsCache::default();
        let agent = Agent::with_parts(config, DefaultConnector::default(), dns_cache.clone());
        Ok(HttpClient { agent, dns_cache, closed: AtomicBool::new(false) })
    }

    /// A client with the settings' certificate authorities.
    pub fn for_settings(settings: &DeliverySettings, concurrent: usize) -> Result<Self, SettingsError> {
        HttpClient::new(concurrent, settings.ca_pem.as_deref())
            .map_err(|error| SettingsError::BadCertificate(error.to_string()))
    }

    fn round_trip(&self, request: &Request<'_>) -> Result<Response, ureq::Error> {
        let url = format!("{}{}", request.host.as_str(), request.path);
        let mut key = HeaderValue::from_str(request.api_key.expose()).map_err(ureq::http::Error::from)?;
        key.set_sensitive(true);
        let response = match request.method {
            Method::Get => prepared(self.agent.get(url), request, key).call()?,
            Method::Post => prepared(self.agent.post(url), request, key).send(request.body)?,
            Method::Put => prepared(self.agent.put(url), request, key).send(request.body)?,
        };
        let (head, body) = response.into_parts();
        let text = |name| text(&head.headers, name);
        Ok(Response {
            status: head.status.as_u16(),
            content_type: text(CONTENT_TYPE.as_str()),
            retry_after: text(RETRY_AFTER.as_str()),
            correlation_id: text("correlation-id"),
            body: if head.status.is_success() {
                read_bounded(body, request.response_limit)?
            } else {
                read_beginning(body, request.response_limit.min(MAX_REFUSAL))?
            },
        })
    }
}

/// Adds headers and limits to a request.
fn prepared<B>(builder: RequestBuilder<B>, request: &Request<'_>, key: HeaderValue) -> RequestBuilder<B> {
    let mut builder = builder.header("x-algolia-api-key", key);
    for (name, value) in request.headers {
        builder = builder.header(*name, *value);
    }
    let mut settings = builder
        .config()
        .timeout_resolve(Some(request.connect_timeout))
        .timeout_connect(Some(request.connect_timeout))
        .timeout_recv_response(Some(request.answer_timeout))
        .timeout_global(Some(request.request_timeout));
    if request.fresh_connection {
        settings = settings.max_idle_age(Duration::ZERO);
    }
    settings.build()
}

impl Transport for HttpClient {
    fn send(&self, request: &Request<'_>) -> Result<Response, TransportError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(TransportError::Closed);
        }
        self.round_trip(request).map_err(|error| {
            if self.closed.load(Ordering::SeqCst) {
                return TransportError::Closed;
            }
            let error = explain(error, request);
            if matches!(error, TransportError::Connect(_) | TransportError::Timeout(_)) {
                self.dns_cache.forget(request.host);
            }
            error
        })
    }

    /// A thread that is just connecting notices the shutdown after its connect timeout at the latest.
    fn shutdown(&self) {
        self.closed.store(true, Ordering::SeqCst);
        self.agent.clone().shutdown();
    }
}

/// Reads the decompressed body. The limit applies after decompression, because a small answer can expand without end.
fn read_bounded(body: ureq::Body, limit: usize) -> Result<Vec<u8>, ureq::Error> {
    let mut bytes = Vec::new();
    let bound = u64::try_from(limit).unwrap_or(u64::MAX);
    body.into_reader().take(bound.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(ureq::Error::BodyExceedsLimit(bound));
    }
    Ok(bytes)
}

/// Reads the beginning of a refusal, which says enough: a gateway may return the whole request with it.
fn read_beginning(body: ureq::Body, limit: usize) -> Result<Vec<u8>, ureq::Error> {
    let mut bytes = Vec::new();
    body.into_reader().take(u64::try_from(limit).unwrap_or(u64::MAX)).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// The authorities that the platform trusts. Unreadable ones are skipped, as the platform's own verifier does.
fn platform_roots() -> Vec<Certificate<'static>> {
    let found = rustls_native_certs::load_native_certs().certs;
    found.iter().map(|certificate| Certificate::from_der(certificate.as_ref()).to_owned()).collect()
}

/// Checks that [`HttpClient::new`] will accept this PEM text.
pub fn check_certificates(pem: &[u8]) -> Result<(), ClientError> {
    certificates(pem).map(drop)
}

/// The certificates of a PEM text, which must contain at least one.
fn certificates(pem: &[u8]) -> Result<Vec<Certificate<'static>>, ClientError> {
    let mut found = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => found.push(certificate),
            Ok(_) => {}
            Err(_) => return Err(ClientError::BadCertificate("the PEM text is damaged".to_owned())),
        }
    }
    if found.is_empty() {
        return Err(ClientError::BadCertificate("the PEM text holds no certificate".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests;

//! The services that are compared.

/// One of the services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in super::super) enum Kind {
    /// Polls a queue, with Algolia's client for JavaScript.
    JavaScript,
    /// The same, with that client's compression.
    JavaScriptGzip,
    /// Polls a queue, with Algolia's client for Python.
    Python,
    /// Consumes from PgQ, with the client for JavaScript.
    Pgq,
    /// Reads the output of pg_recvlogical and wal2json for an outbox, with the client for JavaScript.
    Wal2json,
}

impl Kind {
    pub(in super::super) fn name(self) -> &'static str {
        match self {
            Kind::JavaScript => "polling, JavaScript client",
            Kind::JavaScriptGzip => "polling, JavaScript client, gzip",
            Kind::Python => "polling, Python client",
            Kind::Pgq => "PgQ consumer, JavaScript client",
            Kind::Wal2json => "wal2json, pg_recvlogical, JavaScript client",
        }
    }
}

//! Directs a request to its endpoint, after checks in a fixed order.

use bytes::Bytes;
use hyper::HeaderMap;

use super::auth::identify;
use super::fault::Fault;
use super::journal::EntryId;
use super::reply::{Refusal, Reply};
use super::route::{valid_index_name, Route};
use super::shared::{Incoming, Shared, Tampering};
use super::{read, wire, write};

/// A request with its body read.
pub(super) struct Request {
    pub(super) headers: HeaderMap,
    pub(super) route: Option<Route>,
    pub(super) body: Result<Bytes, Refusal>,
    pub(super) entry: EntryId,
}

/// Serves a request, unless a fault prevents it.
pub(super) fn dispatch(shared: &Shared, request: &Request, fault: Option<&Fault>) -> Reply {
    let tampering = match fault {
        Some(Fault::LoseRecords(lose)) => Tampering { lose: Some(lose.clone()), wrong_ids: false },
        Some(Fault::WrongObjectIds) => Tampering { lose: None, wrong_ids: true },
        _ => Tampering::default(),
    };
    serve(shared, request, tampering).unwrap_or_else(Reply::from)
}

/// Credentials, permission, index name, throttling, then the endpoint.
fn serve(shared: &Shared, request: &Request, tampering: Tampering) -> Result<Reply, Refusal> {
    let body = request.body.clone()?;
    let route = request.route.as_ref().ok_or_else(|| Refusal::new(404, "Path not found"))?;
    // The web page sends credentials in the query string, because headers would cause a preflight request.
    let credential = |name| {
        let header = wire::header(&request.headers, name).filter(|value| !value.is_empty());
        header.or_else(|| route.params.get(name).map(String::as_str))
    };
    let app_id = credential("x-algolia-application-id");
    let caller = identify(&shared.config, app_id, credential("x-algolia-api-key"))?;
    caller.check(route.call.acl(), &route.index)?;
    if !matches!(route.index.as_str(), "" | "*") && !valid_index_name(&route.index) {
        return Err(Refusal::bad("indexName is not valid"));
    }
    let incoming = Incoming { route, body, entry: request.entry, tampering };
    if !route.call.writes() {
        return read::serve(shared, &incoming, &caller);
    }
    if shared.config.pending_limit.is_some_and(|limit| shared.engine().pending() >= limit) {
        return Err(Refusal::new(429, "Too many requests"));
    }
    write::serve(shared, &incoming, &caller)
}

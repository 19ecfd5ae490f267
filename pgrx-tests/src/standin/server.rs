//! Accepts connections, serves requests over them, and performs faults on them.
//!
//! A connection is handled by one task that also listens to its own requests, so that a fault can end it in a way that
//! HTTP does not provide for.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming as IncomingBody;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

use super::cors;
use super::dispatch::{self, dispatch};
use super::fault::Fault;
use super::journal::JournalEntry;
use super::reply::Reply;
use super::route::{route, Call};
use super::shared::Shared;
use super::wire::{self, Envelope, ReplyBody};

/// How a request ends its connection.
#[derive(Clone, Copy, Debug)]
enum End {
    Close,
    Reset,
}

/// What the requests of a connection know about it.
struct Connection {
    host: usize,
    shared: Arc<Shared>,
    end: mpsc::UnboundedSender<End>,
    busy: watch::Sender<usize>,
}

/// Accepts connections while the runtime lives, with TLS if an acceptor is given.
pub(super) async fn listen(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    host: usize,
    shared: Arc<Shared>,
) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                let (tls, shared) = (tls.clone(), Arc::clone(&shared));
                tokio::spawn(async move {
                    match tls {
                        None => connection(stream, |stream| stream, host, shared).await,
                        // The client does not trust the certificate and has disconnected.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                connection(stream, |stream| stream.get_ref().0, host, shared).await;
                            }
                        }
                    }
                });
            }
            // For instance, there are no file descriptors left. Wait a moment, then try again.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Serves the requests of a connection. `tcp` is its underlying connection.
async fn connection<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: S,
    tcp: fn(&S) -> &TcpStream,
    host: usize,
    shared: Arc<Shared>,
) {
    let idle_close = shared.config.idle_close;
    let (end, mut ends) = mpsc::unbounded_channel();
    let busy = watch::Sender::new(0);
    let mut activity = busy.subscribe();
    let this = Arc::new(Connection { host, shared, end, busy });
    let service = service_fn(move |request| answer(Arc::clone(&this), request));
    let mut http = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let end = loop {
        let idle = async {
            match idle_close {
                Some(time) if *activity.borrow_and_update() == 0 => tokio::select! {
                    () = tokio::time::sleep(time) => true,
                    _ = activity.changed() => false,
                },
                _ => activity.changed().await.is_err(),
            }
        };
        tokio::select! {
            _ = &mut http => return,
            end = ends.recv() => break end.unwrap_or(End::Close),
            expired = idle => if expired { break End::Close },
        }
    };
    let stream = http.into_parts().io.into_inner();
    if matches!(end, End::Reset) {
        let _ = tcp(&stream).set_zero_linger();
    }
}

/// Counts a request as under way until dropped.
struct Busy<'a>(&'a watch::Sender<usize>);

impl<'a> Busy<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Busy(count)
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

/// Counts a request as hanging until dropped, even if the client gives up first.
struct Hanging {
    shared: Arc<Shared>,
    index: String,
}

impl Hanging {
    fn new(shared: &Arc<Shared>, index: &str) -> Self {
        *shared.hanging().entry(index.to_owned()).or_default() += 1;
        Hanging { shared: Arc::clone(shared), index: index.to_owned() }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        if let Some(count) = self.shared.hanging().get_mut(&self.index) {
            *count -= 1;
        }
    }
}

impl Connection {
    /// Ends the connection. The request that called this does not continue.
    async fn finish(&self, end: End) -> ! {
        let _ = self.end.send(end);
        pending().await
    }
}

/// A request with its body, and what its answer needs.
struct Received {
    request: dispatch::Request,
    envelope: Envelope,
    release: watch::Receiver<u64>,
}

async fn answer(
    connection: Arc<Connection>,
    request: Request<IncomingBody>,
) -> Result<Response<ReplyBody>, io::Error> {
    let _busy = Busy::new(&connection.busy);
    if cors::is_preflight(&request) {
        return Ok(wire::whole(cors::preflight(request.headers()), &Envelope::default()));
    }
    let shared = &connection.shared;
    let mut received = receive(&connection, request).await?;
    let (index, call) = match &received.request.route {
        Some(route) => (route.index.as_str(), Some(route.call)),
        None => ("", None),
    };
    let writes = call.is_some_and(Call::writes);
    let body = received.request.body.as_deref().unwrap_or_default();
    let fault = shared.faults().take(connection.host, index, call, body);
    if let Some(Fault::ServeLate(time)) = fault {
        let mut release = received.release.clone();
        let index = index.to_owned();
        let late = Hanging::new(shared, &index);
        tokio::spawn(serve_late(late, received, time));
        hang(&connection, &index, &mut release).await;
    }
    if let Some(reply) = before(&connection, fault.as_ref(), index, &mut received.release).await {
        shared.engine().journal.answered(received.request.entry, reply.status);
        return Ok(wire::whole(reply, &received.envelope));
    }
    let reply = dispatch(shared, &received.request, fault.as_ref());
    if writes {
        let latency = shared.latency.get();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
    }
    let reply = match &fault {
        Some(Fault::EmptyNoContent) => Reply::empty(204),
        _ => reply,
    };
    match &fault {
        Some(Fault::AcceptThenDrop) => connection.finish(End::Close).await,
        Some(Fault::AcceptThenHang) => hang(&connection, index, &mut received.release).await,
        _ => {}
    }
    shared.engine().journal.answered(received.request.entry, reply.status);
    Ok(match fault {
        Some(Fault::SlowBody(time)) => wire::slow(reply, &received.envelope, time),
        Some(Fault::StallBody) => {
            let hanging = Hanging::new(shared, index);
            wire::stalled(reply, &received.envelope, received.release, hanging)
        }
        Some(Fault::Truncate) => wire::truncated(reply, &received.envelope),
        Some(Fault::EndlessBody) => wire::endless(&reply, &received.envelope, received.release),
        _ => wire::whole(reply, &received.envelope),
    })
}

/// Reads the body and records the request in the journal.
async fn receive(connection: &Connection, request: Request<IncomingBody>) -> Result<Received, io::Error> {
    let (parts, body) = request.into_parts();
    let raw = body.collect().await.map_err(io::Error::other)?.to_bytes();
    let shared = &connection.shared;
    let light = shared.config.light;
    let body_bytes = raw.len();
    let body = wire::unpack(&parts.headers, raw, shared.config.gzip);
    let decoded = body.as_ref().ok().cloned().unwrap_or_default();
    let headers = parts.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let entry = JournalEntry {
        method: parts.method.to_string(),
        path: parts.uri.path_and_query().map_or_else(String::new, ToString::to_string),
        host: connection.host,
        headers: if light { Vec::new() } else { headers.collect() },
        body_bytes,
        decoded_bytes: decoded.len(),
        body: if light { Bytes::new() } else { decoded },
        status: None,
        at: Instant::now(),
    };
    // Subscribes before the request becomes visible, so that no release afterwards is missed.
    let release = shared.release.subscribe();
    let entry = shared.engine().journal.open(entry);
    let query = parts.uri.query().unwrap_or_default();
    let gzip = wire::header(&parts.headers, "accept-encoding").is_some_and(|list| list.contains("gzip"));
    let correlation = wire::correlation(&parts.headers, query, entry.at);
    let route = route(parts.method.as_str(), parts.uri.path(), query);
    Ok(Received {
        request: dispatch::Request { headers: parts.headers, route, body, entry },
        envelope: Envelope { correlation, gzip: gzip && !light },
        release,
    })
}

/// Performs a fault that comes before the request is served. Returns the answer if nothing is to be applied.
async fn before(
    connection: &Connection,
    fault: Option<&Fault>,
    index: &str,
    release: &mut watch::Receiver<u64>,
) -> Option<Reply> {
    match fault? {
        Fault::Hang => hang(connection, index, release).await,
        Fault::HangFor(time) => {
            let _hanging = Hanging::new(&connection.shared, index);
            let _ = tokio::time::timeout(*time, release.changed()).await;
            None
        }
        Fault::Reset => connection.finish(End::Reset).await,
        Fault::Status { code, body, headers } => Some(Reply::scripted(*code, body.clone(), headers.clone())),
        Fault::Redirect(url) => {
            let mut reply = Reply::empty(307);
            reply.headers.push(("Location".to_owned(), url.clone()));
            Some(reply)
        }
        _ => None,
    }
}

/// Hangs until released, then closes the connection.
async fn hang(connection: &Connection, index: &str, release: &mut watch::Receiver<u64>) -> ! {
    {
        let _hanging = Hanging::new(&connection.shared, index);
        let _ = release.changed().await;
    }
    connection.finish(End::Close).await
}

/// Serves a request after its client has probably disconnected. Until then it counts as hanging.
async fn serve_late(hanging: Hanging, received: Received, time: Duration) {
    tokio::time::sleep(time).await;
    dispatch(&hanging.shared, &received.request, None);
}

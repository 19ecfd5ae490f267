//! What happens between bytes and requests: compression, headers, and bodies that faults can change.

use std::future::Future;
use std::io::{self, Read, Write};
use std::time::Duration;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use flate2::Compression;
use futures_util::stream::{poll_fn, TryStreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{HeaderName, HeaderValue, CONTENT_LENGTH, CONTENT_TYPE};
use hyper::{HeaderMap, Response, StatusCode};
use tokio::sync::{mpsc, watch};

use super::config::Gzip;
use super::cors;
use super::reply::{Refusal, Reply};
use super::route::parse_query;

/// A complete body, or one that is sent in pieces and may break off.
pub(super) type ReplyBody = BoxBody<Bytes, io::Error>;

fn in_one(bytes: Bytes) -> ReplyBody {
    Full::new(bytes).map_err(|never| match never {}).boxed()
}

/// Sends the body in the pieces that a task produces.
fn in_pieces<F: Future<Output = ()> + Send + 'static>(
    response: Response<ReplyBody>,
    send: impl FnOnce(mpsc::Sender<io::Result<Bytes>>) -> F,
) -> Response<ReplyBody> {
    let (sender, mut receiver) = mpsc::channel(1);
    tokio::spawn(send(sender));
    let pieces = poll_fn(move |context| receiver.poll_recv(context)).map_ok(Frame::data);
    response.map(|_| BodyExt::boxed(StreamBody::new(pieces)))
}

/// The body of a request, decompressed if its headers say so and that is allowed.
pub(super) fn unpack(headers: &HeaderMap, body: Bytes, gzip: Gzip) -> Result<Bytes, Refusal> {
    match header(headers, "content-encoding") {
        None | Some("identity") => Ok(body),
        Some("gzip") if gzip == Gzip::Ignored => Ok(body),
        Some("gzip") if gzip == Gzip::Read => {
            let mut out = Vec::with_capacity(body.len() * 4);
            MultiGzDecoder::new(body.as_ref())
                .read_to_end(&mut out)
                .map_err(|_| Refusal::bad("Invalid gzip in the request body"))?;
            Ok(out.into())
        }
        Some(other) => Err(Refusal::new(415, format!("unrecognized Content-Encoding: {other}"))),
    }
}

/// A header as text.
pub(super) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// The Correlation-ID. It ends in the Request-ID if that has the right form.
pub(super) fn correlation(headers: &HeaderMap, query: &str, number: usize) -> String {
    let own = format!("{:016x}", number);
    let from_query = parse_query(query).remove("x-algolia-request-id");
    let id = header(headers, "request-id").map(str::to_owned).or(from_query);
    match id {
        Some(id) if id.len() == 11 && id.bytes().all(|b| b.is_ascii_alphanumeric()) => format!("{own}-{id}"),
        _ => own,
    }
}

/// What an answer carries besides the reply.
#[derive(Default)]
pub(super) struct Envelope {
    pub(super) correlation: String,
    pub(super) gzip: bool,
}

/// The complete answer.
pub(super) fn whole(reply: Reply, envelope: &Envelope) -> Response<ReplyBody> {
    let packed = if envelope.gzip && !reply.body.is_empty() { pack(&reply.body) } else { None };
    let mut response = head(&reply, envelope);
    if packed.is_some() {
        response.headers_mut().insert("content-encoding", HeaderValue::from_static("gzip"));
    }
    response.map(|_| in_one(packed.unwrap_or(reply.body)))
}

/// The answer, with its body spread over `time`.
pub(super) fn slow(reply: Reply, envelope: &Envelope, time: Duration) -> Response<ReplyBody> {
    const PIECES: usize = 10;
    in_pieces(announced(&reply, envelope), move |sender| async move {
        for piece in reply.body.chunks(reply.body.len().div_ceil(PIECES).max(1)) {
            tokio::time::sleep(time / PIECES as u32).await;
            if sender.send(Ok(Bytes::copy_from_slice(piece))).await.is_err() {
                return;
            }
        }
    })
}

/// The head of the answer. Its body follows when `release` changes. `while_it_hangs` is kept until then, or until the
/// client disconnects.
pub(super) fn stalled<T: Send + 'static>(
    reply: Reply,
    envelope: &Envelope,
    mut release: watch::Receiver<u64>,
    while_it_hangs: T,
) -> Response<ReplyBody> {
    in_pieces(announced(&reply, envelope), move |sender| async move {
        tokio::select! {
            _ = release.changed() => {}
            () = sender.closed() => {}
        }
        drop(while_it_hangs);
        let _ = sender.send(Ok(reply.body)).await;
    })
}

/// The first half of the answer, after which the connection breaks.
pub(super) fn truncated(reply: Reply, envelope: &Envelope) -> Response<ReplyBody> {
    in_pieces(announced(&reply, envelope), move |sender| async move {
        if sender.send(Ok(reply.body.slice(..reply.body.len() / 2))).await.is_ok() {
            // Waits until the half has been sent, because an error right away would discard it.
            let _ = sender.reserve().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            let _ = sender.send(Err(io::Error::other("truncated by a scripted fault"))).await;
        }
    })
}

/// A body without an end, until it is released or the client disconnects.
pub(super) fn endless(
    reply: &Reply,
    envelope: &Envelope,
    mut release: watch::Receiver<u64>,
) -> Response<ReplyBody> {
    in_pieces(head(reply, envelope), move |sender| async move {
        let blank = Bytes::from(vec![b' '; 16 * 1024]);
        loop {
            tokio::select! {
                _ = release.changed() => return,
                sent = sender.send(Ok(blank.clone())) => if sent.is_err() { return },
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

fn announced(reply: &Reply, envelope: &Envelope) -> Response<ReplyBody> {
    let mut response = head(reply, envelope);
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    response
}

fn head(reply: &Reply, envelope: &Envelope) -> Response<ReplyBody> {
    let mut response = Response::new(in_one(Bytes::new()));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    cors::open(headers);
    if !reply.body.is_empty() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(reply.content_type));
    }
    if let Ok(value) = HeaderValue::from_str(&envelope.correlation) {
        headers.insert("correlation-id", value);
    }
    for (name, value) in &reply.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name.as_str()), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
    response
}

fn pack(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 2), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

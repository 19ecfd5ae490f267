//! The client against servers on loopback that misbehave.
#![forbid(unsafe_code)]

mod answers;
mod hostile;
mod tls;

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use super::*;
use crate::delivery::host_url::{parse_hosts, HostUrl};
use crate::secret::Secret;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}";

/// A server that passes each connection to the closure, with its number.
fn serve(behave: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> HostUrl {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let behave = Arc::new(behave);
    thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let behave = Arc::clone(&behave);
            thread::spawn(move || behave(number, stream.unwrap()));
        }
    });
    parse_hosts(&url).unwrap().remove(0)
}

/// Reads one request and returns it as text; `None` at the end of the connection.
fn read_request(stream: &mut impl Read) -> Option<String> {
    let mut reader = BufReader::with_capacity(1, stream);
    let (mut text, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        text.push_str(&line);
        if line == "\r\n" {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(text + &String::from_utf8_lossy(&body))
}

fn client() -> HttpClient {
    HttpClient::new(4, None).unwrap()
}

fn post_with(
    client: &HttpClient,
    host: &HostUrl,
    change: impl FnOnce(&mut Request<'_>),
) -> Result<Response, TransportError> {
    let key = Secret::new("k3y");
    let mut request = Request {
        method: Method::Post,
        host,
        path: "/1/indexes/a%20b/batch",
        headers: &[
            ("content-type", "application/json"),
            ("accept-encoding", "gzip"),
            ("user-agent", "Algolia for x (1)"),
        ],
        api_key: &key,
        body: b"[1]",
        connect_timeout: Duration::from_millis(500),
        request_timeout: Duration::from_secs(10),
        answer_timeout: Duration::from_secs(10),
        response_limit: 1000,
        fresh_connection: false,
    };
    change(&mut request);
    client.send(&request)
}

fn post(client: &HttpClient, host: &HostUrl) -> Result<Response, TransportError> {
    post_with(client, host, |_| ())
}

/// A server that sends the same answer to every request, and reports the requests.
fn echo(answer: &'static [u8]) -> (HostUrl, Receiver<(usize, String)>) {
    let (told, asked): (Sender<(usize, String)>, _) = channel();
    let told = std::sync::Mutex::new(told);
    let host = serve(move |number, mut stream| {
        while let Some(request) = read_request(&mut stream) {
            told.lock().unwrap().send((number, request)).unwrap();
            stream.write_all(answer).unwrap();
        }
    });
    (host, asked)
}

#[test]
fn a_request_carries_its_headers_once_and_its_body() {
    let (host, asked) = echo(OK);
    let response = post(&client(), &host).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (200, &b"{}"[..]));
    assert_eq!(response.content_type.as_deref(), Some("application/json"));
    let request = asked.recv().unwrap().1;
    assert!(request.starts_with("POST /1/indexes/a%20b/batch HTTP/1.1\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\n[1]"), "{request}");
    for header in [
        "x-algolia-api-key: k3y",
        "user-agent: Algolia for x (1)",
        "accept-encoding: gzip",
        "content-length: 3",
    ] {
        assert_eq!(
            request.to_lowercase().matches(&header.to_lowercase()).count(),
            1,
            "{header} in {request}"
        );
    }
    assert_eq!(request.to_lowercase().matches("user-agent").count(), 1);
}

#[test]
fn a_connection_is_kept_and_used_again_unless_a_fresh_one_is_wanted() {
    let (host, asked) = echo(OK);
    let client = client();
    post(&client, &host).unwrap();
    post(&client, &host).unwrap();
    post_with(&client, &host, |request| request.fresh_connection = true).unwrap();
    let connections: Vec<_> = (0..3).map(|_| asked.recv().unwrap().0).collect();
    assert_eq!(connections, [0, 0, 1]);
}

#[test]
fn each_of_several_threads_keeps_its_connection() {
    let (host, asked) = echo(OK);
    let client = client();
    let gate = std::sync::Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20 {
                    gate.wait();
                    post(&client, &host).unwrap();
                }
            });
        }
    });
    drop(client);
    let connections: std::collections::HashSet<_> = (0..80).map(|_| asked.recv().unwrap().0).collect();
    assert!(connections.len() <= 4, "{connections:?}");
}

#[test]
fn a_host_that_hangs_times_out() {
    let (hold, held) = channel::<()>();
    let held = std::sync::Mutex::new(held);
    let host = serve(move |_, mut stream| {
        read_request(&mut stream);
        let _ = held.lock().unwrap().recv();
    });
    let start = Instant::now();
    let error = post_with(&client(), &host, |r| r.request_timeout = Duration::from_millis(250)).unwrap_err();
    assert_eq!(error, TransportError::Timeout("no answer within 0.25 s".into()));
    assert!(start.elapsed() < Duration::from_secs(5));
    drop(hold);
}

#[test]
fn an_answer_has_to_begin_soon_and_may_take_longer_as_a_whole() {
    let host = serve(|number, mut stream| {
        read_request(&mut stream);
        let waits = if number == 0 { [400, 0] } else { [0, 400] };
        for (wait, part) in waits.into_iter().zip([&OK[..OK.len() - 1], &OK[OK.len() - 1..]]) {
            thread::sleep(Duration::from_millis(wait));
            let _ = stream.write_all(part);
        }
    });
    let ask = || post_with(&client(), &host, |r| r.answer_timeout = Duration::from_millis(200));
    assert_eq!(ask().unwrap_err(), TransportError::Timeout("no answer within 0.2 s".into()));
    assert_eq!(ask().unwrap().body, b"{}");
}

#[test]
fn a_host_that_trickles_times_out_as_a_whole() {
    let host = serve(|_, mut stream| {
        read_request(&mut stream);
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n");
        while alive.is_ok() {
            thread::sleep(Duration::from_millis(20));
            alive = stream.write_all(b" ");
        }
    });
    let error = post_with(&client(), &host, |r| r.request_timeout = Duration::from_millis(300)).unwrap_err();
    assert_eq!(error, TransportError::Timeout("no answer within 0.3 s".into()));
}

#[test]
fn nobody_there_is_a_connect_error() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let host = parse_hosts(&format!("http://{unused}")).unwrap().remove(0);
    assert_eq!(post(&client(), &host).unwrap_err(), TransportError::Connect("connection refused".into()));
    let nowhere = parse_hosts("http://host.invalid").unwrap().remove(0);
    let error = post_with(&client(), &nowhere, |r| r.connect_timeout = Duration::from_secs(5)).unwrap_err();
    assert!(matches!(error, TransportError::Connect(_) | TransportError::Timeout(_)), "{error:?}");
}

#[test]
fn a_broken_connection_is_a_reset() {
    let host = serve(|_, mut stream| {
        read_request(&mut stream);
    });
    assert!(matches!(post(&client(), &host).unwrap_err(), TransportError::Reset(_)));
    let truncated = serve(|_, mut stream| {
        read_request(&mut stream);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\nnot all").unwrap();
    });
    assert!(matches!(post(&client(), &truncated).unwrap_err(), TransportError::Reset(_)));
}

#[test]
fn a_kept_connection_that_breaks_can_be_replaced_at_once() {
    // The first connection answers once and breaks at the second request, like one that was idle for too long.
    let host = serve(|number, mut stream| {
        while read_request(&mut stream).is_some() {
            stream.write_all(OK).unwrap();
            if number == 0 {
                read_request(&mut stream);
                return;
            }
        }
    });
    let client = client();
    post(&client, &host).unwrap();
    assert!(matches!(post(&client, &host).unwrap_err(), TransportError::Reset(_)));
    assert_eq!(post_with(&client, &host, |r| r.fresh_connection = true).unwrap().status, 200);
}

#[test]
fn a_redirect_is_a_response_like_any_other() {
    let (elsewhere, visited) = echo(OK);
    let host = serve(move |_, mut stream| {
        while read_request(&mut stream).is_some() {
            let answer = format!("HTTP/1.1 307 Moved\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    assert_eq!(post(&client(), &host).unwrap().status, 307);
    assert!(visited.try_recv().is_err());
}

#[test]
fn a_refusal_is_a_response_with_its_headers() {
    let (host, _asked) = echo(
        b"HTTP/1.1 429 Too Many\r\nRetry-After: 7\r\nCorrelation-ID: c-1\r\ncontent-length: 3\r\n\r\nno!",
    );
    let response = post(&client(), &host).unwrap();
    assert_eq!((response.status, response.body.as_slice()), (429, &b"no!"[..]));
    assert_eq!(
        (response.retry_after.as_deref(), response.correlation_id.as_deref()),
        (Some("7"), Some("c-1"))
    );
}

#[test]
fn shutting_down_ends_requests_in_flight_and_refuses_new_ones() {
    let (arrived, arrivals) = channel();
    let arrived = std::sync::Mutex::new(arrived);
    let host = serve(move |_, mut stream| {
        read_request(&mut stream);
        arrived.lock().unwrap().send(()).unwrap();
        read_request(&mut stream);
    });
    let client = client();
    thread::scope(|scope| {
        let waiting =
            scope.spawn(|| post_with(&client, &host, |r| r.request_timeout = Duration::from_secs(60)));
        arrivals.recv().unwrap();
        client.shutdown();
        assert_eq!(waiting.join().unwrap().unwrap_err(), TransportError::Closed);
    });
    assert_eq!(post(&client, &host).unwrap_err(), TransportError::Closed);
}

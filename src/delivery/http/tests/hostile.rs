//! Malicious or broken hosts: whatever they send is bounded in time and memory.
#![forbid(unsafe_code)]

use super::*;

/// A host that sends `start`, and then `piece` again and again with a pause between.
fn drip(start: &'static [u8], piece: &'static [u8], pause: Duration) -> HostUrl {
    serve(move |_, mut stream| {
        read_request(&mut stream);
        let mut alive = stream.write_all(start);
        while alive.is_ok() {
            thread::sleep(pause);
            alive = stream.write_all(piece);
        }
    })
}

/// Asserts that an attempt ends with an error soon after its timeout, and returns the error.
#[track_caller]
fn gives_up(host: &HostUrl) -> TransportError {
    let start = Instant::now();
    let error = post_with(&client(), host, |r| r.request_timeout = Duration::from_millis(300)).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    error
}

#[test]
fn an_answer_that_drips_is_given_up_as_a_whole_wherever_it_drips() {
    let slowly = Duration::from_millis(20);
    for (start, piece) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n"[..], &b" "[..]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x: y\r\n"),
        (b"HTTP/1.1 200 O", b"K"),
        (b"", b"H"),
        (b"", b"\r\n"),
    ] {
        let error = gives_up(&drip(start, piece, slowly));
        // What cannot be valid HTTP any more may fail earlier.
        assert!(
            matches!(error, TransportError::Timeout(_) | TransportError::Other(_)),
            "{start:?}: {error:?}"
        );
    }
}

#[test]
fn of_an_endless_refusal_only_the_beginning_is_read() {
    let start = b"HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\n";
    let host = drip(start, b"10\r\n<html>again and \r\n", Duration::ZERO);
    let wide = |request: &mut Request<'_>| request.response_limit = usize::MAX;
    let response = post_with(&client(), &host, wide).unwrap();
    assert_eq!((response.status, response.body.len()), (403, 256 << 10));
}

#[test]
fn an_endless_row_of_interim_answers_is_given_up() {
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        gives_up(&drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n", pause));
        gives_up(&drip(b"", b"HTTP/1.1 102 Processing\r\n\r\n", pause));
    }
}

#[test]
fn an_endless_status_line_and_endless_chunks_are_cut_off() {
    for (start, piece) in [
        (&b"HTTP/1.1 200 "[..], &[b'O'; 4096][..]),
        (b"HTTP/1.1 200 OK\r\nx: ", &[b'y'; 4096]),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"0000000000"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1;", &[b'e'; 4096]),
    ] {
        let host = drip(start, piece, Duration::ZERO);
        let begun = Instant::now();
        let answer = post_with(&client(), &host, |r| r.request_timeout = Duration::from_secs(2));
        assert!(answer.is_err(), "{start:?}: {answer:?}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}

#[test]
fn numbers_that_lie_about_the_length_do_no_harm() {
    for head in [
        "content-length: 18446744073709551615",
        "content-length: 99999999999999999999999",
        "content-length: -1",
        "content-length: 2\r\ncontent-length: 3",
        "transfer-encoding: chunked\r\ncontent-length: 2",
        "content-encoding: gzip\r\ncontent-length: 0",
    ] {
        let host = serve(move |_, mut stream| {
            read_request(&mut stream);
            let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{{}}").as_bytes());
        });
        let answer = post_with(&client(), &host, |r| r.request_timeout = Duration::from_millis(500));
        // At most two bytes can be read, whatever the header says.
        assert!(answer.map_or(0, |answer| answer.body.len()) <= 2, "{head}");
    }
}

#[test]
fn an_interim_answer_is_followed_by_the_real_one() {
    let (host, _asked) = echo(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
    match post(&client(), &host) {
        Ok(response) => assert!([100, 200].contains(&response.status), "{response:?}"),
        // It was not requested, so it can be refused or ignored. The batch is sent again.
        Err(error) => assert!(matches!(error, TransportError::Other(_)), "{error:?}"),
    }
}

#[test]
fn answers_without_a_body_are_answers() {
    for (answer, status) in [
        (&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], 200),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", 407),
    ] {
        let (host, _asked) = echo(answer);
        let response = post(&client(), &host).unwrap();
        assert_eq!((response.status, response.body.len()), (status, 0));
    }
}

#[test]
fn a_proxy_that_wants_credentials_is_told_of() {
    let (proxy, asked) =
        echo(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 6\r\n\r\nk3y me");
    let config = Agent::config_builder().proxy(Some(ureq::Proxy::new(proxy.as_str()).unwrap())).build();
    let agent = Agent::with_parts(config, DefaultConnector::default(), DnsCache::default());
    let client = HttpClient { agent, dns_cache: DnsCache::default(), closed: AtomicBool::new(false) };
    let host = parse_hosts("https://127.0.0.1:1").unwrap().remove(0);
    let error = post(&client, &host).unwrap_err();
    assert_eq!(error, TransportError::Connect("no connection through the proxy".into()));
    let request = asked.recv().unwrap().1;
    assert!(request.starts_with("CONNECT 127.0.0.1:1 "), "{request}");
    assert!(!request.contains("k3y"), "the key is for nobody but the host: {request}");
}

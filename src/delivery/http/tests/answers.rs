//! How answers are read: compressed, too long, or not HTTP.

use super::*;

fn zipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

fn serve_gzip(body: Vec<u8>) -> HostUrl {
    serve(move |_, mut stream| {
        while read_request(&mut stream).is_some() {
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(&body).unwrap();
        }
    })
}

#[test]
fn answers_are_decompressed_within_their_limit() {
    let exact = vec![b'a'; 1000];
    assert_eq!(post(&client(), &serve_gzip(zipped(&exact))).unwrap().body, exact);
    let error = post(&client(), &serve_gzip(zipped(&[b'a'; 1001]))).unwrap_err();
    assert_eq!(error, TransportError::BodyTooLarge("answer is longer than 1000 bytes".into()));
    let error = post(&client(), &serve_gzip(b"not gzip".to_vec())).unwrap_err();
    assert_eq!(error, TransportError::Other("answer cannot be decompressed".into()));
}

#[test]
fn an_endless_answer_is_cut_off() {
    let host = serve(|_, mut stream| {
        read_request(&mut stream);
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
        while alive.is_ok() {
            alive = stream.write_all(b"4\r\nmore\r\n");
        }
    });
    assert!(matches!(post(&client(), &host).unwrap_err(), TransportError::BodyTooLarge(_)));
    let header = serve(|_, mut stream| {
        read_request(&mut stream);
        let mut alive = stream.write_all(b"HTTP/1.1 200 OK\r\n");
        while alive.is_ok() {
            alive = stream.write_all(b"x-more: more\r\n");
        }
    });
    let error = post(&client(), &header).unwrap_err();
    assert!(matches!(error, TransportError::BodyTooLarge(_) | TransportError::Other(_)), "{error:?}");
}

#[test]
fn a_host_that_does_not_speak_http_is_an_error() {
    let (host, _asked) = echo(b"SSH-2.0-OpenSSH_9.6\r\n\r\n");
    assert_eq!(post(&client(), &host).unwrap_err(), TransportError::Other("answer is not HTTP".into()));
}

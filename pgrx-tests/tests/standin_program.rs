//! The stand-in as a program of its own.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use audit_algolia::secret::Secret;
use audit_algolia::secured_key::{secured_key, Restrictions};
use serde_json::json;
use support::{add, batch, Client};

#[test]
fn the_program_serves_until_its_input_is_closed() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_standin"))
        .args(["--hosts", "2", "--light", "--key", "k"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for _ in 0..2 {
        let url = lines.next().expect("a URL for each host").expect("text");
        assert_eq!(Client::to(&url).with_key("k").get("/1/indexes").status, 200);
    }
    drop(child.stdin.take());
    assert!(child.wait().expect("an end").success());
}

#[test]
fn the_address_over_tls_comes_last_and_names_who_vouches_for_it() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_standin"))
        .args(["--https", "--light"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let urls: Vec<String> = lines.by_ref().take(2).collect();
    assert!(urls[0].starts_with("http://") && urls[1].starts_with("https://"), "{urls:?}");
    let mut input = child.stdin.take().expect("piped");
    writeln!(input, "authority").expect("it listens");
    let count = lines.next().expect("a count").parse().expect("a count");
    let pem: Vec<String> = lines.by_ref().take(count).collect();
    assert!(pem[0].contains("BEGIN CERTIFICATE") && pem[count - 1].contains("END CERTIFICATE"), "{pem:?}");
    assert_eq!(Client::to(&urls[0]).get("/1/indexes").status, 200);
    writeln!(input, "requests").expect("it listens");
    assert_eq!(lines.next().as_deref(), Some("1"));
    drop(input);
    assert!(child.wait().expect("an end").success());
}

#[test]
fn each_key_of_the_command_line_may_do_what_stands_behind_it() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_standin"))
        .args(["--key", "admin", "--key", "reader:search,browse:audit_*", "--key", "writer:addObject"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let url =
        BufReader::new(child.stdout.take().expect("piped")).lines().next().expect("a URL").expect("text");
    let client = Client::to(&url);
    let (admin, reader, writer) =
        (client.with_key("admin"), client.with_key("reader"), client.with_key("writer"));
    for index in ["audit_a", "other"] {
        assert_eq!(batch(&writer, index, add([json!({"objectID": "1"})])).status, 200);
        assert_eq!(admin.get(&format!("/1/indexes/{index}/settings")).status, 200);
        assert_eq!(reader.get(&format!("/1/indexes/{index}/settings")).status, 403);
    }
    let read = |client: &Client, index: &str, how: &str| {
        client.post(&format!("/1/indexes/{index}/{how}"), &json!({})).status
    };
    assert_eq!([read(&reader, "audit_a", "query"), read(&reader, "audit_a", "browse")], [200, 200]);
    assert_eq!([read(&reader, "other", "query"), read(&writer, "audit_a", "query")], [403, 403]);
    assert_eq!(batch(&reader, "audit_a", add([json!({"objectID": "2"})])).status, 403);
    let restrictions = Restrictions { filters: "objectID:2".to_owned(), ..Restrictions::default() };
    let secured = secured_key(&Secret::new("reader"), &restrictions).expect("a key");
    let hits =
        |key: &str| client.with_key(key).post("/1/indexes/audit_a/query", &json!({})).json["nbHits"].clone();
    assert_eq!([hits("reader"), hits(&secured)], [json!(1), json!(0)]);
    assert_eq!(
        client.post("/1/indexes/audit_a/query", &json!({})).status,
        403,
        "the usual key is none of them"
    );
    drop(child.stdin.take());
    assert!(child.wait().expect("an end").success());
}

#[test]
fn a_key_with_a_right_that_does_not_exist_is_explained() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_standin")).args(["--key", "k:serach"]).output().expect("it runs");
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("serach") && said.contains("editSettings"), "{said}");
}

#[test]
fn a_wrong_option_is_explained() {
    let output = Command::new(env!("CARGO_BIN_EXE_standin")).arg("--nonsense=1").output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nonsense=1"));
}

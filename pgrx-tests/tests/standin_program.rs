//! The stand-in as a program of its own.

mod support;

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use support::Client;

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
fn a_wrong_option_is_explained() {
    let output = Command::new(env!("CARGO_BIN_EXE_standin")).arg("--nonsense=1").output().expect("it runs");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("--nonsense=1"));
}

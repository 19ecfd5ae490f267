//! The demo runs from beginning to end, prints what it should, and leaves nothing behind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use audit_algolia_tests::page::lacks;
use audit_algolia_tests::server::clusters_folder;
use audit_algolia_tests::wait::wait_until;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

#[allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
fn demo(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_dev"))
        .arg("demo")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The clusters' folders that the process has created.
fn folders_of(process: u32) -> Vec<String> {
    let names = fs::read_dir(clusters_folder()).into_iter().flatten().flatten();
    names
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with(&format!("{process}-")))
        .collect()
}

/// Processes whose command line or working folder names a cluster of the process.
fn processes_of(process: u32) -> Vec<String> {
    let folder = clusters_folder().join(format!("{process}-"));
    let folder = folder.to_string_lossy().into_owned();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    all.filter_map(|entry| {
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).replace('\0', " ");
        let place = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        (command.contains(&folder) || place.to_string_lossy().starts_with(&folder)).then_some(command)
    })
    .collect()
}

#[test]
fn the_demo_shows_everything_and_leaves_nothing() {
    let child = demo(&["--rows", "1500"]);
    let process = child.id();
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert!(output.status.success(), "{said}");
    for line in [
        "1,500 changes in ",
        "1,500 records queued in one transaction",
        "committed during the drain arrived after ",
        "older rows still waiting",
        "a write with it is answered 403",
        "Who made the most changes?",
        "as many records in the index",
        "no address and no author's name in any of them",
        "1,504 changes delivered; the demo is complete.",
    ] {
        assert!(said.contains(line), "the demo did not say: {line}\n{said}");
    }
    let controls = said.chars().filter(|one| one.is_control() && *one != '\n').count();
    assert_eq!(controls, 0, "a log has control characters in it");
    if lacks(false).is_empty() {
        assert!(said.contains("#key=") && said.contains("cargo demo --keep leaves it there"), "{said}");
    } else {
        assert!(said.contains("The page is left out. "), "{said}");
    }
    // The page's address is as long as the key in it.
    let widest = said.lines().filter(|line| !line.contains("#key=")).map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "a line has {widest:?} characters\n{said}");
    assert_eq!(folders_of(process), [""; 0]);
    assert_eq!(processes_of(process), [""; 0]);
}

#[test]
fn a_signal_ends_the_demo_and_all_of_it() {
    let child = demo(&["--rows", "400", "--keep"]);
    let process = child.id();
    wait_until("a cluster", Duration::from_secs(240), || !folders_of(process).is_empty());
    end(child);
}

#[test]
fn the_kept_demo_serves_a_page_that_finds_the_examples() {
    let mut child = demo(&["--rows", "400", "--keep"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let link =
        lines.by_ref().find(|line| line.contains("#key=")).expect("the demo prints the page's address");
    let (page, key) = link.split_once("#key=").unwrap();
    let get = |url: &str| ureq::get(url).call().unwrap().body_mut().read_to_string().unwrap();
    assert!(get(page).contains("app.js"), "{}", get(page));
    let config: Value = serde_json::from_str(&get(&format!("{page}config.json"))).unwrap();
    let host = config["hosts"][0].as_str().unwrap();
    assert!(get(page).contains(host), "the page may ask {host}");
    let asked = ureq::post(format!("{host}/1/indexes/workspace_access/query"))
        .header("x-algolia-application-id", config["application_id"].as_str().unwrap())
        .header("x-algolia-api-key", key)
        .send(r#"{"filters": "authorized:false"}"#);
    let answer: Value = serde_json::from_str(&asked.unwrap().body_mut().read_to_string().unwrap()).unwrap();
    assert!(answer["nbHits"].as_u64() > Some(10), "{answer}");
    assert!(lines.any(|line| line.contains("Ctrl-C here")), "it stays");
    end(child);
}

/// Interrupts the demo, after which nothing of it is left.
#[allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]
#[track_caller]
fn end(child: Child) {
    let process = child.id();
    kill(Pid::from_raw(process as i32), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let status = output.status.code();
    assert!([Some(0), Some(130)].contains(&status), "{status:?}\n{}", text(&output));
    assert_eq!(folders_of(process), [""; 0]);
    assert_eq!(processes_of(process), [""; 0]);
}

//! The harness itself: clusters start, stop, follow one another, and leave nothing behind.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use audit_algolia_tests::server::{clusters_folder, Cluster, StopMode};
use audit_algolia_tests::wait::{eventually, wait_until};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use postgres::error::SqlState;

const SOON: Duration = Duration::from_secs(20);

fn plain() -> Cluster {
    Cluster::builder().preload(false).start().unwrap()
}

fn is_running(pid: u32) -> bool {
    // A process that has ended still has a PID until its parent waits for it.
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    state.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

#[test]
fn starts_as_an_unprivileged_user() {
    let cluster = plain();
    let meta = std::fs::metadata(format!("/proc/{}", cluster.pid().unwrap())).unwrap();
    assert_ne!(meta.uid(), 0);
    let row = cluster.client("postgres", "postgres").query_one("SELECT 40 + 2", &[]).unwrap();
    assert_eq!(row.get::<_, i32>(0), 42);
    assert!(cluster.log().contains("ready to accept connections"));
}

#[test]
fn takes_settings_at_the_start_and_while_it_runs() {
    let cluster = Cluster::builder()
        .preload(false)
        .setting("work_mem", "5MB")
        .setting("my.text", "it's")
        .start()
        .unwrap();
    let mut client = cluster.client("postgres", "postgres");
    let mut show = |name: &str| client.query_one(&format!("SHOW {name}"), &[]).unwrap().get::<_, String>(0);
    assert_eq!((show("work_mem"), show("my.text")), ("5MB".into(), "it's".into()));
    cluster.set(&[("work_mem", "6MB")]).unwrap();
    wait_until("the new setting", SOON, || show("work_mem") == "6MB");
}

#[test]
fn limits_the_address_space_of_each_process() {
    let cluster = Cluster::builder().preload(false).address_space(600 << 20).start().unwrap();
    let mut client = cluster.client("postgres", "postgres");
    let error = client.batch_execute("SELECT length(repeat('x', 500000000))").unwrap_err();
    assert_eq!(error.code(), Some(&SqlState::OUT_OF_MEMORY), "{error}");
    client.batch_execute("SELECT length(repeat('x', 5000000))").unwrap();
}

#[test]
fn stops_in_each_mode_and_starts_again() {
    let cluster = plain();
    for mode in [StopMode::Fast, StopMode::Immediate, StopMode::Smart] {
        let mut client = cluster.client("postgres", "postgres");
        client.batch_execute("CREATE TABLE IF NOT EXISTS kept (n int); INSERT INTO kept VALUES (1)").unwrap();
        if mode == StopMode::Smart {
            drop(client);
        }
        let mark = cluster.log_mark();
        let took = cluster.stop(mode).unwrap();
        assert!(took < SOON, "{mode:?} took {took:?}");
        assert!(cluster.pid().is_none());
        cluster.start().unwrap();
        let recovered = cluster.log_since(mark).contains("automatic recovery in progress");
        assert_eq!(recovered, mode == StopMode::Immediate);
    }
    let row = cluster.client("postgres", "postgres").query_one("SELECT count(*) FROM kept", &[]).unwrap();
    assert_eq!(row.get::<_, i64>(0), 3);
}

#[test]
fn reports_why_a_server_does_not_start() {
    let error = Cluster::builder().preload(false).setting("work_mem", "much").start().unwrap_err();
    assert!(format!("{error:#}").contains("work_mem"), "{error:#}");
}

#[test]
fn clusters_run_side_by_side() {
    let ports: Vec<u16> = thread::scope(|scope| {
        let start = || {
            let cluster = plain();
            cluster.client("postgres", "postgres").batch_execute("CREATE DATABASE mine").unwrap();
            cluster.client("mine", "postgres").batch_execute("SELECT 1").unwrap();
            cluster.port()
        };
        let running: Vec<_> = (0..2).map(|_| scope.spawn(start)).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_ne!(ports[0], ports[1]);
}

#[test]
fn a_folder_that_an_earlier_process_of_this_number_has_left_is_in_nobodys_way() {
    fs::create_dir_all(clusters_folder()).unwrap();
    let left: Vec<PathBuf> =
        (1..200).map(|n| clusters_folder().join(format!("{}-{n}", std::process::id()))).collect();
    let made: Vec<&PathBuf> = left.iter().filter(|path| fs::create_dir(path).is_ok()).collect();
    let cluster = plain();
    assert!(cluster.pid().is_some());
    assert!(made.iter().all(|path| path.is_dir() && !cluster.data_dir().starts_with(path)));
    made.iter().for_each(|path| fs::remove_dir(path).unwrap());
}

#[test]
fn a_backend_can_be_killed() {
    let cluster = plain();
    let mut client = cluster.client("postgres", "postgres");
    let pid: i32 = client.query_one("SELECT pg_backend_pid()", &[]).unwrap().get(0);
    cluster.kill_backend(pid, Signal::SIGTERM).unwrap();
    wait_until("the connection to break", SOON, || client.batch_execute("SELECT 1").is_err());
}

#[test]
fn a_standby_follows_and_takes_over() {
    let primary = plain();
    let mut writer = primary.client("postgres", "postgres");
    writer.batch_execute("CREATE TABLE events (n int)").unwrap();
    let standby = Cluster::standby_of(&primary).unwrap();
    writer.batch_execute("INSERT INTO events VALUES (7)").unwrap();
    let mut reader = standby.client("postgres", "postgres");
    let seen = eventually("the row on the standby", SOON, || {
        reader.query_opt("SELECT n FROM events", &[]).unwrap().map(|row| row.get::<_, i32>(0))
    });
    assert_eq!(seen, 7);
    primary.stop(StopMode::Immediate).unwrap();
    standby.promote().unwrap();
    reader.batch_execute("INSERT INTO events VALUES (8)").unwrap();
}

#[test]
fn a_drop_leaves_nothing() {
    let cluster = plain();
    let (pid, watchdog) = (cluster.pid().unwrap(), cluster.watchdog());
    let folder = cluster.socket_dir().to_path_buf();
    drop(cluster);
    assert!(!is_running(pid) && !is_running(watchdog) && !folder.exists());
}

#[test]
fn a_failed_test_keeps_the_folder_but_not_the_server() {
    let told = thread::spawn(|| {
        let cluster = plain();
        let seen = (cluster.pid().unwrap(), cluster.socket_dir().to_path_buf());
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _dropped_by_the_panic = cluster;
            std::panic::resume_unwind(Box::new("failed"));
        }))
        .unwrap_err();
        seen
    });
    let (pid, folder) = told.join().unwrap();
    assert!(!is_running(pid));
    assert!(folder.join("log").exists());
    std::fs::remove_dir_all(folder).unwrap();
}

/// Run as a process of its own by the two tests below; by itself it does nothing.
#[test]
fn owner_process() {
    if std::env::var_os("OWNS_A_CLUSTER").is_none() {
        return;
    }
    let cluster = plain();
    let (pid, watchdog) = (cluster.pid().unwrap(), cluster.watchdog());
    println!("\ncluster {pid} {watchdog} {}", cluster.socket_dir().display());
    std::io::stdout().flush().unwrap();
    // Until it or its parent is killed.
    let _ = std::io::stdin().read_line(&mut String::new());
}

struct Owner {
    process: Child,
    server: u32,
    watchdog: u32,
    folder: PathBuf,
}

fn owner() -> Owner {
    let mut process = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner_process", "--nocapture"])
        .env("OWNS_A_CLUSTER", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let line = lines.map(Result::unwrap).find(|line| line.starts_with("cluster ")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let (server, watchdog) = (words[1].parse().unwrap(), words[2].parse().unwrap());
    Owner { process, server, watchdog, folder: Path::new(words[3]).to_path_buf() }
}

#[test]
fn a_killed_owners_cluster_ends_at_once() {
    let mut owner = owner();
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    wait_until("the folder to go", SOON, || !owner.folder.exists());
    wait_until("the server to go", SOON, || !is_running(owner.server));
}

#[test]
fn a_cluster_that_lost_owner_and_watchdog_is_swept_by_the_next() {
    let mut owner = owner();
    kill(Pid::from_raw(owner.watchdog.try_into().unwrap()), Signal::SIGKILL).unwrap();
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    // If another test's cluster has not cleaned up already, this one does.
    drop(plain());
    wait_until("the folder to go", SOON, || !owner.folder.exists());
    wait_until("the server to go", SOON, || !is_running(owner.server));
}

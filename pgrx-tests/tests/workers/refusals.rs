//! Invalid settings are refused with a reason, the old values remain, and the server goes on.

use audit_algolia_tests::stage::{Stage, SOON};
use audit_algolia_tests::wait::wait_until;

use crate::support::*;

#[test]
fn a_bad_value_is_refused_at_the_reload() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    let absent = stage.cluster.data_dir().join("absent");
    let pem = stage.cluster.data_dir().join("PG_VERSION");
    let damaged = KeyFile::new(&stage, "-----BEGIN CERTIFICATE-----\nbm90IG9uZQ==\n", 0o600);
    let cases = [
        ("hosts", "ftp://nowhere, ???"),
        ("time_zone", "Europe/Atlantis"),
        ("batch_rows", "0"),
        ("batch_bytes", "1"),
        ("workers", "33"),
        ("in_flight", "0"),
        ("tail_share", "101"),
        ("databases", ""),
        ("databases", "a,,b"),
        ("on_capture_error", "ignore"),
        ("application_id", "has a space"),
        ("application_id", "x123456789012345678901234567890123456789012345678901234567890123"),
        ("user_agent_suffix", "Schlüssel"),
        ("ca_file", pem.to_str().unwrap()),
        ("ca_file", absent.to_str().unwrap()),
        ("ca_file", damaged.path()),
        ("api_key_file", absent.to_str().unwrap()),
        ("pseudonym_key_file", absent.to_str().unwrap()),
        ("api_key", "schlüssel-4711"),
    ];
    for (name, value) in cases {
        let name = format!("audit_algolia.{name}");
        let before: String = one(&mut db, &format!("show {name}"));
        let old = settings_value(&stage, &name);
        let mark = stage.cluster.log_mark();
        stage.cluster.set(&[(&name, value)]).unwrap();
        wait_until(&format!("a refusal of {name} = {value}"), SOON, || {
            let log = stage.cluster.log_since(mark);
            log.contains("LOG:  ") && log.contains(&format!("\"{name}\""))
        });
        assert!(!stage.cluster.log_since(mark).contains("4711"));
        assert_eq!(one::<String>(&mut db, &format!("show {name}")), before);
        stage.cluster.set(&[(&name, &old)]).unwrap();
    }
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
}

/// The current value of a setting, from the configuration file or the default.
fn settings_value(stage: &Stage, name: &str) -> String {
    let file = std::fs::read_to_string(stage.cluster.data_dir().join("harness.conf")).unwrap();
    let line = file.lines().find_map(|line| line.strip_prefix(&format!("{name} = '")));
    match line {
        Some(rest) => rest.trim_end_matches('\'').to_owned(),
        None => one(&mut stage.admin(), &format!("select boot_val from pg_settings where name = '{name}'")),
    }
}

#[test]
fn a_key_file_others_can_read_is_refused() {
    let stage = Stage::builder().start().unwrap();
    let mut db = staged(&stage, "log");
    for (content, mode, reason) in [
        ("the-file-key-9931", 0o644, "can be read by others"),
        ("the-file-key-9931", 0o660, "can be read by others"),
        ("  \n", 0o600, "is empty"),
    ] {
        let file = KeyFile::new(&stage, content, mode);
        let mark = stage.cluster.log_mark();
        stage.cluster.set(&[("audit_algolia.api_key_file", file.path())]).unwrap();
        wait_until(reason, SOON, || stage.cluster.log_since(mark).contains(reason));
        assert_eq!(one::<String>(&mut db, "show audit_algolia.api_key_file"), "");
        stage.cluster.set(&[("audit_algolia.api_key_file", "")]).unwrap();
    }
    assert!(!stage.cluster.log().contains("the-file-key-9931"));
    insert(&mut db, "log", 1..=10);
    stage.wait_for_records("log", 10);
}

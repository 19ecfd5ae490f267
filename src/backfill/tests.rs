//! The snapshot boundary, the pace and the rate, without a server.

use super::*;

const RELATION: u32 = 16400;

fn snapshot_boundary() -> SnapshotBoundary {
    SnapshotBoundary {
        cluster: 7,
        rules: 998,
        next: 1000,
        own: None,
        running: vec![990, 995],
        files: vec![(RELATION, 1), (16500, 2)],
    }
}

fn version(xmin: u32) -> TupleVersion {
    TupleVersion { relation: RELATION, file: 1, xmin, frozen: false, updated: false, command: Some(3) }
}

#[test]
fn what_was_there_at_the_seam_is_history() {
    for xmin in [1, 2, 3, 500, 989, 991, 999] {
        assert_eq!(snapshot_boundary().origin_of(version(xmin), 2000), RowOrigin::History, "{xmin}");
        let updated = TupleVersion { updated: true, ..version(xmin) };
        assert_eq!(snapshot_boundary().origin_of(updated, 2000), RowOrigin::History, "{xmin}");
    }
}

#[test]
fn what_was_inserted_since_is_captured() {
    for xmin in [990, 995, 1000, 1001, 1999] {
        assert_eq!(snapshot_boundary().origin_of(version(xmin), 2000), RowOrigin::Captured, "{xmin}");
        let frozen = TupleVersion { frozen: true, ..version(xmin) };
        assert_eq!(snapshot_boundary().origin_of(frozen, 2000), RowOrigin::Captured, "{xmin}, frozen");
        let updated = TupleVersion { updated: true, ..version(xmin) };
        assert_eq!(snapshot_boundary().origin_of(updated, 2000), RowOrigin::Changed, "{xmin}, updated");
    }
}

#[test]
fn of_the_watching_transaction_later_commands_are_captured_and_in_doubt_it_is_history() {
    let snapshot_boundary = SnapshotBoundary { own: Some((980, 5)), ..snapshot_boundary() };
    let wrote = |command| TupleVersion { command, ..version(980) };
    assert_eq!(snapshot_boundary.origin_of(wrote(Some(4)), 2000), RowOrigin::History);
    assert_eq!(snapshot_boundary.origin_of(wrote(Some(5)), 2000), RowOrigin::History);
    assert_eq!(snapshot_boundary.origin_of(wrote(Some(6)), 2000), RowOrigin::Captured);
    assert_eq!(snapshot_boundary.origin_of(wrote(None), 2000), RowOrigin::History);
    assert_eq!(
        snapshot_boundary.origin_of(TupleVersion { updated: true, ..wrote(Some(6)) }, 2000),
        RowOrigin::Changed
    );
    assert_eq!(
        snapshot_boundary.origin_of(TupleVersion { file: 9, ..wrote(Some(6)) }, 2000),
        RowOrigin::History
    );
    assert_eq!(snapshot_boundary.relevant_age(2000), 1020);
}

#[test]
fn rows_of_a_rewritten_table_are_in_doubt_and_those_of_a_new_partition_are_not() {
    let rewritten = TupleVersion { file: 9, ..version(1500) };
    assert_eq!(snapshot_boundary().origin_of(rewritten, 2000), RowOrigin::History);
    let new = TupleVersion { relation: 16600, file: 9, ..version(1500) };
    assert_eq!(snapshot_boundary().origin_of(new, 2000), RowOrigin::Captured);
}

#[test]
fn numbers_that_have_come_round_are_told_apart_unless_they_are_frozen() {
    let round = 1_i64 << 32;
    let snapshot_boundary =
        SnapshotBoundary { next: 3 * round + 1000, running: vec![3 * round - 5], ..snapshot_boundary() };
    let next = 3 * round + 2000;
    assert_eq!(snapshot_boundary.origin_of(version(1500), next), RowOrigin::Captured);
    assert_eq!(
        snapshot_boundary.origin_of(version(u32::MAX - 4), next),
        RowOrigin::Captured,
        "it was running"
    );
    assert_eq!(snapshot_boundary.origin_of(version(900), next), RowOrigin::History);
    // It looks newer than the next transaction id, so it is from before a wraparound.
    assert_eq!(snapshot_boundary.origin_of(version(2500), next), RowOrigin::History);
    let frozen = TupleVersion { frozen: true, ..version(1500) };
    assert_eq!(snapshot_boundary.origin_of(frozen, next), RowOrigin::History, "perhaps from a round before");
}

#[test]
fn the_reach_covers_all_that_is_not_history() {
    assert_eq!(snapshot_boundary().relevant_age(2000), 1010);
    assert_eq!(SnapshotBoundary { running: Vec::new(), ..snapshot_boundary() }.relevant_age(1000), 0);
    assert_eq!(snapshot_boundary().relevant_age(i64::MAX), i32::MAX);
}

#[test]
fn a_seam_survives_being_stored() {
    for snapshot_boundary in [
        snapshot_boundary(),
        SnapshotBoundary {
            cluster: -1,
            rules: u32::MAX,
            next: 3,
            own: Some((2, u32::MAX)),
            running: Vec::new(),
            files: Vec::new(),
        },
    ] {
        assert_eq!(SnapshotBoundary::from_numbers(&snapshot_boundary.to_numbers()), Some(snapshot_boundary));
    }
    let broken = [
        &[][..],
        &[1, 9, 2],
        &[1, 9, 2, 0, 0, 1],
        &[1, 9, 2, 0, 0, -1],
        &[1, 9, 2, 0, 0, 0, 5],
        &[1, -9, 2, 0, 0, 0],
    ];
    for broken in broken {
        assert_eq!(SnapshotBoundary::from_numbers(broken), None, "{broken:?}");
    }
}

#[test]
fn a_pace_is_kept_over_any_steps() {
    for speed in [1, 7, 100, 100_000] {
        let mut pace = Pace::new(speed, 0);
        let (mut now, mut read) = (0, 0_i64);
        while now < 20_000_000 {
            let rows = pace.allowance(now).min(1000);
            pace.spend(rows);
            read += rows;
            now = if rows > 0 { now + 1_000 } else { pace.opens_at().max(now + 1) };
        }
        let wanted = f64::from(speed) * 20.0;
        assert!((read as f64) <= wanted * 1.02 + 1.0, "{speed}: {read}");
        assert!((read as f64) >= wanted * 0.97 - 1.0, "{speed}: {read}");
    }
}

#[test]
fn a_pause_is_not_made_up_for() {
    let mut pace = Pace::new(100, 0);
    assert_eq!(pace.allowance(3_600_000_000), 100);
    pace.spend(100);
    assert_eq!(pace.allowance(3_600_000_000), 0);
    assert_eq!(pace.opens_at(), 3_600_100_000);
    assert_eq!(pace.allowance(3_600_100_000), 10);
}

#[test]
fn a_rate_is_right_from_the_start_and_follows_changes() {
    let mut rate = Rate::default();
    for step in 1..=100 {
        rate.add(100, 0, step * 100_000);
        assert!((rate.per_second - 1000.0).abs() < 1.0, "{step}: {rate:?}");
    }
    for step in 101..=1000 {
        rate.add(10, 0, step * 100_000);
    }
    let mut burst = Rate::default();
    burst.add(10, 0, 2_000);
    for step in 1..=30 {
        burst.add(10, 0, step * 100_000);
    }
    assert!((100.0..105.0).contains(&burst.per_second), "{burst:?}");
    assert!((rate.per_second - 100.0).abs() < 5.0, "{rate:?}");
}

#[test]
fn a_seam_succeeds_those_of_its_source_that_are_not_younger() {
    let snapshot_boundary = SnapshotBoundary {
        cluster: 1,
        rules: 7,
        next: 100,
        own: None,
        running: Vec::new(),
        files: Vec::new(),
    };
    let other = |change: fn(&mut SnapshotBoundary)| {
        let mut other = snapshot_boundary.clone();
        change(&mut other);
        other
    };
    assert!(snapshot_boundary.succeeds(&snapshot_boundary), "both by one transaction");
    assert!(other(|snapshot_boundary| snapshot_boundary.next = 101).succeeds(&snapshot_boundary));
    assert!(
        !snapshot_boundary.succeeds(&other(|snapshot_boundary| snapshot_boundary.next = 101)),
        "asked for later"
    );
    assert!(
        !snapshot_boundary.succeeds(&other(|snapshot_boundary| snapshot_boundary.cluster = 2)),
        "restored"
    );
    assert!(!snapshot_boundary.succeeds(&other(|snapshot_boundary| snapshot_boundary.rules = 8)), "restored");
}

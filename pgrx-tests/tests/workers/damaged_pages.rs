//! Pages of the queue that PostgreSQL can no longer read: the rows on them wait separately, and delay nothing else.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use audit_algolia_tests::server::StopMode;
use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::wait::{stays_true, wait_until};
use postgres::Client;

use crate::support::*;

/// The length of a record whose chunks, four to a page, are as long as possible.
const LONG: usize = 20_000;
const PAGE: u64 = 8192;
/// The part of a page that describes its contents.
const HEADER: usize = 24;

fn stage() -> StageBuilder {
    Stage::builder()
        .setting("autovacuum", "off")
        .setting("audit_algolia.workers", 1)
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "500ms")
        // This is how long versions wait that were queued before the server started.
        .setting("audit_algolia.request_timeout", "1s")
}

/// A page of a table whose header is overwritten.
struct DamagedPage {
    file: String,
    block: u64,
    header: [u8; HEADER],
}

impl DamagedPage {
    /// Damages it while the server is stopped.
    fn new(stage: &Stage, mut db: Client, table: &str, block: i64) -> DamagedPage {
        let file: String = one(&mut db, &format!("select pg_relation_filepath('{table}')"));
        drop(db);
        let mut page = DamagedPage { file, block: block as u64, header: [0; HEADER] };
        stage.cluster.stop(StopMode::Fast).unwrap();
        let file = page.open(stage);
        file.read_exact_at(&mut page.header, page.block * PAGE).unwrap();
        file.write_all_at(&[0xff; HEADER], page.block * PAGE).unwrap();
        stage.cluster.start().unwrap();
        page
    }

    fn fix(self, stage: &Stage) {
        stage.cluster.stop(StopMode::Fast).unwrap();
        self.open(stage).write_all_at(&self.header, self.block * PAGE).unwrap();
        stage.cluster.start().unwrap();
    }

    fn open(&self, stage: &Stage) -> std::fs::File {
        let path = stage.cluster.data_dir().join(&self.file);
        OpenOptions::new().read(true).write(true).open(path).unwrap()
    }
}

/// A table whose records are not stored within their rows.
fn watch_long(db: &mut Client, mode: &str) {
    db.batch_execute(&format!(
        "create table log (id bigint primary key, note text);
         select audit_algolia.watch('log', columns => '{{note}}', mode => '{mode}');
         alter table audit_algolia.queue alter record set storage external;
         select audit_algolia.pause('log')"
    ))
    .unwrap();
    wait_for_state(db, "log", "paused");
}

fn insert_long(db: &mut Client, ids: std::ops::RangeInclusive<i64>) {
    let insert =
        format!("insert into log select n, repeat('x', {LONG}) from generate_series($1::bigint, $2) as n");
    db.execute(&insert, &[ids.start(), ids.end()]).unwrap();
}

/// The TOAST table of a table, and a page of it that contains only chunks of the value at `place`.
fn page_of_value(db: &mut Client, table: &str, place: i64) -> (String, i64) {
    let toast: String = one(
        db,
        &format!("select reltoastrelid::regclass::text from pg_class where oid = '{table}'::regclass"),
    );
    // Values get their chunk ids in the order of the rows.
    let block = one(
        db,
        &format!(
            "select (ctid::text::point)[0]::bigint from {toast} group by 1
             having min(chunk_id) = max(chunk_id) and min(chunk_id) = (
                 select distinct chunk_id from {toast} order by chunk_id offset {place} - 1 limit 1
             )
             order by 1 limit 1"
        ),
    );
    (toast, block)
}

/// How often an object has been sent.
fn times_sent(stage: &Stage, id: i64) -> usize {
    sent(&stage.standin, "log").into_iter().filter(|sent| *sent == id).count()
}

/// Asserts what is reported of the object that cannot be settled, of which so many versions wait.
#[track_caller]
fn assert_alone(db: &mut Client, versions: i64) {
    wait_until("nothing but the object with the damaged version waits", SOON, || {
        let seen = queue(db, "log");
        (seen.queued, seen.retrying, seen.dead) == (versions, 1, 0) && seen.last_error.contains("XX001")
    });
    let seen = queue(db, "log");
    let row: i64 = one(db, "select max(id) from audit_algolia.queue");
    let told = format!("row {row} of audit_algolia.queue alone: it was delivered but cannot be deleted");
    assert!(seen.last_error.contains(&told), "{}", seen.last_error);
    assert_ne!(seen.state, "backing off");
}

#[test]
fn an_object_whose_older_version_is_on_a_damaged_page_holds_up_no_other() {
    let stage = stage().start().unwrap();
    let mut db = stage.admin();
    watch_long(&mut db, "mirror");
    insert_long(&mut db, 1..=9);
    db.execute("update log set note = 'second'", &[]).unwrap();
    let (toast, block) = page_of_value(&mut db, "audit_algolia.queue", 5);
    let page = DamagedPage::new(&stage, db, &toast, block);
    let mut db = stage.session();
    wait_for_workers(&mut db, "postgres", 1);
    let worker = workers(&mut db, "postgres");
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("all objects", SOON, || stage.standin.index("log").len() == 9);
    assert_alone(&mut db, 2);
    // It is retried, and nothing else is.
    let before = times_sent(&stage, 5);
    wait_until("other attempts", SOON, || times_sent(&stage, 5) > before + 1);
    insert_long(&mut db, 11..=20);
    wait_until("later objects", SOON, || stage.standin.index("log").len() == 19);
    assert_alone(&mut db, 2);
    for id in (1..=20).filter(|id| ![5, 10].contains(id)) {
        assert_eq!(times_sent(&stage, id), 1, "{id}");
    }
    // A newer version is sent like any other.
    db.execute("update log set note = 'third' where id = 5", &[]).unwrap();
    wait_until("the newer version", SOON, || stage.standin.index("log")["5"]["note"] == "third");
    assert_alone(&mut db, 3);
    assert_eq!(workers(&mut db, "postgres"), worker, "{}", stage.cluster.log());
    drop(db);
    page.fix(&stage);
    let mut db = stage.session();
    wait_for_empty_queue(&mut db);
    assert_eq!(stage.standin.index("log")["5"]["note"], "third");
}

#[test]
fn an_object_whose_dead_letter_is_on_a_damaged_page_holds_up_no_other() {
    let stage = stage().setting("audit_algolia.max_record_bytes", "10kB").start().unwrap();
    let mut db = stage.admin();
    watch_long(&mut db, "mirror");
    db.batch_execute("alter table audit_algolia.dead_letter alter record set storage external").unwrap();
    insert_long(&mut db, 1..=9);
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("all are too large", SOON, || queue(&mut db, "log").dead == 9);
    db.batch_execute("select audit_algolia.pause('log')").unwrap();
    db.execute("update log set note = 'second'", &[]).unwrap();
    let (toast, block) = page_of_value(&mut db, "audit_algolia.dead_letter", 5);
    let page = DamagedPage::new(&stage, db, &toast, block);
    let mut db = stage.session();
    db.batch_execute("select audit_algolia.resume('log')").unwrap();
    wait_until("all objects", SOON, || stage.standin.index("log").len() == 9);
    wait_until("nothing but one object waits", SOON, || {
        let seen = queue(&mut db, "log");
        (seen.queued, seen.retrying, seen.dead) == (1, 1, 1) && seen.last_error.contains("XX001")
    });
    drop(db);
    page.fix(&stage);
    let mut db = stage.session();
    wait_for_empty_queue(&mut db);
    assert_eq!(queue(&mut db, "log").dead, 0);
}

#[test]
fn an_index_whose_rows_are_on_a_damaged_page_holds_up_no_other() {
    let stage = stage().start().unwrap();
    let mut db = staged(&stage, "broken");
    watch(&mut db, "sound");
    db.batch_execute("select audit_algolia.pause()").unwrap();
    wait_for_state(&mut db, "broken", "paused");
    wait_for_state(&mut db, "sound", "paused");
    insert(&mut db, "broken", 1..=500);
    insert(&mut db, "sound", 1..=500);
    let row = db.query_one(
        "select max((q.ctid::text::point)[0]) filter (where i.name = 'broken'),
             min((q.ctid::text::point)[0]) filter (where i.name = 'sound')
         from audit_algolia.queue as q join audit_algolia.index as i on i.id = q.index_id",
        &[],
    );
    let row = row.unwrap();
    let (last_of_broken, first_of_sound): (f64, f64) = (row.get(0), row.get(1));
    assert!(1.0 < last_of_broken && last_of_broken <= first_of_sound);
    let page = DamagedPage::new(&stage, db, "audit_algolia.queue", 1);
    let mut db = stage.session();
    wait_for_workers(&mut db, "postgres", 1);
    let worker = workers(&mut db, "postgres");
    db.batch_execute("select audit_algolia.resume()").unwrap();
    wait_until("the sound index", SOON, || stage.standin.index("sound").len() == 500);
    wait_until("it is told", SOON, || queue(&mut db, "broken").last_error.contains("XX001"));
    wait_for_state(&mut db, "broken", "backing off");
    // Later rows of the undamaged index are not split into small batches because of it.
    let before = stage.standin.requests().len();
    insert(&mut db, "sound", 501..=1000);
    wait_until("later rows", SOON, || stage.standin.index("sound").len() == 1000);
    let requests = stage.standin.requests().len() - before;
    assert!(requests <= 10, "{requests} requests");
    stays_true("the worker lives", std::time::Duration::from_secs(1), || {
        workers(&mut db, "postgres") == worker
    });
    drop(db);
    page.fix(&stage);
    let mut db = stage.session();
    wait_for_empty_queue(&mut db);
    assert_holds(&stage.standin, "broken", 1..=500);
}

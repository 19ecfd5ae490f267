//! `on_capture_error = warn`: a change that cannot be captured blocks nobody, and is repaired later.

mod faults;
mod lost;
mod mirrored;
mod passing;
mod secrets;
mod turns;
mod written;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use audit_algolia_tests::stage::{Stage, StageBuilder, SOON};
use audit_algolia_tests::wait::wait_until;
use postgres::error::DbError;
use postgres::Client;

use crate::play::{one, ROLES};

/// A filter that fails for a row whose `v` is 0, and accepts all others.
const FILTER: &str = "filter => '100 / v <> 1000'";

/// A stage that warns, and retries after short pauses.
fn warning() -> StageBuilder {
    Stage::builder()
        .setting("audit_algolia.on_capture_error", "warn")
        .setting("audit_algolia.retry_min", "20ms")
        .setting("audit_algolia.retry_max", "100ms")
}

/// The stage that most of these tests share. Each test has a schema of its own.
fn shared(name: &str) -> Scene<'static> {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    let stage = STAGE.get_or_init(|| {
        let stage = warning().start().unwrap();
        stage.admin().batch_execute(ROLES).unwrap();
        stage
    });
    Scene::new(stage, name)
}

/// A session that collects its warnings, with a schema of its own.
struct Scene<'a> {
    stage: &'a Stage,
    name: String,
    db: Client,
    warnings: Arc<Mutex<Vec<DbError>>>,
}

impl Scene<'_> {
    fn new<'a>(stage: &'a Stage, name: &str) -> Scene<'a> {
        let warnings: Arc<Mutex<Vec<DbError>>> = Arc::default();
        let heard = warnings.clone();
        let mut config: postgres::Config =
            stage.cluster.connection_string("postgres", "postgres").parse().unwrap();
        config.notice_callback(move |notice| heard.lock().unwrap().push(notice));
        let mut db = config.connect(postgres::NoTls).unwrap();
        db.batch_execute(&format!("create schema {name}; set search_path = {name}")).unwrap();
        Scene { stage, name: name.to_owned(), db, warnings }
    }

    #[track_caller]
    fn run(&mut self, sql: &str) {
        self.db.batch_execute(sql).unwrap();
    }

    /// Watches a table for the index with the scene's name.
    #[track_caller]
    fn watch(&mut self, table: &str, rules: &str) {
        crate::play::watch(&mut self.db, table, &self.name, rules);
    }

    /// The warnings since the last call.
    fn warned(&self) -> Vec<DbError> {
        std::mem::take(&mut *self.warnings.lock().unwrap())
    }

    /// The figures for the index: waiting repairs, all changes that could not be captured, dead letters.
    fn counts(&mut self) -> (i64, i64, i64) {
        counts(&mut self.db, &self.name)
    }

    /// Waits until no repair of the index waits, and everything that is queued has arrived.
    #[track_caller]
    fn wait_for_repairs(&mut self) {
        let Scene { db, name, .. } = self;
        wait_until("repairs", SOON, || counts(db, name).0 == 0);
        assert_eq!(one::<i64>(db, &noted(name)), 0);
        crate::play::settle(db, name);
    }

    /// Waits until repairs have been tried more than once.
    #[track_caller]
    fn wait_for_attempts(&mut self) {
        let tried =
            format!("select coalesce(min(attempts), 0) from audit_algolia.repair where {}", of(&self.name));
        let db = &mut self.db;
        wait_until("attempts", SOON, || one::<i32>(db, &tried) >= 2);
    }

    /// The objectIDs in the index.
    fn ids(&self) -> Vec<String> {
        self.stage.standin.index(&self.name).into_keys().collect()
    }
}

fn of(index: &str) -> String {
    format!("index_id = (select id from audit_algolia.index where name = '{index}')")
}

/// A query for the number of repairs of an index.
fn noted(index: &str) -> String {
    format!("select count(*) from audit_algolia.repair where {}", of(index))
}

fn counts(db: &mut Client, index: &str) -> (i64, i64, i64) {
    let query = "select repairs, repairs_total, dead from audit_algolia.queue_stats() where index_name = $1";
    db.query_opt(query, &[&index]).unwrap().map_or((0, 0, 0), |row| (row.get(0), row.get(1), row.get(2)))
}

/// How long a test watches that nothing goes wrong.
const MOMENT: Duration = Duration::from_millis(300);

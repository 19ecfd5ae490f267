//! The stage that most of these tests share: one server and one stand-in, with a schema and an index for each test.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

pub(crate) use audit_algolia_tests::stage::one;
use audit_algolia_tests::stage::Stage;
use audit_algolia_tests::wait::wait_until;
use postgres::error::DbError;
use postgres::Client;
use serde_json::Value;

/// What a test works with. `owner` owns the schema and its tables; `app` may read and write them and do nothing else.
pub(crate) struct Play {
    pub(crate) stage: &'static Stage,
    pub(crate) name: &'static str,
    pub(crate) admin: Client,
    pub(crate) owner: Client,
    pub(crate) app: Client,
}

/// The roles that own and write the watched tables.
pub(crate) const ROLES: &str = "create role owner login; create role app login";

pub(crate) fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    // It lives as long as the process; then the harness ends its server.
    STAGE.get_or_init(|| {
        let stage = Stage::builder().start().unwrap();
        stage.admin().batch_execute(ROLES).unwrap();
        stage
    })
}

impl Play {
    /// Creates a schema for the test called `name`, with the tables in `tables`, as their owner.
    pub(crate) fn new(name: &'static str, tables: &str) -> Play {
        let stage = stage();
        let mut admin = stage.admin();
        admin
            .batch_execute(&format!(
                "create schema {name} authorization owner;
                 grant usage on schema {name} to app;
                 alter default privileges for role owner in schema {name} grant all on tables to app;
                 alter default privileges for role owner in schema {name} grant all on sequences to app;
                 set search_path = {name}"
            ))
            .unwrap();
        let session = |user| {
            let mut client = stage.cluster.client("postgres", user);
            client.batch_execute(&format!("set search_path = {name}")).unwrap();
            client
        };
        let (mut owner, app) = (session("owner"), session("app"));
        owner.batch_execute(tables).unwrap();
        Play { stage, name, admin, owner, app }
    }

    /// Watches a table for the index with the test's name. `rules` are more arguments.
    pub(crate) fn watch(&mut self, table: &str, rules: &str) {
        watch(&mut self.admin, table, self.name, rules);
    }

    /// Another session of the tables' owner.
    pub(crate) fn another_owner(&self) -> Client {
        let mut client = self.stage.cluster.client("postgres", "owner");
        client.batch_execute(&format!("set search_path = {}", self.name)).unwrap();
        client
    }

    /// Runs SQL as the application.
    #[track_caller]
    pub(crate) fn run(&mut self, sql: &str) {
        self.app.batch_execute(sql).unwrap();
    }

    /// The records of the test's index, once everything that is queued now has arrived.
    #[track_caller]
    pub(crate) fn records(&mut self) -> BTreeMap<String, Value> {
        settle(&mut self.admin, self.name);
        self.stage.standin.index(self.name)
    }

    /// Their objectIDs.
    #[track_caller]
    pub(crate) fn ids(&mut self) -> Vec<String> {
        self.records().into_keys().collect()
    }

    /// How many operations have arrived in the test's index.
    pub(crate) fn arrivals(&self) -> usize {
        let arrivals = self.stage.standin.arrivals();
        arrivals.iter().filter(|arrival| arrival.index == self.name).count()
    }
}

/// Watches a table.
#[track_caller]
pub(crate) fn watch(admin: &mut Client, table: &str, index: &str, rules: &str) {
    let comma = if rules.is_empty() { "" } else { ", " };
    admin
        .execute(
            &format!("select audit_algolia.watch('{table}', index_name => '{index}'{comma}{rules})"),
            &[],
        )
        .unwrap();
}

/// Waits until everything that is queued for an index has arrived.
#[track_caller]
pub(crate) fn settle(admin: &mut Client, index: &str) {
    let waiting = format!(
        "select exists (select from audit_algolia.queue as q
             where q.index_id = (select i.id from audit_algolia.index as i where i.name = '{index}'))"
    );
    wait_until(&format!("an empty queue of {index}"), Duration::from_secs(120), || {
        !one::<bool>(admin, &waiting)
    });
}

/// The error with which a statement fails.
#[track_caller]
pub(crate) fn failure(client: &mut Client, sql: &str) -> DbError {
    match client.batch_execute(sql) {
        Ok(()) => panic!("did not fail: {sql}"),
        Err(error) => error.as_db_error().cloned().unwrap_or_else(|| panic!("{sql}: {error}")),
    }
}

/// Converts anything that can be displayed to texts.
pub(crate) fn texts<T: ToString>(items: impl IntoIterator<Item = T>) -> Vec<String> {
    let mut texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.sort();
    texts
}

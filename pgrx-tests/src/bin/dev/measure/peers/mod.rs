//! The alternatives to the extension: services that send with Algolia's own clients and read from the usual kinds of
//! queues.

mod feed;
mod install;
mod kind;
mod service;

use anyhow::{ensure, Result};
use serde_json::json;

use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};

use self::install::{node, python, Runtime};
pub(super) use self::kind::Kind;
use super::packages::reason;
use super::report::Report;
use super::rows::Records;
use super::setup::Setup;
use super::testbed::{Drained, Testbed};

/// The index that they send to.
const INDEX: &str = "polled";

/// Before it is measured, a service delivers this many records, so that its code is compiled and its plans are made.
pub(super) const WARM_UP: u64 = 10_000;

/// The services that are available here, and why the others are not.
pub(super) struct Peers {
    node: Result<Runtime, String>,
    python: Result<Runtime, String>,
    pgq: Result<(), String>,
    logical: Result<Testbed, String>,
}

impl Peers {
    /// The two services that poll a queue in `testbed`.
    pub(super) fn polling(testbed: &mut Testbed, report: &mut Report) -> Result<Peers> {
        testbed.execute("CREATE TABLE polled_queue (id bigint PRIMARY KEY, record text NOT NULL)")?;
        report.note(
            "The services keep their connections alive, use prepared statements and synchronous_commit = off, delete \
             a thousand records, send them in one request and commit, one request at a time; the queue is vacuumed \
             and analysed before each run, and neither their start nor their first 10,000 records, sent without \
             latency, are counted.",
        );
        let unwanted = || "not asked for".to_owned();
        Ok(Peers {
            node: node().map_err(reason),
            python: python().map_err(reason),
            pgq: Err(unwanted()),
            logical: Err(unwanted()),
        })
    }

    /// All services. `most` is the largest number of records that are drained at once.
    pub(super) fn all(
        setup: &Setup,
        testbed: &mut Testbed,
        most: &[(Records, u64)],
        report: &mut Report,
    ) -> Result<Peers> {
        let peers = Peers::polling(testbed, report)?;
        let mut pgq = setup.packages.pgq.clone().map(drop);
        if pgq.is_ok() {
            pgq = testbed.execute("CREATE EXTENSION pgq").map_err(reason);
        }
        report.note(
            "PgQ's events are the finished records, ticked every thousand; a batch is finished once it is sent.",
        );
        let start = || -> Result<Testbed> {
            let mut testbed = Testbed::start(&setup.installation, &[("wal_level", "logical")])?;
            feed::allow_wal2json(&mut testbed)?;
            testbed.execute("CREATE TABLE outbox (id bigint PRIMARY KEY, record text NOT NULL)")?;
            for (records, rows) in most {
                testbed.keep_records(*records, *rows)?;
            }
            Ok(testbed)
        };
        let logical = setup.packages.wal2json.clone().and_then(|_| {
            if setup.installation.has_module("wal2json") {
                start().map_err(reason)
            } else {
                Err("its package has no module for this server".to_owned())
            }
        });
        report.note(
            "wal2json reads an outbox that holds the finished records, in a cluster of its own with wal_level = logical. \
             pg_recvlogical confirms what it has passed on, not what has arrived: a crash loses records. Emptying \
             the outbox is not counted.",
        );
        Ok(Peers { pgq, logical, ..peers })
    }

    /// Why a service is not measured.
    pub(super) fn reason(&self, kind: Kind) -> Option<&str> {
        let node = self.node.as_ref().err();
        let reason = match kind {
            Kind::JavaScript | Kind::JavaScriptGzip => node,
            Kind::Python => self.python.as_ref().err(),
            Kind::Pgq => node.or(self.pgq.as_ref().err()),
            Kind::Wal2json => node.or(self.logical.as_ref().err()),
        };
        reason.map(String::as_str)
    }

    /// Lets a service deliver so many of the records that `testbed` has kept. `None` if it is not available.
    pub(super) fn serve(
        &mut self,
        kind: Kind,
        testbed: &mut Testbed,
        (records, rows): (Records, u64),
        latency: u64,
    ) -> Result<Option<Drained>> {
        if self.reason(kind).is_some() {
            return Ok(None);
        }
        let testbed = match (kind, &mut self.logical) {
            (Kind::Wal2json, Ok(logical)) => logical,
            _ => testbed,
        };
        feed::feed(kind, testbed, records, WARM_UP)?;
        testbed.standin.set_latency(0)?;
        let (runtime, script) = match kind {
            Kind::JavaScript | Kind::JavaScriptGzip => (&self.node, "poller.mjs"),
            Kind::Python => (&self.python, "poller.py"),
            Kind::Pgq => (&self.node, "pgq.mjs"),
            Kind::Wal2json => (&self.node, "wal2json.mjs"),
        };
        let Ok(runtime) = runtime else { return Ok(None) };
        let mut command = runtime.command(script);
        let served = service::run(command.arg(options(kind, testbed, rows)), rows, || {
            feed::feed(kind, testbed, records, rows)?;
            testbed.standin.set_latency(latency)?;
            testbed.standin.reset()
        })?;
        let arrived = testbed.standin.count(INDEX)?;
        ensure!(arrived == rows, "of {rows} rows {} sent {arrived}", kind.name());
        if kind == Kind::Wal2json {
            feed::drop_slot(testbed)?;
        }
        Ok(Some(served))
    }
}

fn options(kind: Kind, testbed: &Testbed, rows: u64) -> String {
    let port = testbed.standin.url.rsplit(':').next().unwrap_or_default();
    let options = json!({
        "connection": testbed.cluster.connection_string("postgres", "postgres"),
        "port": port.parse::<u16>().unwrap_or_default(), "app": APP_ID, "key": ADMIN_KEY, "rows": rows, "warm_up": WARM_UP,
        "gzip": kind == Kind::JavaScriptGzip, "receiver": testbed.cluster.bin("pg_recvlogical"),
    });
    options.to_string()
}

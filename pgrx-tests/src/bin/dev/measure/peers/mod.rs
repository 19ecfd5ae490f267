//! What one would do without the extension: services that send with Algolia's own clients, fed in the ways at hand.

mod feed;
mod install;
mod service;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Result};
use serde_json::json;

use audit_algolia_tests::cargo;
use audit_algolia_tests::server::PgConfig;
use audit_algolia_tests::standin::{ADMIN_KEY, APP_ID};

use self::install::{Node, Python};
pub(super) use self::service::Served;
use super::report::Report;
use super::world::{Records, World};
use super::Site;
use crate::package::unpacked;

/// The index they send to.
const INDEX: &str = "polled";

/// Before it is measured a service works off so many records: by then its code is compiled and its plans are made.
pub(super) const WARM_UP: u64 = 10_000;

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Polls a queue; with Algolia's client for JavaScript.
    JavaScript,
    /// The same with that client's compression.
    JavaScriptGzip,
    /// Polls a queue; with Algolia's client for Python.
    Python,
    /// Consumes from PgQ; with the client for JavaScript.
    Pgq,
    /// Reads what pg_recvlogical and wal2json make of an outbox; with the client for JavaScript.
    Wal2json,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kind::JavaScript => "polling, JavaScript client",
            Kind::JavaScriptGzip => "polling, JavaScript client, gzip",
            Kind::Python => "polling, Python client",
            Kind::Pgq => "PgQ consumer, JavaScript client",
            Kind::Wal2json => "wal2json, pg_recvlogical, JavaScript client",
        }
    }
}

/// Those that can be had here; else why not.
pub(super) struct Peers {
    node: Result<Node, String>,
    python: Result<Python, String>,
    pgq: Result<(), String>,
    logical: Result<World, String>,
}

impl Peers {
    /// The two services that poll a queue in `world`.
    pub(super) fn polling(world: &mut World, report: &mut Report) -> Result<Peers> {
        world.db.batch_execute("CREATE TABLE polled_queue (id bigint PRIMARY KEY, record text NOT NULL)")?;
        report.note(
            "The services keep their connections alive, use prepared statements and synchronous_commit = off, delete \
             a thousand records, send them in one request and commit, one request at a time; the queue is vacuumed \
             and analysed before each run, and neither their start nor their first 10,000 records, sent without \
             latency, are counted.",
        );
        let reason = |error: anyhow::Error| format!("{error:#}");
        let unwanted = || "not asked for".to_owned();
        Ok(Peers {
            node: Node::install().map_err(reason),
            python: Python::install().map_err(reason),
            pgq: Err(unwanted()),
            logical: Err(unwanted()),
        })
    }

    /// All of them; `most` is the most records that are drained at once.
    pub(super) fn all(
        site: &Site,
        world: &mut World,
        most: &[(Records, u64)],
        report: &mut Report,
    ) -> Result<Peers> {
        let peers = Peers::polling(world, report)?;
        let mut pgq = site.packages.pgq.clone().map(drop);
        if pgq.is_ok() {
            pgq = world.db.batch_execute("CREATE EXTENSION pgq").map_err(|error| error.to_string());
        }
        report.note(
            "PgQ's events are the finished records, ticked every thousand; a batch is finished once it is sent.",
        );
        let start = || -> Result<World> {
            let mut world = World::start_with(&site.installation, &[("wal_level", "logical")])?;
            feed::allow_wal2json(&mut world)?;
            world.db.batch_execute("CREATE TABLE outbox (id bigint PRIMARY KEY, record text NOT NULL)")?;
            for (records, rows) in most {
                world.keep_records(*records, *rows)?;
            }
            Ok(world)
        };
        let logical = site.packages.wal2json.clone().and_then(|_| {
            ensure_module(site)?;
            start().map_err(|error| format!("{error:#}"))
        });
        report.note(
            "wal2json reads an outbox that holds the finished records, in a cluster of its own with wal_level = logical. \
             pg_recvlogical confirms what it has passed on, not what has arrived: a crash loses records. Emptying \
             the outbox is not counted.",
        );
        Ok(Peers { pgq, logical, ..peers })
    }

    /// Why one of them is not measured.
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

    /// Has one of them deliver so many of the records that `world` has kept. None if it is not there.
    pub(super) fn serve(
        &mut self,
        kind: Kind,
        world: &mut World,
        (records, rows): (Records, u64),
        latency: u64,
    ) -> Result<Option<Served>> {
        if self.reason(kind).is_some() {
            return Ok(None);
        }
        let world = match (kind, &mut self.logical) {
            (Kind::Wal2json, Ok(logical)) => logical,
            _ => world,
        };
        feed::feed(kind, world, records, WARM_UP)?;
        world.light.set_latency(0)?;
        let mut command = match (kind, &self.node, &self.python) {
            (Kind::Python, _, Ok(python)) => python.command(),
            (Kind::Pgq, Ok(node), _) => node.command("pgq.mjs"),
            (Kind::Wal2json, Ok(node), _) => node.command("wal2json.mjs"),
            (_, Ok(node), _) => node.command("poller.mjs"),
            _ => return Ok(None),
        };
        let served = service::run(command.arg(options(kind, world, rows)), rows, || {
            feed::feed(kind, world, records, rows)?;
            world.light.set_latency(latency)?;
            world.light.reset()
        })?;
        let arrived = world.light.count(INDEX)?;
        ensure!(arrived == rows, "of {rows} rows {} sent {arrived}", kind.name());
        if kind == Kind::Wal2json {
            feed::drop_slot(world)?;
        }
        Ok(Some(served))
    }
}

fn ensure_module(site: &Site) -> Result<(), String> {
    if site.installation.has_module("wal2json") {
        Ok(())
    } else {
        Err("its package has no module for this server".to_owned())
    }
}

fn options(kind: Kind, world: &World, rows: u64) -> String {
    let port = world.light.url.rsplit(':').next().unwrap_or_default();
    let options = json!({
        "connection": world.cluster.connection_string("postgres", "postgres"),
        "port": port.parse::<u16>().unwrap_or_default(), "app": APP_ID, "key": ADMIN_KEY, "rows": rows, "warm_up": WARM_UP,
        "gzip": kind == Kind::JavaScriptGzip, "receiver": world.cluster.bin("pg_recvlogical"),
    });
    options.to_string()
}

/// A command whose requests go to no proxy.
fn without_proxy(program: &Path) -> Command {
    let mut command = Command::new(program);
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"] {
        command.env_remove(name);
    }
    command
}

/// Debian's packages of what is compared: where they are unpacked, nothing if the server has them already, or why not.
pub(super) struct Packages {
    pub(super) pgq: Result<Option<PathBuf>, String>,
    wal2json: Result<Option<PathBuf>, String>,
}

impl Packages {
    pub(super) fn fetch(pg: &PgConfig) -> Packages {
        let folder = cargo::target_dir().join("measure/debian");
        let fetch = |module: &str, package: &str| {
            let modules = pg.folder("pkglibdir").map_err(|error| format!("{error:#}"))?;
            if modules.join(format!("{module}.so")).is_file() {
                return Ok(None);
            }
            let package = format!("postgresql-{}-{package}", pg.major());
            unpacked(&package, &folder).map(Some).map_err(|error| format!("{error:#}"))
        };
        Packages { pgq: fetch("pgq_triggers", "pgq3"), wal2json: fetch("wal2json", "wal2json") }
    }

    pub(super) fn folders(&self) -> Vec<PathBuf> {
        [&self.pgq, &self.wal2json].into_iter().flatten().flatten().cloned().collect()
    }
}

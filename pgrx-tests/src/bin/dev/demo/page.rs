//! The audit page over the demo's database: the worked examples beside the history, and a page that shows them all.

use std::time::Duration;

use anyhow::{ensure, Result};
use serde_json::Value;

use audit_algolia_tests::page::{PageServer, Tools};
use audit_algolia_tests::worked_examples;
use audit_algolia_tests::workload::PAGE_CONFIG;

use super::environment::Environment;
use super::search::PARENT_KEY;
use crate::provision::{provision_page, ForPage};
use crate::screen::{while_waiting, wrapped};
use crate::waiting::{self, OFTEN};

/// How long the records of the examples may take.
const DELIVERY: Duration = Duration::from_secs(120);

/// Fills the examples' tables, and serves the page. Nothing, where what builds it cannot be had.
pub(super) fn serve(env: &mut Environment) -> Result<Option<PageServer>> {
    if let Err(missing) = provision_page(ForPage::Building) {
        println!("The page is left out. {missing}");
        return Ok(None);
    }
    while_waiting("weeks of work in the tables of sql/examples", || {
        worked_examples::fill(&env.cluster, PARENT_KEY)
    })?;
    let delivered = waiting::until("delivery of the examples", DELIVERY, OFTEN, || {
        Ok(env.db.query_one("SELECT audit_algolia.flush('1 s')", &[])?.get(0))
    })?;
    println!("the tables of sql/examples are filled and delivered, {:.1} s", delivered.as_secs_f64());
    let config: Value = env.db.query_one(PAGE_CONFIG, &[])?.get(0);
    let key: String = env
        .db
        .query_one("SELECT audit_algolia.secured_key($1, '', now() + interval '1 day')", &[&PARENT_KEY])?
        .get(0);
    let started = while_waiting("building the page (npm gets its packages the first time)", || {
        let tools = Tools::prepare()?;
        PageServer::start(&tools, env.cluster.socket_dir(), &config.to_string(), &env.standin.base_urls())
    });
    let server = match started {
        Ok(server) => server,
        Err(error) => {
            println!("The page is left out. {error:#}");
            return Ok(None);
        }
    };
    let answer = env.search()?.get(server.url())?;
    ensure!(answer.contains("<title>"), "the page's server answers something else: {answer}");
    println!("\nIt asks the stand-in from your browser, with a key that can search for a day:\n");
    // Of what a key may consist of, only this means something else behind `#`.
    println!("{}#key={}\n", server.url(), key.replace('+', "%2B"));
    println!(
        "{}",
        wrapped(
            "Who accessed what, unauthorized accesses first; peaks; editors; the history of a document and who had which \
             permission on it; recommendations; changes; the last hour.",
            0
        )
    );
    Ok(Some(server))
}

//! A session that writes to watched tables while the server is restarted and the extension is updated under it.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use audit_algolia_tests::server::Cluster;
use audit_algolia_tests::stage::SOON;
use audit_algolia_tests::wait::{eventually, wait_until};
use postgres::{Client, NoTls};

/// Writes until it is stopped. No statement of it may fail, except that a restart ends its session.
pub(crate) struct Writer {
    stops: Arc<AtomicBool>,
    written: Arc<AtomicI64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(cluster: &Cluster) -> Writer {
        let url = cluster.connection_string("postgres", "writer");
        let (stops, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let thread = thread::spawn({
            let (stops, written) = (Arc::clone(&stops), Arc::clone(&written));
            move || write(&url, &stops, &written)
        });
        Writer { stops, written, thread: Some(thread) }
    }

    /// Waits for so many more transactions.
    #[track_caller]
    pub(crate) fn wait_for(&self, transactions: i64) {
        let goal = self.written.load(Ordering::Relaxed) + transactions;
        wait_until("transactions", SOON, || self.written.load(Ordering::Relaxed) >= goal);
    }

    pub(crate) fn stop(mut self) {
        self.stops.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok(), "the writer has failed");
    }
}

fn write(url: &str, stops: &AtomicBool, written: &AtomicI64) {
    let mut session: Option<Client> = None;
    // A transaction whose end is not known, because the server went away, is not made again.
    let mut number = 0_i64;
    while !stops.load(Ordering::Relaxed) {
        let db =
            session.get_or_insert_with(|| eventually("a session", SOON, || Client::connect(url, NoTls).ok()));
        number += 1;
        match db.batch_execute(&transaction(number)) {
            Ok(()) => drop(written.fetch_add(1, Ordering::Relaxed)),
            Err(error) => {
                let code = error.as_db_error().map(|error| error.code().code());
                assert!(code.is_none_or(|code| code.starts_with("57P")), "{error}");
                session = None;
            }
        }
    }
}

/// The statements of a transaction: each table of the walk is inserted into, and updated and deleted from where that is told.
fn transaction(number: i64) -> String {
    let (object, earlier, oldest) = (number % 40, number - 3, number - 20);
    format!(
        "insert into events values ({number}, 'user {object}', {number} % 3 <> 0);
         insert into documents values ({number}, 'new');
         update documents set note = 'changed' where id = {earlier};
         delete from documents where id = {oldest};
         insert into articles values ({object}, 'version {number}') on conflict (id) do update set note = excluded.note;
         delete from articles where id = ({object} + 20) % 40;
         insert into parts values ({object}, 'version {number}') on conflict (id) do update set note = excluded.note;
         delete from parts where id = ({object} + 20) % 40;"
    )
}

//! What a session asks Algolia about one index. It asks until there is an answer, or an error that is not transient.

mod algolia_client;

use std::rc::Rc;
use std::time::{Duration, Instant};

use pgrx::pg_sys;
use pgrx::prelude::*;

use crate::delivery::question::{Answer, AskError, AskErrorKind, AskResult, Question};
use crate::pg::api::my_database;
use crate::pg::latest_snapshot::first_row;
use crate::pg::report::{sql_error, SqlError, SqlResult};
use crate::pg::{failpoint, process, shmem};
use crate::record::Fingerprint;
pub(super) use algolia_client::AlgoliaClient;

/// How many objects are requested at a time, and the approximate limit for the bytes of a request.
const OBJECTS: usize = 1000;
const QUESTION_BYTES: usize = 128 << 10;
/// How long Algolia may be unreachable before the comparison fails, and the first pause before a retry.
const OUTAGE: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_millis(200);
/// The first pause before asking again whether a task has been published.
const LOOK: Duration = Duration::from_millis(20);
/// Each pause is twice as long as the one before, up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long to wait for a task. Algolia's own clients give up sooner, but here nobody else waits for a task that was
/// lost.
const INDEXING: Duration = Duration::from_secs(600);

/// The result of a request for a page of an index.
pub(super) enum Page {
    /// The ids on the page, and the cursor for the next one.
    Read { ids: Vec<String>, next: Option<String> },
    /// The response was too large. This is the error if the page cannot be made smaller.
    TooLong(Box<SqlError>),
}

/// A session's access to one index.
pub(super) struct IndexClient {
    index_id: i32,
    index: String,
    algolia: Rc<AlgoliaClient>,
}

/// The name of an index. Must be called with the owner's rights.
pub(super) fn index_name(index_id: i32) -> SqlResult<String> {
    let arguments = [(pg_sys::INT4OID, index_id.into())];
    let query = include_str!("../../../../sql/reconcile/name_of_index.sql");
    Ok(first_row(query, &arguments, |row| Ok(row.get::<String>(1)))?.flatten().unwrap_or_default())
}

impl IndexClient {
    pub(super) fn new(algolia: Rc<AlgoliaClient>, index_id: i32, index: String) -> IndexClient {
        IndexClient { index_id, index, algolia }
    }

    /// How many rows have been queued for the index so far. Whatever has been delivered is included.
    pub(super) fn enqueued(&self) -> i64 {
        let shared_state = shmem::shared_state();
        let lane = shared_state.as_ref().and_then(|l| l.lane(l.find_lane(my_database(), self.index_id)?));
        lane.map_or(0, |lane| lane.enqueued_total)
    }

    /// The fingerprints of objects, in the same order.
    pub(super) fn objects(&self, ids: &[&str]) -> SqlResult<Vec<Option<Fingerprint>>> {
        let mut prints = Vec::with_capacity(ids.len());
        for ids in ids.chunks(OBJECTS) {
            self.some_objects(ids, &mut prints)?;
        }
        Ok(prints)
    }

    fn some_objects(&self, ids: &[&str], prints: &mut Vec<Option<Fingerprint>>) -> SqlResult<()> {
        // Each object is requested together with the name of the index.
        if ids.iter().map(|id| id.len() + self.index.len()).sum::<usize>() > QUESTION_BYTES {
            let (one, other) = ids.split_at(ids.len() / 2);
            if one.is_empty() {
                // Algolia refuses ids this long.
                prints.push(None);
                return Ok(());
            }
            self.some_objects(one, prints)?;
            return self.some_objects(other, prints);
        }
        let owned = ids.iter().map(|id| (*id).to_owned()).collect();
        match self.ask(&Question::Objects { index: self.index.clone(), ids: owned })? {
            Answer::Objects(found) if found.len() == ids.len() => prints.extend(found),
            other => return Err(unexpected(&other)),
        }
        Ok(())
    }

    /// Reads a page of the index with `size` ids.
    pub(super) fn page(
        &self,
        (prefix, filters): (&str, Option<&str>),
        cursor: Option<String>,
        size: usize,
    ) -> SqlResult<Page> {
        let (index, prefix) = (self.index.clone(), prefix.to_owned());
        let question = Question::Page { index, prefix, filters: filters.map(str::to_owned), cursor, size };
        match self.reply(&question)? {
            Ok(Answer::Page { ids, cursor }) => Ok(Page::Read { ids, next: cursor }),
            Ok(other) => Err(unexpected(&other)),
            Err(error) if error.kind == AskErrorKind::TooLong => Ok(Page::TooLong(self.explain(error))),
            Err(error) => Err(self.explain(error)),
        }
    }

    /// Waits until everything delivered so far is visible in the index.
    pub(super) fn wait_until_indexed(&self) -> SqlResult<()> {
        let task = shmem::shared_state().and_then(|shared_state| {
            shared_state.last_task(my_database(), self.index_id, self.algolia.destination())
        });
        let Some(task) = task else { return Ok(()) };
        let question = Question::Task { index: self.index.clone(), task };
        let patience =
            if failpoint::is_ordered("waiting for a task in vain") { Duration::ZERO } else { INDEXING };
        let (started, mut pause) = (Instant::now(), LOOK);
        loop {
            match self.ask(&question)? {
                Answer::Task { published: true } => return Ok(()),
                Answer::Task { published: false } if started.elapsed() < patience => nap(pause),
                Answer::Task { published: false } => return Err(self.never_indexed(task)),
                other => return Err(unexpected(&other)),
            }
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }

    fn never_indexed(&self, task: i64) -> Box<SqlError> {
        let minutes = INDEXING.as_secs() / 60;
        sql_error(
            PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
            format!("what was delivered to index \"{}\" was not indexed within {minutes} minutes", self.index),
            "Call the function again when Algolia has caught up. If Algolia has lost the task, deliver another record \
             to the index first.",
        )
        .with_detail(format!("Task {task} is not published. Nothing was changed."))
    }

    fn ask(&self, question: &Question) -> SqlResult<Answer> {
        self.reply(question)?.map_err(|error| self.explain(error))
    }

    /// Retries until there is an answer or an error that is not transient.
    fn reply(&self, question: &Question) -> SqlResult<AskResult> {
        let (started, mut pause) = (Instant::now(), RETRY);
        loop {
            match self.algolia.ask(question.clone()) {
                Err(error) if error.kind == AskErrorKind::Transient && started.elapsed() < OUTAGE => {
                    nap(pause);
                    pause = (2 * pause).min(LONGEST_PAUSE);
                }
                reply => return Ok(reply),
            }
        }
    }

    fn explain(&self, error: AskError) -> Box<SqlError> {
        let AskError { kind, reason, hint } = error;
        let message = format!("could not read index \"{}\": {reason}", self.index);
        match kind {
            AskErrorKind::Transient => sql_error(
                PgSqlErrorCode::ERRCODE_CONNECTION_FAILURE,
                message,
                "Call the function again when Algolia can be reached. Nothing was changed.",
            ),
            AskErrorKind::Rights => sql_error(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message, hint),
            AskErrorKind::TooLong | AskErrorKind::Refused => {
                sql_error(PgSqlErrorCode::ERRCODE_SYSTEM_ERROR, message, hint)
            }
        }
    }
}

fn nap(at_most: Duration) {
    process::wait(None, i64::try_from(at_most.as_millis()).unwrap_or(i64::MAX));
}

fn unexpected(answer: &Answer) -> Box<SqlError> {
    let message = match answer {
        Answer::Objects(_) => "a request returned objects that were not requested",
        Answer::Page { .. } | Answer::Task { .. } => "a request returned the answer to another request",
    };
    sql_error(
        PgSqlErrorCode::ERRCODE_INTERNAL_ERROR,
        message,
        "Restart the server, so that it loads the installed library.",
    )
}

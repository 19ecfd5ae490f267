//! Deliveries with a transport that plays back answers and records requests. If a test repeats a case of the common
//! test suite of Algolia's clients, its name says so in that suite's words.
#![forbid(unsafe_code)]

mod gzip;
mod questions;
mod requests;
mod retries;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::*;
use crate::delivery::batch::{Action, BatchBuilder, Push};
use crate::delivery::clock::SystemClock;
use crate::delivery::host_url::parse_hosts;
use crate::delivery::settings::for_tests;
use crate::delivery::transport::{Request, TransportError};
use crate::secret::Secret;

type Answer = Result<Response, TransportError>;

/// The requests that the transport received.
struct Seen {
    method: Method,
    host: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeouts: (u64, u64),
    answer_timeout: u64,
    fresh: bool,
}

impl Seen {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

impl Transport for Script {
    fn send(&self, request: &Request<'_>) -> Answer {
        self.seen.lock().unwrap().push(Seen {
            method: request.method,
            host: request.host.name().to_owned(),
            path: request.path.to_owned(),
            headers: request
                .headers
                .iter()
                .map(|(key, value)| (key.to_string(), value.to_string()))
                .collect(),
            body: request.body.to_vec(),
            timeouts: (request.connect_timeout.as_secs(), request.request_timeout.as_secs()),
            answer_timeout: request.answer_timeout.as_secs(),
            fresh: request.fresh_connection,
        });
        self.answers.lock().unwrap().pop_front().expect("a request more than the script has answers")
    }
}

struct Stage {
    sink: Sink<Arc<Script>>,
    script: Arc<Script>,
}

type Making = fn(DeliverySettings, Arc<Script>, u64) -> Result<Sink<Arc<Script>>, SettingsError>;

fn stage_with(answers: Vec<Answer>, change: impl FnOnce(&mut DeliverySettings)) -> Stage {
    stage_of(Sink::new, answers, change)
}

fn stage_of(make: Making, answers: Vec<Answer>, change: impl FnOnce(&mut DeliverySettings)) -> Stage {
    let script = Arc::new(Script { answers: Mutex::new(answers.into()), ..Script::default() });
    let mut settings = for_tests();
    settings.hosts = parse_hosts("http://a:1,http://b:2,http://c:3").unwrap();
    change(&mut settings);
    Stage { sink: make(settings, Arc::clone(&script), 7).unwrap(), script }
}

fn stage(answers: Vec<Answer>) -> Stage {
    stage_with(answers, |_| ())
}

impl Stage {
    fn deliver(&self, batch: &Batch) -> SendResult {
        self.sink.deliver("audit", batch, &SystemClock)
    }

    fn hosts(&self) -> Vec<String> {
        self.script.seen.lock().unwrap().iter().map(|seen| seen.host.clone()).collect()
    }

    fn play(&self, answers: Vec<Answer>) {
        self.script.answers.lock().unwrap().extend(answers);
    }
}

fn status(status: u16, body: &str) -> Answer {
    Ok(Response { status, body: body.as_bytes().to_vec(), ..Response::default() })
}

fn receipt(task: i64) -> Answer {
    status(200, &format!(r#"{{"taskID":{task},"objectIDs":["1","2"]}}"#))
}

/// A host that asks for a pause.
fn busy(retry_after: &str) -> Answer {
    Ok(Response { retry_after: Some(retry_after.to_owned()), ..status(503, "")? })
}

fn timeout() -> Answer {
    Err(TransportError::Timeout("no answer within 30 s".into()))
}

fn reset() -> Answer {
    Err(TransportError::Reset("connection reset".into()))
}

fn delivered(task: i64) -> DeliveryOutcome {
    DeliveryOutcome::Delivered { task_id: Some(task) }
}

fn batch_with(filler: usize) -> Batch {
    let mut builder = BatchBuilder::new(10, usize::MAX);
    for (id, name) in [("1", "Adam"), ("2", "Benoit")] {
        let record = serde_json::json!({"objectID": id, "name": name, "text": "x".repeat(filler)});
        assert_eq!(builder.push(Action::AddObject, &record.to_string()), Push::Taken);
    }
    builder.finish()
}

fn batch() -> Batch {
    batch_with(0)
}

//! A small HTTP client for the tests of the stand-in.
#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use audit_algolia_tests::standin::{Standin, StandinConfig, ADMIN_KEY, APP_ID};
use serde_json::{json, Value};

pub(crate) fn start(config: StandinConfig) -> Standin {
    Standin::start(config).expect("the stand-in starts")
}

#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    url: String,
    app: String,
    key: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
    pub(crate) text: String,
    headers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn message(&self) -> &str {
        self.json["message"].as_str().unwrap_or_default()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

impl Client {
    pub(crate) fn of(standin: &Standin) -> Client {
        Client::to(&standin.base_urls()[0])
    }

    pub(crate) fn to(url: &str) -> Client {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_global(Some(Duration::from_secs(20)))
            .build()
            .new_agent();
        Client { agent, url: url.to_owned(), app: APP_ID.to_owned(), key: ADMIN_KEY.to_owned() }
    }

    pub(crate) fn with_timeout(&self, timeout: Duration) -> Client {
        let mut client = Client::to(&self.url);
        client.agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(timeout))
            .build()
            .new_agent();
        client
    }

    pub(crate) fn with_key(&self, key: &str) -> Client {
        Client { key: key.to_owned(), ..self.clone() }
    }

    pub(crate) fn with_app(&self, app: &str) -> Client {
        Client { app: app.to_owned(), ..self.clone() }
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.raw("GET", path, b"", &[])
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.json("POST", path, body)
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.raw(method, path, body.to_string().as_bytes(), &[])
    }

    pub(crate) fn raw(&self, method: &str, path: &str, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        self.attempt(method, path, body, headers).expect("an answer")
    }

    pub(crate) fn attempt(
        &self,
        method: &str,
        path: &str,
        body: &[u8],
        headers: &[(&str, &str)],
    ) -> Result<Answer, ureq::Error> {
        let mut request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header("x-algolia-application-id", &self.app)
            .header("x-algolia-api-key", &self.key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = if body.is_empty() {
            self.agent.run(request.body(()).expect("a request"))?
        } else {
            self.agent.run(request.body(body).expect("a request"))?
        };
        let text = response.body_mut().read_to_string()?;
        let headers = response
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()))
            .collect();
        let json = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status: response.status().as_u16(), json, text, headers })
    }
}

/// Sends a batch.
pub(crate) fn batch(client: &Client, index: &str, requests: Value) -> Answer {
    client.post(&format!("/1/indexes/{index}/batch"), &json!({"requests": requests}))
}

/// The requests that add these records.
pub(crate) fn add(records: impl IntoIterator<Item = Value>) -> Value {
    records.into_iter().map(|body| json!({"action": "addObject", "body": body})).collect()
}

/// Ten records to search, in index `t`.
pub(crate) fn catalogue(client: &Client) {
    let settings = json!({
        "attributesForFaceting": ["actor.id", "searchable(action)", "filterOnly(team)", "n"],
        "customRanking": ["desc(n)"],
        "unretrievableAttributes": ["secret"],
    });
    client.json("PUT", "/1/indexes/t/settings", &settings);
    let records = (0..10).map(|n| {
        let action = if n % 3 == 0 { "log in" } else { "delete" };
        json!({
            "objectID": format!("r{n}"), "n": n, "action": action, "actor": {"id": format!("U{}", n % 2)},
            "team": "red", "undeclared": "x", "secret": "s", "text": format!("row number {n}"),
        })
    });
    batch(client, "t", add(records));
}

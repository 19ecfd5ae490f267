//! Queries the index over HTTP, with only a key.

use std::time::Duration;

use anyhow::{bail, Context, Result};
use serde_json::{json, Value};

use audit_algolia_tests::standin::APP_ID;
use audit_algolia_tests::workload::TABLE;

/// A key that can search one index and do nothing else.
pub(super) const SEARCH_KEY: &str = "search-key-of-an-analyst";

/// A key that can search every index. The page gets a secured key that is made from it.
pub(super) const PARENT_KEY: &str = "search-key-of-the-page";

/// A client with that key.
pub(super) struct Search {
    agent: ureq::Agent,
    url: String,
}

impl Search {
    /// Connects to this URL.
    pub(super) fn at(url: &str) -> Result<Search> {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(Duration::from_secs(30)))
            .build()
            .new_agent();
        Ok(Search { agent, url: url.to_owned() })
    }

    /// Runs a query on the index.
    pub(super) fn query(&self, query: &Value) -> Result<Value> {
        self.send("POST", &format!("{TABLE}/query"), query)
    }

    /// The counts of one facet's values, the most frequent first.
    pub(super) fn facet(&self, attribute: &str, filters: &str) -> Result<Vec<(String, u64)>> {
        let answer = self.query(&json!({
            "hitsPerPage": 0, "facets": [attribute], "filters": filters, "maxValuesPerFacet": 1000,
        }))?;
        let counts = answer["facets"][attribute].as_object();
        let mut counts: Vec<(String, u64)> = counts
            .with_context(|| format!("the index counts no {attribute}"))?
            .iter()
            .map(|(value, count)| (value.clone(), count.as_u64().unwrap_or(0)))
            .collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        Ok(counts)
    }

    /// How many records match each of the filters; all in one request.
    pub(super) fn counts(&self, filters: &[String]) -> Result<Vec<u64>> {
        let requests: Vec<Value> = filters
            .iter()
            .map(|filter| json!({"indexName": TABLE, "hitsPerPage": 0, "filters": filter}))
            .collect();
        let answer = self.send("POST", "*/queries", &json!({"requests": requests}))?;
        let results = answer["results"].as_array().context("no results came back")?;
        Ok(results.iter().map(|one| one["nbHits"].as_u64().unwrap_or(0)).collect())
    }

    /// Fetches what a web server has at an address.
    pub(super) fn get(&self, url: &str) -> Result<String> {
        Ok(self.agent.get(url).call()?.body_mut().read_to_string()?)
    }

    /// Tries to write with the key, and returns the status and text of the answer.
    pub(super) fn try_to_write(&self) -> Result<(u16, String)> {
        let body = json!({"requests": [{"action": "addObject", "body": {"objectID": "forged"}}]});
        let (status, answer) = self.exchange("POST", &format!("{TABLE}/batch"), &body)?;
        Ok((status, answer["message"].as_str().unwrap_or_default().to_owned()))
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.exchange(method, path, body)?;
        if status != 200 {
            bail!("{method} {path} was answered {status}: {answer}");
        }
        Ok(answer)
    }

    fn exchange(&self, method: &str, path: &str, body: &Value) -> Result<(u16, Value)> {
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}/1/indexes/{path}", self.url))
            .header("x-algolia-application-id", APP_ID)
            .header("x-algolia-api-key", SEARCH_KEY)
            .body(body.to_string())?;
        let mut response = self.agent.run(request)?;
        let text = response.body_mut().read_to_string()?;
        let answer = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Ok((response.status().as_u16(), answer))
    }
}

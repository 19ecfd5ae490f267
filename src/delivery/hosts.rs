//! Which host to try next, and how long each attempt may take: the strategy of Algolia's official clients.
//!
//! A host that fails is skipped for five minutes. A host that times out stays in use: each further attempt gets more
//! time, and it is tried after the others until it answers again. (The clients try it first at every request; a worker
//! sends thousands of batches in a row.) When every host is down, all are tried again at once. Hosts that have asked
//! for a pause are tried during it only if all have asked.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::delivery::gzip::GzipSupport;
use crate::delivery::host_url::HostUrl;

/// How long a host that failed is left alone, one that timed out stays behind the others, and one that refused gzip is sent
/// none.
const DOWN_FOR: Duration = Duration::from_secs(300);

/// Timeouts grow with each timeout of the host up to this multiple of their setting.
const MAX_GROWTH: u32 = 4;

/// The timeouts of an attempt at a host in good health.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Bounds name lookup, and again the set-up of the connection.
    pub connect: Duration,
    /// Bounds the wait for the beginning of an answer.
    pub answer: Duration,
    /// Bounds the attempt as a whole.
    pub request: Duration,
}

/// The hosts of one application and what is known about their health.
#[derive(Debug)]
pub struct Hosts {
    timeouts: Timeouts,
    hosts: Vec<Host>,
}

#[derive(Debug)]
struct Host {
    url: HostUrl,
    down_since: Option<Instant>,
    /// Until when it has asked not to be called, when it last failed.
    wait_until: Option<Instant>,
    /// Timeouts in a row, and when the last one was noted.
    timed_out: u32,
    timed_out_at: Option<Instant>,
    answered: bool,
    gzip: GzipSupport,
    gzip_noted_at: Option<Instant>,
}

/// A host to try, and how long.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host: HostUrl,
    /// Bounds name lookup, and again the set-up of the connection.
    pub connect_timeout: Duration,
    /// Bounds the wait for the beginning of an answer.
    pub answer_timeout: Duration,
    /// Bounds the attempt as a whole.
    pub request_timeout: Duration,
    /// Whether the host has answered before, so that a kept connection may be used.
    pub answered_before: bool,
    /// Whether the host reads bodies with gzip.
    pub gzip: GzipSupport,
    place: usize,
    timed_out: u32,
}

/// What an attempt says about the health of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostResult {
    /// It answered, with success or with a refusal.
    Answered,
    /// It took too long.
    TimedOut,
    /// It could not be reached, or answered nonsense or a failure of its own.
    Failed,
    /// It answered a failure of its own, and how long it asks not to be called.
    Unwilling(Duration),
}

impl Hosts {
    /// Algolia's hosts for writing: `{app}.algolia.net` first, then its three fallbacks under another
    /// domain (with another provider of names) in an order that the seed decides, so that the
    /// clients of a failing host spread over the others.
    pub fn for_application(id: &str, seed: u64, timeouts: Timeouts) -> Self {
        Self::behind(format!("{id}.algolia.net"), id, seed, timeouts)
    }

    /// Algolia's hosts for reading: `{app}-dsn.algolia.net` first, the nearest of the application's servers, then the same
    /// fallbacks.
    pub fn for_reading(id: &str, seed: u64, timeouts: Timeouts) -> Self {
        Self::behind(format!("{id}-dsn.algolia.net"), id, seed, timeouts)
    }

    fn behind(first: String, id: &str, seed: u64, timeouts: Timeouts) -> Self {
        let mut fallbacks = [1, 2, 3];
        fastrand::Rng::with_seed(seed).shuffle(&mut fallbacks);
        let fallbacks = fallbacks.iter().map(|number| format!("{id}-{number}.algolianet.com"));
        let names = std::iter::once(first).chain(fallbacks);
        Self::explicit(names.map(|name| HostUrl::https(&name)).collect(), timeouts)
    }

    /// The hosts of a list, in its order.
    pub fn explicit(list: Vec<HostUrl>, timeouts: Timeouts) -> Self {
        let known = |url| Host {
            url,
            down_since: None,
            wait_until: None,
            timed_out: 0,
            timed_out_at: None,
            answered: false,
            gzip: GzipSupport::Untried,
            gzip_noted_at: None,
        };
        Hosts { timeouts, hosts: list.into_iter().map(known).collect() }
    }

    /// The hosts to try now, each once, best first.
    pub fn plan(&mut self, now: Instant) -> Vec<Candidate> {
        let within = |since| is_recent(since, now);
        if self.hosts.iter().all(|host| within(host.down_since)) {
            let none_is_willing = self.wait(now).is_some();
            for host in self.hosts.iter_mut().filter(|host| none_is_willing || host.wait(now).is_none()) {
                host.down_since = None;
                host.timed_out = 0;
            }
        }
        let mut plan: Vec<_> =
            self.hosts.iter().enumerate().filter(|(_, host)| !within(host.down_since)).collect();
        // The sort is stable: hosts in equal health keep the order of the list.
        plan.sort_by_key(|(_, host)| if within(host.timed_out_at) { host.timed_out } else { 0 });
        plan.into_iter().map(|(place, host)| self.candidate(place, host, now)).collect()
    }

    /// How long no host wants to be called; none if there is one that has not asked for it.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        // A host without a wish makes the whole none.
        self.hosts.iter().map(|host| host.wait(now)).min().flatten()
    }

    fn candidate(&self, place: usize, host: &Host, now: Instant) -> Candidate {
        let growth = host.timed_out.saturating_add(1).min(MAX_GROWTH);
        Candidate {
            host: host.url.clone(),
            connect_timeout: self.timeouts.connect.saturating_mul(growth),
            answer_timeout: self.timeouts.answer.saturating_mul(growth),
            request_timeout: self.timeouts.request.saturating_mul(growth),
            answered_before: host.answered,
            gzip: match host.gzip {
                GzipSupport::Refused if !is_recent(host.gzip_noted_at, now) => GzipSupport::Untried,
                known => known,
            },
            place,
            timed_out: host.timed_out,
        }
    }

    /// Notes how an attempt at a candidate of an earlier plan ended.
    ///
    /// Requests that were in flight together and timed out together count once: they waited under
    /// the same plan and tell one thing.
    pub fn mark(&mut self, candidate: &Candidate, result: HostResult, now: Instant) {
        let Some(host) = self.hosts.get_mut(candidate.place) else {
            return;
        };
        host.wait_until = match result {
            HostResult::Unwilling(wait) => now.checked_add(wait),
            _ => None,
        };
        match result {
            HostResult::Answered => {
                host.down_since = None;
                host.timed_out = 0;
                host.timed_out_at = None;
                host.answered = true;
            }
            HostResult::TimedOut => {
                host.timed_out = host.timed_out.max(candidate.timed_out.saturating_add(1));
                host.timed_out_at = Some(now);
            }
            HostResult::Failed | HostResult::Unwilling(_) => host.down_since = Some(now),
        }
    }

    /// Notes whether a candidate of an earlier plan reads bodies with gzip.
    pub fn note_gzip(&mut self, candidate: &Candidate, gzip: GzipSupport, now: Instant) {
        if let Some(host) = self.hosts.get_mut(candidate.place) {
            (host.gzip, host.gzip_noted_at) = (gzip, Some(now));
        }
    }
}

fn is_recent(moment: Option<Instant>, now: Instant) -> bool {
    moment.is_some_and(|moment| now.saturating_duration_since(moment) < DOWN_FOR)
}

impl Host {
    /// How long it still asks not to be called.
    fn wait(&self, now: Instant) -> Option<Duration> {
        self.wait_until?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;

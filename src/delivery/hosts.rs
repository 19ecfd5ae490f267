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

/// How long a failed host is not used, a host that timed out comes last, and a host that refused gzip is sent plain
/// bodies.
const DOWN_FOR: Duration = Duration::from_secs(300);

/// A host's timeouts grow each time it times out, up to this multiple of their setting.
const MAX_GROWTH: u32 = 4;

/// The timeouts of an attempt at a healthy host.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Limits the name lookup, and separately the set-up of the connection.
    pub connect: Duration,
    /// Limits the wait for the beginning of an answer.
    pub answer: Duration,
    /// Limits the whole attempt.
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
    /// If its last failure asked for a pause: the end of that pause.
    wait_until: Option<Instant>,
    /// The number of timeouts in a row, and when the last one was noted.
    timed_out: u32,
    timed_out_at: Option<Instant>,
    answered: bool,
    gzip: GzipSupport,
    gzip_noted_at: Option<Instant>,
}

/// A host to try, with the timeouts that apply.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host: HostUrl,
    /// Limits the name lookup, and separately the set-up of the connection.
    pub connect_timeout: Duration,
    /// Limits the wait for the beginning of an answer.
    pub answer_timeout: Duration,
    /// Limits the whole attempt.
    pub request_timeout: Duration,
    /// Whether the host has answered before, so that an open connection may exist.
    pub answered_before: bool,
    /// Whether the host reads gzip.
    pub gzip: GzipSupport,
    place: usize,
    timed_out: u32,
}

/// What an attempt shows about the health of its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostResult {
    /// It answered with success or a refusal.
    Answered,
    /// It took too long.
    TimedOut,
    /// It could not be reached, or its answer was a server error or not understood.
    Failed,
    /// It answered with a server error and asked for a pause of this length.
    AskedToWait(Duration),
}

impl Hosts {
    /// Algolia's hosts for writing: first `{app}.algolia.net`, then its three fallbacks under another domain with
    /// another DNS provider. The seed decides the fallbacks' order, so that the clients of a failing host spread over
    /// them.
    pub fn for_application(id: &str, seed: u64, timeouts: Timeouts) -> Self {
        Self::behind(format!("{id}.algolia.net"), id, seed, timeouts)
    }

    /// Algolia's hosts for reading: first `{app}-dsn.algolia.net`, which leads to the nearest server, then the same
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

    /// The hosts of a list, in that order.
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

    /// The hosts to try now, best first.
    pub fn plan(&mut self, now: Instant) -> Vec<Candidate> {
        let within = |since| is_recent(since, now);
        if self.hosts.iter().all(|host| within(host.down_since)) {
            let all_ask_to_wait = self.wait(now).is_some();
            for host in self.hosts.iter_mut().filter(|host| all_ask_to_wait || host.wait(now).is_none()) {
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

    /// How long every host asks not to be called; `None` if at least one does not ask for it.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        // `None` is the minimum: it means that a host does not ask.
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

    /// Records how an attempt at a candidate of an earlier plan ended.
    ///
    /// Requests that were in flight together and timed out together count once, because they waited under the same
    /// plan.
    pub fn mark(&mut self, candidate: &Candidate, result: HostResult, now: Instant) {
        let Some(host) = self.hosts.get_mut(candidate.place) else {
            return;
        };
        host.wait_until = match result {
            HostResult::AskedToWait(wait) => now.checked_add(wait),
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
            HostResult::Failed | HostResult::AskedToWait(_) => host.down_since = Some(now),
        }
    }

    /// Records whether a candidate of an earlier plan reads gzip.
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
    /// The rest of the pause that it asked for.
    fn wait(&self, now: Instant) -> Option<Duration> {
        self.wait_until?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;

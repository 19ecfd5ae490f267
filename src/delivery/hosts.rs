//! Which host to try next: the strategy of Algolia's official clients.
//!
//! A host that fails is left alone for five minutes. One that times out stays in use, but is given
//! more time at each further try, and its turn comes after the others' until it answers again: unlike the
//! clients, which would wait for it first at every request, this sends thousands of batches in a row.
//! When every host is down, all are forgiven at once, since trying beats waiting; those that have asked not to be
//! called for a while only if all have.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use crate::delivery::host_url::HostUrl;

/// How long a host that failed is left alone, and one that timed out stays behind the others.
const DOWN_FOR: Duration = Duration::from_secs(300);

/// Timeouts grow with each timeout of the host up to this multiple of their setting.
const MAX_GROWTH: u32 = 4;

/// The timeouts of an attempt at a host in good health.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Bounds name lookup, and again the set-up of the connection.
    pub connect: Duration,
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
}

/// A host to try, and how long.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The host.
    pub host: HostUrl,
    /// Bounds name lookup, and again the set-up of the connection.
    pub connect_timeout: Duration,
    /// Bounds the attempt as a whole.
    pub request_timeout: Duration,
    /// Whether the host has answered before, so that a kept connection may be used.
    pub answered_before: bool,
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
        };
        Hosts { timeouts, hosts: list.into_iter().map(known).collect() }
    }

    /// The hosts to try now, each once, best first.
    pub fn plan(&mut self, now: Instant) -> Vec<Candidate> {
        let within =
            |since: Option<Instant>| since.is_some_and(|s| now.saturating_duration_since(s) < DOWN_FOR);
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
        plan.into_iter().map(|(place, host)| self.candidate(place, host)).collect()
    }

    /// How long no host wants to be called; none if there is one that has not asked for it.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        // A host without a wish makes the whole none.
        self.hosts.iter().map(|host| host.wait(now)).min().flatten()
    }

    fn candidate(&self, place: usize, host: &Host) -> Candidate {
        let growth = host.timed_out.saturating_add(1).min(MAX_GROWTH);
        Candidate {
            host: host.url.clone(),
            connect_timeout: self.timeouts.connect.saturating_mul(growth),
            request_timeout: self.timeouts.request.saturating_mul(growth),
            answered_before: host.answered,
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
}

impl Host {
    /// How long it still asks not to be called.
    fn wait(&self, now: Instant) -> Option<Duration> {
        self.wait_until?.checked_duration_since(now).filter(|wait| !wait.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::delivery::host_url::parse_hosts;
    use HostResult::*;

    const TIMEOUTS: Timeouts = Timeouts { connect: Duration::from_secs(2), request: Duration::from_secs(30) };

    fn three() -> Hosts {
        Hosts::explicit(parse_hosts("http://a,http://b,http://c").unwrap(), TIMEOUTS)
    }

    fn names(plan: &[Candidate]) -> Vec<&str> {
        plan.iter().map(|candidate| candidate.host.name()).collect()
    }

    #[test]
    fn the_application_has_four_hosts_and_the_seed_shuffles_the_last_three() {
        let mut orders = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let plan = Hosts::for_application("APP", seed, TIMEOUTS).plan(Instant::now());
            assert_eq!(plan[0].host.as_str(), "https://APP.algolia.net");
            let mut rest: Vec<_> = names(&plan)[1..].iter().map(|name| name.to_string()).collect();
            orders.insert(rest.clone());
            rest.sort();
            assert_eq!(rest, ["APP-1.algolianet.com", "APP-2.algolianet.com", "APP-3.algolianet.com"]);
        }
        assert_eq!(orders.len(), 6);
    }

    #[test]
    fn what_is_read_is_asked_of_the_nearest_host_first() {
        let plan = Hosts::for_reading("APP", 1, TIMEOUTS).plan(Instant::now());
        assert_eq!(plan[0].host.as_str(), "https://APP-dsn.algolia.net");
        assert!(names(&plan)[1..].iter().all(|name| name.ends_with(".algolianet.com")));
    }

    #[test]
    fn a_failed_host_is_left_alone_for_five_minutes() {
        let (mut hosts, start) = (three(), Instant::now());
        let plan = hosts.plan(start);
        hosts.mark(&plan[0], Failed, start);
        assert_eq!(names(&hosts.plan(start + DOWN_FOR - Duration::from_millis(1))), ["b", "c"]);
        assert_eq!(names(&hosts.plan(start + DOWN_FOR)), ["a", "b", "c"]);
    }

    #[test]
    fn a_success_brings_a_host_back_at_once() {
        let (mut hosts, start) = (three(), Instant::now());
        let plan = hosts.plan(start);
        hosts.mark(&plan[0], Failed, start);
        hosts.mark(&plan[0], Answered, start);
        let plan = hosts.plan(start);
        assert_eq!(names(&plan), ["a", "b", "c"]);
        assert!(plan[0].answered_before && !plan[1].answered_before);
    }

    #[test]
    fn when_all_are_down_all_are_tried() {
        let (mut hosts, start) = (three(), Instant::now());
        for candidate in hosts.plan(start) {
            hosts.mark(&candidate, Failed, start);
        }
        assert_eq!(names(&hosts.plan(start)), ["a", "b", "c"]);
    }

    #[test]
    fn a_host_that_asks_for_time_gets_it_as_long_as_another_does_not() {
        let (mut hosts, start) = (three(), Instant::now());
        let (hour, minute) = (Duration::from_secs(3600), Duration::from_secs(60));
        let plan = hosts.plan(start);
        hosts.mark(&plan[0], Unwilling(hour), start);
        hosts.mark(&plan[1], Failed, start);
        hosts.mark(&plan[2], Unwilling(minute), start);
        assert_eq!(hosts.wait(start), None, "one has only failed");
        assert_eq!(names(&hosts.plan(start)), ["b"]);
        hosts.mark(&plan[1], Failed, start);
        assert_eq!(names(&hosts.plan(start + minute)), ["b", "c"]);
        assert_eq!(names(&hosts.plan(start + DOWN_FOR)), ["a", "b", "c"], "no memory is longer than that");
    }

    #[test]
    fn when_all_ask_for_time_the_shortest_wish_counts() {
        let (mut hosts, start) = (three(), Instant::now());
        for (candidate, seconds) in hosts.plan(start).iter().zip([3600, 20, 90]) {
            hosts.mark(candidate, Unwilling(Duration::from_secs(seconds)), start);
        }
        assert_eq!(hosts.wait(start + Duration::from_secs(5)), Some(Duration::from_secs(15)));
        assert_eq!(hosts.wait(start + Duration::from_secs(20)), None);
        assert_eq!(names(&hosts.plan(start)), ["a", "b", "c"], "trying beats waiting");
    }

    #[test]
    fn timeouts_grow_with_each_timeout_and_return_to_the_setting_after_a_success() {
        let (mut hosts, now) = (Hosts::explicit(parse_hosts("http://a").unwrap(), TIMEOUTS), Instant::now());
        for seconds in [2, 4, 6, 8, 8] {
            let plan = hosts.plan(now);
            assert_eq!(plan[0].connect_timeout, Duration::from_secs(seconds));
            assert_eq!(plan[0].request_timeout, Duration::from_secs(15 * seconds));
            hosts.mark(&plan[0], TimedOut, now);
        }
        let plan = hosts.plan(now);
        hosts.mark(&plan[0], Answered, now);
        assert_eq!(hosts.plan(now)[0].connect_timeout, TIMEOUTS.connect);
    }

    #[test]
    fn requests_that_time_out_together_count_once() {
        let (mut hosts, now) = (three(), Instant::now());
        let plan = hosts.plan(now);
        for _ in 0..16 {
            hosts.mark(&plan[0], TimedOut, now);
        }
        let again = hosts.plan(now);
        assert_eq!(again[2].host.name(), "a");
        assert_eq!(again[2].connect_timeout, Duration::from_secs(4));
    }

    #[test]
    fn a_host_that_timed_out_comes_last_until_it_answers_or_time_passes() {
        let (mut hosts, start) = (three(), Instant::now());
        let plan = hosts.plan(start);
        hosts.mark(&plan[0], TimedOut, start);
        assert_eq!(names(&hosts.plan(start)), ["b", "c", "a"]);
        assert_eq!(names(&hosts.plan(start + DOWN_FOR)), ["a", "b", "c"]);
        hosts.mark(&plan[0], Answered, start);
        assert_eq!(names(&hosts.plan(start)), ["a", "b", "c"]);
    }
}

//! Which host is next, and how long it may take.
#![forbid(unsafe_code)]

use super::*;
use crate::delivery::host_url::parse_hosts;
use HostResult::*;

const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    answer: Duration::from_secs(30),
    request: Duration::from_secs(30),
};

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
    hosts.mark(&plan[0], AskedToWait(hour), start);
    hosts.mark(&plan[1], Failed, start);
    hosts.mark(&plan[2], AskedToWait(minute), start);
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
        hosts.mark(candidate, AskedToWait(Duration::from_secs(seconds)), start);
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

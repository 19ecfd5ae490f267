//! Workers and launcher on a real server: what is delivered, when and by which process, and what must not be able to
//! stop them.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod ambiguous;
mod batches;
mod blocked;
mod configure;
mod configure_obstacles;
mod contention;
mod control;
mod crashes;
mod damaged;
mod damaged_pages;
mod databases;
mod dead_letters;
mod extension;
mod failpoints;
mod fairness;
mod hang;
mod hostile;
mod large;
mod leaks;
mod masters;
mod memory;
mod metrics;
mod objects;
mod observe;
mod openmetrics;
mod order;
mod outage;
mod plans;
mod private;
mod processes;
mod reasons;
mod recount;
mod redrive;
mod refusals;
mod reload;
mod retry;
mod secrets;
mod standby;
mod stops;
mod support;
mod unbearable;
mod waiting;

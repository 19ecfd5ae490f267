//! Upgrades from every released version to the present one, and back, with the libraries of both.
#![allow(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod mixed;
mod objects;
mod rights;
mod support;
mod walk;
mod writers;

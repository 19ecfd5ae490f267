//! The audit page of `web/`: what it takes to build, to serve and to test it, and the program that serves it.

mod server;
mod tools;

pub use server::PageServer;
pub use tools::{advice, chromium, lacks, Lack, Tools};

//! The developer's commands, which cargo's aliases run: `cargo verify`, `cargo demo`, `cargo measure`, `cargo dist`.

mod apt;
mod demo;
mod dist;
mod interrupt;
mod measure;
mod package;
mod provision;
mod releases;
mod screen;
mod timescaledb;
mod verify;
mod waiting;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::interrupt::Interrupted;
use crate::provision::Missing;

#[derive(Parser)]
#[command(about = "Checks, shows and measures audit_algolia")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Formats, lints, builds and tests; the last line is the result
    Verify(verify::Arguments),
    /// Delivers this machine's package history, in a cluster of its own
    Demo(demo::Arguments),
    /// Measures capture, delivery and freshness side by side with alternatives
    Measure(measure::Arguments),
    /// Makes packages for Debian's systems and Red Hat's
    Dist(dist::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Verify(arguments) => verify::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments).map(|()| true),
        Command::Measure(arguments) => measure::run(&arguments),
        Command::Dist(arguments) => dist::run(&arguments).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(if error.is::<Missing>() {
                2
            } else if error.is::<Interrupted>() {
                130
            } else {
                1
            })
        }
    }
}

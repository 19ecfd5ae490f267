//! Runs the stand-in Algolia on its own: prints its URLs, one a line, and stops when its standard input is
//! closed or on SIGTERM.

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use audit_algolia_tests::standin::{ApiKey, Standin, StandinConfig, ALL_ACLS};

const USAGE: &str = "usage: standin [--port N] [--hosts N] [--app ID] [--key KEY] [--latency-ms N] \
                     [--indexing-delay-ms N] [--light] [--detached]";

fn main() -> ExitCode {
    match parse(std::env::args().skip(1)) {
        Ok((config, detached)) => match run(config, detached) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&format!("standin: {error}")),
        },
        Err(message) => fail(&format!("standin: {message}\n{USAGE}")),
    }
}

fn fail(message: &str) -> ExitCode {
    let _ = writeln!(io::stderr(), "{message}");
    ExitCode::FAILURE
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<(StandinConfig, bool), String> {
    let mut config = StandinConfig {
        max_record_bytes: 100_000,
        ..StandinConfig::default()
    };
    let mut detached = false;
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--light" => {
                config.light = true;
                continue;
            }
            // Standard input does not matter; only a signal stops it.
            "--detached" => {
                detached = true;
                continue;
            }
            _ => {}
        }
        let value = arguments
            .next()
            .ok_or_else(|| format!("{option} takes a value"))?;
        let number = || {
            value
                .parse::<u64>()
                .map_err(|_| format!("{option} takes a number"))
        };
        match option.as_str() {
            "--port" => {
                config.ports = vec![value.parse().map_err(|_| format!("{option} takes a port"))?];
            }
            "--hosts" => config.hosts = number()? as usize,
            "--app" => config.app_id = value,
            "--key" => config.keys = vec![ApiKey::new(&value, &ALL_ACLS)],
            "--latency-ms" => config.latency = Duration::from_millis(number()?),
            "--indexing-delay-ms" => config.indexing_delay = Duration::from_millis(number()?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    Ok((config, detached))
}

fn run(config: StandinConfig, detached: bool) -> io::Result<()> {
    let standin = Standin::start(config)?;
    let mut out = io::stdout().lock();
    for url in standin.base_urls() {
        writeln!(out, "{url}")?;
    }
    out.flush()?;
    if detached {
        loop {
            std::thread::park();
        }
    }
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(|_| ())
}

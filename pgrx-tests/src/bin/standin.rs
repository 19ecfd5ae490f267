//! Runs the stand-in Algolia on its own: prints its URLs, one a line, and stops when its standard input is
//! closed or on SIGTERM.
//!
//! Each line of its input is a command: `count INDEX` is answered with the number of accepted operations,
//! `times INDEX` with their number and then a line `HASH MICROSECONDS` for each (with `--light-times`),
//! `latency MILLISECONDS` and `reset` with `ok`.
//!
//! `--key` may be given several times. `--key KEY` may do everything, `--key KEY:search,browse` what is listed, and
//! `--key KEY:search:audit_*` that on some indices. Secured keys can be made from each that may not write.

use std::io::{self, BufRead, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use audit_algolia_tests::standin::{ApiKey, Standin, StandinConfig};

const USAGE: &str = "usage: standin [--port N] [--hosts N] [--app ID] [--key KEY[:ACL,…[:INDEX,…]]]… \
                     [--latency-ms N] [--indexing-delay-ms N] [--light] [--light-times] [--detached]";

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
    let mut config = StandinConfig { max_record_bytes: 100_000, ..StandinConfig::default() };
    let (mut detached, mut keys) = (false, Vec::new());
    while let Some(option) = arguments.next() {
        match option.as_str() {
            "--light" => {
                config.light = true;
                continue;
            }
            "--light-times" => {
                config.light_times = true;
                continue;
            }
            // Standard input does not matter; only a signal stops it.
            "--detached" => {
                detached = true;
                continue;
            }
            _ => {}
        }
        let value = arguments.next().ok_or_else(|| format!("{option} takes a value"))?;
        let number = || value.parse::<u64>().map_err(|_| format!("{option} takes a number"));
        match option.as_str() {
            "--port" => {
                config.ports = vec![value.parse().map_err(|_| format!("{option} takes a port"))?];
            }
            "--hosts" => config.hosts = number()? as usize,
            "--app" => config.app_id = value,
            "--key" => keys.push(ApiKey::parse(&value)?),
            "--latency-ms" => config.latency = Duration::from_millis(number()?),
            "--indexing-delay-ms" => config.indexing_delay = Duration::from_millis(number()?),
            _ => return Err(format!("unknown option {option}")),
        }
    }
    if !keys.is_empty() {
        config.keys = keys;
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
    let mut out = BufWriter::new(out);
    for line in io::stdin().lock().lines() {
        obey(&standin, &line?, &mut out)?;
        out.flush()?;
    }
    Ok(())
}

fn obey(standin: &Standin, command: &str, out: &mut impl Write) -> io::Result<()> {
    let (verb, argument) = command.split_once(' ').unwrap_or((command, ""));
    match (verb, argument.parse()) {
        ("count", _) => writeln!(out, "{}", standin.operations(argument)),
        ("times", _) => {
            let times = standin.light_times(argument);
            writeln!(out, "{}", times.len())?;
            times.iter().try_for_each(|(hash, at)| writeln!(out, "{hash} {at}"))
        }
        ("latency", Ok(milliseconds)) => {
            standin.set_latency(Duration::from_millis(milliseconds));
            writeln!(out, "ok")
        }
        ("reset", _) => {
            standin.reset();
            writeln!(out, "ok")
        }
        // What is piped in by accident is not for us.
        _ => Ok(()),
    }
}

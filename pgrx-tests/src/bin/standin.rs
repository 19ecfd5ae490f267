//! Runs the stand-in for Algolia on its own. Prints its URLs, one per line, and stops on SIGTERM or when its standard
//! input is closed.
//!
//! Each line of its input is a command. `count INDEX` is answered with the number of accepted operations, `times INDEX`
//! with their number and then a line `HASH MICROSECONDS` for each (with `--light-times`), `requests` with the number of
//! requests since the start or the last reset, `authority` with the number of lines of the PEM certificate of the
//! authority for TLS and then these lines, `latency MILLISECONDS` and `reset` with `ok`.

use std::io::{self, BufRead, BufWriter, Write};
use std::time::Duration;

use clap::Parser;

use audit_algolia_tests::standin::{ApiKey, Standin, StandinConfig, APP_ID};

#[derive(Parser)]
#[command(about = "Runs the stand-in Algolia on its own")]
struct Arguments {
    /// The port of the first address; 0: any free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// How many addresses to listen on
    #[arg(long, default_value_t = 1)]
    hosts: usize,
    /// One more address, over TLS, whose URL is printed last
    #[arg(long)]
    https: bool,
    /// The application id
    #[arg(long, default_value = APP_ID)]
    app: String,
    /// Can be given several times. KEY allows everything, KEY:search,browse what is listed, and KEY:search:audit_* that
    /// on some indices. Secured keys can be made from each key that cannot write
    #[arg(long, value_name = "KEY[:ACL,…[:INDEX,…]]", value_parser = ApiKey::parse)]
    key: Vec<ApiKey>,
    /// Milliseconds of latency for each write
    #[arg(long, default_value_t = 0)]
    latency_ms: u64,
    /// Milliseconds until tasks are published
    #[arg(long, default_value_t = 0)]
    indexing_delay_ms: u64,
    /// Counts ids and keeps no contents
    #[arg(long)]
    light: bool,
    /// Keeps the arrival time of every id
    #[arg(long)]
    light_times: bool,
    /// Ignores standard input; only a signal stops it
    #[arg(long)]
    detached: bool,
}

fn main() -> io::Result<()> {
    let arguments = Arguments::try_parse().unwrap_or_else(|error| {
        if error.use_stderr() {
            eprintln!("{}", std::env::args().collect::<Vec<_>>().join(" "));
        }
        error.exit()
    });
    let mut config = StandinConfig {
        ports: vec![arguments.port],
        hosts: arguments.hosts,
        https: arguments.https,
        app_id: arguments.app,
        max_record_bytes: 100_000,
        latency: Duration::from_millis(arguments.latency_ms),
        indexing_delay: Duration::from_millis(arguments.indexing_delay_ms),
        light: arguments.light,
        light_times: arguments.light_times,
        ..StandinConfig::default()
    };
    if !arguments.key.is_empty() {
        config.keys = arguments.key;
    }
    let standin = Standin::start(config)?;
    let mut out = io::stdout().lock();
    for url in standin.base_urls().into_iter().chain(standin.https().map(|(url, _)| url)) {
        writeln!(out, "{url}")?;
    }
    out.flush()?;
    if arguments.detached {
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
        ("requests", _) => writeln!(out, "{}", standin.request_count()),
        ("authority", _) => {
            let pem = standin.https().map_or("", |(_, authority)| authority);
            writeln!(out, "{}", pem.lines().count())?;
            pem.lines().try_for_each(|line| writeln!(out, "{line}"))
        }
        ("latency", Ok(milliseconds)) => {
            standin.set_latency(Duration::from_millis(milliseconds));
            writeln!(out, "ok")
        }
        ("reset", _) => {
            standin.reset();
            writeln!(out, "ok")
        }
        // Input that is not a command is ignored.
        _ => Ok(()),
    }
}

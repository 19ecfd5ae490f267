//! Describes the machine.

use std::fmt;
use std::fs;

use anyhow::Result;
use serde_json::{json, Value};

/// The machine, its load before the measurements, and the server.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    cores: usize,
    processor: String,
    memory_gb: f64,
    kernel: String,
    load: String,
    server: String,
}

impl Machine {
    pub(super) fn look(server: &str) -> Result<Machine> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let value = |text: &str, name: &str| -> Option<String> {
            let line = text.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        let kilobytes = value(&read("/proc/meminfo"), "MemTotal")
            .and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
        let load = read("/proc/loadavg");
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            processor: value(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            memory_gb: kilobytes.unwrap_or(0.0) / 1024.0 / 1024.0,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: load.split(' ').next().unwrap_or_default().to_owned(),
            server: server.to_owned(),
        })
    }

    /// In the short form for a chart.
    pub(super) fn in_short(&self) -> String {
        format!(
            "PostgreSQL {}, {} cores ({}), fsync and full_page_writes on; medians of one run",
            self.server, self.cores, self.processor
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cores": self.cores, "processor": self.processor, "memory_gb": self.memory_gb,
            "kernel": self.kernel, "load_before": self.load, "postgresql": self.server,
            "settings": super::testbed::SETTINGS.iter().map(|(name, value)| json!({"name": name, "value": value}))
                .collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings: Vec<String> =
            super::testbed::SETTINGS.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        writeln!(
            f,
            "PostgreSQL {}, release build, on {} cores ({}), {:.0} GB, Linux {}; load before: {}.",
            self.server, self.cores, self.processor, self.memory_gb, self.kernel, self.load
        )?;
        write!(f, "fsync = on, full_page_writes = on, {}; all else by default.", settings.join(", "))
    }
}

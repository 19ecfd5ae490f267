//! Owns the process that serves the audit page.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};

use anyhow::{Context, Result};

use super::tools::Tools;

/// A web server on the loopback interface, which ends when this is dropped, or when this process dies.
pub struct PageServer {
    process: Child,
    url: String,
}

impl PageServer {
    /// Builds the page below a folder, and serves it with a configuration. It may ask these hosts.
    ///
    /// # Errors
    /// When the page does not build, or the server does not start.
    pub fn start(tools: &Tools, folder: &Path, config: &str, hosts: &[String]) -> Result<PageServer> {
        let (root, file) = (folder.join("page"), folder.join("page_config.json"));
        tools.build(&root)?;
        fs::write(&file, config).with_context(|| format!("cannot write {}", file.display()))?;
        let mut command = tools.node("serve.mjs");
        command.args(["--attached", "--port", "0"]).arg("--root").arg(&root).arg("--config").arg(&file);
        for host in hosts {
            command.args(["--host", host]);
        }
        // Its input is the pipe that closes when this process ends, however it does.
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the page's web server does not start")?;
        let output = process.stdout.take().context("the page's web server has no output")?;
        let mut server = PageServer { process, url: String::new() };
        BufReader::new(output).read_line(&mut server.url).context("the page's web server says nothing")?;
        server.url.truncate(server.url.trim_end().len());
        anyhow::ensure!(server.url.starts_with("http://"), "the page's web server has ended");
        Ok(server)
    }

    /// Where the page is.
    pub fn url(&self) -> &str {
        &self.url
    }
}

impl Drop for PageServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

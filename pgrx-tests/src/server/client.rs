//! Access to a cluster: sessions, and PostgreSQL's own client programs.

use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use postgres::error::SqlState;
use postgres::{Client, NoTls};

use super::cluster::Cluster;
use crate::wait::poll;

impl Cluster {
    /// A connection through the socket.
    pub fn connect(&self, database: &str, user: &str) -> Result<Client> {
        postgres::Config::new()
            .host_path(self.socket_dir())
            .port(self.port())
            .dbname(database)
            .user(user)
            .connect_timeout(Duration::from_secs(10))
            .connect(NoTls)
            .with_context(|| format!("cannot connect to {database} as {user}"))
    }

    /// The same for tests, which fail if the cluster cannot be reached.
    #[track_caller]
    #[allow(clippy::panic, reason = "spares each test a Result that would only fail it")]
    pub fn client(&self, database: &str, user: &str) -> Client {
        match self.connect(database, user) {
            Ok(client) => client,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// A superuser's session in `postgres`. Waits while the server starts or recovers.
    ///
    /// # Errors
    /// If there is no session by the deadline.
    pub fn session(&self, deadline: Duration) -> Result<Client> {
        self.session_with(deadline, "select 1")
    }

    /// The same, with a statement that the session begins with.
    ///
    /// # Errors
    /// As [`session`](Cluster::session).
    pub fn session_with(&self, deadline: Duration, begin: &str) -> Result<Client> {
        let session = poll(deadline, || {
            let mut client = self.connect("postgres", "postgres").ok()?;
            client.batch_execute(begin).ok()?;
            Some(client)
        });
        session.with_context(|| format!("no session within {deadline:?}"))
    }

    /// Runs one of PostgreSQL's client programs, such as `pg_dump`, as the superuser.
    ///
    /// # Errors
    /// If it cannot be run or fails; the error contains its output.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.run_as("postgres", program, arguments)
    }

    /// The same as another user.
    ///
    /// # Errors
    /// As [`run`](Cluster::run).
    pub fn run_as(&self, user: &str, program: &str, arguments: &[&str]) -> Result<Output> {
        let output = Command::new(self.bin(program))
            .args(["-h", "127.0.0.1", "-p", &self.port().to_string(), "-U", user])
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {program}"))?;
        ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output)
    }

    /// A URL for programs with their own client.
    pub fn connection_string(&self, database: &str, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port())
    }

    /// The command to look into the database by hand.
    pub fn psql(&self, database: &str) -> String {
        format!("{} -h 127.0.0.1 -p {} -U postgres {database}", self.bin("psql").display(), self.port())
    }
}

/// Whether an error means that the session was ended, by the server or by another session.
pub(crate) fn is_end_of_session(code: &SqlState) -> bool {
    code.code().starts_with("57P") || code.code().starts_with("08")
}

//! Ways into a cluster: sessions, and PostgreSQL's own client programs.

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

    /// The same for tests: a cluster that cannot be reached is a failed one.
    #[track_caller]
    #[allow(clippy::panic, reason = "spares each test a Result that would only fail it")]
    pub fn client(&self, database: &str, user: &str) -> Client {
        match self.connect(database, user) {
            Ok(client) => client,
            Err(error) => panic!("{error:#}"),
        }
    }

    /// A session of the superuser in `postgres`, as soon as a server that starts or recovers takes one.
    ///
    /// # Errors
    /// When it takes none until the deadline.
    pub fn session(&self, deadline: Duration) -> Result<Client> {
        self.session_with(deadline, "select 1")
    }

    /// The same with a statement that the session begins with.
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

    /// Has one of PostgreSQL's client programs, such as `pg_dump`, do its work as the superuser.
    ///
    /// # Errors
    /// When it cannot be run or fails; the error is what it said.
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

    /// A URL for programs that bring their own client.
    pub fn connection_string(&self, database: &str, user: &str) -> String {
        format!("postgresql://{user}@127.0.0.1:{}/{database}", self.port())
    }

    /// The command with which a person looks into the database.
    pub fn psql(&self, database: &str) -> String {
        format!("{} -h 127.0.0.1 -p {} -U postgres {database}", self.bin("psql").display(), self.port())
    }
}

/// Whether an error is what a session hears when the server, or somebody, ends it.
pub(crate) fn is_end_of_session(code: &SqlState) -> bool {
    code.code().starts_with("57P") || code.code().starts_with("08")
}

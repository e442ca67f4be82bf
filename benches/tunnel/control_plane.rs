//! The server's own program with a database that was filled beside it, and those who call it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tempfile::TempDir;

use crate::ssh::Process;

/// How long it may take to begin.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long it may take to end.
const END_LIMIT: Duration = Duration::from_secs(60);

/// A control plane that runs.
pub struct ControlPlane {
    pub process: Process,
    /// How long it took until it was ready.
    pub start: Duration,
    /// `127.0.0.1:PORT` of the web.
    web: String,
    /// `127.0.0.1:PORT` of SSH.
    pub ssh: String,
}

/// Its program and its data.
pub struct Installation {
    program: PathBuf,
    data: TempDir,
    /// The address of its database, if that is none in the data folder.
    database: Option<String>,
    /// An operator's token.
    pub token: String,
}

/// An answer.
pub struct Answer {
    pub took: Duration,
    pub head: String,
    pub body: String,
}

impl Installation {
    /// A new one, with a token.
    pub fn new(program: &Path) -> anyhow::Result<Self> {
        Self::with(program, None)
    }

    /// The same with its data in this database of PostgreSQL.
    pub fn in_postgres(program: &Path, database: String) -> anyhow::Result<Self> {
        Self::with(program, Some(database))
    }

    fn with(program: &Path, database: Option<String>) -> anyhow::Result<Self> {
        let mut installation = Installation {
            program: program.to_owned(),
            data: tempfile::tempdir()?,
            database,
            token: String::new(),
        };
        drop(installation.start(&[])?);
        let token = installation
            .command("token")
            .args(["create", "bench"])
            .output()?;
        ensure!(token.status.success(), "no token was made");
        installation.token = String::from_utf8(token.stdout)?.trim().to_owned();
        Ok(installation)
    }

    fn command(&self, name: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(name).arg("--data-dir").arg(self.data.path());
        if let Some(database) = &self.database {
            command.env("HOLISTICS_TUNNEL_SERVER_DATABASE_URL", database);
        }
        command
    }

    /// Runs statements on its database while it does not run.
    pub fn fill(&self, statements: String) -> anyhow::Result<()> {
        let runtime = tokio::runtime::Runtime::new()?;
        runtime.block_on(async {
            let mut database = SqliteConnectOptions::new()
                .filename(self.file())
                .connect()
                .await?;
            let statements = AssertSqlSafe(statements);
            sqlx::raw_sql(statements).execute(&mut database).await?;
            Ok(())
        })
    }

    /// What this query of its database gives while it runs.
    pub fn rows(&self, query: &str) -> anyhow::Result<Vec<(i64, i64, i64)>> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let file = SqliteConnectOptions::new().filename(self.file());
            let mut database = file.read_only(true).connect().await?;
            let query = AssertSqlSafe(query.to_owned());
            let rows = sqlx::query_as(query).fetch_all(&mut database).await?;
            database.close().await?;
            Ok(rows)
        })
    }

    fn file(&self) -> PathBuf {
        self.data.path().join("control-plane.sqlite")
    }

    /// Starts it.
    pub fn start(&self, arguments: &[&str]) -> anyhow::Result<ControlPlane> {
        self.start_at("127.0.0.1:0", arguments)
    }

    /// Starts it, for bastions that come to this address.
    pub fn start_at(&self, ssh: &str, arguments: &[&str]) -> anyhow::Result<ControlPlane> {
        let began = Instant::now();
        let mut command = self.command("serve");
        command.args(["--listen", "127.0.0.1:0", "--ssh-listen", ssh]);
        command
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut process = Process(command.spawn().context("the server's program")?);
        let output = process.0.stdout.take().context("its output")?;
        let (mut web, mut ssh) = (String::new(), String::new());
        for line in BufReader::new(output).lines() {
            let line = line?;
            if let Some(address) = line.strip_prefix("web      http://") {
                web = address.to_owned();
            } else if let Some(address) = line.strip_prefix("tunnel   ") {
                ssh = address.to_owned();
            } else if line == "ready" {
                let start = began.elapsed();
                return Ok(ControlPlane {
                    process,
                    start,
                    web,
                    ssh,
                });
            }
            ensure!(began.elapsed() < START_LIMIT, "the server did not start");
        }
        anyhow::bail!("the server ended")
    }

    /// The cookie of a browser that has signed in.
    pub fn sign_in(&self, server: &ControlPlane) -> anyhow::Result<String> {
        let link = self.command("login-link").output()?;
        let link = String::from_utf8(link.stdout)?;
        let path = link
            .trim()
            .find("/login/")
            .map(|at| link.trim()[at..].to_owned());
        let path = path.context("a sign-in link")?;
        let page = server.get(&path, "")?;
        let token = page.body.split("name=\"csrf\" value=\"").nth(1);
        let token = token.and_then(|rest| rest.split('"').next());
        let form = format!("csrf={}", token.context("the form's token")?);
        let cookie = cookies(&page.head);
        let answer = server.ask(&format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nOrigin: http://{}\r\nCookie: {cookie}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{form}",
            server.web, server.web, form.len()
        ))?;
        ensure!(
            answer.head.contains(" 303 "),
            "not signed in: {}",
            answer.head
        );
        Ok(format!("{cookie}; {}", cookies(&answer.head)))
    }
}

fn cookies(head: &str) -> String {
    let lines = head.lines().filter_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let is_cookie = name.eq_ignore_ascii_case("set-cookie");
        is_cookie.then(|| value.split(';').next().unwrap_or_default())
    });
    lines.collect::<Vec<_>>().join("; ")
}

impl ControlPlane {
    /// Ends it as a service is ended, and waits for that.
    pub fn end(mut self) -> anyhow::Result<()> {
        let process = Pid::from_child(&self.process.0);
        kill_process(process, Signal::TERM)?;
        let deadline = Instant::now() + END_LIMIT;
        while self.process.0.try_wait()?.is_none() {
            ensure!(Instant::now() < deadline, "the server did not end");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Asks for a path, with this line of a header, and reads the answer to its end.
    pub fn get(&self, path: &str, header: &str) -> anyhow::Result<Answer> {
        let host = &self.web;
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\n{header}Connection: close\r\n\r\n"
        ))
    }

    /// Calls the API, and reads its answer.
    pub fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        body: &serde_json::Value,
    ) -> anyhow::Result<serde_json::Value> {
        let (host, body) = (&self.web, body.to_string());
        let answer = self.ask(&format!(
            "{method} /api/v1{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))?;
        ensure!(
            answer.head.starts_with("HTTP/1.1 20"),
            "{method} {path}: {} {}",
            answer.head,
            answer.body
        );
        Ok(serde_json::from_str(&answer.body)?)
    }

    fn ask(&self, request: &str) -> anyhow::Result<Answer> {
        let began = Instant::now();
        let mut connection = TcpStream::connect(&self.web)?;
        connection.set_nodelay(true)?;
        connection.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer)?;
        let took = began.elapsed();
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").context("an answer")?;
        Ok(Answer {
            took,
            head: head.to_owned(),
            body: body.to_owned(),
        })
    }

    /// The memory that it has in bytes: now, and at most.
    pub fn memory(&self) -> anyhow::Result<(f64, f64)> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let kib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
            number
                .and_then(|number| number.parse::<f64>().ok())
                .context("a number")
        };
        Ok((kib("VmRSS:")? * 1024.0, kib("VmHWM:")? * 1024.0))
    }
}

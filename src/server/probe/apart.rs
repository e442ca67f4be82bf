//! A test in a process of its own. A driver may reserve as much memory as a hostile database claims that it will
//! need; where there is less, a program does not survive that. So it is not the server that tries.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::report::Failure;
use super::{Target, run_telling};
use crate::protocol::{ConnectionTest, ConnectionTestResult, TestStage};

/// The subcommand that is such a process.
pub const SUBCOMMAND: &str = "test-connection";

/// What it may have of its own, several times what a test needs.
const MEMORY: u64 = 128 << 20;
/// More than it ever says.
const LONGEST_ANSWER: u64 = 64 << 10;
/// Longer than all stages take together.
const LONGEST: Duration = Duration::from_secs(75);
/// For how many there is room at a time; others wait.
static ROOM: Semaphore = Semaphore::const_new(32);

/// What such a process is told.
#[derive(Serialize, Deserialize)]
struct Order {
    target: Target,
    login: ConnectionTest,
}

/// What it says, each on a line.
#[derive(Serialize, Deserialize)]
enum Line {
    Stage(TestStage),
    Result(ConnectionTestResult),
}

/// Runs the stages until one fails, in a process of its own.
pub async fn run(target: &Target, login: &ConnectionTest) -> ConnectionTestResult {
    let mut stages = Vec::new();
    // It is never closed.
    let _room = ROOM.acquire().await;
    let cause = match timeout(LONGEST, exchange(target, login, &mut stages)).await {
        Ok(Ok(Some(result))) => return result,
        Ok(Ok(None)) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some(format!("it took longer than {} s", LONGEST.as_secs())),
    };
    let failure = match cause {
        None => too_much(),
        Some(cause) => not_carried_out(&cause),
    };
    stages.push(failed(target, stages.len(), failure));
    ConnectionTestResult {
        ok: false,
        stages,
        server_version: None,
        latency_milliseconds: None,
    }
}

/// Its result; none if it ended without one.
async fn exchange(
    target: &Target,
    login: &ConnectionTest,
    stages: &mut Vec<TestStage>,
) -> io::Result<Option<ConnectionTestResult>> {
    let order = serde_json::to_vec(&Order {
        target: target.clone(),
        login: login.clone(),
    })?;
    let mut child = start()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that has ended already says nothing either.
        let _ = stdin.write_all(&order).await;
    }
    let result = match child.stdout.take() {
        Some(stdout) => listen(stdout, stages).await?,
        None => None,
    };
    if result.is_none() {
        let end = child.wait().await?;
        tracing::warn!(%end, "a connection test ended without a result");
    }
    Ok(result)
}

async fn listen(
    stdout: ChildStdout,
    stages: &mut Vec<TestStage>,
) -> io::Result<Option<ConnectionTestResult>> {
    let mut lines = BufReader::new(stdout.take(LONGEST_ANSWER)).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Stage(stage) => stages.push(stage),
            Line::Result(result) => return Ok(Some(result)),
        }
    }
    Ok(None)
}

/// This very program once more, also if its file was replaced meanwhile. Of the environment it gets nothing: drivers
/// look there for users, passwords and files.
fn start() -> io::Result<Child> {
    let program = if cfg!(target_os = "linux") {
        "/proc/self/exe".into()
    } else {
        std::env::current_exe()?
    };
    Command::new(program)
        .arg(SUBCOMMAND)
        .arg0("holistics-tunnel-server")
        .env_clear()
        // glibc reserves memory for every thread otherwise.
        .env("MALLOC_ARENA_MAX", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
}

/// Such a process: reads an order, carries it out, and tells how it goes.
///
/// # Errors
/// There is no order, or nobody listens.
pub async fn carry_out() -> anyhow::Result<()> {
    bound_memory()?;
    let order: Order = serde_json::from_reader(io::stdin().lock())?;
    let tell = |stage: &TestStage| say(&Line::Stage(stage.clone()));
    let result = run_telling(&order.target, &order.login, &tell).await;
    say(&Line::Result(result));
    Ok(())
}

fn bound_memory() -> io::Result<()> {
    // What is in its memory is nothing for a file.
    for (resource, most) in [(Resource::Data, MEMORY), (Resource::Core, 0)] {
        let maximum = getrlimit(resource).maximum;
        let most = maximum.map_or(most, |maximum| maximum.min(most));
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    Ok(())
}

/// Where nobody listens any more, nobody waits for the end either.
fn say(line: &Line) {
    if let Ok(line) = serde_json::to_string(line) {
        println!("{line}");
    }
}

/// The stage in which it ended, by those before.
fn failed(target: &Target, before: usize, failure: Failure) -> TestStage {
    let names = [target.route.stage(), "tcp", "tls", "login", "query"];
    TestStage {
        name: names[before.min(names.len() - 1)].to_owned(),
        ok: false,
        milliseconds: 0,
        detail: failure.detail,
        remedy: Some(failure.remedy),
    }
}

fn too_much() -> Failure {
    Failure::new(
        format!(
            "the other side's answer asks for more memory than a test may have ({} MiB)",
            MEMORY >> 20
        ),
        "Check whether host and port belong to such a database.",
    )
}

fn not_carried_out(cause: &str) -> Failure {
    Failure::new(
        format!("this server could not carry out the test: {cause}"),
        "Try again in a moment; if it stays so, check whether this server may start processes.",
    )
}

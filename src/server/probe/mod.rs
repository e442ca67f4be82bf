//! "Test connection": through the tunnel to the database, stage by stage, each with a time limit.
//!
//! The stages are `tunnel` (its own session is up) or, without a tunnel, `dns` (the host has an address
//! that may be tested); `tcp` (the port carries to something that answers), `login` and `query`. A
//! database without a driver gets the first two, and the result says so. The password stands in no result and no log.

mod postgres;
mod route;
mod tcp;

use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_trait::async_trait;

use crate::protocol::{ConnectionTest, ConnectionTestResult, DatabaseType, TestStage};

pub use route::Route;

/// How long each stage may take; four stages stay below half a minute, since the first one only looks.
const STAGE_TIMEOUT: Duration = Duration::from_secs(10);

/// What is tested.
#[derive(Debug)]
pub struct Target {
    /// Which database it is.
    pub database_type: DatabaseType,
    /// `host:port` of the database as the one who connects to it sees it, for the messages.
    pub database: String,
    /// The way to it.
    pub route: Route,
}

/// Why a stage failed, and what to do.
#[derive(Debug)]
struct Failure {
    detail: String,
    remedy: String,
}

impl Failure {
    fn new(detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Failure {
            detail: detail.into(),
            remedy: remedy.into(),
        }
    }
}

/// How a kind of database is logged in to.
#[async_trait]
trait Driver: Send + Sync {
    /// Connects and logs in.
    async fn login(
        &self,
        through: SocketAddr,
        login: &ConnectionTest,
    ) -> Result<Box<dyn Session>, Failure>;
}

/// A session that is logged in.
#[async_trait]
trait Session: Send {
    /// Runs `SELECT 1` and returns what the database says it is.
    async fn query(&mut self) -> Result<String, Failure>;
}

fn driver(database_type: DatabaseType) -> Option<&'static dyn Driver> {
    match database_type {
        DatabaseType::Postgresql | DatabaseType::Redshift => Some(&postgres::Postgres),
        DatabaseType::Mysql
        | DatabaseType::Mariadb
        | DatabaseType::Sqlserver
        | DatabaseType::Clickhouse
        | DatabaseType::Other => None,
    }
}

/// Runs the stages until one fails.
pub async fn run(target: &Target, login: &ConnectionTest) -> ConnectionTestResult {
    let mut report = Report::new(login);
    let server_version = stages(target, login, &mut report).await.ok().flatten();
    ConnectionTestResult {
        ok: report.stages.iter().all(|stage| stage.ok),
        stages: report.stages,
        server_version,
    }
}

/// A stage failed; the report has it.
struct Stopped;

async fn stages(
    target: &Target,
    login: &ConnectionTest,
    report: &mut Report<'_>,
) -> Result<Option<String>, Stopped> {
    let driver = driver(target.database_type);
    let route = &target.route;
    let through = report
        .stage(route.stage(), route.find(), |found| route.found(*found))
        .await?;
    report
        .stage("tcp", tcp::reach(target, through), |found| match driver {
            Some(_) => found.clone(),
            None => format!(
                "{found}. Only reachability was checked: this version cannot log in to {}",
                target.database_type
            ),
        })
        .await?;
    let Some(driver) = driver else {
        return Ok(None);
    };
    let mut session = report
        .stage("login", driver.login(through, login), |_| {
            format!("logged in as {}", login.username)
        })
        .await?;
    let version = report
        .stage("query", session.query(), |_| {
            "SELECT 1 was answered".to_owned()
        })
        .await?;
    Ok(Some(version))
}

/// The stages so far.
struct Report<'a> {
    stages: Vec<TestStage>,
    password: &'a str,
}

impl<'a> Report<'a> {
    fn new(login: &'a ConnectionTest) -> Self {
        Report {
            stages: Vec::new(),
            password: &login.password,
        }
    }

    /// Runs one stage within [`STAGE_TIMEOUT`] and writes down how it went.
    async fn stage<T>(
        &mut self,
        name: &str,
        work: impl Future<Output = Result<T, Failure>>,
        describe: impl FnOnce(&T) -> String,
    ) -> Result<T, Stopped> {
        let started = Instant::now();
        let result = match tokio::time::timeout(STAGE_TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err(too_slow()),
        };
        let milliseconds = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let (ok, detail, remedy) = match &result {
            Ok(value) => (true, describe(value), None),
            Err(failure) => (false, failure.detail.clone(), Some(failure.remedy.clone())),
        };
        self.stages.push(TestStage {
            name: name.to_owned(),
            ok,
            milliseconds,
            detail: without(self.password, &detail),
            remedy: remedy.map(|remedy| without(self.password, &remedy)),
        });
        result.map_err(|_| Stopped)
    }
}

fn too_slow() -> Failure {
    Failure {
        detail: format!("no answer within {} s", STAGE_TIMEOUT.as_secs()),
        remedy: "Look whether host and port belong to such a database, whether a firewall between the bastion \
                 and the database drops packets, and whether the database is overloaded."
            .to_owned(),
    }
}

/// Takes the password out of a text that a driver or a database wrote.
fn without(password: &str, text: &str) -> String {
    match password.is_empty() {
        true => text.to_owned(),
        false => text.replace(password, "[password]"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    fn login() -> ConnectionTest {
        ConnectionTest {
            database: "sales".to_owned(),
            username: "reader".to_owned(),
            password: "hunter2".to_owned(),
            tls: None,
        }
    }

    async fn target(database_type: DatabaseType) -> (Target, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target {
            database_type,
            database: "db.internal:1".to_owned(),
            route: Route::Tunnel {
                through: listener.local_addr().unwrap(),
                is_up: true,
            },
        };
        (target, listener)
    }

    #[tokio::test]
    async fn a_tunnel_that_is_down_is_the_first_and_last_stage() {
        let (mut target, listener) = target(DatabaseType::Postgresql).await;
        target.route = Route::Tunnel {
            through: listener.local_addr().unwrap(),
            is_up: false,
        };
        let result = run(&target, &login()).await;
        assert!(!result.ok);
        assert_eq!(result.stages.len(), 1);
        assert_eq!(result.stages[0].name, "tunnel");
        assert!(result.stages[0].remedy.is_some());
    }

    #[tokio::test]
    async fn a_connection_that_the_bastion_drops_fails_at_tcp() {
        let (target, listener) = target(DatabaseType::Postgresql).await;
        tokio::spawn(async move {
            loop {
                drop(listener.accept().await);
            }
        });
        let result = run(&target, &login()).await;
        assert!(!result.ok);
        assert_eq!(result.stages.last().unwrap().name, "tcp");
        assert!(
            result
                .stages
                .last()
                .unwrap()
                .detail
                .contains("db.internal:1")
        );
    }

    #[tokio::test]
    async fn a_database_without_a_driver_says_that_nobody_logged_in() {
        let (target, listener) = target(DatabaseType::Mysql).await;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"\x4a\0\0\0\x0a8.4.0").await.unwrap();
            std::future::pending::<()>().await;
        });
        let result = run(&target, &login()).await;
        assert!(result.ok, "{result:?}");
        assert_eq!(result.stages.len(), 2);
        assert!(
            result.stages[1]
                .detail
                .contains("Only reachability was checked")
        );
        assert_eq!(result.server_version, None);
    }

    #[test]
    fn the_password_is_taken_out_of_what_others_write() {
        assert_eq!(without("hunter2", "bad hunter2!"), "bad [password]!");
        assert_eq!(without("", "as it is"), "as it is");
    }
}

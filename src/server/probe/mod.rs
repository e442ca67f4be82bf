//! "Test connection": to the database, stage by stage, each with a time limit.
//!
//! The stages are `tunnel` (its own session is up) or, without a tunnel, `dns` (the host has an address that may be
//! tested; of several, one that answers); `tcp` (such a database answers); `tls` (what was agreed on); `login`; `query`.
//! A database without a driver gets the first two, and the result says so.
//!
//! `route` leads to one address, which is not `off_limits`; a `driver` for each kind of database takes the stages
//! from there, `contact` connects, hears the first words and names what else answers, `tls` encrypts, and `report`
//! writes down how it went. Every connection is counted against the `allowance`, those that drivers make by
//! themselves by way of a `relay`; and all of it happens `apart` from the server. The password stands in no result and no log.

mod allowance;
pub(crate) mod apart;
mod clickhouse;
mod contact;
mod driver;
mod mysql;
mod off_limits;
mod postgres;
mod relay;
mod report;
mod route;
mod sqlserver;
mod tcp;
mod tls;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;

use crate::protocol::{ConnectionTest, ConnectionTestResult, DatabaseType, TestStage, TlsMode};
use allowance::Allowance;
use driver::{Answer, Driver, Place, Session};
use report::{Report, Stopped};

pub use route::Route;

/// How long a goodbye may take.
const CLOSING: Duration = Duration::from_secs(2);

/// What is tested.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Target {
    pub database_type: DatabaseType,
    /// `host:port` of the database as the one who connects to it sees it, for the messages.
    pub database: String,
    /// The way to it.
    pub route: Route,
}

fn driver(database_type: DatabaseType) -> Option<&'static dyn Driver> {
    match database_type {
        DatabaseType::Postgresql | DatabaseType::Redshift => Some(&postgres::Postgres),
        DatabaseType::Mysql | DatabaseType::Mariadb => Some(&mysql::MySql),
        DatabaseType::Sqlserver => Some(&sqlserver::SqlServer),
        DatabaseType::Clickhouse => Some(&clickhouse::ClickHouse),
        DatabaseType::Other => None,
    }
}

/// Runs the stages until one fails.
pub async fn run(target: &Target, login: &ConnectionTest) -> ConnectionTestResult {
    run_telling(target, login, &|_| ()).await
}

/// The same, and tells of each stage once it is over.
async fn run_telling(
    target: &Target,
    login: &ConnectionTest,
    tell: &(dyn Fn(&TestStage) + Sync),
) -> ConnectionTestResult {
    // What is logged of a login is not left to each driver's care: nothing in here is, at any level. The
    // result has what there is to know.
    tested(target, login, tell)
        .with_subscriber(Dispatch::none())
        .await
}

async fn tested(
    target: &Target,
    login: &ConnectionTest,
    tell: &(dyn Fn(&TestStage) + Sync),
) -> ConnectionTestResult {
    let allowance = Allowance::default();
    let mut report = Report::new(login, allowance.clone(), tell);
    let answer = stages(target, login, allowance, &mut report)
        .await
        .ok()
        .flatten();
    ConnectionTestResult {
        ok: report.stages.iter().all(|stage| stage.ok),
        latency_milliseconds: answer
            .as_ref()
            .map(|answer| milliseconds(answer.round_trip)),
        server_version: answer.map(|answer| report.shown(&answer.version)),
        stages: report.stages,
    }
}

async fn stages(
    target: &Target,
    login: &ConnectionTest,
    allowance: Allowance,
    report: &mut Report<'_>,
) -> Result<Option<Answer>, Stopped> {
    let route = &target.route;
    let address = report
        .stage(route.stage(), route.find(), |found| route.found(*found))
        .await?;
    let place = Place {
        address,
        database: target.database.clone(),
        is_tunnelled: matches!(route, Route::Tunnel { .. }),
        own_machine_allowed: route.may_lead_to_own_machine(),
        allowance,
    };
    let Some(driver) = driver(target.database_type) else {
        let said = |found: &String| {
            format!(
                "{found}. Only reachability was checked: this version cannot log in to {}",
                target.database_type
            )
        };
        report.stage("tcp", tcp::reach(&place), said).await?;
        return Ok(None);
    };
    let tls = login.tls.unwrap_or(TlsMode::Prefer);
    let reached = report
        .stage("tcp", driver.reach(&place, tls), |found| found.said.clone())
        .await?;
    let ready = report
        .stage("tls", reached.next.encrypt(tls), |found| found.said.clone())
        .await?;
    let mut session = report
        .stage("login", ready.next.login(login), |_| {
            format!("logged in as {}", login.username)
        })
        .await?;
    let answer = report.stage("query", session.query(), answered).await;
    close(session).await;
    answer.map(Some)
}

fn answered(answer: &Answer) -> String {
    format!(
        "SELECT 1 was answered within {} ms",
        milliseconds(answer.round_trip)
    )
}

/// In hundredths, which is as fine as a network is steady.
fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 100_000.0).round() / 100.0
}

async fn close(session: Box<dyn Session>) {
    // A database that does not take note in time loses the connection without a goodbye.
    let _ = timeout(CLOSING, session.close()).await;
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
                by_hand: false,
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
            by_hand: false,
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
        let (target, listener) = target(DatabaseType::Other).await;
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
}

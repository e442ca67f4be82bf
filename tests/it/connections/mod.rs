//! Direct connections and saved logins, by the API: with a real PostgreSQL, and with an impostor that
//! is after the saved password.

mod direct;
mod floods;
mod impostor;
mod saved;

use std::sync::Arc;

use crate::support::postgres::Postgres;
use crate::support::server::{Operator, Server};
use holistics_tunnel::protocol::{ConnectionTestResult, DataSource, DataSourceId, Problem};
use reqwest::Method;
use reqwest::blocking::RequestBuilder;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

const ALLOW_LOOPBACK: &str = "--allow-direct-loopback";

/// A server whose direct connections may lead to loopback, where the test's database is.
struct Desk {
    operator: Operator,
    server: Server,
    postgres: Arc<Postgres>,
}

impl Desk {
    fn new() -> Self {
        let server = Server::start_with(10, &[ALLOW_LOOPBACK]);
        Desk {
            operator: server.operator(),
            server,
            postgres: Postgres::shared(),
        }
    }

    /// A direct connection to the database.
    fn direct(&self) -> DataSource {
        direct(&self.operator, self.postgres.port())
    }

    /// A direct connection to the database with its reader's login saved.
    fn saved(&self, tls: &str) -> DataSource {
        let source = self.direct();
        let mut login = self.login();
        login["tls"] = json!(tls);
        answer(self.post(source.id, "/save", &login))
    }

    fn login(&self) -> Value {
        let login = self.postgres.login();
        json!({"database": login.database, "username": login.username, "password": login.password})
    }

    fn login_without_password(&self) -> Value {
        let mut login = self.login();
        login["password"] = json!("");
        login
    }

    fn post(&self, id: DataSourceId, rest: &str, body: &Value) -> RequestBuilder {
        let path = format!("/data-sources/{id}{rest}");
        self.operator.call(Method::POST, &path).json(body)
    }

    fn test(&self, id: DataSourceId, login: &Value) -> ConnectionTestResult {
        answer(self.post(id, "/test", login))
    }

    fn change(&self, id: DataSourceId, change: &Value) {
        let path = format!("/data-sources/{id}");
        let request = self.operator.call(Method::PATCH, &path).json(change);
        answer::<DataSource>(request);
    }
}

/// A direct connection to a PostgreSQL on this port of loopback.
fn direct(operator: &Operator, port: u16) -> DataSource {
    let new = json!({
        "display_name": "Shop", "database_type": "postgresql", "connection": "direct",
        "host": "127.0.0.1", "port": port,
    });
    answer(operator.call(Method::POST, "/data-sources").json(&new))
}

/// The body of a good answer.
#[track_caller]
fn answer<T: DeserializeOwned>(request: RequestBuilder) -> T {
    let response = request.send().expect("the server answers");
    let status = response.status();
    let body = response.text().expect("a body");
    assert!(status.is_success(), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
}

/// The problem in a bad answer.
#[track_caller]
fn problem(request: RequestBuilder) -> Problem {
    let response = request.send().expect("the server answers");
    let status = response.status();
    let body = response.text().expect("a body");
    assert!(status.is_client_error(), "{status}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {body}"))
}

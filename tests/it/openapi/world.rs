//! A server with two customers' bastions, an operator at a browser, and one who was one.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::Method;
use serde_json::{Value, json};

use crate::openapi::visitor::Visitor;
use crate::support::server::Server;
use crate::support::wait;

/// What the data source is called whose data nobody may see.
pub const SECRET_NAME: &str = "Confidential ledger";

/// What a bastion has.
pub struct Bastion {
    pub data_source: i64,
    pub tunnel: i64,
    pub enrollment_token: String,
    pub tunnel_token: String,
}

pub struct World {
    pub server: Server,
    /// An operator at a browser.
    pub signed_in: Visitor,
    /// Another one.
    pub other_signed_in: Visitor,
    /// One whose session is over.
    pub signed_out: Visitor,
    /// One who never was one.
    pub stranger: Visitor,
    pub operator_token: String,
    pub read_token: String,
    pub revoked_token: String,
    pub expired_token: String,
    /// An operator who was disabled, in a browser that was signed in, and the token he made.
    pub disabled: Visitor,
    pub token_of_disabled: String,
    /// The same of one who was removed.
    pub removed: Visitor,
    pub token_of_removed: String,
    pub own: Bastion,
    pub other: Bastion,
    /// Of a third tunnel.
    pub removal_token: String,
}

impl World {
    pub fn new() -> Self {
        let server = Server::start();
        let stranger = Visitor::new(&server);
        let operator_token = token_command(&server, &["create", "walker"]);
        let revoked_token = token_command(&server, &["create", "former"]);
        token_command(&server, &["revoke", "former"]);
        let read_token = token_command(&server, &["create", "reader", "--scope", "read"]);
        let expired_token = token_command(&server, &["create", "brief", "--expires", "1s"]);
        let (disabled, token_of_disabled) = operator_with_token(&server, "disabled");
        let (removed, token_of_removed) = operator_with_token(&server, "removed");
        run(&server, "operator", &["disable", "disabled"]);
        run(&server, "operator", &["remove", "removed"]);
        let own = enrolled(&stranger, &operator_token, SECRET_NAME, 1);
        let other = enrolled(&stranger, &operator_token, "Another's", 2);
        let third = enrolled(&stranger, &operator_token, "A third one", 3);
        let path = format!("/api/v1/data-sources/{}", third.data_source);
        let removal = call(&stranger, Method::DELETE, &path, &operator_token, None);
        let signed_out = Visitor::signed_in(&server);
        let cookies = signed_out.cookies.borrow().clone();
        let form = signed_out.get("/account").form("/sign-out");
        signed_out.submit(&form, &[]);
        // The browser forgets its cookie; whoever has copied it does not.
        *signed_out.cookies.borrow_mut() = cookies;
        let is_over = || {
            let request = stranger.request(Method::GET, "/api/v1/data-sources");
            let answer = request.bearer_auth(&expired_token).send();
            answer.expect("the server answers").status() == 401
        };
        let limit = Duration::from_secs(20);
        wait::until_true("a token to expire", limit, String::new, is_over);
        World {
            signed_in: Visitor::signed_in(&server),
            other_signed_in: Visitor::signed_in(&server),
            signed_out,
            stranger,
            operator_token,
            read_token,
            revoked_token,
            expired_token,
            disabled,
            token_of_disabled,
            removed,
            token_of_removed,
            own,
            other,
            removal_token: text(&removal["token"]),
            server,
        }
    }

    /// A path of this server, with the numbers and tokens that a template leaves open.
    pub fn path(&self, template: &str) -> String {
        let id = if template.starts_with("/api/v1/tunnels") {
            self.own.tunnel
        } else {
            self.own.data_source
        };
        template
            .replace("{id}", &id.to_string())
            .replace("{token}", "hte_unknown")
            .replace("{target}", "x86_64-unknown-linux-gnu")
            .replace("{file}", "pages.css")
    }

    /// Everything that is kept, but for who is signed in, when a token was used, and the row by which writing is
    /// tried.
    pub fn kept(&self) -> Vec<String> {
        let database = self.server.database();
        let (tables, columns_of, row) = if database.is_file() {
            (
                "SELECT name FROM sqlite_schema WHERE type = 'table'",
                "SELECT name FROM pragma_table_info('TABLE')",
                "quote",
            )
        } else {
            (
                "SELECT table_name::text AS name FROM information_schema.tables WHERE table_schema = 'public'",
                "SELECT column_name::text AS name FROM information_schema.columns
                 WHERE table_schema = 'public' AND table_name = 'TABLE'",
                "quote_nullable",
            )
        };
        let tables = database.texts(&format!(
            "SELECT name FROM ({tables}) t WHERE name NOT IN
                 ('browser_sessions', 'readiness', 'sqlite_sequence', 'nodes', 'sessions') ORDER BY name"
        ));
        assert!(tables.contains(&"data_sources".to_owned()), "{tables:?}");
        let rows_of = |table: String| {
            let columns = columns_of.replace("TABLE", &table);
            let columns = database.texts(&format!(
                "SELECT name FROM ({columns}) c WHERE name <> 'last_used_at'"
            ));
            let columns: Vec<_> = columns.iter().map(|c| format!("{row}({c})")).collect();
            let columns = columns.join(" || ' ' || ");
            database.texts(&format!(
                "SELECT '{table}: ' || {columns} FROM {table} ORDER BY 1"
            ))
        };
        tables.into_iter().flat_map(rows_of).collect()
    }
}

/// A new data source and a bastion that has registered for it, with the key of this number.
pub fn enrolled(visitor: &Visitor, operator_token: &str, name: &str, key: u8) -> Bastion {
    let new = json!({
        "display_name": name, "database_type": "postgresql", "host": "db.internal", "port": 5432,
    });
    let sources = "/api/v1/data-sources";
    let created = call(visitor, Method::POST, sources, operator_token, Some(new));
    let enrollment_token = text(&created["enrollment"]["token"]);
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend([key; 32]);
    let registration = json!({
        "public_key": format!("ssh-ed25519 {}", STANDARD.encode(blob)),
        "hostname": "bastion", "os": "Debian 12", "user": "ann",
    });
    let key = "/api/v1/enrollment/public-key";
    let enrolled = call(
        visitor,
        Method::PUT,
        key,
        &enrollment_token,
        Some(registration),
    );
    Bastion {
        data_source: created["id"].as_i64().expect("a number"),
        tunnel: enrolled["tunnel_id"].as_i64().expect("a number"),
        tunnel_token: text(&enrolled["tunnel_token"]),
        enrollment_token,
    }
}

fn call(visitor: &Visitor, method: Method, path: &str, token: &str, body: Option<Value>) -> Value {
    let mut request = visitor.request(method, path).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(&body);
    }
    let response = request.send().expect("the server answers");
    let status = response.status();
    let body = response.text().expect("a body");
    assert!(status.is_success(), "{path}: {status} {body}");
    serde_json::from_str(&body).expect("JSON")
}

/// `token …`, and what it prints.
pub fn token_command(server: &Server, arguments: &[&str]) -> String {
    run(server, "token", arguments)
}

/// An operator who has signed in and made an API token on the page.
fn operator_with_token(server: &Server, name: &str) -> (Visitor, String) {
    let visitor = Visitor::signed_in_as(server, name);
    let form = visitor.get("/api-tokens").form("/api-tokens");
    let token_name = format!("of-{name}");
    let made = visitor.submit(&form, &[("name", &token_name)]);
    let token = made.element("token");
    (visitor, token)
}

/// A command of the server's program, and what it prints.
fn run(server: &Server, command: &str, arguments: &[&str]) -> String {
    let output = server.command(command).args(arguments).output();
    let output = output.expect("the command runs");
    assert!(output.status.success(), "{output:?}");
    let printed = String::from_utf8(output.stdout).expect("text");
    printed.trim().to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

//! Who gets in, for how long, and what is remembered of what they did.

mod api_tokens;
mod audit;
mod first_link;
mod operators;

use std::io::Read as _;
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::Response;
use serde_json::Value;

use crate::support::process::{self, Finished};
use crate::support::server::Server;
use crate::support::workspace::Workspace;
use crate::visitor::{Page, Visitor};

const LIMIT: Duration = Duration::from_secs(60);

/// A command of the server's program.
fn run(server: &Server, arguments: &[&str]) -> Finished {
    let folder = Workspace::new();
    let mut command = server.command(arguments[0]);
    command.args(&arguments[1..]);
    process::run(&mut command, folder.path(), "command")
}

fn with_token(server: &Server, path: &str, token: &str) -> Response {
    let program = Visitor::new(server);
    let request = program.request(Method::GET, path).bearer_auth(token);
    request.send().expect("the server answers")
}

fn make_token(visitor: &Visitor, fields: &[(&str, &str)]) -> String {
    let form = visitor.get("/api-tokens").form("/api-tokens");
    visitor.submit(&form, fields).element("token")
}

fn set_password(visitor: &Visitor) {
    let password = "correct horse battery";
    let form = visitor.get("/account").form("/account");
    visitor
        .submit(&form, &[("password", password), ("again", password)])
        .expect(&["The password is set"]);
}

/// Presses a button on the page of operators.
fn press(visitor: &Visitor, action: &str, name: &str) -> Page {
    let form = visitor.get("/operators").form(action);
    visitor.submit(&form, &[("name", name)])
}

/// Reads a live stream until the server ends it.
fn read_to_the_end(mut stream: Response) {
    assert_eq!(stream.status(), 200);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).expect("the stream ends");
}

/// What `token list` or `operator list` says as JSON.
fn listed(server: &Server, command: &str) -> Vec<Value> {
    let list = run(server, &[command, "list", "--json"]).expect_code(0);
    list.json().as_array().expect("a list").clone()
}

fn find<'l>(list: &'l [Value], name: &str) -> &'l Value {
    let found = list.iter().find(|entry| entry["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {list:?}"))
}

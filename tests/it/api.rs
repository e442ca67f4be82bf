//! The control plane as its callers see it: the real server program, over HTTP.
//!
//! Needs `ssh` and `ssh-keygen` for the tests that bring a tunnel up.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::support::database::ServerDatabase;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::wait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holistics_tunnel::protocol::{Problem, ProblemKind};
use reqwest::Method;
use reqwest::blocking::{RequestBuilder, Response};
use serde_json::{Value, json};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_holistics-tunnel-server");

/// How long what comes at once may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

// --- The server's callers, and what they send ---------------------------------------------------

/// What the callers of a server do with it.
trait Callers {
    fn fetch(&self, path: &str) -> Response;
    /// A call of the API by the operator.
    fn by_operator(&self, method: Method, path: &str) -> RequestBuilder;
    /// Creates a data source and returns the answer.
    fn create(&self) -> Value;
    /// Creates a data source and returns its number and its enrollment token.
    fn draft(&self) -> (i64, String);
    fn enroll(&self, token: &str, key: &str) -> RequestBuilder;
    fn state(&self, id: i64) -> String;
    /// `token …` on its data folder.
    fn token_command(&self, arguments: &[&str]) -> Output;
}

impl Callers for Server {
    fn fetch(&self, path: &str) -> Response {
        let request = self.request(Method::GET, path);
        request.send().expect("the server answers")
    }

    fn by_operator(&self, method: Method, path: &str) -> RequestBuilder {
        self.call(method, path, self.operator_token())
    }

    fn create(&self) -> Value {
        let request = self.by_operator(Method::POST, "/data-sources");
        json_of(request.json(&data_source()), 201)
    }

    fn draft(&self) -> (i64, String) {
        let created = self.create();
        (
            number(&created["id"]),
            text(&created["enrollment"]["token"]),
        )
    }

    fn enroll(&self, token: &str, key: &str) -> RequestBuilder {
        self.call(Method::PUT, "/enrollment/public-key", token)
            .json(&registration(key))
    }

    fn state(&self, id: i64) -> String {
        let path = format!("/data-sources/{id}");
        text(&json_of(self.by_operator(Method::GET, &path), 200)["state"])
    }

    fn token_command(&self, arguments: &[&str]) -> Output {
        let mut command = self.command("token");
        command.args(arguments).output().expect("the command runs")
    }
}

fn data_source() -> Value {
    json!({
        "display_name": "Sales",
        "database_type": "postgresql",
        "host": "db.internal",
        "port": 5432,
    })
}

fn registration(key: &str) -> Value {
    json!({ "public_key": key, "hostname": "bastion", "os": "Debian 12", "user": "ann" })
}

/// An ed25519 public key that no other call returns.
fn new_key() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let mut blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
    blob.extend([0; 28]);
    blob.extend(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

fn number(value: &Value) -> i64 {
    value
        .as_i64()
        .unwrap_or_else(|| panic!("no number: {value}"))
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .unwrap_or_else(|| panic!("no text: {value}"))
        .to_owned()
}

fn json_of(request: RequestBuilder, status: u16) -> Value {
    let response = request.send().unwrap();
    let actual = response.status().as_u16();
    let body = response.text().unwrap();
    assert_eq!(actual, status, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// Checks that the answer is a problem document of this kind, and returns its words.
fn problem(request: RequestBuilder, kind: ProblemKind) -> String {
    problem_in(request.send().unwrap(), kind)
}

fn problem_in(response: Response, kind: ProblemKind) -> String {
    let status = response.status().as_u16();
    let media_type = response.headers().get("content-type").cloned();
    let body = response.text().unwrap();
    assert_eq!(
        media_type.expect("no content type"),
        "application/problem+json",
        "{status} {body}"
    );
    let problem: Problem = serde_json::from_str(&body).unwrap();
    assert_eq!(problem.kind, kind, "{body}");
    assert_eq!(problem.status, status);
    assert!(!problem.detail.is_empty());
    problem.detail
}

// --- Bad input ----------------------------------------------------------------------------------

#[test]
fn a_body_that_is_not_the_expected_json_is_refused_with_the_reason() {
    let server = Server::start();
    let post = || server.by_operator(Method::POST, "/data-sources");
    let json_type = ("content-type", "application/json");
    for body in ["", "{", "[]", "null", "{\"display_name\":", "\u{0}"] {
        let request = post().header(json_type.0, json_type.1).body(body);
        problem(request, ProblemKind::InvalidRequest);
    }
    let detail = problem(
        post().body(data_source().to_string()),
        ProblemKind::UnsupportedMediaType,
    );
    assert!(
        detail.contains("Content-Type: application/json"),
        "{detail}"
    );
    let mut unknown = data_source();
    unknown["prot"] = json!(5432);
    let detail = problem(post().json(&unknown), ProblemKind::InvalidRequest);
    assert!(detail.contains("prot"), "{detail}");
    let mut lacking = data_source();
    lacking.as_object_mut().unwrap().remove("port");
    let detail = problem(post().json(&lacking), ProblemKind::InvalidRequest);
    assert!(detail.contains("port"), "{detail}");
    assert_eq!(
        json_of(server.by_operator(Method::GET, "/data-sources"), 200),
        json!([])
    );
}

#[test]
fn a_list_is_not_taken_for_an_object() {
    let server = Server::start();
    let (id, token) = server.draft();
    let path = format!("/data-sources/{id}");
    let renamed = server.by_operator(Method::PATCH, &path);
    problem(
        renamed.json(&json!(["Stolen", null, null])),
        ProblemKind::InvalidRequest,
    );
    let enrolled = json_of(server.enroll(&token, &new_key()), 200);
    let moved = server.call(
        Method::PATCH,
        &format!("/tunnels/{}", enrolled["tunnel_id"]),
        &text(&enrolled["tunnel_token"]),
    );
    let detail = problem(
        moved.json(&json!({ "target": ["evil.example", 1] })),
        ProblemKind::InvalidRequest,
    );
    assert!(detail.contains("target"), "{detail}");
    let now = json_of(server.by_operator(Method::GET, &path), 200);
    assert_eq!(now["display_name"], "Sales");
    assert_eq!(now["host"], "db.internal");
}

#[test]
fn what_the_router_itself_refuses_is_a_problem_too() {
    let server = Server::start();
    for path in [
        "/i/%FF",
        "/login/%FF",
        "/assets/none.css",
        "/download/%FF/holistics-tunnel",
        "/api/v1/data-sources/%FF",
    ] {
        let response = server.fetch(path);
        let media_type = response.headers()["content-type"].to_str().unwrap();
        let is_script = media_type.starts_with("text/x-shellscript");
        assert!(
            is_script || media_type == "application/problem+json",
            "{path}: {media_type}"
        );
        if !is_script {
            let status = response.status().as_u16();
            let body: Value = response.json().unwrap();
            assert_eq!(body["status"], status, "{path}");
            assert!(
                body["detail"]
                    .as_str()
                    .is_some_and(|words| !words.is_empty())
            );
        }
    }
    let unknown = Method::from_bytes(b"BREW").unwrap();
    let response = server.by_operator(unknown, "/data-sources").send().unwrap();
    assert_eq!(response.headers()["allow"], "GET,HEAD,POST");
    problem_in(response, ProblemKind::MethodNotAllowed);
}

#[test]
fn values_out_of_range_are_refused() {
    let server = Server::start();
    for (field, value) in [
        ("port", json!(0)),
        ("port", json!(65536)),
        ("port", json!(-1)),
        ("host", json!("")),
        ("host", json!("-oProxyCommand=id")),
        ("host", json!("db; id")),
        ("host", json!("db\nid")),
        ("display_name", json!("")),
        ("display_name", json!("x".repeat(201))),
        ("display_name", json!("a\u{1b}[31mb")),
        ("database_type", json!("dbase")),
        ("region", json!("../eu")),
        ("region", json!("eu-west")),
        ("connection", json!("pigeon")),
    ] {
        let mut wrong = data_source();
        wrong[field] = value;
        let request = server
            .by_operator(Method::POST, "/data-sources")
            .json(&wrong);
        problem(request, ProblemKind::InvalidRequest);
    }
    let mut bracketed = data_source();
    bracketed["host"] = json!("[fd00::5]");
    let created = json_of(
        server
            .by_operator(Method::POST, "/data-sources")
            .json(&bracketed),
        201,
    );
    assert_eq!(created["host"], "fd00::5");
}

#[test]
fn an_oversized_body_is_refused() {
    let server = Server::start();
    let mut large = data_source();
    large["display_name"] = json!("x".repeat(70_000));
    let request = server
        .by_operator(Method::POST, "/data-sources")
        .json(&large);
    problem(request, ProblemKind::TooLarge);
    let (_, token) = server.draft();
    problem(
        server.enroll(&token, &"A".repeat(70_000)),
        ProblemKind::TooLarge,
    );
}

#[test]
fn paths_methods_and_numbers_that_do_not_exist_are_problems_too() {
    let server = Server::start();
    for path in [
        "/data-sources/0",
        "/data-sources/99",
        "/data-sources/abc",
        "/data-sources/99999999999999999999",
    ] {
        problem(server.by_operator(Method::GET, path), ProblemKind::NotFound);
    }
    problem(
        server.by_operator(Method::GET, "/nothing"),
        ProblemKind::NotFound,
    );
    problem(
        server.by_operator(Method::PUT, "/data-sources"),
        ProblemKind::MethodNotAllowed,
    );
    problem_in(
        server.fetch("/download/sparc/holistics-tunnel"),
        ProblemKind::NotFound,
    );
    problem_in(
        server.fetch("/download/..%2f..%2fetc/holistics-tunnel"),
        ProblemKind::NotFound,
    );
    let (id, _) = server.draft();
    let path = format!("/data-sources/{id}?force=perhaps");
    problem(
        server.by_operator(Method::DELETE, &path),
        ProblemKind::InvalidRequest,
    );
    let path = format!("/data-sources/{id}?forse=true");
    problem(
        server.by_operator(Method::DELETE, &path),
        ProblemKind::InvalidRequest,
    );
    assert_eq!(server.state(id), "draft");
}

#[test]
fn only_strong_plain_public_keys_are_enrolled() {
    let server = Server::start();
    let (id, token) = server.draft();
    for key in [
        "".to_owned(),
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 AAAA".to_owned(),
        format!("command=\"id\" {}", new_key()),
        format!("{}\n{}", new_key(), new_key()),
        "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
        ssh_keygen(&["-t", "rsa", "-b", "1024"]),
    ] {
        problem(server.enroll(&token, &key), ProblemKind::InvalidRequest);
    }
    assert_eq!(server.state(id), "draft");
    json_of(
        server.enroll(&token, &ssh_keygen(&["-t", "ecdsa", "-b", "384"])),
        200,
    );
    let (_, token) = server.draft();
    json_of(
        server.enroll(&token, &ssh_keygen(&["-t", "rsa", "-b", "2048"])),
        200,
    );
}

/// A public key made by ssh-keygen.
fn ssh_keygen(arguments: &[&str]) -> String {
    ssh_keygen_in(tempfile::tempdir().unwrap().path(), arguments)
}

/// A key pair made by ssh-keygen, the private half in the folder's `key`; returns the public half.
fn ssh_keygen_in(folder: &Path, arguments: &[&str]) -> String {
    let file = folder.join("key");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-N", "", "-f"])
        .arg(&file)
        .args(arguments)
        .status()
        .expect("install ssh-keygen: apt-get install openssh-client");
    assert!(made.success());
    std::fs::read_to_string(file.with_extension("pub")).unwrap()
}

// --- Credentials --------------------------------------------------------------------------------

/// Every call of the API, for tunnel and data source 1.
const CALLS: [(&str, &str); 16] = [
    ("POST", "/data-sources"),
    ("GET", "/data-sources"),
    ("GET", "/data-sources/1"),
    ("PATCH", "/data-sources/1"),
    ("DELETE", "/data-sources/1"),
    ("POST", "/data-sources/1/test"),
    ("POST", "/data-sources/1/save"),
    ("GET", "/enrollment"),
    ("PUT", "/enrollment/public-key"),
    ("POST", "/enrollment/tunnel-up"),
    ("GET", "/enrollment/data-source?wait=25"),
    ("GET", "/tunnels/1"),
    ("PATCH", "/tunnels/1"),
    ("DELETE", "/tunnels/1"),
    ("PUT", "/tunnels/1/public-key"),
    ("POST", "/tunnels/1/public-key/confirm"),
];

fn method(name: &str) -> Method {
    Method::from_bytes(name.as_bytes()).unwrap()
}

#[test]
fn nothing_answers_without_a_credential_or_to_an_unknown_one() {
    let server = Server::start();
    let (id, _) = server.draft();
    for (name, path) in CALLS {
        let request = || server.request(method(name), &format!("/api/v1{path}"));
        let response = request().send().unwrap();
        assert_eq!(response.headers()["www-authenticate"], "Bearer");
        problem_in(response, ProblemKind::Unauthorized);
        problem(
            request().bearer_auth("hto_wrong"),
            ProblemKind::Unauthorized,
        );
        problem(request().bearer_auth(""), ProblemKind::Unauthorized);
        problem(
            request().basic_auth("first", Some(server.operator_token())),
            ProblemKind::Unauthorized,
        );
        problem(
            request().header("authorization", server.operator_token()),
            ProblemKind::Unauthorized,
        );
    }
    assert_eq!(server.state(id), "draft");
}

#[test]
fn each_kind_of_token_opens_its_own_calls_only() {
    let server = Server::start();
    let (id, enrollment) = server.draft();
    let enrolled = json_of(server.enroll(&enrollment, &new_key()), 200);
    let tunnel_token = text(&enrolled["tunnel_token"]);
    let removal = json_of(server.by_operator(Method::DELETE, "/data-sources/1"), 200);
    let removal_token = text(&removal["token"]);
    let (_, other) = server.draft();
    let other_token = text(&json_of(server.enroll(&other, &new_key()), 200)["tunnel_token"]);
    for (name, path) in CALLS {
        let area = path.split('/').nth(1).unwrap().split('?').next().unwrap();
        for (kind, token) in [
            ("operator", server.operator_token()),
            ("enrollment", &*enrollment),
            ("tunnel", &tunnel_token),
            ("removal", &removal_token),
            ("other tunnel", &other_token),
        ] {
            let allowed = match area {
                "data-sources" => kind == "operator",
                "enrollment" => matches!(kind, "enrollment" | "tunnel" | "other tunnel"),
                _ => kind == "tunnel" || kind == "removal" && matches!(name, "GET" | "DELETE"),
            };
            if !allowed {
                problem(
                    server.call(method(name), path, token),
                    ProblemKind::Forbidden,
                );
            }
        }
    }
    assert_eq!(server.state(id), "removing");
    json_of(server.call(Method::GET, "/tunnels/1", &removal_token), 200);
    let deleted = server.call(Method::DELETE, "/tunnels/1", &removal_token);
    assert_eq!(deleted.send().unwrap().status(), 204);
    assert_eq!(server.state(id), "removed");
}

#[test]
fn an_expired_command_is_told_apart_from_an_unknown_one() {
    let server = Server::start();
    let (_, token) = server.draft();
    let tunnel_token = text(&json_of(server.enroll(&token, &new_key()), 200)["tunnel_token"]);
    let expire = "UPDATE tokens SET expires_at = 1 WHERE kind = 'enrollment'";
    server.database().execute(expire);
    problem(
        server.call(Method::GET, "/enrollment", &token),
        ProblemKind::TokenExpired,
    );
    problem(server.enroll(&token, &new_key()), ProblemKind::TokenExpired);
    json_of(server.call(Method::GET, "/enrollment", &tunnel_token), 200);
    piped_command_fails(&server, &format!("/i/{token}"), "expired");
    piped_command_fails(&server, "/i/hte_unknown", "not accepted");
}

/// The command from the browser, piped into a shell as it stands there.
#[track_caller]
fn piped_command_fails(server: &Server, path: &str, reason: &str) {
    let line = format!("curl -fsSL {}{path} | sh", server.url);
    let output = Command::new("sh")
        .args(["-c", &line])
        .output()
        .expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(reason), "{said}");
}

#[test]
fn operator_tokens_are_made_listed_and_revoked_while_the_server_runs() {
    let server = Server::start();
    let token = server.api_token(&["ci"]);
    json_of(server.call(Method::GET, "/data-sources", &token), 200);

    let again = server.token_command(&["create", "ci"]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("revoke ci"));

    let list = String::from_utf8(server.token_command(&["list"]).stdout).unwrap();
    assert!(list.contains("operator ") && list.contains("ci"), "{list}");
    assert!(!list.contains(&token));

    assert!(server.token_command(&["revoke", "ci"]).status.success());
    problem(
        server.call(Method::GET, "/data-sources", &token),
        ProblemKind::Unauthorized,
    );
    assert_eq!(
        server.token_command(&["revoke", "ci"]).status.code(),
        Some(1)
    );
}

#[test]
fn the_data_folder_holds_no_token_in_clear_and_nobody_else_reads_it() {
    use std::os::unix::fs::PermissionsExt;
    let server = Server::start();
    let (_, enrollment) = server.draft();
    let tunnel = text(&json_of(server.enroll(&enrollment, &new_key()), 200)["tunnel_token"]);
    let secrets =
        [server.operator_token(), &enrollment, &tunnel].map(|token| token[4..].to_owned());
    for entry in std::fs::read_dir(server.data_dir()).unwrap() {
        let path = entry.unwrap().path();
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let content = String::from_utf8_lossy(&bytes);
            for secret in &secrets {
                assert!(
                    !content.contains(secret.as_str()),
                    "a token is in {}",
                    path.display()
                );
            }
        }
    }
}

// --- Enrollment and ports -----------------------------------------------------------------------

#[test]
fn the_same_key_again_gets_the_same_answer_and_another_key_a_conflict() {
    let server = Server::start();
    let (id, token) = server.draft();
    let key = new_key();
    let first = json_of(server.enroll(&token, &key), 200);
    assert_eq!(server.state(id), "enrolled");
    let again = json_of(server.enroll(&token, &format!("{key} ann@bastion")), 200);
    assert_eq!(first, again);
    let tunnel_token = text(&first["tunnel_token"]);
    assert_eq!(first, json_of(server.enroll(&tunnel_token, &key), 200));
    let detail = problem(server.enroll(&token, &new_key()), ProblemKind::KeyConflict);
    assert!(detail.contains("another"), "{detail}");
    assert_eq!(first, json_of(server.enroll(&token, &key), 200));
}

#[test]
fn one_key_may_serve_several_tunnels_each_with_its_own_port() {
    let server = Server::start();
    let key = new_key();
    let enroll = || json_of(server.enroll(&server.draft().1, &key), 200);
    let (one, two) = (enroll(), enroll());
    assert_ne!(one["remote_port"], two["remote_port"]);
    assert_ne!(one["tunnel_id"], two["tunnel_id"]);
    assert_ne!(one["tunnel_token"], two["tunnel_token"]);
}

#[test]
fn sixty_bastions_that_enroll_at_once_get_sixty_ports() {
    let server = Server::start_with(10, &["--ports", "21000-21059"]);
    let tokens: Vec<String> = (0..60).map(|_| server.draft().1).collect();
    let barrier = std::sync::Barrier::new(tokens.len());
    let ports: BTreeSet<i64> = std::thread::scope(|scope| {
        let enrollments: Vec<_> = tokens
            .iter()
            .map(|token| {
                scope.spawn(|| {
                    barrier.wait();
                    number(&json_of(server.enroll(token, &new_key()), 200)["remote_port"])
                })
            })
            .collect();
        enrollments
            .into_iter()
            .map(|enrollment| enrollment.join().unwrap())
            .collect()
    });
    assert_eq!(ports, (21000..=21059).collect());
    problem(
        server.enroll(&server.draft().1, &new_key()),
        ProblemKind::PortsExhausted,
    );
}

#[test]
fn a_full_port_range_leaves_nothing_half_made_and_removal_frees() {
    let server = Server::start_with(10, &["--ports", "21100-21100", "--port-rest", "1ms"]);
    let (first, first_token) = server.draft();
    let enrolled = json_of(server.enroll(&first_token, &new_key()), 200);
    assert_eq!(enrolled["remote_port"], 21100);

    let (second, second_token) = server.draft();
    let key = new_key();
    let detail = problem(
        server.enroll(&second_token, &key),
        ProblemKind::PortsExhausted,
    );
    assert!(detail.contains("--ports"), "{detail}");
    assert_eq!(server.state(second), "draft");

    let path = format!("/data-sources/{first}?force=true");
    let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
    assert_eq!(removed.status(), 204);
    assert_eq!(server.state(first), "removed");
    let enrolled = json_of(server.enroll(&second_token, &key), 200);
    assert_eq!(enrolled["remote_port"], 21100);
}

#[test]
fn a_released_port_rests_while_others_are_free() {
    let server = Server::start_with(10, &["--ports", "21200-21202", "--port-rest", "1ms"]);
    let enroll = || {
        let (id, token) = server.draft();
        let enrolled = json_of(server.enroll(&token, &new_key()), 200);
        (id, number(&enrolled["remote_port"]))
    };
    let remove = |id: i64| {
        let path = format!("/data-sources/{id}?force=true");
        let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
        assert_eq!(removed.status(), 204);
    };
    let (one, port) = enroll();
    assert_eq!(port, 21200);
    remove(one);
    let (two, port) = enroll();
    assert_eq!(port, 21201);
    remove(two);
    assert_eq!(enroll().1, 21202);
    assert_eq!(enroll().1, 21200, "the port that rested longest");
    assert_eq!(enroll().1, 21201);
}

#[test]
fn a_released_port_rests_also_when_no_other_is_free() {
    let server = Server::start_with(10, &["--ports", "21300-21300"]);
    let (id, token) = server.draft();
    json_of(server.enroll(&token, &new_key()), 200);
    let path = format!("/data-sources/{id}?force=true");
    let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
    assert_eq!(removed.status(), 204);

    let (next, token) = server.draft();
    let detail = problem(
        server.enroll(&token, &new_key()),
        ProblemKind::PortsExhausted,
    );
    assert!(detail.contains("rests"), "{detail}");
    assert!(detail.contains("--ports"), "{detail}");
    assert!(detail.contains("--port-rest"), "{detail}");
    assert_eq!(server.state(next), "draft");
}

// --- Creating once -------------------------------------------------------------------------------

/// A request for a data source under this key.
fn creation(server: &Server, key: &str, body: &Value) -> RequestBuilder {
    let request = server.by_operator(Method::POST, "/data-sources");
    request.header("Idempotency-Key", key).json(body)
}

fn number_of_sources(server: &Server) -> usize {
    let listed = json_of(server.by_operator(Method::GET, "/data-sources"), 200);
    listed.as_array().unwrap().len()
}

#[test]
fn the_same_request_under_the_same_key_creates_once_and_gets_the_same_answer() {
    let server = Server::start();
    let body = data_source();
    let first = json_of(creation(&server, "\"8e03978e\"", &body), 201);
    // As another program would write the same.
    let mut turned: Vec<_> = body.as_object().unwrap().iter().collect();
    turned.reverse();
    let turned: serde_json::Map<_, _> = turned
        .into_iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    for body in [body.clone(), turned.into()] {
        let response = creation(&server, "8e03978e", &body).send().unwrap();
        assert_eq!(response.status(), 201);
        let location = format!("/api/v1/data-sources/{}", first["id"]);
        assert_eq!(response.headers()["location"], location.as_str());
        assert_eq!(response.json::<Value>().unwrap(), first);
    }
    assert!(first["enrollment"]["command"].is_string(), "{first}");
    assert_eq!(number_of_sources(&server), 1);
    let other = json_of(creation(&server, "another", &body), 201);
    assert_ne!(other["id"], first["id"]);
}

#[test]
fn a_key_stands_for_one_request_of_one_caller_also_after_a_restart() {
    let mut server = Server::start();
    let first = json_of(creation(&server, "order-7", &data_source()), 201);
    let mut other = data_source();
    other["port"] = json!(5433);
    let detail = problem(
        creation(&server, "order-7", &other),
        ProblemKind::IdempotencyKeyReused,
    );
    assert!(detail.contains("another key"), "{detail}");
    let token = server.api_token(&["someone-else"]);
    let theirs = server
        .call(Method::POST, "/data-sources", &token)
        .header("Idempotency-Key", "order-7")
        .json(&other);
    assert_ne!(json_of(theirs, 201)["id"], first["id"]);
    server.stop().expect_code(0);
    server.start_again();
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(again["id"], first["id"]);
    assert_eq!(again["enrollment"]["token"], first["enrollment"]["token"]);
    assert_eq!(number_of_sources(&server), 2);
}

#[test]
fn the_command_is_given_again_while_it_can_be_used_and_no_longer() {
    let server = Server::start();
    let first = json_of(creation(&server, "order-7", &data_source()), 201);
    let token = text(&first["enrollment"]["token"]);
    json_of(server.enroll(&token, &new_key()), 200);
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(again["enrollment"], first["enrollment"]);
    assert_eq!(again["state"], "enrolled");
    server
        .database()
        .execute("UPDATE tokens SET used_at = 1 WHERE kind = 'enrollment'");
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(again["id"], first["id"]);
    assert!(again.get("enrollment").is_none(), "{again}");
    server
        .database()
        .execute("UPDATE tokens SET used_at = NULL, expires_at = 1 WHERE kind = 'enrollment'");
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert!(again.get("enrollment").is_none(), "{again}");
    let path = format!("/data-sources/{}?force=true", first["id"]);
    let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
    assert_eq!(removed.status(), 204);
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(
        (&again["id"], &again["state"]),
        (&first["id"], &json!("removed"))
    );
}

#[test]
fn a_request_that_was_refused_leaves_its_key_free() {
    let server = Server::start();
    let mut wrong = data_source();
    wrong["host"] = json!("-o");
    problem(
        creation(&server, "order-7", &wrong),
        ProblemKind::InvalidRequest,
    );
    json_of(creation(&server, "order-7", &data_source()), 201);
}

#[test]
fn a_request_whose_first_is_under_way_is_told_so() {
    let server = Server::start();
    let lock = Lock::of(server.database());
    let results = std::thread::scope(|scope| {
        let (send, receive) = std::sync::mpsc::channel();
        for _ in 0..2 {
            let (send, server) = (send.clone(), &server);
            scope.spawn(move || {
                let response = creation(server, "order-7", &data_source()).send().unwrap();
                send.send(response).unwrap();
            });
        }
        // The one that is answered while nothing can be written came second.
        let second = receive.recv().unwrap();
        lock.release();
        (second, receive.recv().unwrap())
    });
    problem_in(results.0, ProblemKind::RequestUnderWay);
    assert_eq!(results.1.status(), 201);
    let first = results.1.json::<Value>().unwrap();
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(again, first);
    assert_eq!(number_of_sources(&server), 1);
}

#[test]
fn a_key_is_short_plain_and_alone() {
    let server = Server::start();
    let longest = "k".repeat(255);
    json_of(creation(&server, &longest, &data_source()), 201);
    let too_long = "k".repeat(256);
    for wrong in ["", "\"\"", "\"half", "a\\b", &too_long] {
        let detail = problem(
            creation(&server, wrong, &data_source()),
            ProblemKind::InvalidRequest,
        );
        assert!(detail.contains("Idempotency-Key"), "{wrong:?}: {detail}");
    }
    let two = creation(&server, "one", &data_source()).header("Idempotency-Key", "two");
    problem(two, ProblemKind::InvalidRequest);
    assert_eq!(number_of_sources(&server), 1);
}

#[test]
fn keys_are_kept_for_a_day_and_no_token_in_clear_with_them() {
    let server = Server::start();
    let first = json_of(creation(&server, "order-7", &data_source()), 201);
    // A day less a minute.
    server
        .database()
        .execute("UPDATE idempotency_keys SET created_at = created_at - 86340000");
    let again = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_eq!(again["id"], first["id"]);
    server
        .database()
        .execute("UPDATE idempotency_keys SET created_at = created_at - 120000");
    let later = json_of(creation(&server, "order-7", &data_source()), 201);
    assert_ne!(later["id"], first["id"]);
    let (kept, sql) = (1, "SELECT count(*) FROM idempotency_keys");
    assert_eq!(server.database().number(sql), kept, "the old one is kept");
    let token = text(&first["enrollment"]["token"]);
    for entry in std::fs::read_dir(server.data_dir()).unwrap().flatten() {
        if entry.path().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            let holds = bytes.windows(token.len()).any(|at| at == token.as_bytes());
            assert!(!holds, "{:?}", entry.path());
        }
    }
}

/// Nobody else can write to a server's database as long as this is not released.
struct Lock(std::sync::mpsc::Sender<()>, std::thread::JoinHandle<()>);

impl Lock {
    fn of(database: ServerDatabase) -> Self {
        let (release, released) = std::sync::mpsc::channel();
        let (begun, has_begun) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            database.held(move || {
                begun.send(()).unwrap();
                released.recv().unwrap();
            });
        });
        has_begun.recv().unwrap();
        Lock(release, thread)
    }

    fn release(self) {
        self.0.send(()).unwrap();
        self.1.join().unwrap();
    }
}

// --- The life of a data source ------------------------------------------------------------------

#[test]
fn name_and_target_can_be_changed_and_the_bastion_sees_it() {
    let server = Server::start();
    let (id, token) = server.draft();
    let enrolled = json_of(server.enroll(&token, &new_key()), 200);
    let path = format!("/data-sources/{id}");
    let change = json!({ "host": "10.0.0.9", "port": 5433 });
    let changed = json_of(server.by_operator(Method::PATCH, &path).json(&change), 200);
    assert_eq!(changed["host"], "10.0.0.9");
    assert_eq!(changed["display_name"], "Sales");
    let own = format!("/tunnels/{}", enrolled["tunnel_id"]);
    let seen = json_of(
        server.call(Method::GET, &own, &text(&enrolled["tunnel_token"])),
        200,
    );
    assert_eq!(
        (&seen["host"], &seen["port"]),
        (&json!("10.0.0.9"), &json!(5433))
    );
    assert_eq!(seen["remote_port"], enrolled["remote_port"]);
    let wrong = json!({ "host": "a b" });
    problem(
        server.by_operator(Method::PATCH, &path).json(&wrong),
        ProblemKind::InvalidRequest,
    );
}

#[test]
fn nothing_is_saved_tested_or_reported_before_its_time() {
    let server = Server::start();
    let (id, token) = server.draft();
    let save = || server.by_operator(Method::POST, &format!("/data-sources/{id}/save"));
    let login = json!({ "database": "sales", "username": "ann", "password": "hunter2" });
    let test = || {
        server
            .by_operator(Method::POST, &format!("/data-sources/{id}/test"))
            .json(&login)
    };
    assert!(problem(save(), ProblemKind::WrongState).contains("bastion"));
    assert!(problem(test(), ProblemKind::WrongState).contains("bastion"));
    let enrolled = json_of(server.enroll(&token, &new_key()), 200);
    assert!(problem(save(), ProblemKind::WrongState).contains("not up"));
    let result = json_of(test(), 200);
    assert_eq!(result["ok"], false);
    assert_eq!(result["stages"].as_array().unwrap().len(), 1);
    assert_eq!(result["stages"][0]["name"], "tunnel");
    assert!(!result.to_string().contains("hunter2"));
    problem(
        server.call(Method::POST, "/enrollment/tunnel-up", &token),
        ProblemKind::TunnelDown,
    );
    let own = format!("/tunnels/{}", enrolled["tunnel_id"]);
    let installed = json!({ "service_installed": true });
    problem(
        server
            .call(Method::PATCH, &own, &text(&enrolled["tunnel_token"]))
            .json(&installed),
        ProblemKind::WrongState,
    );
    assert_eq!(server.state(id), "enrolled");
}

#[test]
fn removal_waits_for_the_bastion_and_its_second_time_is_told() {
    let server = Server::start();
    let (id, token) = server.draft();
    let enrolled = json_of(server.enroll(&token, &new_key()), 200);
    let path = format!("/data-sources/{id}");
    let first = json_of(server.by_operator(Method::DELETE, &path), 200);
    let second = json_of(server.by_operator(Method::DELETE, &path), 200);
    assert_eq!(server.state(id), "removing");
    let removal = text(&second["token"]);
    assert_eq!(
        text(&second["command"]),
        format!("curl -fsSL {}/r/{removal} | sh", server.url)
    );
    let own = format!("/tunnels/{}", enrolled["tunnel_id"]);
    problem(
        server.call(Method::DELETE, &own, &text(&first["token"])),
        ProblemKind::Unauthorized,
    );
    problem(server.enroll(&token, &new_key()), ProblemKind::WrongState);
    let script = server.fetch(&format!("/r/{removal}"));
    assert_eq!(script.status(), 200);
    let script = script.text().unwrap();
    let expected = format!("uninstall-tunnel {} ", enrolled["tunnel_id"]);
    assert!(script.contains(&expected), "{script}");

    let delete = || server.call(Method::DELETE, &own, &removal);
    assert_eq!(delete().send().unwrap().status(), 204);
    problem(delete(), ProblemKind::NotFound);
    problem(
        server.by_operator(Method::DELETE, &path),
        ProblemKind::NotFound,
    );
    problem(
        server.call(Method::GET, &own, &text(&enrolled["tunnel_token"])),
        ProblemKind::NotFound,
    );
    piped_command_fails(&server, &format!("/r/{removal}"), "no such resource");
    assert_eq!(server.state(id), "removed");
    assert_eq!(
        json_of(server.by_operator(Method::GET, "/data-sources"), 200),
        json!([])
    );
}

#[test]
fn a_draft_is_deleted_at_once_and_its_command_opens_nothing() {
    let server = Server::start();
    let (id, token) = server.draft();
    let path = format!("/data-sources/{id}");
    let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
    assert_eq!(removed.status(), 204);
    assert_eq!(removed.text().unwrap(), "");
    assert_eq!(server.state(id), "removed");
    problem(server.enroll(&token, &new_key()), ProblemKind::NotFound);
    problem(
        server.by_operator(Method::DELETE, &path),
        ProblemKind::NotFound,
    );
}

#[test]
fn of_a_deletion_and_an_enrollment_at_the_same_moment_one_wins() {
    let server = Server::start_with(10, &["--port-rest", "1ms"]);
    let key = new_key();
    for _ in 0..20 {
        let (id, token) = server.draft();
        let path = format!("/data-sources/{id}");
        let (enrolled, deleted) = std::thread::scope(|scope| {
            let enrolling = scope.spawn(|| server.enroll(&token, &key).send().unwrap());
            let deleted = server.by_operator(Method::DELETE, &path).send().unwrap();
            (enrolling.join().unwrap(), deleted)
        });
        let order = (enrolled.status().as_u16(), deleted.status().as_u16());
        match order {
            // It was too late for a bastion, and nothing of it is left.
            (404, 204) => assert_eq!(server.state(id), "removed"),
            // A bastion was first: it gets its command, and that works.
            (200, 200) => {
                assert_eq!(server.state(id), "removing");
                let enrolled: Value = enrolled.json().unwrap();
                let removal: Value = deleted.json().unwrap();
                let own = format!("/tunnels/{}", enrolled["tunnel_id"]);
                let gone = server.call(Method::DELETE, &own, &text(&removal["token"]));
                assert_eq!(gone.send().unwrap().status(), 204);
                assert_eq!(server.state(id), "removed");
            }
            order => panic!("{order:?}"),
        }
    }
}

#[test]
fn a_waiting_bastion_hears_of_the_deletion_at_once() {
    let server = Server::start();
    let (id, token) = server.draft();
    let poll = |wait: u32| {
        let path = format!("/enrollment/data-source?wait={wait}");
        server.call(Method::GET, &path, &token)
    };
    assert_eq!(json_of(poll(0), 200)["status"], "waiting");
    let started = Instant::now();
    assert_eq!(json_of(poll(1), 200)["status"], "waiting");
    assert!(started.elapsed() >= Duration::from_secs(1));
    for wrong in ["-1", "26", "9223372036854775808", "soon"] {
        let path = format!("/enrollment/data-source?wait={wrong}");
        problem(
            server.call(Method::GET, &path, &token),
            ProblemKind::InvalidRequest,
        );
    }
    let (status, waited) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let started = Instant::now();
            (json_of(poll(25), 200), started.elapsed())
        });
        std::thread::sleep(Duration::from_millis(500));
        let path = format!("/data-sources/{id}");
        let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
        assert_eq!(removed.status(), 204);
        waiting.join().unwrap()
    });
    assert_eq!(status["status"], "cancelled");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

// --- With a live session ------------------------------------------------------------------------

/// A bastion's `ssh -R`. Nothing listens at its target: these tests ask for its state only.
struct Bastion {
    folder: TempDir,
    ssh: Option<Running>,
    enrolled: Value,
    enrollment_token: String,
    tunnel_token: String,
}

impl Bastion {
    fn enroll(server: &Server, enrollment_token: &str) -> Bastion {
        let folder = tempfile::tempdir().unwrap();
        let key = ssh_keygen_in(folder.path(), &["-t", "ed25519"]);
        let enrolled = json_of(server.enroll(enrollment_token, &key), 200);
        Bastion {
            folder,
            ssh: None,
            tunnel_token: text(&enrolled["tunnel_token"]),
            enrollment_token: enrollment_token.to_owned(),
            enrolled,
        }
    }

    /// Connects, trusting the host keys of the enrollment alone, and reports the tunnel.
    fn connect(&mut self, server: &Server) {
        let address = &self.enrolled["server"];
        let (host, port) = (text(&address["host"]), number(&address["port"]));
        let known_hosts = self.folder.path().join("known_hosts");
        let lines: String = address["host_keys"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| format!("[{host}]:{port} {}\n", text(key)))
            .collect();
        std::fs::write(&known_hosts, lines).unwrap();
        let mut ssh = Command::new("ssh");
        ssh.args(["-F", "none", "-N", "-T", "-o", "BatchMode=yes"])
            .args(["-o", "IdentitiesOnly=yes"])
            .args(["-o", "StrictHostKeyChecking=yes"])
            .args(["-o", "ExitOnForwardFailure=yes", "-o"])
            .arg(format!("UserKnownHostsFile={}", known_hosts.display()))
            .arg("-i")
            .arg(self.folder.path().join("key"))
            .args(["-p", &port.to_string(), "-R"])
            .arg(format!(
                "127.0.0.1:{}:127.0.0.1:9",
                self.enrolled["remote_port"]
            ))
            .arg(format!("{}@{host}", text(&address["user"])));
        let ssh = self
            .ssh
            .insert(Running::start(&mut ssh, self.folder.path(), "ssh"));
        let what = "the tunnel to be reported as up";
        ssh.wait_until(what, PATIENCE, || {
            report(server, &self.tunnel_token).send().unwrap().status() == 200
        });
    }

    fn report_service(&self, server: &Server, installed: bool) -> Value {
        let own = format!("/tunnels/{}", self.enrolled["tunnel_id"]);
        let change = json!({ "service_installed": installed });
        json_of(
            server
                .call(Method::PATCH, &own, &self.tunnel_token)
                .json(&change),
            200,
        )
    }
}

fn report(server: &Server, tunnel_token: &str) -> RequestBuilder {
    server.call(Method::POST, "/enrollment/tunnel-up", tunnel_token)
}

#[test]
fn a_data_source_goes_through_its_whole_life() {
    let server = Server::start();
    let (id, token) = server.draft();
    let path = format!("/data-sources/{id}");
    let mut bastion = Bastion::enroll(&server, &token);
    assert_eq!(server.state(id), "enrolled");
    bastion.connect(&server);
    assert_eq!(
        json_of(report(&server, &bastion.tunnel_token), 200)["state"],
        "connected"
    );
    let shown = json_of(server.by_operator(Method::GET, &path), 200);
    assert_eq!(shown["tunnel"]["status"], "up");
    assert!(shown["tunnel"]["last_seen"].is_string());

    let saved = server.by_operator(Method::POST, &format!("{path}/save"));
    assert_eq!(json_of(saved, 200)["state"], "saved");
    let again = server.by_operator(Method::POST, &format!("{path}/save"));
    assert_eq!(json_of(again, 200)["state"], "saved");
    json_of(server.call(Method::GET, "/enrollment", &token), 200);

    assert_eq!(bastion.report_service(&server, true)["state"], "active");
    let enrollment = server.call(Method::GET, "/enrollment", &bastion.enrollment_token);
    problem(enrollment, ProblemKind::TokenUsed);
    piped_command_fails(&server, &format!("/i/{token}"), "used up");

    bastion.ssh = None;
    let state = || server.state(id);
    wait::until_true("the state down", PATIENCE, state, || state() == "down");
    let shown = json_of(server.by_operator(Method::GET, &path), 200);
    assert!(shown["tunnel"]["last_seen"].is_string(), "{shown}");
    bastion.connect(&server);
    assert_eq!(server.state(id), "active");
    assert_eq!(bastion.report_service(&server, false)["state"], "saved");
}

#[test]
fn a_waiting_bastion_hears_of_the_save_at_once() {
    let server = Server::start();
    let (id, token) = server.draft();
    let mut bastion = Bastion::enroll(&server, &token);
    bastion.connect(&server);
    let (status, waited) = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let started = Instant::now();
            let path = "/enrollment/data-source?wait=25";
            let poll = server.call(Method::GET, path, &bastion.tunnel_token);
            (json_of(poll, 200), started.elapsed())
        });
        std::thread::sleep(Duration::from_millis(500));
        let save = format!("/data-sources/{id}/save");
        json_of(server.by_operator(Method::POST, &save), 200);
        waiting.join().unwrap()
    });
    assert_eq!(status["status"], "saved");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
}

#[test]
fn removal_ends_the_live_session_and_its_key_opens_nothing() {
    let server = Server::start();
    let (id, token) = server.draft();
    let mut bastion = Bastion::enroll(&server, &token);
    bastion.connect(&server);
    let path = format!("/data-sources/{id}?force=true");
    let removed = server.by_operator(Method::DELETE, &path).send().unwrap();
    assert_eq!(removed.status(), 204);
    // The session ends, and ssh with it.
    bastion.ssh.take().unwrap().wait(PATIENCE);
    let shown = json_of(
        server.by_operator(Method::GET, &format!("/data-sources/{id}")),
        200,
    );
    assert_eq!(shown["state"], "removed");
    assert_eq!(shown["tunnel"]["status"], "down");
}

#[test]
fn a_database_that_the_bastion_cannot_reach_fails_the_test_at_tcp() {
    let server = Server::start();
    let (id, token) = server.draft();
    let mut bastion = Bastion::enroll(&server, &token);
    bastion.connect(&server);
    let login = json!({ "database": "sales", "username": "ann", "password": "hunter2" });
    let test = server
        .by_operator(Method::POST, &format!("/data-sources/{id}/test"))
        .json(&login);
    let result = json_of(test, 200);
    assert_eq!(result["ok"], false);
    let stages = result["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| text(&stage["name"])).collect();
    assert_eq!(names, ["tunnel", "tcp"]);
    let detail = text(&stages[1]["detail"]);
    assert!(detail.contains("db.internal:5432"), "{detail}");
    assert!(stages[1]["remedy"].is_string());
}

// --- The process --------------------------------------------------------------------------------

#[test]
fn a_restart_keeps_everything() {
    let mut server = Server::start();
    let (id, token) = server.draft();
    let key = new_key();
    let before = json_of(server.enroll(&token, &key), 200);
    server.stop().expect_code(0);
    server.start_again();
    assert_eq!(server.state(id), "enrolled");
    let after = json_of(server.enroll(&token, &key), 200);
    for kept in ["tunnel_id", "remote_port", "tunnel_token"] {
        assert_eq!(before[kept], after[kept]);
    }
    assert_eq!(before["server"]["host_keys"], after["server"]["host_keys"]);
    let own = format!("/tunnels/{}", before["tunnel_id"]);
    json_of(
        server.call(Method::GET, &own, &text(&before["tunnel_token"])),
        200,
    );
}

#[test]
fn what_cannot_be_kept_whole_is_not_kept_at_all() {
    let server = Server::start();
    let (id, token) = server.draft();
    json_of(server.enroll(&token, &new_key()), 200);
    let database = server.database();
    database.refuse("UPDATE OF seed", "tokens", "TRUE");
    database.refuse("INSERT", "tokens", "NEW.seed IS NOT NULL");
    let path = format!("/data-sources/{id}");
    problem(
        server
            .by_operator(Method::POST, "/data-sources")
            .json(&data_source()),
        ProblemKind::Internal,
    );
    problem(
        server.by_operator(Method::DELETE, &path),
        ProblemKind::Internal,
    );
    assert_eq!(server.state(id), "enrolled");
    let listed = json_of(server.by_operator(Method::GET, "/data-sources"), 200);
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
}

#[test]
fn a_reader_who_missed_a_thousand_events_gets_them_all() {
    let server = Server::start();
    for _ in 0..3 {
        server.draft();
    }
    server.database().execute(
        "INSERT INTO events (data_source_id, at, kind, actor)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1200)
         SELECT 1 + i % 3, i, 'changed', 'test' FROM n",
    );
    let stream = server
        .by_operator(Method::GET, "/data-sources/events")
        .header("Last-Event-ID", "0")
        .send()
        .unwrap();
    let mut read = 0;
    for line in BufReader::new(stream).lines().map(Result::unwrap) {
        // A sign of life: the server has nothing more to say.
        if line.starts_with(':') {
            break;
        }
        read += usize::from(line.starts_with("id: "));
        if read == 1203 {
            break;
        }
    }
    assert_eq!(read, 1203);
}

#[test]
fn a_waiting_request_does_not_hold_up_the_end() {
    let mut server = Server::start();
    let (_, token) = server.draft();
    let poll = server.call(Method::GET, "/enrollment/data-source?wait=25", &token);
    let waiting = std::thread::spawn(move || json_of(poll, 200));
    std::thread::sleep(Duration::from_millis(500));
    let started = Instant::now();
    server.stop().expect_code(0);
    assert!(started.elapsed() < Duration::from_secs(4));
    assert_eq!(waiting.join().unwrap()["status"], "waiting");
}

#[test]
fn a_second_server_on_the_same_data_folder_is_refused() {
    let server = Server::start();
    let mut second = server.command("serve");
    second.args(["--listen", "127.0.0.1:0", "--ssh-listen", "127.0.0.1:0"]);
    let second = second.output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&second.stderr);
    assert!(stderr.contains("--data-dir"), "{stderr}");
}

#[test]
fn a_usage_error_exits_with_2() {
    for arguments in [
        &["serve", "--ports", "5-1"][..],
        &["serve", "--tls-cert", "cert.pem"],
        &["serve", "--public-url", "tunnel.example.com"],
        &["serve", "--enrollment-ttl", "soon"],
        &["token", "create", "a b"],
        &[],
    ] {
        let output = Command::new(PROGRAM).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn health_needs_no_credential() {
    let server = Server::start();
    assert_eq!(server.fetch("/healthz").status(), 200);
    assert_eq!(server.fetch("/readyz").status(), 200);
}

//! The server behind real proxies: under a path of its own, for clients whose addresses only the proxy
//! sees, and by HTTP/2.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use reqwest::blocking::Client;

use crate::support::lab::Lab;
use crate::support::ports;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;
use crate::visitor::{Visitor, login_link};

const LIMIT: Duration = Duration::from_secs(60);

/// A proxy on loopback. Dropped, it ends.
struct Proxy {
    _process: Running,
    _folder: Workspace,
}

impl Proxy {
    /// nginx, which hands on what is under this path of its own.
    fn nginx(port: u16, server: &Server, path: &str, hands_on_to: &str) -> Self {
        let folder = Workspace::new();
        let at = folder.path().display();
        let upstream = server.web_address();
        let conf = format!(
            "user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log; events {{}}
             http {{
                 access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
                 server {{
                     listen 127.0.0.1:{port};
                     location {path} {{
                         proxy_pass http://{upstream}{hands_on_to};
                         proxy_http_version 1.1;
                         proxy_set_header Host $http_host;
                         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
                         proxy_set_header X-Forwarded-Proto $scheme;
                     }}
                 }}
             }}"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, conf).expect("a file");
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-g", "daemon off;", "-c"]).arg(&file);
        Self::start(command, folder, port)
    }

    /// HAProxy, which speaks HTTP/2 to the server.
    fn haproxy_by_http2(port: u16, server: &Server) -> Self {
        let folder = Workspace::new();
        let conf = format!(
            "defaults\n mode http\n timeout connect 10s\n timeout client 60s\n timeout server 60s\n \
             option forwardfor\n\
             listen web\n bind 127.0.0.1:{port}\n server one {} proto h2\n",
            server.web_address()
        );
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, conf).expect("a file");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(&file);
        Self::start(command, folder, port)
    }

    fn start(mut command: Command, folder: Workspace, port: u16) -> Self {
        let process = Running::start(&mut command, folder.path(), "proxy");
        process.wait_until("the proxy listens", LIMIT, || ports::is_open(port));
        Proxy {
            _process: process,
            _folder: folder,
        }
    }
}

#[test]
fn everything_works_under_a_path_that_the_proxy_strips() {
    works_under_a_path("/tools/tunnels/", "/");
}

#[test]
fn everything_works_under_a_path_that_the_proxy_keeps() {
    works_under_a_path("/tools/tunnels/", "");
}

/// The whole journey of a bastion, and every page and file that a browser can get to.
fn works_under_a_path(path: &str, hands_on_to: &str) {
    let base = path.trim_end_matches('/');
    let port = ports::free_port();
    let origin = format!("http://127.0.0.1:{port}");
    let server = Server::start_with(
        10,
        &[
            "--public-url",
            &format!("{origin}{base}"),
            "--trusted-proxy",
            "127.0.0.1",
        ],
    );
    let _proxy = Proxy::nginx(port, &server, path, hands_on_to);
    let lab = Lab::with(server);
    let source = lab.active_data_source("Shop");
    assert!(lab.login_through(&source).is_ok());

    let mut visitor = Visitor::new(&lab.server);
    visitor.url.clone_from(&origin);
    let page = visitor.get(&login_link(&lab.server));
    let signed_in = visitor.post(&page.form("/login/"), &[], &[]);
    assert_eq!(signed_in.status, 303, "{}", signed_in.body);
    for cookie in signed_in.headers.get_all("set-cookie") {
        let cookie = cookie.to_str().expect("a cookie");
        assert!(cookie.contains(&format!("Path={base};")), "{cookie}");
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut ahead = vec![path.to_owned(), format!("{base}/data-sources")];
    while let Some(path) = ahead.pop() {
        assert!(path.starts_with(base), "{path} leads out");
        if !seen.insert(path.clone()) {
            continue;
        }
        let page = visitor.get(&path);
        assert!(matches!(page.status, 200 | 303), "{path}: {}", page.status);
        let location = page.headers.get("location");
        ahead.extend(location.map(|to| to.to_str().expect("a path").to_owned()));
        ahead.extend(page.links());
        for form in page.forms() {
            assert!(form.action.starts_with(base), "{} on {path}", form.action);
        }
        for script in page.body.split("src=\"").skip(1) {
            ahead.push(script.split('"').next().expect("a path").to_owned());
        }
    }
    for part in ["/account", "/audit", "/api/v1/openapi.json", ".css", ".js"] {
        assert!(
            seen.iter().any(|path| path.contains(part)),
            "{part}: {seen:?}"
        );
    }
    let document = visitor.get(&format!("{base}/api/v1/openapi.json"));
    assert!(
        document
            .body
            .contains(&format!("\"url\":\"{origin}{base}\""))
    );
    let created = visitor.submit(
        &visitor
            .get(&format!("{base}/data-sources/new"))
            .form("/data-sources"),
        &[
            ("display_name", "Other"),
            ("database_type", "postgresql"),
            ("host", "db"),
            ("port", ""),
        ],
    );
    created.expect(&["Other", &format!("{origin}{base}/i/")]);
    let events = lab
        .operator
        .call(Method::GET, "/data-sources/events")
        .send();
    let media_type = events.expect("a stream").headers()["content-type"].clone();
    assert_eq!(media_type, "text/event-stream");
    lab.remove(&source).expect_code(0);
}

/// A sign-in that is refused, sent from this address of loopback.
fn refused_sign_in(from: u8, origin: &str, forwarded: Option<&str>) {
    let http = Client::builder()
        .no_proxy()
        .local_address(IpAddr::from(Ipv4Addr::new(127, 0, 0, from)))
        .build()
        .expect("a client");
    let page = http
        .get(format!("{origin}/sign-in"))
        .send()
        .expect("a page");
    let cookie = page.headers()["set-cookie"].to_str().expect("a cookie");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let page = page.text().expect("a page");
    let token = page
        .split("name=\"csrf\" value=\"")
        .nth(1)
        .expect("a token");
    let token = token.split('"').next().expect("a token");
    let body = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("csrf", token)
        .append_pair("name", "nobody")
        .append_pair("password", "wrong")
        .append_pair("next", "")
        .finish();
    let mut request = http
        .post(format!("{origin}/sign-in"))
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(body);
    if let Some(forwarded) = forwarded {
        request = request.header("x-forwarded-for", forwarded);
    }
    let status = request.send().expect("an answer").status();
    assert_eq!(status, 401);
}

#[track_caller]
fn assert_refused_for(server: &Server, address: &str) {
    let said = format!("a sign-in was refused address={address}\n");
    let is_said = || plain(&server.log()).contains(&said);
    wait::until_true(&said, LIMIT, || server.log(), is_said);
}

/// A log without the colours of terminals.
fn plain(log: &str) -> String {
    let mut parts = log.split('\u{1b}');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once('m').map_or("", |(_, rest)| rest)
    })
}

#[test]
fn a_client_is_known_behind_proxies_that_are_trusted_and_a_stranger_s_word_is_nothing() {
    let server = Server::start_with(10, &["--trusted-proxy", "127.0.0.1,127.0.0.8/29"]);
    let (nginx, haproxy) = (ports::free_port(), ports::free_port());
    let _nginx = Proxy::nginx(nginx, &server, "/", "");
    let _haproxy = Proxy::haproxy_by_http2(haproxy, &server);
    // What a client claims itself stands left of what the proxy saw.
    refused_sign_in(
        33,
        &format!("http://127.0.0.1:{nginx}"),
        Some("203.0.113.7"),
    );
    assert_refused_for(&server, "127.0.0.33");
    refused_sign_in(34, &format!("http://127.0.0.1:{haproxy}"), None);
    assert_refused_for(&server, "127.0.0.34");
    let itself = format!("http://{}", server.web_address());
    refused_sign_in(35, &itself, Some("203.0.113.7"));
    assert_refused_for(&server, "127.0.0.35");
    refused_sign_in(9, &itself, Some("203.0.113.8, 127.0.0.10"));
    assert_refused_for(&server, "203.0.113.8");
    assert!(!server.log().contains("203.0.113.7"));
}

#[test]
fn a_proxy_that_speaks_http2_carries_pages_calls_and_streams() {
    let port = ports::free_port();
    let url = format!("http://127.0.0.1:{port}");
    let server = Server::start_with(10, &["--public-url", &url, "--trusted-proxy", "127.0.0.1"]);
    let _haproxy = Proxy::haproxy_by_http2(port, &server);
    let visitor = Visitor::signed_in(&server);
    let operator = server.operator();
    let source = operator.create("Shop", 5432);
    visitor.get("/data-sources").expect(&["Shop"]);
    let events = operator.call(Method::GET, &format!("/data-sources/{}/events", source.id));
    let mut first = [0; 6];
    let mut stream = events.send().expect("a stream");
    std::io::Read::read_exact(&mut stream, &mut first).expect("its beginning");
    assert_eq!(&first, b"event:");
    let long = "x".repeat(70_000);
    let too_long = operator.call(Method::POST, "/data-sources").body(long);
    assert_eq!(too_long.send().expect("an answer").status(), 413);
}

#[test]
fn a_network_that_is_none_is_refused_with_an_example() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    let output = command
        .args(["serve", "--trusted-proxy", "proxy.internal"])
        .output()
        .expect("it runs");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(text.contains("such as 10.0.0.0/8"), "{text}");
}

//! The server behind real proxies: under a path of its own, for clients whose addresses only the proxy
//! sees, and by HTTP/2.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::{Certificate, Method};

use crate::support::hosts::certificate::{self, Certified};
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

    /// nginx with the settings that the documents give.
    fn nginx_as_documented(https: &Certified, port: u16, server: &Server) -> Self {
        let folder = Workspace::new();
        let at = folder.path().display();
        let documented = settings_for("nginx")
            .with("443", &format!("127.0.0.1:{port}"))
            .with(
                "/etc/letsencrypt/live/tunnels.example.com/fullchain.pem",
                &https.certificate.display().to_string(),
            )
            .with(
                "/etc/letsencrypt/live/tunnels.example.com/privkey.pem",
                &https.key.display().to_string(),
            )
            .with(
                "http://127.0.0.1:8080",
                &format!("http://{}", server.web_address()),
            );
        let conf = format!(
            "user root; worker_processes 1; pid {at}/pid; error_log {at}/error.log; events {{}}
             http {{
                 access_log off; client_body_temp_path {at}/body; proxy_temp_path {at}/proxy;
                 fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; scgi_temp_path {at}/s;
                 {}
             }}",
            documented.0
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, conf).expect("a file");
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-g", "daemon off;", "-c"]).arg(&file);
        Self::start(command, folder, port)
    }

    /// HAProxy with the settings that the documents give.
    fn haproxy_as_documented(https: &Certified, [web, ssh]: [u16; 2], server: &Server) -> Self {
        let folder = Workspace::new();
        let both = folder.path().join("both.pem");
        let parts = [&https.certificate, &https.key]
            .map(|part| fs::read_to_string(part).expect("a certificate and its key"));
        fs::write(&both, parts.concat()).expect("a file");
        let documented = settings_for("haproxy")
            .with(":443", &format!("127.0.0.1:{web}"))
            .with(":50022", &format!("127.0.0.1:{ssh}"))
            .with("/etc/haproxy/tunnels.pem", &both.display().to_string())
            .with("127.0.0.1:8080", &server.web_address().to_string())
            .with("127.0.0.1:50023", &server.ssh);
        let file = folder.path().join("haproxy.cfg");
        fs::write(&file, documented.0).expect("a file");
        let mut command = Command::new("/usr/sbin/haproxy");
        command.args(["-db", "-f"]).arg(&file);
        Self::start(command, folder, web)
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

/// Settings in the documents, for another machine than their example's.
struct Settings(String);

/// Those for this program, as docs/operations.md has them.
fn settings_for(program: &str) -> Settings {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = fs::read_to_string(document).expect("the document");
    let begin = format!("```{program}\n");
    let (_, settings) = document.split_once(&begin).expect("its settings");
    let (settings, _) = settings.split_once("```").expect("their end");
    Settings(settings.to_owned())
}

impl Settings {
    #[track_caller]
    fn with(self, example: &str, here: &str) -> Self {
        let times = self.0.matches(&format!(" {example}")).count();
        assert_eq!(times, 1, "{example} in\n{}", self.0);
        Settings(self.0.replace(&format!(" {example}"), &format!(" {here}")))
    }
}

/// What the documents' examples are called.
const DOCUMENTED: &str = "tunnels.example.com";

#[test]
fn the_settings_for_nginx_in_the_documents_let_clients_be_known() {
    let folder = Workspace::new();
    let https = certificate::for_name(DOCUMENTED, folder.path());
    let port = ports::free_port();
    let url = format!("https://{DOCUMENTED}:{port}");
    let server = Server::start_with(10, &["--public-url", &url, "--trusted-proxy", "127.0.0.1"]);
    let _nginx = Proxy::nginx_as_documented(&https, port, &server);
    let client = trusting(&https, from(36));
    refused_sign_in_of(&client, &url, Some("203.0.113.7"));
    assert_refused_for(&server, "127.0.0.36");
}

#[test]
fn the_settings_for_haproxy_in_the_documents_let_clients_and_bastions_be_known() {
    let folder = Workspace::new();
    let https = certificate::for_name(DOCUMENTED, folder.path());
    let [web, ssh] = [ports::free_port(), ports::free_port()];
    let url = format!("https://{DOCUMENTED}:{web}");
    let server = Server::start_with(10, &["--public-url", &url, "--trusted-proxy", "127.0.0.1"]);
    let _haproxy = Proxy::haproxy_as_documented(&https, [web, ssh], &server);
    let client = trusting(&https, from(37));
    refused_sign_in_of(&client, &url, None);
    assert_refused_for(&server, "127.0.0.37");

    // A browser that was sent to the SSH port.
    let browser = from(38).build().expect("a client");
    let answer = browser.get(format!("http://127.0.0.1:{ssh}/")).send();
    assert!(answer.is_err(), "{answer:?}");
    let is_known = || plain(&server.log()).contains("127.0.0.38");
    wait::until_true("its line", LIMIT, || server.log(), is_known);
}

/// A client with this address of loopback.
fn from(d: u8) -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .local_address(IpAddr::from(Ipv4Addr::new(127, 0, 0, d)))
}

fn trusting(https: &Certified, client: ClientBuilder) -> Client {
    let authority = fs::read(&https.authority).expect("the authority");
    let authority = Certificate::from_pem(&authority).expect("a certificate");
    client
        .tls_certs_only([authority])
        .resolve(DOCUMENTED, (Ipv4Addr::LOCALHOST, 0).into())
        .build()
        .expect("a client")
}

/// A sign-in that is refused, sent from this address of loopback.
fn refused_sign_in(d: u8, origin: &str, forwarded: Option<&str>) {
    let client = from(d).build().expect("a client");
    refused_sign_in_of(&client, origin, forwarded);
}

fn refused_sign_in_of(http: &Client, origin: &str, forwarded: Option<&str>) {
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

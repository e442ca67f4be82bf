//! A bastion from which the vendor is reached through an HTTP proxy alone: the name means nothing to it,
//! and only the proxy knows whose it is.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use holistics_tunnel::protocol::DataSourceState;

use crate::bootstrap::vendor::Vendor;
use crate::bootstrap::{FAILED, content, run, shell, url_of};
use crate::support::bastion::Bastion;
use crate::support::hosts::certificate;
use crate::support::lab::Lab;
use crate::support::ports;
use crate::support::process::Running;
use crate::support::server::Server;
use crate::support::workspace::Workspace;

pub const NAME: &str = "vendor.example";
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running tinyproxy, for which [`NAME`] is this machine.
pub struct Proxy {
    pub url: String,
    pub log: PathBuf,
    _process: Running,
}

impl Proxy {
    pub fn start(workspace: &Workspace) -> Self {
        Self::start_with(workspace, "")
    }

    /// One that lets nobody through but this login.
    pub fn start_for(workspace: &Workspace, name: &str, password: &str) -> Self {
        let mut proxy = Self::start_with(workspace, &format!("BasicAuth {name} {password}\n"));
        proxy.url = proxy.url.replace("://", &format!("://{name}:{password}@"));
        proxy
    }

    fn start_with(workspace: &Workspace, further: &str) -> Self {
        let folder = workspace.folder("proxy");
        let (log, hosts, settings) = (
            folder.join("log"),
            folder.join("hosts"),
            folder.join("settings"),
        );
        let port = ports::free_port();
        std::fs::write(&hosts, format!("127.0.0.1 {NAME}\n")).expect("a file");
        std::fs::write(
            &settings,
            format!(
                "Port {port}\nListen 127.0.0.1\nAllow 127.0.0.1\nTimeout 60\nLogLevel Connect\nLogFile \"{}\"\n{further}",
                log.display()
            ),
        )
        .expect("a file");
        let mut command = Command::new("tinyproxy");
        command
            .arg("-d")
            .arg("-c")
            .arg(&settings)
            .env("LD_PRELOAD", host_names_library())
            .env("NSS_WRAPPER_HOSTS", hosts);
        let process = Running::start(&mut command, &folder, "tinyproxy");
        process.wait_until("the proxy", START_LIMIT, || ports::is_open(port));
        Proxy {
            url: format!("http://127.0.0.1:{port}"),
            log,
            _process: process,
        }
    }

    /// How many connections to the vendor it was asked for, with a request that begins like this.
    pub fn requests(&self, kind: &str) -> usize {
        content(&self.log)
            .matches(&format!("{kind}{NAME}:"))
            .count()
    }
}

/// What answers for a program's questions after names from a file.
fn host_names_library() -> PathBuf {
    let folders = Path::new("/usr/lib").read_dir().expect("/usr/lib");
    let mut libraries = folders
        .flatten()
        .map(|folder| folder.path().join("libnss_wrapper.so"));
    libraries
        .find(|library| library.exists())
        .expect("libnss_wrapper.so: apt-get install libnss-wrapper")
}

#[test]
fn a_whole_setup_and_removal_go_through_the_proxy() {
    let workspace = Workspace::new();
    let proxy = Proxy::start(&workspace);
    let https = certificate::for_name(NAME, &workspace.folder("https"));
    let lab = Lab::with(Server::start_called(NAME, Some(&https), &[]));
    let source = lab.data_source("Shop");
    let (authority, proxy_url) = (https.authority.display(), &proxy.url);
    let fetch = format!("export https_proxy={proxy_url}; curl -fsSL --cacert {authority}");
    let line = format!(
        "{fetch} {} | sh -s -- --yes --ca-cert {authority} {}",
        url_of(&source),
        lab.bastion.setup_options()
    );
    let setup = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(&source, &setup);
    let before_the_save = proxy.requests("CONNECT ");
    // The script, the program, and what the program has asked.
    assert!(before_the_save >= 3, "{}", content(&proxy.log));
    lab.save_and_finish(&source, setup);

    let removal = lab.operator.delete(source.id);
    let line = format!(
        "{fetch} {} | sh -s -- --ca-cert {authority}",
        crate::bootstrap::url_in(&removal.command)
    );
    run(&lab.bastion, &line).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    let in_all = proxy.requests("CONNECT ");
    assert!(in_all >= before_the_save + 2, "{}", content(&proxy.log));

    // The name is nobody's without the proxy.
    let line = format!("curl -fsSL --cacert {authority} {}", url_of(&source));
    let code = run(&lab.bastion, &line).code;
    assert_eq!(code, 6, "curl's \"could not resolve host\"");
}

#[test]
fn wget_heeds_the_proxy_in_capital_letters_as_the_program_does() {
    let workspace = Workspace::new();
    let proxy = Proxy::start(&workspace);
    let https = certificate::for_name(NAME, &workspace.folder("https"));
    let vendor = Vendor::with(|arguments| Server::start_called(NAME, Some(&https), arguments));
    let bastion = Bastion::without(&["curl"]);
    let (authority, proxy_url) = (https.authority.display(), &proxy.url);
    let line = format!(
        "https_proxy={proxy_url} wget -qO- --ca-certificate {authority} {} | \
         HTTPS_PROXY={proxy_url} sh -s -- --ca-cert {authority}",
        url_of(&vendor.data_source())
    );
    run(&bastion, &line).expect_code(0);
    assert_eq!(proxy.requests("CONNECT "), 2, "{}", content(&proxy.log));
}

#[test]
fn a_plain_http_server_behind_a_proxy_is_refused() {
    let workspace = Workspace::new();
    let proxy = Proxy::start(&workspace);
    let vendor = Vendor::with(|arguments| Server::start_called(NAME, None, arguments));
    let bastion = Bastion::new();
    let before = bastion.snapshot();
    let (proxy_url, source) = (&proxy.url, vendor.data_source());
    let line = format!(
        "export http_proxy={proxy_url}; curl -fsSL {} | sh",
        url_of(&source)
    );
    run(&bastion, &line)
        .expect_code(FAILED)
        .expect_words(&["plain http"]);
    assert_eq!(proxy.requests("GET http://"), 1, "{}", content(&proxy.log));
    before.assert_same(&bastion.snapshot());

    // So is one that a script from before would name: the program knows, too.
    let url = &vendor.server.url;
    let mut setup = bastion.setup_at(url, "hte_x");
    bastion
        .run(setup.arg("--yes").env("http_proxy", proxy_url))
        .expect_code(crate::bootstrap::USAGE)
        .expect_words(&["plain http"]);
}

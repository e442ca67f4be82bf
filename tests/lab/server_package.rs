//! The server as a distribution's package, on booted hosts: from its installation to its purge, with the tunnel of
//! a bastion that is a booted host, too.

use std::path::Path;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use reqwest::redirect::Policy;

use crate::setup::{RETURN_LIMIT, generated_command};
use crate::support::figures;
use crate::support::hosts::certificate::{self, Certified};
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{AUTHORITY, Place, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::namespace::Inside;
use crate::support::hosts::network::{DATABASE, Network, VENDOR, VENDOR_NAME};
use crate::support::hosts::program;
use crate::support::hosts::server_packages::ServerPackages;
use crate::support::lab::{SERVICE_LIMIT, tunnel_of};
use crate::support::postgres::{Postgres, ROWS};
use crate::support::process::Finished;
use crate::support::server::{Operator, PublicPlace};
use crate::support::sql::Client;
use crate::support::wait;
use crate::support::workspace::Workspace;
use crate::{FAILED, USAGE};

const OLD: &str = "0.1.0";
const NEW: &str = "0.1.1";

const PACKAGE: &str = "holistics-tunnel-server";
const SETTINGS: &str = "/etc/default/holistics-tunnel-server";
const DATA: &str = "/var/lib/holistics-tunnel-server";
const DROP_INS: &str = "/etc/systemd/system/holistics-tunnel-server.service.d";
const PACKAGE_LIMIT: Duration = Duration::from_secs(180);

/// How long an upgrade may keep rows away, with a bastion that is not optimized: it tries again after 5 s.
const UPGRADE_LIMIT: Duration = Duration::from_secs(60);

/// What every credential in clear begins with (`domain/token.rs`).
const SECRETS: [&str; 6] = ["hte_", "htt_", "htr_", "hto_", "htl_", "hts_"];

#[test]
fn the_deb_serves_a_bastion_through_upgrade_removal_and_purge() {
    let vendor = Vendor::boot(Image::DebianReady);
    let host = &vendor.host;
    let said = vendor.install(OLD);
    said.expect_words(&["PUBLIC_URL", "enable --now", "login-link"]);
    assert_not_started(host);
    host.run("root", &as_service("token create early"))
        .expect_code(FAILED)
        .expect_words(&["no server has run on /var/lib"]);

    vendor.configure();
    vendor.start();
    let operator = Operator::at(
        &vendor.place,
        &vendor.token_of_the_command_that_root_is_told(),
    );
    assert_the_sign_in_link_works(&vendor);
    let bastion = vendor.boot_bastion();
    let source = vendor.set_up(&bastion, &operator);
    assert_root_cannot_lock_the_server_out(&vendor);
    assert_shut_off(host);

    let process = main_process(host);
    let began = Instant::now();
    vendor.install(NEW);
    vendor.wait_until_rows_come(&operator, &source, UPGRADE_LIMIT);
    figures::say(&format!(
        "through an upgrade of the package: rows {:.1} s after its beginning",
        began.elapsed().as_secs_f64()
    ));
    assert_ne!(main_process(host), process, "the former version still runs");
    assert_eq!(installed_version(host), NEW);

    host.start("root", &format!("apt-get --quiet --yes remove {PACKAGE}"))
        .wait(PACKAGE_LIMIT)
        .expect_code(0);
    assert_not_started(host);
    assert!(host.path(SETTINGS).exists(), "a removal keeps the settings");
    vendor.install(NEW);
    assert_not_started(host);
    vendor.start();
    vendor.wait_until_rows_come(&operator, &source, RETURN_LIMIT);
    let now = operator.data_source(source.id);
    assert_eq!(now.display_name, source.display_name);

    host.start("root", &format!("apt-get --quiet --yes purge {PACKAGE}"))
        .wait(PACKAGE_LIMIT)
        .expect_code(0)
        .expect_words(&[DATA, "is kept", "rm -r"]);
    assert_not_started(host);
    assert!(!host.path(SETTINGS).exists(), "a purge takes the settings");
    vendor.install(NEW);
    vendor.configure();
    vendor.start();
    vendor.wait_until_rows_come(&operator, &source, RETURN_LIMIT);
    assert_the_journal_keeps_no_secret(host);
}

#[test]
fn the_rpm_serves_is_upgraded_and_its_removal_keeps_the_data() {
    let vendor = Vendor::boot(Image::Rpm);
    let host = &vendor.host;
    tell_rpm_of_systemd(host);
    vendor
        .install(OLD)
        .expect_words(&["PUBLIC_URL", "enable --now", "login-link"]);
    assert_not_started(host);
    vendor.configure();
    vendor.start();
    let token = vendor.token_of_the_command_that_root_is_told();
    let operator = Operator::at(&vendor.place, &token);
    let source = operator.create_for("Shop", "10.20.0.5", 5432);
    assert_the_sign_in_link_works(&vendor);
    assert_root_cannot_lock_the_server_out(&vendor);
    assert_shut_off(host);
    assert_it_comes_back(host);

    let process = main_process(host);
    vendor.install(NEW);
    wait_until_it_serves(host);
    assert_ne!(main_process(host), process, "the former version still runs");
    assert!(host.read(SETTINGS).contains(VENDOR_NAME));
    assert_eq!(operator.data_source(source.id).id, source.id);

    host.start("root", &format!("dnf --assumeyes remove {PACKAGE}"))
        .wait(PACKAGE_LIMIT)
        .expect_code(0)
        .expect_words(&[DATA, "is kept", "rm -r"]);
    assert_not_started(host);
    // RPM puts settings that were changed aside.
    host.run("root", &format!("test -e {SETTINGS}.rpmsave"))
        .expect_code(0);
    vendor.install(NEW);
    vendor.configure();
    vendor.start();
    assert_eq!(operator.data_source(source.id).id, source.id);
    assert_the_journal_keeps_no_secret(host);
}

#[test]
fn wrong_settings_are_told_and_not_tried_for_ever() {
    let vendor = Vendor::boot(Image::Trixie);
    let host = &vendor.host;
    vendor.install(OLD);
    let settings = host.read(SETTINGS);
    let wrong = "HOLISTICS_TUNNEL_SERVER_PUBLIC_URL=vendor.example\n";
    host.write(SETTINGS, wrong);
    let start = host.run("root", "systemctl enable --now holistics-tunnel-server");
    assert_ne!(start.code, 0, "{start}");
    let state = property(host, "ExecMainStatus");
    assert_eq!(state, USAGE.to_string());
    assert_eq!(
        property(host, "ActiveState"),
        "failed",
        "it is not tried again"
    );
    host.run("root", "journalctl --unit holistics-tunnel-server")
        .expect_code(0)
        .expect_words(&["public-url", "relative URL"]);
    host.write(SETTINGS, settings);
    vendor.configure();
    vendor.start();
    assert_shut_off(host);
}

/// The vendor's machine, a booted host, with the customer's database and a line for a bastion.
struct Vendor {
    // The order of the fields is the order of the end: nobody loses what it still uses.
    host: Host,
    packages: ServerPackages,
    place: PublicPlace,
    https: Certified,
    postgres: Postgres,
    _on_its_machine: Inside,
    network: Network,
    _workspace: Workspace,
    bastion_s_workspace: Workspace,
    _place: Place,
    image: Image,
}

impl Vendor {
    fn boot(image: Image) -> Self {
        let workspace = Workspace::new();
        let packages = ServerPackages::make(&workspace, &[OLD, NEW]);
        let place = Place::take();
        let network = Network::new(&workspace);
        let postgres = {
            let _inside = network.database.enter();
            Postgres::start_on(DATABASE)
        };
        let inside = network.vendor.enter();
        let https = certificate::for_name(VENDOR_NAME, &workspace.folder("https"));
        let program = program::for_image(image, &workspace);
        let host = Host::boot(image, &[], &program, &network.vendor, &workspace);
        host.write("/etc/hosts", "127.0.0.1 localhost bastion\n");
        Vendor {
            host,
            packages,
            place: PublicPlace {
                name: VENDOR_NAME,
                address: VENDOR,
                certificate: https.certificate.clone(),
                key: https.key.clone(),
                authority: https.authority.clone(),
            },
            https,
            postgres,
            _on_its_machine: inside,
            network,
            _workspace: workspace,
            bastion_s_workspace: Workspace::new(),
            _place: place,
            image,
        }
    }

    /// Installs the package of this version with the host's package manager.
    fn install(&self, version: &str) -> Finished {
        let (package, line) = match self.image {
            Image::Rpm => (
                self.packages.rpm(version),
                "dnf --assumeyes --disablerepo='*' install /root/server.rpm",
            ),
            _ => (
                self.packages.deb(version),
                "apt-get --quiet --yes install /root/server.deb",
            ),
        };
        let name = line.rsplit(' ').next().expect("a path");
        self.host.write(name, read(&package));
        self.host
            .start("root", line)
            .wait(PACKAGE_LIMIT)
            .expect_code(0)
    }

    /// What the administrator does: https on its own port, by the drop-in that the package brings.
    fn configure(&self) {
        let host = &self.host;
        let lineage = "/root/lineage";
        host.run("root", &format!("install --directory {DROP_INS} {lineage}"))
            .expect_code(0);
        let (certificate, key) = (read(&self.https.certificate), read(&self.https.key));
        host.write(&format!("{lineage}/fullchain.pem"), certificate);
        host.write(&format!("{lineage}/privkey.pem"), key);
        run_documented(host, "renewal-hooks", &format!("RENEWED_LINEAGE={lineage}"));
        let settings = host.read(SETTINGS);
        let mut changed = String::new();
        for line in settings.lines() {
            let set = |name: &str| line.starts_with(&format!("#HOLISTICS_TUNNEL_SERVER_{name}="));
            if set("PUBLIC_URL") {
                changed += &format!("HOLISTICS_TUNNEL_SERVER_PUBLIC_URL={}", self.place.url());
            } else if set("LISTEN") || set("TLS_CERT") || set("TLS_KEY") {
                changed += line.trim_start_matches('#');
            } else {
                changed += line;
            }
            changed.push('\n');
        }
        host.write(SETTINGS, changed);
        host.run(
            "root",
            &format!(
                "cp /usr/share/doc/{PACKAGE}/low-ports.conf {DROP_INS} && systemctl daemon-reload"
            ),
        )
        .expect_code(0);
    }

    fn start(&self) {
        let line = format!("systemctl enable --now {PACKAGE}");
        let started = self.host.run("root", &line);
        let journal = self.host.run("root", "journalctl --no-pager --lines 40");
        assert_eq!(started.code, 0, "{started}\n{journal}");
        // `Type=notify`: it serves now.
        assert_eq!(property(&self.host, "ActiveState"), "active");
        self.host
            .run("root", &format!("systemctl is-enabled {PACKAGE}"));
        wait_until_it_serves(&self.host);
    }

    /// Root's own try is refused, and says what to type; that works.
    fn token_of_the_command_that_root_is_told(&self) -> String {
        let line = told(&self.host, "token create lab");
        let made = self.host.run("root", &line).expect_code(0);
        made.stdout.trim().to_owned()
    }

    fn boot_bastion(&self) -> Host {
        let workspace = &self.bastion_s_workspace;
        let program = program::for_image(Image::DebianReady, workspace);
        let network = &self.network.bastion;
        let bastion = Host::boot(Image::DebianReady, &[], &program, network, workspace);
        bastion.write(AUTHORITY, read(&self.https.authority));
        let hosts = format!("127.0.0.1 localhost bastion\n{VENDOR} {VENDOR_NAME}\n");
        bastion.write("/etc/hosts", hosts);
        bastion
    }

    /// A data source, by the command that the server generates: the program is the one in the package.
    fn set_up(&self, bastion: &Host, operator: &Operator) -> DataSource {
        let source = operator.create_for("Shop", &DATABASE.to_string(), self.postgres.port());
        let setup = bastion.start("ada", &generated_command(&source));
        setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
            operator.data_source(source.id).state == DataSourceState::Connected
        });
        // Each test runs in a process of its own, which the unit has to allow.
        let result = operator.test(source.id, &self.postgres.login());
        assert!(result.ok, "{result:#?}");
        operator.save(source.id);
        setup.wait(SETUP_LIMIT).expect_code(0);
        operator.wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
        self.wait_until_rows_come(operator, &source, SERVICE_LIMIT);
        source
    }

    #[track_caller]
    fn wait_until_rows_come(&self, operator: &Operator, source: &DataSource, limit: Duration) {
        let enrolled = source.tunnel.as_ref().and_then(|tunnel| tunnel.remote_port);
        let port = enrolled.unwrap_or_else(|| {
            let now = operator.data_source(source.id);
            tunnel_of(&now).remote_port.expect("it is enrolled")
        });
        let count =
            || Client::connect(port, &self.postgres.login())?.number("SELECT count(*) FROM orders");
        let journal = || {
            let line = "journalctl --no-pager --unit holistics-tunnel-server --lines 40";
            format!("{:?}\n{}", count(), self.host.run("root", line))
        };
        wait::until_true("rows through the tunnel", limit, journal, || {
            count().is_ok_and(|count| count == ROWS)
        });
    }
}

/// Neither now nor at the next boot, and nothing listens.
#[track_caller]
fn assert_not_started(host: &Host) {
    let state = property(host, "ActiveState");
    assert_eq!(state, "inactive");
    let enabled = host.run("root", &format!("systemctl is-enabled {PACKAGE}"));
    assert_ne!(enabled.code, 0, "{enabled}");
    assert!(std::net::TcpStream::connect((VENDOR, PublicPlace::SSH_PORT)).is_err());
}

/// One command, and the browser is in.
#[track_caller]
fn assert_the_sign_in_link_works(vendor: &Vendor) {
    let link = vendor.host.run("root", &as_service("login-link"));
    let link = link.expect_code(0).stdout;
    let browser = vendor.place.visited_by().redirect(Policy::none());
    let browser = browser.build().expect("a browser");
    let page = browser.get(link.trim()).send().expect("a page");
    let cookie = page.headers()["set-cookie"].to_str().expect("a cookie");
    let cookie = cookie.split(';').next().expect("a cookie").to_owned();
    let page = page.text().expect("a page");
    let token = page.split("name=\"csrf\" value=\"").nth(1);
    let token = token
        .and_then(|rest| rest.split('"').next())
        .expect("a form");
    let signed_in = browser
        .post(link.trim())
        .header("cookie", cookie)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(format!("csrf={token}"))
        .send()
        .expect("an answer");
    assert_eq!(signed_in.status(), 303);
    assert_eq!(signed_in.headers()["location"], "/account");
}

/// Whatever root types, nothing in the data folder becomes root's, and the server starts again.
#[track_caller]
fn assert_root_cannot_lock_the_server_out(vendor: &Vendor) {
    let host = &vendor.host;
    for command in [
        "token create x",
        "token list",
        "token revoke x",
        "operator list",
        "operator disable admin",
        "login-link",
        "host-key list",
        "host-key next",
        "serve",
    ] {
        host.run("root", &format!("{PACKAGE} {command}"))
            .expect_code(FAILED)
            .expect_words(&[
                "belongs to",
                &format!("sudo -u {PACKAGE} {PACKAGE} {command}"),
            ]);
    }
    run_documented(host, "cron.daily", "");
    let made = host.run("root", &format!("ls -l /var/backups/{PACKAGE}"));
    made.expect_code(0).expect_words(&["-rw-------", ".tar"]);
    // A backup is for root to keep, where the service's user may not look; the shell is root's.
    let keep = told(host, "backup /root/backup.tar");
    host.run(
        "root",
        &format!("umask 077; rm -f /root/backup.tar; {keep}"),
    )
    .expect_code(0);
    host.run("root", &format!("systemctl stop {PACKAGE}"))
        .expect_code(0);
    let bring_back = told(host, "restore /root/backup.tar --replace");
    host.run("root", &bring_back).expect_code(0);
    let others = host.run("root", &format!("find {DATA} ! -user {PACKAGE}"));
    assert_eq!(others.expect_code(0).stdout, "");
    host.run("root", &format!("systemctl start {PACKAGE}"))
        .expect_code(0);
    wait_until_it_serves(host);
}

/// The command that root is told to type in this one's place.
#[track_caller]
fn told(host: &Host, command: &str) -> String {
    let refused = host
        .run("root", &format!("{PACKAGE} {command}"))
        .expect_code(FAILED)
        .expect_words(&[&format!("belongs to {PACKAGE}"), "root"]);
    let command = refused.stderr.split_once(": sudo ").expect("a command").1;
    format!("sudo {}", command.trim())
}

#[track_caller]
fn assert_shut_off(host: &Host) {
    let unit = "holistics-tunnel-server.service";
    let verified = host.run("root", &format!("systemd-analyze verify --man=no {unit}"));
    assert_eq!(verified.expect_code(0).output(), "");
    // In tenths; 2 of them are the drop-in's for port 443.
    let line = format!("systemd-analyze security --no-pager --threshold=15 {unit}");
    let judged = host.run("root", &line).expect_code(0);
    let score = judged.stdout.lines().last().unwrap_or_default();
    figures::say(&format!(
        "the server's service{}",
        score.trim_start_matches('→')
    ));
    let process = main_process(host);
    let status = host.read(&format!("/proc/{process}/status"));
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line of it").trim().to_owned()
    };
    assert_eq!(of("NoNewPrivs:"), "1");
    assert_eq!(of("Seccomp:"), "2");
    // CAP_NET_BIND_SERVICE alone.
    assert_eq!(of("CapBnd:"), "0000000000000400");
}

/// A reload keeps the process; whoever kills it gets another one.
#[track_caller]
fn assert_it_comes_back(host: &Host) {
    let process = main_process(host);
    host.run("root", &format!("systemctl reload {PACKAGE}"))
        .expect_code(0);
    assert_eq!(main_process(host), process);
    assert_eq!(property(host, "ActiveState"), "active");
    host.run("root", &format!("kill -s KILL {process}"))
        .expect_code(0);
    let is_another = || !["0", &process].contains(&&*main_process(host));
    wait::until_true("another process", SERVICE_LIMIT, String::new, is_another);
    wait_until_it_serves(host);
}

#[track_caller]
fn assert_the_journal_keeps_no_secret(host: &Host) {
    let journal = host.run("root", "journalctl --no-pager --output=cat");
    let journal = journal.expect_code(0).stdout;
    assert!(journal.contains("\nready\n"), "{journal}");
    // sudo's own lines name a command, and never what it printed.
    assert!(journal.contains("login-link"), "{journal}");
    for secret in SECRETS {
        assert!(!journal.contains(secret), "{secret}:\n{journal}");
    }
}

#[track_caller]
fn wait_until_it_serves(host: &Host) {
    wait::until_true(
        "the server to serve",
        SERVICE_LIMIT,
        || host.run("root", "journalctl --no-pager --lines 40").stdout,
        || {
            property(host, "ActiveState") == "active"
                && std::net::TcpStream::connect((VENDOR, PublicPlace::SSH_PORT)).is_ok()
        },
    );
}

/// The image's systemd is Debian's. What every host of the family has stands in RPM's database so.
fn tell_rpm_of_systemd(host: &Host) {
    let line = "printf '%s\\n' 'Name: lab-systemd' 'Version: 252' 'Release: 1' 'Summary: systemd' \
                'License: LGPL' 'BuildArch: noarch' 'Provides: systemd = 252 /bin/sh' '%description' \
                'The files are the host’s own.' '%files' >/root/systemd.spec && \
                rpmbuild --quiet -bb --define '_rpmdir /root' /root/systemd.spec && \
                rpm --install /root/noarch/lab-systemd-252-1.noarch.rpm";
    host.run("root", line).expect_code(0);
}

/// Runs the script that docs/operations.md gives for this place.
#[track_caller]
fn run_documented(host: &Host, place: &str, variables: &str) {
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operations.md");
    let document = String::from_utf8(read(&document)).expect("UTF-8");
    let (_, from_there) = document.split_once(place).expect("the place");
    let (_, script) = from_there.split_once("```sh\n").expect("a script");
    let (script, _) = script.split_once("```").expect("its end");
    assert!(script.starts_with("#!/bin/sh\n"), "{script}");
    host.write("/root/documented", script);
    host.run("root", &format!("{variables} sh /root/documented"))
        .expect_code(0);
}

fn as_service(command: &str) -> String {
    format!("sudo -u {PACKAGE} {PACKAGE} {command}")
}

fn main_process(host: &Host) -> String {
    property(host, "MainPID")
}

fn property(host: &Host, name: &str) -> String {
    let line = format!("systemctl show --property={name} --value {PACKAGE}");
    host.run("root", &line)
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
}

fn installed_version(host: &Host) -> String {
    let line = format!("dpkg-query --show --showformat '${{Version}}' {PACKAGE}");
    host.run("root", &line).expect_code(0).stdout
}

fn read(file: &Path) -> Vec<u8> {
    std::fs::read(file).unwrap_or_else(|error| panic!("{file:?}: {error}"))
}

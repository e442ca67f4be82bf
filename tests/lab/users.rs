//! Several users of one host, who know nothing of each other.
//!
//! ada sets up first, bob after her: nothing of hers changes, her tunnel is not restarted, each tunnel
//! runs as its own user, before and after a boot. bob's commands reach his tunnels alone, and when his
//! last one goes, hers goes on; the last one of anybody leaves the disk as it was.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::setup::RETURN_LIMIT;
use crate::support::bastion::KEY_TYPE;
use crate::support::figures;
use crate::support::hosts::disk::Disk;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{AUTHORITY, HostLab, SETUP_LIMIT};
use crate::support::hosts::image::{Image, Init};
use crate::support::hosts::network::DATABASE;
use crate::support::hosts::other_vendor::{OTHER_AUTHORITY, OtherVendor};
use crate::support::lab::{SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::process::{Finished, Running};
use crate::support::server::Operator;
use crate::support::sql::{Client, Login};
use crate::support::wait;

/// How long rows may be away that nobody has a reason to disturb.
const LONGEST_GAP: Duration = Duration::from_secs(3);

#[test]
fn under_systemd_252_two_users_of_two_vendors_do_not_disturb_each_other() {
    two_users_of_two_vendors(Image::DebianReady);
}

#[test]
fn under_systemd_257_two_users_of_one_vendor_do_not_disturb_each_other() {
    two_users_of_one_vendor(Image::Trixie);
}

#[test]
fn under_sysvinit_two_users_of_two_vendors_do_not_disturb_each_other() {
    two_users_of_two_vendors(Image::Sysvinit);
}

#[test]
fn under_sysvinit_two_users_of_one_vendor_do_not_disturb_each_other() {
    two_users_of_one_vendor(Image::Sysvinit);
}

#[test]
fn users_who_set_up_and_remove_at_the_same_moment_wait_for_each_other() {
    let lab = lab_of_two_users(Image::DebianReady);
    let disk = Disk::of(&lab.host);
    for _ in 0..2 {
        let (ada, bob) = (User::of(&lab, "ada"), User::of(&lab, "bob"));
        let sources = [ada.data_source(), bob.data_source()];
        let setups = [ada.start_setup(&sources[0]), bob.start_setup(&sources[1])];
        for source in &sources {
            lab.operator.save(source.id);
        }
        for setup in setups {
            setup.wait(SETUP_LIMIT).expect_code(0);
        }
        for source in &sources {
            lab.wait_until_rows_come(source, RETURN_LIMIT);
        }
        let removals = [ada.start_removal(), bob.start_removal()];
        for removal in removals {
            removal.wait(SETUP_LIMIT).expect_code(0);
        }
        for source in &sources {
            assert_eq!(lab.state(source), DataSourceState::Removed);
        }
        disk.assert_same(&Disk::of(&lab.host), |_| false);
    }
}

/// A version that named one user in the shared unit, and tunnels' files by their numbers.
#[test]
fn an_upgrade_by_one_user_restarts_nobody_s_tunnel_and_gives_each_its_own_user() {
    let mut lab = lab_of_two_users(Image::DebianReady);
    let ada = User::of(&lab, "ada");
    let shop = ada.set_up();
    as_a_former_version_left_it(&lab.host, &slug(&lab.host, &shop));
    lab.wait_until_rows_come(&shop, RETURN_LIMIT);
    let before = processes_of(&lab.host, "ada");

    let bob = User::of(&lab, "bob");
    let billing = bob.set_up();
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    lab.host.reboot();
    lab.wait_until_rows_come(&shop, RETURN_LIMIT);
    lab.wait_until_rows_come(&billing, RETURN_LIMIT);
    each_runs_as_its_own_user(&lab.host);
}

/// What the files of ada's tunnel were like up to version 0.1.
fn as_a_former_version_left_it(host: &Host, slug: &str) {
    let line = format!(
        "set -e; units=/etc/systemd/system
        systemctl disable --now h_autossh@{slug}
        mv /etc/h_autossh/{slug}.env /etc/h_autossh/1.env
        rm -rf $units/h_autossh@{slug}.service.d
        sed -i 's/^User=.*/User=ada/; s/^PrivateTmp=.*/&\\nReadWritePaths=\\/home\\/ada\\/.holistics/' \
            $units/h_autossh@.service
        systemctl daemon-reload
        systemctl enable --now h_autossh@1"
    );
    host.run("root", &line).expect_code(0);
}

fn two_users_of_two_vendors(image: Image) {
    let mut lab = lab_of_two_users(image);
    let other = OtherVendor::start(&lab);
    let disk = Disk::of(&lab.host);
    let shop = User::of(&lab, "ada").set_up();
    let shared = shared_files(&lab.host);
    let before = processes_of(&lab.host, "ada");

    let login = lab.postgres.login();
    let billing = User::of_other(&lab, &other, "bob").set_up();
    assert_eq!(
        tunnel_of(&shop).id,
        tunnel_of(&billing).id,
        "no number is shared"
    );
    assert_eq!(shared_files(&lab.host), shared);
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    if image.init() == Init::Sysv {
        // The number alone is nobody's name here; the whole name is.
        let call = |name: &str| {
            lab.host
                .run("ada", &format!("sudo /etc/init.d/h_autossh status {name}"))
        };
        call("1")
            .expect_code(2)
            .expect_words(&["vendor.example-1", "other.example-1"]);
        call("other.example-1").expect_code(0);
    }
    through_a_boot(&mut lab, |lab| {
        lab.wait_until_rows_come(&shop, RETURN_LIMIT);
        wait_until_rows_come(&other.operator, &billing, &login);
    });
    let (ada, bob) = (User::of(&lab, "ada"), User::of_other(&lab, &other, "bob"));
    the_rest_of_the_life(&lab, &disk, (&ada, &shop), (&bob, &billing));
}

fn two_users_of_one_vendor(image: Image) {
    let mut lab = lab_of_two_users(image);
    let disk = Disk::of(&lab.host);
    let shop = User::of(&lab, "ada").set_up();
    let shared = shared_files(&lab.host);
    let service = |action: &str| {
        let line = format!("sudo service h_autossh {action}");
        lab.host.run("ada", &line).expect_code(0);
    };
    service("stop");

    let billing = User::of(&lab, "bob").set_up();
    assert_eq!(shared_files(&lab.host), shared);
    assert_eq!(processes_of(&lab.host, "ada"), "", "she had stopped it");
    // Whoever governs the service itself governs everybody's.
    service("stop");
    assert_eq!(processes_of(&lab.host, "bob"), "");
    service("start");
    lab.wait_until_rows_come(&shop, RETURN_LIMIT);
    lab.wait_until_rows_come(&billing, RETURN_LIMIT);
    if image.init() == Init::Sysv {
        let status = format!(
            "sudo /etc/init.d/h_autossh status {}",
            tunnel_of(&billing).id
        );
        lab.host
            .run("ada", &status)
            .expect_code(0)
            .expect_words(&[&slug(&lab.host, &billing)]);
    }
    through_a_boot(&mut lab, |lab| {
        lab.wait_until_rows_come(&shop, RETURN_LIMIT);
        lab.wait_until_rows_come(&billing, RETURN_LIMIT);
    });
    let (ada, bob) = (User::of(&lab, "ada"), User::of(&lab, "bob"));
    the_rest_of_the_life(&lab, &disk, (&ada, &shop), (&bob, &billing));
}

fn through_a_boot(lab: &mut HostLab, come_back: impl Fn(&HostLab)) {
    each_runs_as_its_own_user(&lab.host);
    lab.host.reboot();
    come_back(lab);
    each_runs_as_its_own_user(&lab.host);
}

/// bob stops and starts his tunnel, and removes it, while ada reads a row each second; then she leaves.
fn the_rest_of_the_life(
    lab: &HostLab,
    disk: &Disk,
    (ada, shop): (&User, &DataSource),
    (bob, billing): (&User, &DataSource),
) {
    let before = processes_of(&lab.host, "ada");
    let reader = Reader::start(ada.port(shop), lab.postgres.login());
    if lab.host.run("root", "test -d /run/systemd/system").code == 0 {
        ssh_may_write_its_logs_alone(&lab.host);
        let units = "systemd-analyze verify h_autossh.service 'h_autossh@vendor.example-1.service'";
        assert_eq!(lab.host.run("root", units).expect_code(0).output(), "");
    }

    bob.run("holistics-tunnel service stop").expect_code(0);
    assert_eq!(processes_of(&lab.host, "bob"), "");
    ada.run("holistics-tunnel status").expect_code(0);
    bob.run("holistics-tunnel service restart").expect_code(0);
    wait_until_rows_come(bob.operator, billing, &lab.postgres.login());
    bob.run("holistics-tunnel doctor")
        .expect_words(&["they are as setup wrote them"]);

    bob.start_removal().wait(SETUP_LIMIT).expect_code(0);
    let now = bob.operator.data_source(billing.id).state;
    assert_eq!(now, DataSourceState::Removed);
    std::thread::sleep(Duration::from_secs(3));
    let gap = reader.longest_gap();
    figures::say(&format!(
        "bob stops, starts and removes: the longest gap of ada's rows {:.1} s",
        gap.as_secs_f64()
    ));
    assert!(gap < LONGEST_GAP, "{gap:?}");
    assert_eq!(processes_of(&lab.host, "ada"), before, "it was restarted");
    ada.run("holistics-tunnel status").expect_code(0);
    ada.run("holistics-tunnel doctor")
        .expect_words(&["it starts at boot", "they are as setup wrote them"]);

    ada.start_removal().wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(
        ada.operator.data_source(shop.id).state,
        DataSourceState::Removed
    );
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    lab.host.run("root", "ls -d /run/h_autossh*").expect_code(2);
}

// ---------------------------------------------------------------------------------------------
// Users
// ---------------------------------------------------------------------------------------------

/// A host on which bob may do everything through sudo, as ada may.
fn lab_of_two_users(image: Image) -> HostLab {
    let lab = HostLab::boot(image);
    let line = "echo 'bob ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/bob && chmod 0440 /etc/sudoers.d/bob";
    lab.host.run("root", line).expect_code(0);
    lab
}

/// Somebody with a tunnel of a vendor.
struct User<'a> {
    lab: &'a HostLab,
    name: &'static str,
    operator: &'a Operator,
    url: &'a str,
    authority: &'static str,
}

impl<'a> User<'a> {
    /// With a tunnel of the lab's vendor.
    fn of(lab: &'a HostLab, name: &'static str) -> Self {
        User {
            lab,
            name,
            operator: &lab.operator,
            url: &lab.server.url,
            authority: AUTHORITY,
        }
    }

    /// With a tunnel of the other vendor.
    fn of_other(lab: &'a HostLab, vendor: &'a OtherVendor, name: &'static str) -> Self {
        User {
            lab,
            name,
            operator: &vendor.operator,
            url: &vendor.server.url,
            authority: OTHER_AUTHORITY,
        }
    }

    fn data_source(&self) -> DataSource {
        let (host, port) = (DATABASE.to_string(), self.lab.postgres.port());
        self.operator.create_for(self.name, &host, port)
    }

    /// Setup up to the point where it waits for the browser.
    fn start_setup(&self, source: &DataSource) -> Running {
        let (token, url, authority) = (token_of(source), self.url, self.authority);
        let line = format!(
            "HOLISTICS_TUNNEL_TOKEN={token} exec holistics-tunnel setup --server {url} \
             --ca-cert {authority} --key-type {KEY_TYPE} --yes"
        );
        let setup = self.lab.host.start(self.name, &line);
        setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
            self.operator.data_source(source.id).state == DataSourceState::Connected
                && setup
                    .output()
                    .to_lowercase()
                    .contains("return to your browser")
        });
        setup
    }

    fn set_up(&self) -> DataSource {
        let source = self.data_source();
        let setup = self.start_setup(&source);
        self.operator.save(source.id);
        setup.wait(SETUP_LIMIT).expect_code(0);
        let active = DataSourceState::Active;
        self.operator
            .wait_for_state(source.id, active, SERVICE_LIMIT);
        source
    }

    fn start_removal(&self) -> Running {
        self.start("holistics-tunnel uninstall-tunnel --all --yes")
    }

    fn run(&self, line: &str) -> Finished {
        self.start(line).wait(SETUP_LIMIT)
    }

    fn start(&self, line: &str) -> Running {
        let authority = self.authority;
        let line = format!("export HOLISTICS_TUNNEL_CA_CERT={authority}; {line}");
        self.lab.host.start(self.name, &line)
    }

    fn port(&self, source: &DataSource) -> u16 {
        let now = self.operator.data_source(source.id);
        tunnel_of(&now)
            .remote_port
            .expect("an enrolled tunnel has a port")
    }
}

#[track_caller]
fn wait_until_rows_come(operator: &Operator, source: &DataSource, login: &Login) {
    let now = operator.data_source(source.id);
    let port = tunnel_of(&now).remote_port.expect("a port");
    wait::until_true(
        "rows through the tunnel",
        RETURN_LIMIT,
        || String::from("no row came"),
        || read_a_row(port, login),
    );
}

fn read_a_row(port: u16, login: &Login) -> bool {
    let count = Client::connect(port, login)
        .and_then(|mut client| client.number("SELECT amount FROM orders WHERE id = 1"));
    count.is_ok()
}

// ---------------------------------------------------------------------------------------------
// The host
// ---------------------------------------------------------------------------------------------

/// What both users share, and what is ada's alone: content, owner and time of change.
fn shared_files(host: &Host) -> String {
    let line = "cd /etc; for file in systemd/system/h_autossh.service systemd/system/h_autossh@.service \
                systemd/system/h_autossh@vendor.example-1.service.d/tunnel.conf init.d/h_autossh \
                h_autossh/vendor.example-1.env; do \
                    if [ -e $file ]; then stat --format '%n %y %i %U %a' $file; cat $file; fi; \
                done";
    let files = host.run("root", line).expect_code(0).stdout;
    assert!(files.contains("h_autossh/vendor.example-1.env"), "{files}");
    files
}

fn slug(host: &Host, source: &DataSource) -> String {
    let file = format!(
        "basename /etc/h_autossh/*-{}.env .env",
        tunnel_of(source).id
    );
    host.run("root", &file)
        .expect_code(0)
        .stdout
        .trim()
        .to_owned()
}

/// The numbers of a user's autossh and ssh, a line for each.
fn processes_of(host: &Host, user: &str) -> String {
    let line = format!("pgrep --euid {user} --exact 'autossh|ssh'");
    host.run("root", &line).stdout
}

fn each_runs_as_its_own_user(host: &Host) {
    let line = "ps -C autossh -o user=,args= | sed -E 's|^([a-z]+) .*-E (/home/[a-z]+)/.*|\\1 \\2|' | sort";
    let processes = host.run("root", line).expect_code(0);
    assert_eq!(
        processes.stdout, "ada /home/ada\nbob /home/bob\n",
        "{processes}"
    );
}

/// From within the sandbox of ada's ssh.
fn ssh_may_write_its_logs_alone(host: &Host) {
    let inside = |line: &str| {
        let line = format!(
            "nsenter --mount --target $(pgrep --euid ada --exact ssh | head -n 1) \
             runuser -u ada -- sh -c '{line}'"
        );
        host.run("root", &line)
    };
    inside("echo >/home/ada/.holistics/logs/probe && rm /home/ada/.holistics/logs/probe")
        .expect_code(0);
    for file in [
        ".holistics/receipt.json",
        ".holistics/known_hosts",
        ".holistics/probe",
        ".ssh-probe",
    ] {
        let refused = inside(&format!("echo >>/home/ada/{file}"));
        assert_ne!(refused.code, 0, "{file} can be written");
        refused.expect_words(&["read-only"]);
    }
}

/// Reads a row each second, each by a new connection.
struct Reader {
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<Duration>,
}

impl Reader {
    fn start(port: u16, login: Login) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            let (mut last, mut longest) = (Instant::now(), Duration::ZERO);
            while !told.load(Ordering::Relaxed) {
                let is_read = read_a_row(port, &login);
                longest = longest.max(last.elapsed());
                if is_read {
                    last = Instant::now();
                }
                std::thread::sleep(Duration::from_secs(1));
            }
            longest
        });
        Reader { is_over, thread }
    }

    fn longest_gap(self) -> Duration {
        self.is_over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the reader")
    }
}

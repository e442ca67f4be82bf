//! The users of a host, each with the tunnels of a vendor.

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::reader::{Reader, read_a_row};
use crate::setup::RETURN_LIMIT;
use crate::support::bastion::KEY_TYPE;
use crate::support::hosts::host::Host;
use crate::support::hosts::host_lab::{AUTHORITY, HostLab, SETUP_LIMIT};
use crate::support::hosts::image::Image;
use crate::support::hosts::network::DATABASE;
use crate::support::hosts::other_vendor::{OTHER_AUTHORITY, OtherVendor};
use crate::support::lab::{SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::postgres::Postgres;
use crate::support::process::{Finished, Running};
use crate::support::server::Operator;
use crate::support::wait;

/// A host on which bob may do everything through sudo, as ada may.
pub fn lab_of_two_users(image: Image) -> HostLab {
    let lab = HostLab::boot(image);
    let line = "echo 'bob ALL=(ALL:ALL) NOPASSWD: ALL' >/etc/sudoers.d/bob && chmod 0440 /etc/sudoers.d/bob";
    lab.host.run("root", line).expect_code(0);
    lab
}

/// Somebody with a tunnel of a vendor.
pub struct User<'a> {
    pub name: &'static str,
    pub operator: &'a Operator,
    host: &'a Host,
    postgres: &'a Postgres,
    url: &'a str,
    authority: &'static str,
}

impl<'a> User<'a> {
    /// With a tunnel of the lab's vendor.
    pub fn of(lab: &'a HostLab, name: &'static str) -> Self {
        User {
            name,
            operator: &lab.operator,
            host: &lab.host,
            postgres: &lab.postgres,
            url: &lab.server.url,
            authority: AUTHORITY,
        }
    }

    /// With a tunnel of the other vendor.
    pub fn of_other(lab: &'a HostLab, vendor: &'a OtherVendor, name: &'static str) -> Self {
        User {
            operator: &vendor.operator,
            url: &vendor.server.url,
            authority: OTHER_AUTHORITY,
            ..User::of(lab, name)
        }
    }

    /// The same user on another host.
    pub fn on(self, host: &'a Host) -> Self {
        User { host, ..self }
    }

    pub fn data_source(&self) -> DataSource {
        let (host, port) = (DATABASE.to_string(), self.postgres.port());
        self.operator.create_for(self.name, &host, port)
    }

    /// Setup up to the point where it waits for the browser.
    pub fn start_setup(&self, source: &DataSource) -> Running {
        let setup = self.start(&self.setup_line(source));
        setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
            self.operator.data_source(source.id).state == DataSourceState::Connected
                && setup
                    .output()
                    .to_lowercase()
                    .contains("return to your browser")
        });
        setup
    }

    pub fn setup_line(&self, source: &DataSource) -> String {
        let (token, url) = (token_of(source), self.url);
        format!(
            "HOLISTICS_TUNNEL_TOKEN={token} exec holistics-tunnel setup --server {url} --key-type {KEY_TYPE} --yes"
        )
    }

    /// The whole of setup.
    pub fn set_up(&self) -> DataSource {
        let source = self.data_source();
        let setup = self.start_setup(&source);
        self.operator.save(source.id);
        setup.wait(SETUP_LIMIT).expect_code(0);
        let active = DataSourceState::Active;
        self.operator
            .wait_for_state(source.id, active, SERVICE_LIMIT);
        source
    }

    pub fn start_removal(&self) -> Running {
        self.start("holistics-tunnel uninstall-tunnel --all --yes")
    }

    /// A command to its end.
    #[track_caller]
    pub fn run(&self, line: &str) -> Finished {
        self.start(line).wait(SETUP_LIMIT)
    }

    pub fn start(&self, line: &str) -> Running {
        let authority = self.authority;
        let line = format!("export HOLISTICS_TUNNEL_CA_CERT={authority}; {line}");
        self.host.start(self.name, &line)
    }

    /// A row each second through a tunnel of this user's vendor.
    pub fn reader(&self, source: &DataSource) -> Reader {
        Reader::start(self.port(source), self.postgres.login())
    }

    #[track_caller]
    pub fn wait_until_rows_come(&self, source: &DataSource) {
        let (port, login) = (self.port(source), self.postgres.login());
        wait::until_true(
            "rows through the tunnel",
            RETURN_LIMIT,
            || String::from("no row came"),
            || read_a_row(port, &login),
        );
    }

    /// The numbers of the user's autossh and ssh, a line for each.
    pub fn processes(&self) -> String {
        processes_of(self.host, self.name)
    }

    fn port(&self, source: &DataSource) -> u16 {
        let now = self.operator.data_source(source.id);
        tunnel_of(&now)
            .remote_port
            .expect("an enrolled tunnel has a port")
    }
}

/// The numbers of a user's autossh and ssh, a line for each.
pub fn processes_of(host: &Host, user: &str) -> String {
    let line = format!("pgrep --euid {user} --exact 'autossh|ssh'");
    host.run("root", &line).stdout
}

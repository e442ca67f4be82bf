//! A booted bastion, the vendor and the customer's database together.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use super::certificate;
use super::host::Host;
use super::image::Image;
use super::mirror::{Mirror, apt_sources};
use super::namespace::{Inside, Namespace};
use super::network::{DATABASE, MIRROR, MIRROR_NAME, Network, VENDOR, VENDOR_NAME};
use super::program;
use super::terminal::Terminal;
use crate::support::bastion::KEY_TYPE;
use crate::support::lab::{SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::postgres::Postgres;
use crate::support::process::{Finished, Running};
use crate::support::server::{Operator, PublicPlace, Server};
use crate::support::sql::Client;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// How long setup may take with packages to install.
pub const SETUP_LIMIT: Duration = Duration::from_secs(180);

/// Where the host has the certificate of the authority behind the vendor's https.
pub const AUTHORITY: &str = "/etc/lab-authority.pem";

/// Two at a time: they are many processes on few processors, and wait for much of their time.
static PLACES: Places = Places {
    free: Mutex::new(2),
    given_up: Condvar::new(),
};

/// Three machines. The test's thread is on the vendor's, where 127.0.0.1 is that machine's.
pub struct HostLab {
    // The order of the fields is the order of the end: nobody loses what it still uses.
    /// The bastion.
    pub host: Host,
    /// The vendor's operator.
    pub operator: Operator,
    /// The vendor's server.
    pub server: Server,
    /// The customer's database.
    pub postgres: Postgres,
    /// Where hosts get their packages.
    pub mirror: Mirror,
    _on_the_vendor_s_machine: Inside,
    /// The lines between the machines.
    pub network: Network,
    workspace: Workspace,
    _place: Place,
}

impl HostLab {
    /// Everything started, nothing set up.
    pub fn boot(image: Image) -> Self {
        Self::boot_confined(image, &[])
    }

    /// The same with a bastion that is confined by these arguments of systemd-nspawn.
    pub fn boot_confined(image: Image, confinement: &'static [&'static str]) -> Self {
        let workspace = Workspace::new();
        // What this takes, nobody has to wait for.
        let program = program::for_image(image, &workspace);
        let place = PLACES.take();
        let offered = program::offered(&program, &workspace);
        let network = Network::new(&workspace);
        let postgres = {
            let _inside = network.database.enter();
            Postgres::start_on(DATABASE)
        };
        let on_the_vendor_s_machine = network.vendor.enter();
        let https = certificate::for_name(VENDOR_NAME, &workspace.folder("https"));
        let authority = std::fs::read(&https.authority).expect("the authority's certificate");
        let server = Server::start_in_public(
            &PublicPlace {
                name: VENDOR_NAME,
                address: VENDOR,
                certificate: https.certificate,
                key: https.key,
                authority: https.authority,
            },
            &["--dist-dir", offered.to_str().expect("a path in UTF-8")],
        );
        let lab = HostLab {
            host: Host::boot(image, confinement, &program, &network.bastion, &workspace),
            operator: server.operator(),
            server,
            postgres,
            mirror: Mirror::start(),
            _on_the_vendor_s_machine: on_the_vendor_s_machine,
            network,
            workspace,
            _place: place,
        };
        lab.host.write(AUTHORITY, &authority);
        lab.host.write(
            "/etc/hosts",
            format!(
                "127.0.0.1 localhost bastion\n{VENDOR} {VENDOR_NAME}\n{MIRROR} {MIRROR_NAME}\n"
            ),
        );
        if image.is_debian_12() {
            lab.host.write("/etc/apt/sources.list", apt_sources());
        }
        lab
    }

    /// A new folder of this machine's, which goes with the lab.
    pub fn folder(&self, name: &str) -> std::path::PathBuf {
        self.workspace.folder(name)
    }

    /// A machine with a copy of the bastion's disk, and its network. It is off.
    pub fn copy_of_the_host(&self) -> (Host, Namespace) {
        let network = self.network.second_bastion(&self.workspace);
        (self.host.copy(&network, &self.workspace), network)
    }

    /// A new data source for the database.
    pub fn data_source(&self, name: &str) -> DataSource {
        let (host, port) = (DATABASE.to_string(), self.postgres.port());
        self.operator.create_for(name, &host, port)
    }

    /// The line of shell that sets a data source up.
    pub fn setup_line(&self, source: &DataSource, arguments: &str) -> String {
        let (token, url) = (token_of(source), &self.server.url);
        format!(
            "HOLISTICS_TUNNEL_TOKEN={token} exec holistics-tunnel setup \
             --server {url} --ca-cert {AUTHORITY} --key-type {KEY_TYPE} {arguments}"
        )
    }

    /// Setup with all answers given, by this user, in the background.
    pub fn start_setup(&self, user: &str, source: &DataSource, arguments: &str) -> Running {
        let line = self.setup_line(source, &format!("--yes {arguments}"));
        self.host.start(user, &line)
    }

    /// Setup with all answers given, by this user, to its end, which is not one that waits for the
    /// browser.
    #[track_caller]
    pub fn run_setup(&self, user: &str, source: &DataSource, arguments: &str) -> Finished {
        self.start_setup(user, source, arguments).wait(SETUP_LIMIT)
    }

    /// Setup by this user at a terminal, where questions can be answered.
    pub fn setup_at_terminal(&self, user: &str, source: &DataSource, arguments: &str) -> Terminal {
        self.host
            .at_terminal(user, &self.setup_line(source, arguments))
    }

    /// Waits until this setup's temporary tunnel is up and it waits for the browser.
    #[track_caller]
    pub fn wait_until_connected(&self, source: &DataSource, setup: &Running) {
        setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
            self.state(source) == DataSourceState::Connected
                && setup
                    .output()
                    .to_lowercase()
                    .contains("return to your browser")
        });
    }

    /// Saves the data source for which this setup waits, and sees it to its end.
    #[track_caller]
    pub fn save_and_finish(&self, source: &DataSource, setup: Running) -> Finished {
        self.operator.save(source.id);
        let finished = setup.wait(SETUP_LIMIT).expect_code(0);
        self.operator
            .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
        finished
    }

    /// A login to the database through this data source's remote port.
    pub fn login_through(&self, source: &DataSource) -> Result<Client, sqlx::Error> {
        let now = self.operator.data_source(source.id);
        let port = tunnel_of(&now)
            .remote_port
            .expect("an enrolled tunnel has a port");
        Client::connect(port, &self.postgres.login())
    }

    /// Waits until a query through this data source's tunnel is answered.
    #[track_caller]
    pub fn wait_until_rows_come(&self, source: &DataSource, limit: Duration) {
        let count = || {
            self.login_through(source)?
                .number("SELECT count(*) FROM orders")
        };
        wait::until_true(
            "rows through the tunnel",
            limit,
            || format!("{:?}", count()),
            || count().is_ok_and(|count| count == crate::support::postgres::ROWS),
        );
    }

    /// Where a data source stands.
    pub fn state(&self, source: &DataSource) -> DataSourceState {
        self.operator.data_source(source.id).state
    }
}

/// Places for labs.
struct Places {
    free: Mutex<usize>,
    given_up: Condvar,
}

impl Places {
    /// Waits for one.
    fn take(&'static self) -> Place {
        let none_is_free = |free: &mut usize| *free == 0;
        let free = self.given_up.wait_while(self.free(), none_is_free);
        *free.unwrap_or_else(PoisonError::into_inner) -= 1;
        Place(self)
    }

    fn free(&self) -> MutexGuard<'_, usize> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Somebody's place, until it is dropped.
pub struct Place(&'static Places);

impl Place {
    /// Waits for one; for hosts that are booted without a [`HostLab`].
    pub fn take() -> Self {
        PLACES.take()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        *self.0.free() += 1;
        self.0.given_up.notify_one();
    }
}

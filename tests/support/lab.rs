//! The three machines of the journey together, brought to a given point of it.

use std::sync::Arc;
use std::time::Duration;

use holistics_tunnel::protocol::{DataSource, DataSourceState, TunnelStatus, TunnelSummary};

use super::bastion::{Bastion, SETUP_LIMIT};
use super::postgres::Postgres;
use super::process::{Finished, Running};
use super::server::{Operator, Server};
use super::sql::{Client, LockedQuery};

/// How long a service may take to be up or down, once it was asked to.
pub const SERVICE_LIMIT: Duration = Duration::from_secs(30);

/// What setup says when it has nothing left to do but to wait.
const RETURN_TO_BROWSER: &str = "Return to your browser";

/// A customer with a database and a bastion, and a vendor.
pub struct Lab {
    // The order of the fields is the order of the end: nobody loses what it still uses.
    /// The customer's bastion.
    pub bastion: Bastion,
    /// The vendor's operator.
    pub operator: Operator,
    /// The vendor's server.
    pub server: Server,
    /// The customer's database.
    pub postgres: Arc<Postgres>,
}

impl Lab {
    /// Everything started, nothing set up.
    pub fn new() -> Self {
        Self::with(Server::start())
    }

    /// The same with a server that was started in a special way.
    pub fn with(server: Server) -> Self {
        Lab {
            bastion: Bastion::new(),
            operator: server.operator(),
            server,
            postgres: Postgres::shared(),
        }
    }

    /// A new data source for the database.
    pub fn data_source(&self, name: &str) -> DataSource {
        self.operator.create(name, self.postgres.port())
    }

    /// Setup for a new data source, in the background.
    pub fn start_setup(&self, source: &DataSource) -> Running {
        let command = &mut self.bastion.setup(&self.server, token_of(source));
        self.bastion.start(command)
    }

    /// Setup for a new data source, in the background, at the point where it waits for the save.
    pub fn setup_that_waits(&self, source: &DataSource) -> Running {
        let setup = self.start_setup(source);
        self.wait_until_connected(source, &setup);
        setup
    }

    /// Waits until this setup's temporary tunnel is up and it sends its user to the browser.
    #[track_caller]
    pub fn wait_until_connected(&self, source: &DataSource, setup: &Running) {
        setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
            setup.output().contains(RETURN_TO_BROWSER)
        });
        let now = self.operator.data_source(source.id);
        assert_eq!(now.state, DataSourceState::Connected);
        assert_eq!(tunnel_of(&now).status, TunnelStatus::Up);
    }

    /// The whole of the setup: a new data source that is active when this returns.
    pub fn active_data_source(&self, name: &str) -> DataSource {
        let source = self.data_source(name);
        let setup = self.setup_that_waits(&source);
        self.save_and_finish(&source, setup);
        self.operator.data_source(source.id)
    }

    /// Saves the data source for which this setup waits, and sees it to its end.
    pub fn save_and_finish(&self, source: &DataSource, setup: Running) -> Finished {
        self.operator.save(source.id);
        let finished = setup.wait(SETUP_LIMIT).expect_code(0);
        self.operator
            .wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
        finished
    }

    /// The removal of this data source, from the browser's "Delete" to the end of its command.
    pub fn remove(&self, source: &DataSource) -> Finished {
        let removal = self.operator.delete(source.id);
        self.bastion.type_line(&removal.command)
    }

    /// A login to the database through this data source's remote port.
    pub fn login_through(&self, source: &DataSource) -> Result<Client, sqlx::Error> {
        let now = self.operator.data_source(source.id);
        let port = tunnel_of(&now)
            .remote_port
            .expect("an enrolled tunnel has a port");
        Client::connect(port, &self.postgres.login())
    }

    /// A query through this data source's tunnel that runs until it is released.
    pub fn query_that_runs_on(&self, source: &DataSource) -> LockedQuery {
        let holder = Client::connect(self.postgres.port(), &self.postgres.login());
        let through = self.login_through(source).expect("a login");
        LockedQuery::begin(holder.expect("a login"), through)
    }

    /// Where a data source stands.
    pub fn state(&self, source: &DataSource) -> DataSourceState {
        self.operator.data_source(source.id).state
    }
}

/// The tunnel of a data source that has one.
#[track_caller]
pub fn tunnel_of(source: &DataSource) -> &TunnelSummary {
    source.tunnel.as_ref().expect("it is no direct connection")
}

/// The one-time token in the answer that created a data source.
pub fn token_of(source: &DataSource) -> &str {
    let enrollment = source.enrollment.as_ref();
    &enrollment.expect("the answer to its creation").token
}

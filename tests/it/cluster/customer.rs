//! A customer: a bastion with tunnels, set up as people do it.

use std::path::Path;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{SERVICE_LIMIT, token_of};
use crate::support::machines::Machine;
use crate::support::server::Operator;

/// What setup says when it has nothing left to do but to wait.
const RETURN_TO_BROWSER: &str = "Return to your browser";

/// A customer's bastion, with the service `h_autossh` and its tunnels.
pub struct Customer {
    bastion: Bastion,
    machine: Machine,
}

impl Customer {
    /// One without tunnels.
    pub fn new(machine: Machine) -> Self {
        Customer {
            bastion: Bastion::new(),
            machine,
        }
    }

    /// Sets a tunnel up for a new data source. It is active when this returns.
    pub fn set_up(
        &self,
        operator: &Operator,
        url: &str,
        authority: &Path,
        source: &DataSource,
    ) -> DataSource {
        let inside = self.machine.enter();
        let mut setup = self.bastion.setup_at(url, token_of(source));
        setup.arg("--yes").arg("--ca-cert").arg(authority);
        let setup = self.bastion.start(&mut setup);
        drop(inside);
        setup.wait_for_output(RETURN_TO_BROWSER, SETUP_LIMIT);
        operator.save(source.id);
        setup.wait(SETUP_LIMIT).expect_code(0);
        operator.wait_for_state(source.id, DataSourceState::Active, SERVICE_LIMIT);
        operator.data_source(source.id)
    }

    /// What its tunnels' services have logged lately.
    pub fn log(&self) -> String {
        let logs = self.bastion.own_folder().join("logs");
        let files = std::fs::read_dir(logs).into_iter().flatten().flatten();
        let lines = files.map(|file| {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let last: Vec<_> = text.lines().rev().take(10).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            format!("--- {}\n{}", file.path().display(), last.join("\n"))
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

//! A customer's place: a bastion with a tunnel under a supervisor, and a database, each on a machine of its own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::faults::supervisor::{BY_OWN_NAMES, Supervised};
use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::lab::{SERVICE_LIMIT, token_of, tunnel_of};
use crate::support::machines::Machine;
use crate::support::postgres::Postgres;
use crate::support::rows::Place;
use crate::support::server::Operator;
use crate::support::small_disk::SmallDisk;
use crate::support::workspace::Workspace;

/// What setup says when it has nothing left to do but to wait.
const RETURN_TO_BROWSER: &str = "Return to your browser";

/// The vendor, as a customer sees it.
pub struct Vendor<'a> {
    pub operator: &'a Operator,
    pub url: &'a str,
    pub authority: &'a Path,
    /// The file by which names are looked up.
    pub names: &'a Path,
}

/// A customer whose tunnel is up.
pub struct Site {
    // The order of the fields is the order of the end.
    /// The tunnel's service.
    pub service: Supervised,
    /// The disk with its logs, which can be filled.
    pub logs: SmallDisk,
    /// The bastion's files.
    pub bastion: Bastion,
    /// Its machine.
    pub machine: Machine,
    /// The database.
    pub database: Postgres,
    /// The database's machine.
    pub database_machine: Machine,
    /// The data source.
    pub source: DataSource,
}

impl Site {
    /// Sets a tunnel up as a customer does, and then has it supervised.
    pub fn set_up(
        name: &str,
        machine: Machine,
        database_machine: Machine,
        vendor: &Vendor,
    ) -> Self {
        let inside = database_machine.enter();
        let database = Postgres::start_on(database_machine.address);
        drop(inside);
        let bastion = Bastion::new();
        let logs = SmallDisk::mount(&bastion.own_folder().join("logs"));
        let host = database_machine.address.to_string();
        let source = vendor.operator.create_for(name, &host, database.port());

        let mut setup = bastion.setup_at(vendor.url, token_of(&source));
        setup.arg("--yes").arg("--ca-cert").arg(vendor.authority);
        let inside = machine.enter();
        let setup = bastion.start(&mut by_own_names(&setup, vendor.names));
        drop(inside);
        setup.wait_for_output(RETURN_TO_BROWSER, SETUP_LIMIT);
        vendor.operator.save(source.id);
        setup.wait(SETUP_LIMIT).expect_code(0);
        let active = DataSourceState::Active;
        vendor
            .operator
            .wait_for_state(source.id, active, SERVICE_LIMIT);

        // From here on somebody looks after it.
        bastion.service("stop").expect_code(0);
        let source = vendor.operator.data_source(source.id);
        let mut service = service_of(&bastion, &source, vendor.names);
        service.boot(&machine);
        Site {
            service,
            bastion,
            logs,
            machine,
            database,
            database_machine,
            source,
        }
    }

    /// Where its rows are read on the vendor's machine.
    pub fn place(&self) -> Place {
        Place {
            name: self.source.display_name.clone(),
            host: "127.0.0.1".to_owned(),
            port: tunnel_of(&self.source).remote_port.expect("a port"),
        }
    }

    /// From now on the bastion's own service script keeps the tunnel, and not the supervisor.
    pub fn hand_to_service_script(&mut self, names: &Path) {
        self.service.cut_power();
        let mut start = self.bastion.any_program(self.bastion.service_script());
        self.run_on_bastion(start.arg("start"), names);
    }

    /// Gives all its tunnels a new key.
    pub fn rotate_key(&self, names: &Path) {
        let key = || std::fs::read(self.bastion.private_key()).expect("its key");
        let former = key();
        let rotate = self.bastion.program(["rotate-key", "--yes"]);
        self.run_on_bastion(&rotate, names);
        assert!(key() != former, "it has the key of before");
    }

    fn run_on_bastion(&self, command: &Command, names: &Path) {
        let _inside = self.machine.enter();
        let running = self.bastion.start(&mut by_own_names(command, names));
        running.wait(SETUP_LIMIT).expect_code(0);
    }

    /// The service of a copy of its bastion, not started.
    pub fn clone_service(&self, clone: &Bastion, folder: &Workspace, names: &Path) -> Supervised {
        let tunnel = tunnel_of(&self.source).id;
        let own = self.bastion.tunnel_file(tunnel);
        let text = std::fs::read_to_string(own).expect("the tunnel's file");
        let (home, other) = (self.bastion.home(), clone.home());
        let moved = text.replace(path_text(&home), path_text(&other));
        let file = folder.path().join("tunnel.env");
        std::fs::write(&file, moved).expect("the clone's file");
        let log = self.bastion.tunnel_log(tunnel);
        let log = other.join(log.strip_prefix(home).expect("a log in the home"));
        Supervised::new(file, log, names.to_owned())
    }

    /// What its tunnel has logged lately.
    pub fn log(&self) -> String {
        let log = self.bastion.tunnel_log(tunnel_of(&self.source).id);
        let text = std::fs::read_to_string(log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(20)..];
        format!("--- {}\n{}", self.source.display_name, last.join("\n"))
    }
}

fn service_of(bastion: &Bastion, source: &DataSource, names: &Path) -> Supervised {
    let tunnel = tunnel_of(source).id;
    let (file, log) = (bastion.tunnel_file(tunnel), bastion.tunnel_log(tunnel));
    Supervised::new(file, log, names.to_owned())
}

/// A bastion's command where names are looked up by this file.
fn by_own_names(command: &Command, names: &Path) -> Command {
    let mut own = Command::new("unshare");
    own.args(["--mount", "sh", "-c", BY_OWN_NAMES]).arg(names);
    own.arg(command.get_program()).args(command.get_args());
    own.env_clear();
    let variables = command.get_envs();
    own.envs(variables.filter_map(|(name, value)| Some((name, OsString::from(value?)))));
    if let Some(folder) = command.get_current_dir() {
        own.current_dir(PathBuf::from(folder));
    }
    own
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

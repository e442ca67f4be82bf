//! The images of deploy/Containerfile, deploy/compose.yaml and deploy/kubernetes, as far as one machine can tell: a journey
//! in containers that podman runs, and the manifests against Kubernetes' schemas. `scripts/containers` makes what is needed.
//!
//! - [`engine`]: podman with a store of its own; [`images`]: what is built, and of what;
//! - [`installation`]: the compose file, brought up in a folder.

mod engine;
mod images;
mod installation;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::lab::{token_of, tunnel_of};
use crate::support::process;
use crate::support::workspace::Workspace;
use engine::target_folder;
use holistics_tunnel::protocol::{DataSource, DataSourceState};
use installation::Installation;

/// How long a tunnel may take to be up once its container is started: an RSA key may be made.
const LIMIT: Duration = Duration::from_secs(300);

const PARTLY_DONE: i32 = 4;

#[test]
#[ignore = "builds images: scripts/test containers"]
fn a_tunnel_is_set_up_and_held_in_containers_without_root_or_a_disk_to_write_on() {
    let installation = Installation::start();
    let operator = installation.operator();
    let source: DataSource = installation.create(&operator, "Shop");
    installation.start_bastion(token_of(&source));
    operator.wait_for_state(source.id, DataSourceState::Connected, LIMIT);
    operator.save(source.id);
    operator.wait_for_state(source.id, DataSourceState::Active, LIMIT);
    let port = tunnel_of(&operator.data_source(source.id)).remote_port;
    let port = port.expect("an enrolled tunnel has a port");
    installation.expect_rows_through(port);
    for name in ["server", "bastion"] {
        installation.expect_confined(name);
        installation.expect_healthy(name);
    }

    // Another container on the same volume needs no token.
    installation.spend_token();
    installation.remove_bastion();
    operator.wait_for_state(source.id, DataSourceState::Down, LIMIT);
    installation.make_bastion_anew();
    operator.wait_for_state(source.id, DataSourceState::Active, LIMIT);
    installation.expect_rows_through(port);

    let id = tunnel_of(&operator.data_source(source.id)).id.to_string();
    let removal = ["holistics-tunnel", "uninstall-tunnel", &id, "--yes"];
    // What the container runs is its supervisor's to end.
    installation
        .inside("bastion", &removal)
        .expect_code(PARTLY_DONE)
        .expect_words(&["process 1 still runs", "kill 1"]);
    operator.wait_for_state(source.id, DataSourceState::Removed, LIMIT);
    installation.expect_nothing_through(port);
}

#[test]
#[ignore = "needs what scripts/containers installs: scripts/test containers"]
fn the_manifests_are_what_kubernetes_schemas_ask_for() {
    let workspace = Workspace::new();
    let validate = target_folder().join("containers/tools/bin/kubernetes-validate");
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/kubernetes");
    for name in ["namespace.yaml", "server.yaml", "bastion.yaml"] {
        let mut command = Command::new(&validate);
        command.arg("--strict").arg(manifests.join(name));
        process::run(&mut command, workspace.path(), name).expect_code(0);
    }
}

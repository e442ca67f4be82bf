//! deploy/compose.yaml brought up: PostgreSQL, the server and a bastion, and a database of the customer's on the bastion's
//! network.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use holistics_tunnel::protocol::DataSource;

use crate::containers::engine::Engine;
use crate::containers::images;
use crate::support::hosts::certificate;
use crate::support::process::Finished;
use crate::support::server::{Operator, PublicPlace};
use crate::support::wait;
use crate::support::workspace::Workspace;

const COMPOSE: &str = include_str!("../../../deploy/compose.yaml");
/// What podman-compose calls this installation, and begins the names of all that it makes with.
const PROJECT: &str = "holistics-tunnel-test";
/// The customer's database, by its name on the bastion's network.
const DATABASE: &str = "shop";
const PASSWORD: &str = "open sesame";
/// The user of both images.
const USER: &str = "10001";

const LIMIT: Duration = Duration::from_secs(300);

/// Dropped, all of it is taken down.
pub struct Installation {
    engine: Engine,
    place: PublicPlace,
    folder: PathBuf,
    _workspace: Workspace,
}

impl Installation {
    /// Builds the images, and starts all but the bastion.
    pub fn start() -> Self {
        let workspace = Workspace::new();
        let folder = workspace.folder(PROJECT);
        let tls = folder.join("tls");
        fs::create_dir_all(&tls).expect("a folder");
        let certified = certificate::for_name("server", &workspace.folder("certificates"));
        for (from, to) in [
            (&certified.certificate, "cert.pem"),
            (&certified.key, "key.pem"),
            (&certified.authority, "authority.pem"),
        ] {
            // User 10001 has to read them.
            let to = tls.join(to);
            fs::copy(from, &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o644)).expect("a mode");
        }
        fs::write(folder.join("compose.yaml"), COMPOSE).expect("a file");
        let address = Ipv4Addr::new(127, 0, 0, 9);
        let settings = format!(
            "DATABASE_PASSWORD=secret\nPOSTGRES_IMAGE={}\nSERVER_IMAGE={}\nBASTION_IMAGE={}\n\
             WEB={address}:443\nSSH={address}:50022\n",
            images::POSTGRES,
            images::SERVER,
            images::BASTION
        );
        fs::write(folder.join(".env"), settings).expect("a file");
        let installation = Installation {
            engine: Engine::new(workspace.path()),
            place: PublicPlace {
                name: "server",
                address,
                certificate: certified.certificate,
                key: certified.key,
                authority: certified.authority,
            },
            folder,
            _workspace: workspace,
        };
        images::build(&installation.engine, &installation.folder);
        installation.take_down();
        installation.compose(&["up", "--detach", "postgres", "server"]);
        installation.wait_until_it_answers();
        installation.start_database();
        installation
    }

    fn wait_until_it_answers(&self) {
        let url = format!("{}/readyz", self.place.url());
        let client = self.place.visited_by().build().expect("an HTTP client");
        wait::until_true(
            "the server to be ready",
            LIMIT,
            || self.podman(&["logs", &container("server")]).output(),
            || {
                client
                    .get(&url)
                    .send()
                    .is_ok_and(|answer| answer.status().is_success())
            },
        );
    }

    fn start_database(&self) {
        let network = format!("{PROJECT}_tunnels");
        let password = format!("POSTGRES_PASSWORD={PASSWORD}");
        let mut arguments = vec!["run", "--detach", "--name", DATABASE, "--network", &network];
        arguments.extend(["--env", &password, "--env", "POSTGRES_USER=reader"]);
        arguments.extend(["--env", "POSTGRES_DB=shop", images::POSTGRES]);
        self.podman(&arguments).expect_code(0);
        let fill = "CREATE TABLE orders AS SELECT * FROM generate_series(1, 3)";
        wait::until_true(
            "the customer's database",
            LIMIT,
            || self.podman(&["logs", DATABASE]).output(),
            || self.query(DATABASE, 5432, fill).code == 0,
        );
    }

    /// Somebody on the network of the tunnels asks a database.
    fn query(&self, host: &str, port: u16, query: &str) -> Finished {
        let network = format!("{PROJECT}_tunnels");
        let password = format!("PGPASSWORD={PASSWORD}");
        let url = format!("postgres://reader@{host}:{port}/shop");
        let mut arguments = vec!["run", "--rm", "--network", &network, "--env", &password];
        arguments.extend(["--entrypoint", "psql", images::POSTGRES, &url]);
        arguments.extend(["--no-align", "--tuples-only", "--command", query]);
        self.podman(&arguments)
    }

    /// Three rows come through the tunnel with this port. Between setup's tunnel and the one that stays there is a moment without.
    #[track_caller]
    pub fn expect_rows_through(&self, port: u16) {
        let ask = || self.query("server", port, "SELECT count(*) FROM orders");
        wait::until_true(
            "rows to come through the tunnel",
            LIMIT,
            || self.podman(&["logs", &container("bastion")]).output(),
            || ask().stdout.trim() == "3",
        );
    }

    /// The tunnel is gone.
    #[track_caller]
    pub fn expect_nothing_through(&self, port: u16) {
        wait::until_true(
            "the tunnel to be gone",
            LIMIT,
            || self.podman(&["logs", &container("server")]).output(),
            || self.query("server", port, "SELECT 1").code != 0,
        );
    }

    /// Whoever signs in first.
    pub fn operator(&self) -> Operator {
        let create = ["holistics-tunnel-server", "token", "create", "test"];
        let token = self.inside("server", &create).expect_code(0);
        Operator::at(&self.place, token.stdout.trim())
    }

    /// A data source for the customer's database.
    pub fn create(&self, operator: &Operator, name: &str) -> DataSource {
        operator.create_for(name, DATABASE, 5432)
    }

    /// Starts the bastion with this token.
    pub fn start_bastion(&self, token: &str) {
        let file = self.folder.join("tls/token");
        fs::write(&file, token).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("a mode");
        self.compose(&["--profile", "bastion", "up", "--detach", "bastion"]);
    }

    /// The token is worth nothing from now on.
    pub fn spend_token(&self) {
        fs::write(self.folder.join("tls/token"), "spent").expect("a file");
    }

    /// The bastion's container is gone; its volume stays.
    pub fn remove_bastion(&self) {
        self.podman(&["rm", "--force", "--time", "10", &container("bastion")])
            .expect_code(0);
    }

    /// Another container of the bastion on the volume of the first.
    pub fn make_bastion_anew(&self) {
        self.compose(&["--profile", "bastion", "up", "--detach", "bastion"]);
    }

    /// It is not root, may become nobody else, and finds nothing to write on but its volume.
    #[track_caller]
    pub fn expect_confined(&self, name: &str) {
        let who = self.inside(name, &["id", "-u"]).expect_code(0);
        assert_eq!(who.stdout.trim(), USER);
        let write = self.inside(name, &["touch", "/usr/bin/x", "/etc/x", "/x"]);
        assert_ne!(write.code, 0, "{write}");
        let status = self.inside(name, &["grep", "CapEff\\|NoNewPrivs", "/proc/1/status"]);
        status.expect_words(&["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]);
    }

    /// As its own health check says.
    #[track_caller]
    pub fn expect_healthy(&self, name: &str) {
        self.podman(&["healthcheck", "run", &container(name)])
            .expect_code(0);
    }

    /// Runs this inside of a container.
    pub fn inside(&self, name: &str, command: &[&str]) -> Finished {
        let container = container(name);
        let arguments = [&["exec", &container][..], command].concat();
        self.podman(&arguments)
    }

    fn podman(&self, arguments: &[&str]) -> Finished {
        self.engine.podman(arguments)
    }

    #[track_caller]
    fn compose(&self, arguments: &[&str]) {
        self.engine.compose(&self.folder, arguments).expect_code(0);
    }

    fn take_down(&self) {
        self.podman(&[
            "rm",
            "--force",
            "--ignore",
            "--time",
            "1",
            "--volumes",
            DATABASE,
        ]);
        let everything = [
            "--profile",
            "bastion",
            "down",
            "--volumes",
            "--timeout",
            "1",
        ];
        self.engine.compose(&self.folder, &everything);
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        self.take_down();
    }
}

fn container(service: &str) -> String {
    format!("{PROJECT}_{service}_1")
}

//! The vendor's side: the real `holistics-tunnel-server`, and an operator who uses its API.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use holistics_tunnel::protocol::{
    API_BASE, ConnectionKind, ConnectionTest, ConnectionTestResult, DataSource, DataSourceChange,
    DataSourceId, DataSourceState, DatabaseType, NewDataSource, RemovalCommand, TunnelStatus,
};
use reqwest::blocking::{Client, ClientBuilder, RequestBuilder};
use reqwest::{Certificate, Method};
use rustix::process::Signal;
use serde::de::DeserializeOwned;

use super::database::{self, PostgresDatabase, ServerDatabase};
use super::hosts::certificate::Certified;
use super::ports::{self, PortRange};
use super::process::{Finished, Running};
use super::small_disk::SmallDisk;
use super::sql::Login;
use super::wait;
use super::workspace::Workspace;

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// The variable by which it finds the file with the moments at which it was killed already.
pub const DEATHS: &str = "HOLISTICS_TUNNEL_TEST_DEATHS";

/// How a program ends that is killed.
pub const KILLED: i32 = 128 + 9;

/// More than any start or request has moments.
const MOST_DEATHS: u32 = 200;

/// Where a server is that other machines reach, by https.
pub struct PublicPlace {
    /// The name by which it is called.
    pub name: &'static str,
    /// Its address.
    pub address: Ipv4Addr,
    /// The certificate of `name`, PEM.
    pub certificate: PathBuf,
    /// The certificate's key, PEM.
    pub key: PathBuf,
    /// The authority that signed the certificate, PEM.
    pub authority: PathBuf,
}

impl PublicPlace {
    /// Where SSH is served.
    pub const SSH_PORT: u16 = 50_022;
    const HTTPS_PORT: u16 = 443;

    /// What browsers call it.
    pub fn url(&self) -> String {
        format!("https://{}", self.name)
    }

    /// Where the web is served.
    pub fn web(&self) -> SocketAddr {
        SocketAddr::from((self.address, Self::HTTPS_PORT))
    }

    /// A browser that finds it and trusts it.
    pub fn visited_by(&self) -> ClientBuilder {
        http_client()
            .add_root_certificate(certificate(&self.authority))
            .resolve(self.name, self.web())
    }
}

/// A tunnel server with an empty data folder and an operator's token.
pub struct Server {
    /// `http://127.0.0.1:PORT`, or the name of its public place.
    pub url: String,
    /// `127.0.0.1:PORT` of SSH.
    pub ssh: String,
    listen: String,
    http: Client,
    operator_token: String,
    extra_arguments: Vec<String>,
    log_filter: Option<&'static str>,
    log_to: Option<PathBuf>,
    resolver: Option<PathBuf>,
    descriptors: Option<u32>,
    environment: Vec<(&'static str, String)>,
    // The order of the fields is the order of the end: the process, then its folder.
    process: Option<Running>,
    ports: PortRange,
    /// Where its data is, if that is a disk of its own.
    pub disk: Option<SmallDisk>,
    workspace: Workspace,
    /// Its database, if that is not the data folder's.
    postgres: Option<PostgresDatabase>,
}

impl Server {
    /// Starts one with ten remote ports.
    pub fn start() -> Self {
        Self::start_with(10, &[])
    }

    /// Starts one with this many remote ports (at most ten) and these further arguments.
    pub fn start_with(remote_ports: u16, extra_arguments: &[&str]) -> Self {
        let http = http_client().build();
        Self::new(
            "127.0.0.1:0",
            "127.0.0.1:0",
            http,
            remote_ports,
            extra_arguments,
        )
        .first_launch()
    }

    /// Starts one with ten remote ports whose data is in its folder, also where this run of tests keeps it in
    /// PostgreSQL: for tests that are about that file.
    pub fn start_on_sqlite() -> Self {
        Self::not_started().first_launch()
    }

    /// One like that which is still to be started for the first time, or whose first start is the test's affair.
    pub fn not_started() -> Self {
        let mut server = Self::still_to_be_started();
        server.postgres = None;
        server
    }

    /// Starts one with ten remote ports on this database, as its first.
    pub fn start_on(database: &PostgresDatabase, extra_arguments: &[&str]) -> Self {
        Self::on(database, extra_arguments).first_launch()
    }

    /// One with ten remote ports that is still to be started for the first time.
    pub fn still_to_be_started() -> Self {
        Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[])
    }

    /// From its next start on, it is killed just before and just after whatever it keeps: at each moment that is not in this
    /// file yet, in which it writes them down.
    pub fn be_mortal(&mut self, deaths: &Path) {
        self.environment = vec![(DEATHS, path_text(deaths).to_owned())];
    }

    /// The further arguments of its next start.
    pub fn be_told(&mut self, extra_arguments: &[&str]) {
        self.extra_arguments = extra_arguments.iter().map(|&s| s.to_owned()).collect();
    }

    /// Starts one that was killed, as often as it takes until it is ready. Returns how often that was.
    pub fn live_again(&mut self) -> u32 {
        self.process = None;
        let mut times = 1;
        while let Some(killed) = self.launch_unless_it_ends() {
            killed.expect_code(KILLED);
            times += 1;
            assert!(times < MOST_DEATHS, "it does not get any further");
        }
        times
    }

    /// Whether it runs.
    pub fn is_alive(&self) -> bool {
        self.process.as_ref().is_some_and(Running::is_running)
    }

    /// Whose token its operator has from now on.
    pub fn let_in(&mut self, operator_token: &str) {
        self.operator_token = operator_token.to_owned();
    }

    /// Whether it keeps its data in PostgreSQL.
    pub fn is_on_postgres(&self) -> bool {
        self.postgres.is_some()
    }

    /// Starts one more on the database of this one, with the same secret key and ten remote ports of its own.
    pub fn start_beside(&self, extra_arguments: &[&str]) -> Self {
        self.start_beside_at("127.0.0.1:0", extra_arguments)
    }

    /// The same, with SSH at this address.
    pub fn start_beside_at(&self, ssh: &str, extra_arguments: &[&str]) -> Self {
        let database = self.postgres.as_ref().expect("a database to share");
        let mut server = Self::on(database, extra_arguments);
        server.ssh = ssh.to_owned();
        let data = server.data_dir();
        std::fs::create_dir(&data).expect("a data folder");
        std::fs::copy(self.data_dir().join("secret.key"), data.join("secret.key"))
            .expect("the secret key");
        server.operator_token = self.operator_token.clone();
        server.launch();
        server
    }

    /// Starts one more on the database of this one, for pages and API alone: it has the host keys of this one, whose
    /// tunnels it tells bastions of.
    pub fn start_pages_beside(&self, extra_arguments: &[&str]) -> Self {
        let database = self.postgres.as_ref().expect("a database to share");
        let arguments = [&["--role", "web"], extra_arguments].concat();
        let mut server = Self::on(database, &arguments);
        server.ssh.clone_from(&self.ssh);
        let (from, to) = (self.data_dir(), server.data_dir());
        std::fs::create_dir_all(to.join("ssh")).expect("a data folder");
        std::fs::copy(from.join("secret.key"), to.join("secret.key")).expect("the secret key");
        for entry in std::fs::read_dir(from.join("ssh")).expect("host keys") {
            let key = entry.expect("a file").path();
            if let Some(name) = key.file_name().filter(|_| key.is_file()) {
                std::fs::copy(&key, to.join("ssh").join(name)).expect("a host key");
            }
        }
        server.operator_token = self.operator_token.clone();
        server.launch();
        server
    }

    fn on(database: &PostgresDatabase, extra_arguments: &[&str]) -> Self {
        let mut server = Self::new(
            "127.0.0.1:0",
            "127.0.0.1:0",
            http_client().build(),
            10,
            extra_arguments,
        );
        server.postgres = Some(database.clone());
        server
    }

    /// Starts one with ten remote ports that logs all it can.
    pub fn start_talkative() -> Self {
        let mut server = Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[]);
        server.log_filter = Some("trace");
        server.first_launch()
    }

    /// Starts one with ten remote ports whose log, of all it can, goes to this file, which may be a pipe.
    pub fn start_logging_to(file: &Path) -> Self {
        let mut server = Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[]);
        server.log_filter = Some("trace");
        server.log_to = Some(file.to_owned());
        server.first_launch()
    }

    /// Starts one with ten remote ports that looks names up by this `resolv.conf`.
    pub fn start_resolving_by(file: &Path) -> Self {
        let mut server = Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[]);
        server.resolver = Some(file.to_owned());
        server.first_launch()
    }

    /// Starts one with ten remote ports that may have this many files and sockets open.
    pub fn start_with_descriptors(number: u32) -> Self {
        let mut server = Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[]);
        server.descriptors = Some(number);
        server.first_launch()
    }

    /// Starts one with ten remote ports whose data is on a disk that can be filled.
    pub fn start_on_small_disk() -> Self {
        let mut server = Self::new("127.0.0.1:0", "127.0.0.1:0", http_client().build(), 10, &[]);
        server.disk = Some(SmallDisk::mount(&server.data_dir()));
        server.postgres = None;
        server.first_launch()
    }

    /// Starts one that other machines reach. The calling thread must be on the machine that has the
    /// place's address.
    pub fn start_in_public(place: &PublicPlace, extra_arguments: &[&str]) -> Self {
        Self::in_public(place, place.address, extra_arguments).first_launch()
    }

    /// The same with SSH at all of that machine's addresses, in this environment; with its log going to this file and its
    /// data on a disk that can be filled, if there is such a file.
    pub fn start_in_public_beset(
        place: &PublicPlace,
        extra_arguments: &[&str],
        environment: &[(&'static str, String)],
        log: Option<&Path>,
    ) -> Self {
        let mut server = Self::in_public(place, Ipv4Addr::UNSPECIFIED, extra_arguments);
        server.environment = environment.to_vec();
        if let Some(log) = log {
            server.disk = Some(SmallDisk::mount(&server.data_dir()));
            server.postgres = None;
            server.log_to = Some(log.to_owned());
        }
        server.first_launch()
    }

    fn in_public(place: &PublicPlace, ssh: Ipv4Addr, extra_arguments: &[&str]) -> Self {
        let web = place.web();
        let http = place.visited_by().build();
        let url = place.url();
        let mut arguments = vec![
            "--public-url",
            &url,
            "--tls-cert",
            path_text(&place.certificate),
            "--tls-key",
            path_text(&place.key),
        ];
        arguments.extend(extra_arguments);
        let ssh = format!("{ssh}:{}", PublicPlace::SSH_PORT);
        Self::new(&web.to_string(), &ssh, http, 10, &arguments)
    }

    /// Starts one on loopback that is called by this name, by https if there is a certificate for it.
    /// Only its operator finds it by that name.
    pub fn start_called(name: &str, https: Option<&Certified>, extra_arguments: &[&str]) -> Self {
        Self::called(name, https, extra_arguments).first_launch()
    }

    /// Starts one like that, whose data is on a disk that can be filled, and whose log, of all it can, goes to
    /// this file.
    pub fn start_beset(name: &str, https: &Certified, log: &Path) -> Self {
        let mut server = Self::called(name, Some(https), &[]);
        server.disk = Some(SmallDisk::mount(&server.data_dir()));
        server.postgres = None;
        server.log_filter = Some("trace");
        server.log_to = Some(log.to_owned());
        server.first_launch()
    }

    fn called(name: &str, https: Option<&Certified>, extra_arguments: &[&str]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, ports::free_port()));
        let mut http = http_client().resolve(name, address);
        let scheme = if https.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{name}:{}", address.port());
        let mut arguments = vec!["--public-url", &url, "--public-ssh-host", "127.0.0.1"];
        if let Some(https) = https {
            http = http.add_root_certificate(certificate(&https.authority));
            arguments.extend(["--tls-cert", path_text(&https.certificate)]);
            arguments.extend(["--tls-key", path_text(&https.key)]);
        }
        arguments.extend(extra_arguments);
        let listen = address.to_string();
        Self::new(&listen, "127.0.0.1:0", http.build(), 10, &arguments)
    }

    fn new(
        listen: &str,
        ssh: &str,
        http: reqwest::Result<Client>,
        remote_ports: u16,
        extra_arguments: &[&str],
    ) -> Self {
        Server {
            url: String::new(),
            ssh: ssh.into(),
            listen: listen.into(),
            http: http.expect("an HTTP client"),
            operator_token: String::new(),
            extra_arguments: extra_arguments.iter().map(|&s| s.to_owned()).collect(),
            log_filter: None,
            log_to: None,
            resolver: None,
            descriptors: None,
            environment: Vec::new(),
            process: None,
            ports: PortRange::claim(remote_ports),
            disk: None,
            workspace: Workspace::new(),
            postgres: PostgresDatabase::of_this_run(),
        }
    }

    /// Starts it for the first time.
    pub fn first_launch(mut self) -> Self {
        self.launch();
        self.operator_token = self.api_token(&["operator"]);
        self
    }

    /// Makes an API token: `token create` with these arguments.
    pub fn api_token(&self, arguments: &[&str]) -> String {
        let mut create = self.command("token");
        let made = create.arg("create").args(arguments).output();
        let made = made.expect("the command runs");
        assert!(made.status.success(), "{made:?}");
        let token = String::from_utf8(made.stdout).expect("text");
        token.trim().to_owned()
    }

    /// A request to it, without a credential.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// A call of the API with this token.
    pub fn call(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        self.request(method, &format!("{API_BASE}{path}"))
            .bearer_auth(token)
    }

    /// The operator's token.
    pub fn operator_token(&self) -> &str {
        &self.operator_token
    }

    /// Starts it again as it was: the same data, the same addresses.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it has not been stopped");
        self.launch();
    }

    /// Starts it again with the same data and addresses, and these further arguments.
    pub fn start_again_with(&mut self, extra_arguments: &[&str]) {
        self.be_told(extra_arguments);
        self.start_again();
    }

    /// Where the web is served.
    pub fn web_address(&self) -> SocketAddr {
        self.listen.parse().expect("an address with a port")
    }

    /// The port on which SSH is served.
    pub fn ssh_port(&self) -> &str {
        self.ssh.rsplit(':').next().expect("an address with a port")
    }

    /// Ends it as a service manager does.
    pub fn stop(&mut self) -> Finished {
        self.stop_within(STOP_LIMIT)
    }

    /// The same, with less patience.
    pub fn stop_within(&mut self, limit: Duration) -> Finished {
        self.signal(Signal::TERM);
        self.wait(limit)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> Finished {
        self.process.take().expect("it runs").wait(limit)
    }

    /// The memory that it has now, in KiB.
    pub fn memory(&self) -> usize {
        self.memory_of("VmRSS:")
    }

    /// The most memory that it has had, in KiB.
    pub fn peak_memory(&self) -> usize {
        self.memory_of("VmHWM:")
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    fn memory_of(&self, what: &str) -> usize {
        let pid = self.pid();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix(what));
        let number = line.and_then(|line| line.trim().strip_suffix(" kB"));
        number
            .and_then(|number| number.parse().ok())
            .expect("a number")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.as_ref().expect("it runs").signal(signal);
    }

    /// Ends it as a power cut does.
    pub fn kill(&mut self) {
        drop(self.process.take().expect("it runs"));
    }

    /// What it has printed since it was last started.
    pub fn log(&self) -> String {
        self.process
            .as_ref()
            .map_or_else(String::new, Running::output)
    }

    /// Its data folder.
    pub fn data_dir(&self) -> PathBuf {
        self.workspace.path().join("data")
    }

    /// Another command of the server's program on the same data folder.
    pub fn command(&self, name: &str) -> Command {
        let mut command = self.any_command(name);
        command.arg("--data-dir").arg(self.data_dir());
        self.name_database(&mut command);
        command
    }

    fn name_database(&self, command: &mut Command) {
        if let Some(postgres) = &self.postgres {
            command.env(database::VARIABLE, postgres.url());
        }
    }

    /// Its database, to look into and to fill.
    pub fn database(&self) -> ServerDatabase {
        match &self.postgres {
            Some(postgres) => ServerDatabase::Postgres(postgres.clone()),
            None => ServerDatabase::File(self.data_dir().join("control-plane.sqlite")),
        }
    }

    /// From its next start on, its data is in this database.
    pub fn move_to(&mut self, database: &PostgresDatabase) {
        self.postgres = Some(database.clone());
    }

    /// Another command of the server's program.
    pub fn any_command(&self, name: &str) -> Command {
        let mut command = program(self.workspace.path());
        command.arg(name);
        command
    }

    /// Its remote ports, as the flag has them.
    pub fn ports_flag(&self) -> String {
        self.ports.flag()
    }

    /// An operator with a token.
    pub fn operator(&self) -> Operator {
        Operator {
            api: format!("{}{API_BASE}", self.url),
            token: self.operator_token.clone(),
            http: self.http.clone(),
        }
    }

    /// Starts the program, waits until it is ready, and takes the addresses it names.
    fn launch(&mut self) {
        if let Some(ended) = self.launch_unless_it_ends() {
            panic!("it ended before it was ready:\n{ended}");
        }
    }

    fn launch_unless_it_ends(&mut self) -> Option<Finished> {
        let mut command = self.command("serve");
        if let Some(file) = &self.log_to {
            let mut shell = program_called("sh", self.workspace.path());
            shell.args(["-c", r#"exec "$@" 2>"$0""#]).arg(file);
            shell.arg(command.get_program()).args(command.get_args());
            command = shell;
        }
        if let Some(file) = &self.resolver {
            let mut own = program_called("unshare", self.workspace.path());
            own.args(["--mount", "sh", "-c"]);
            own.arg(r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#);
            own.arg(file)
                .arg(command.get_program())
                .args(command.get_args());
            command = own;
        }
        if let Some(number) = self.descriptors {
            let mut shell = program_called("sh", self.workspace.path());
            shell.args(["-c", r#"ulimit -n "$0" && exec "$@""#, &number.to_string()]);
            shell.arg(command.get_program()).args(command.get_args());
            command = shell;
        }
        command.args(["--listen", &self.listen, "--ssh-listen", &self.ssh]);
        let own_ports = self.ports.flag();
        for (flag, value) in [
            ("--ports", own_ports.as_str()),
            ("--forward-listen", "127.0.0.1"),
        ] {
            if !self.extra_arguments.iter().any(|argument| argument == flag) {
                command.args([flag, value]);
            }
        }
        command.args(&self.extra_arguments);
        // The shells above have none of the program's own variables.
        self.name_database(&mut command);
        if let Some(filter) = self.log_filter {
            command.env("RUST_LOG", filter);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let process = Running::start(&mut command, self.workspace.path(), "server");
        let is_ready = || process.output().contains("\nready\n");
        wait::until_true(
            "the server to be ready",
            START_LIMIT,
            || process.output(),
            || !process.is_running() || is_ready(),
        );
        if !is_ready() {
            return Some(process.wait(STOP_LIMIT));
        }
        let banner = process.output();
        self.process = Some(process);
        let named = |what| {
            word_after(&banner, what).unwrap_or_else(|| panic!("no \"{what}\" in:\n{banner}"))
        };
        self.url = named("public ").trim_end_matches('/').to_owned();
        let web = named("web ");
        let address = web.split_once("://").expect("a URL").1;
        self.listen = address.trim_end_matches('/').to_owned();
        // One for pages alone has none of its own.
        if let Some(ssh) = word_after(&banner, "tunnel ") {
            self.ssh = ssh;
        }
        None
    }
}

/// The server's program in an environment of its own.
fn program(home: &Path) -> Command {
    program_called(env!("CARGO_BIN_EXE_holistics-tunnel-server"), home)
}

fn program_called(name: &str, home: &Path) -> Command {
    let mut command = Command::new(name);
    command
        .env_clear()
        .env("PATH", super::bastion::PATH)
        .env("HOME", home);
    command
}

/// The first word after `label`, where a line begins with it.
fn word_after(text: &str, label: &str) -> Option<String> {
    let rest = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(label))?;
    rest.split_whitespace().next().map(str::to_owned)
}

fn certificate(pem: &Path) -> Certificate {
    let pem = std::fs::read(pem).expect("the authority's certificate");
    Certificate::from_pem(&pem).expect("a certificate in PEM")
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn http_client() -> ClientBuilder {
    // The crate's TLS library is chosen by its user, once in a process; the second choice of the
    // same one is no error.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(REQUEST_LIMIT)
}

/// The person in front of the browser, by way of the API.
pub struct Operator {
    api: String,
    token: String,
    http: Client,
}

impl Operator {
    /// One with this token, whose server is in this place.
    pub fn at(place: &PublicPlace, token: &str) -> Self {
        Operator {
            api: format!("{}{API_BASE}", place.url()),
            token: token.to_owned(),
            http: place.visited_by().build().expect("an HTTP client"),
        }
    }

    /// Creates a data source for a PostgreSQL on this port of the bastion's loopback.
    pub fn create(&self, name: &str, port: u16) -> DataSource {
        self.create_for(name, "127.0.0.1", port)
    }

    /// Creates a data source for a PostgreSQL.
    pub fn create_for(&self, name: &str, host: &str, port: u16) -> DataSource {
        self.create_of(DatabaseType::Postgresql, name, host, port)
    }

    /// Creates a data source for a database of any type.
    pub fn create_of(
        &self,
        database_type: DatabaseType,
        name: &str,
        host: &str,
        port: u16,
    ) -> DataSource {
        self.create_from(&NewDataSource {
            display_name: name.into(),
            database_type,
            connection: ConnectionKind::ReverseTunnel,
            host: host.into(),
            port,
            region: None,
        })
    }

    /// Creates a data source for a PostgreSQL whose tunnel ends in this region.
    pub fn create_in(&self, region: &str, name: &str, host: &str, port: u16) -> DataSource {
        self.create_from(&NewDataSource {
            display_name: name.into(),
            database_type: DatabaseType::Postgresql,
            connection: ConnectionKind::ReverseTunnel,
            host: host.into(),
            port,
            region: Some(region.into()),
        })
    }

    fn create_from(&self, new: &NewDataSource) -> DataSource {
        self.answer(self.post("/data-sources").json(new))
    }

    /// A data source as it stands.
    pub fn data_source(&self, id: DataSourceId) -> DataSource {
        self.answer(self.http.get(self.data_source_url(id, "")))
    }

    /// Waits until a data source is in this state.
    pub fn wait_for_state(&self, id: DataSourceId, state: DataSourceState, limit: Duration) {
        let now = || self.data_source(id).state;
        let what = format!("data source {id} to be {state:?}");
        wait::until_true(
            &what,
            limit,
            || format!("it is {:?}", now()),
            || now() == state,
        );
    }

    /// Waits until the tunnel of a data source is up, or down.
    #[track_caller]
    pub fn wait_for_status(&self, id: DataSourceId, status: TunnelStatus, limit: Duration) {
        let now = || self.data_source(id).tunnel.expect("a tunnel").status;
        let what = format!("the tunnel of data source {id} to be {status:?}");
        wait::until_true(
            &what,
            limit,
            || format!("it is {:?}", now()),
            || now() == status,
        );
    }

    /// "Test connection".
    pub fn test(&self, id: DataSourceId, login: &Login) -> ConnectionTestResult {
        let test = ConnectionTest {
            database: login.database.clone(),
            username: login.username.clone(),
            password: login.password.clone(),
            tls: None,
        };
        self.answer(
            self.http
                .post(self.data_source_url(id, "/test"))
                .json(&test),
        )
    }

    /// "Save".
    pub fn save(&self, id: DataSourceId) -> DataSource {
        self.answer(self.http.post(self.data_source_url(id, "/save")))
    }

    /// Another port of the database, on the same host.
    pub fn change_port(&self, id: DataSourceId, port: u16) -> DataSource {
        let port = Some(port);
        self.change(
            id,
            DataSourceChange {
                port,
                ..DataSourceChange::default()
            },
        )
    }

    /// Another host of the database, with the same port.
    pub fn change_host(&self, id: DataSourceId, host: &str) -> DataSource {
        let host = Some(host.to_owned());
        self.change(
            id,
            DataSourceChange {
                host,
                ..DataSourceChange::default()
            },
        )
    }

    /// Another region for its tunnel.
    pub fn change_region(&self, id: DataSourceId, region: &str) -> DataSource {
        let region = Some(region.to_owned());
        self.change(
            id,
            DataSourceChange {
                region,
                ..DataSourceChange::default()
            },
        )
    }

    fn change(&self, id: DataSourceId, change: DataSourceChange) -> DataSource {
        self.answer(self.http.patch(self.data_source_url(id, "")).json(&change))
    }

    /// Registers a bastion for it of which there is nothing but a key, whose other half nobody has.
    pub fn enroll_nobody(&self, source: &DataSource) {
        let token = &source.enrollment.as_ref().expect("a command").token;
        let mut key = b"\0\0\0\x0bssh-ed25519\0\0\0\x20".to_vec();
        key.extend(source.id.0.to_be_bytes().repeat(4));
        let registration = serde_json::json!({
            "public_key": format!("ssh-ed25519 {}", STANDARD.encode(key)),
            "hostname": "bastion", "os": "Debian 12", "user": "ann",
        });
        let url = format!("{}/enrollment/public-key", self.api);
        let request = self.http.put(url).bearer_auth(token).json(&registration);
        let status = request.send().expect("the server answers").status();
        assert!(status.is_success(), "{status}");
    }

    /// "Delete" of what a bastion has registered for: the command for it.
    pub fn delete(&self, id: DataSourceId) -> RemovalCommand {
        self.answer(self.http.delete(self.data_source_url(id, "")))
    }

    /// "Delete", without the bastion's help.
    pub fn delete_now(&self, id: DataSourceId) {
        let request = self.http.delete(self.data_source_url(id, "?force=true"));
        let answer = request.bearer_auth(&self.token).send();
        let status = answer.expect("the server answers").status();
        assert!(status.is_success(), "{status}");
    }

    /// Any call outside of the API, with the operator's token.
    pub fn call_beside(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self.api.trim_end_matches(API_BASE);
        let request = self.http.request(method, format!("{url}{path}"));
        request.bearer_auth(&self.token)
    }

    /// Any call of the API.
    pub fn call(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api);
        self.http.request(method, url).bearer_auth(&self.token)
    }

    fn post(&self, path: &str) -> RequestBuilder {
        self.http.post(format!("{}{path}", self.api))
    }

    #[track_caller]
    fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> T {
        answer(request.bearer_auth(&self.token))
    }

    fn data_source_url(&self, id: DataSourceId, rest: &str) -> String {
        format!("{}/data-sources/{id}{rest}", self.api)
    }
}

/// The body of a good answer.
#[track_caller]
fn answer<T: DeserializeOwned>(request: RequestBuilder) -> T {
    let response = request.send().expect("the server answers");
    let (url, status) = (response.url().clone(), response.status());
    let body = response.text().expect("a body");
    assert!(status.is_success(), "{status} from {url}: {body}");
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error} in {url}: {body}"))
}

//! The whole of it: regions with two tunnel nodes and a load balancer each, two web nodes behind one, PostgreSQL with
//! a standby behind one, and a customer in each region.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::DataSource;
use serde_json::Value;

use crate::cluster::balancer::Balancer;
use crate::cluster::customer::Customer;
use crate::cluster::node::Node;
use crate::cluster::states::{Api, Watcher};
use crate::support::database::{PostgresDatabase, ServerDatabase};
use crate::support::hosts::certificate::{self, Certified};
use crate::support::hosts::namespace::Inside;
use crate::support::lab::tunnel_of;
use crate::support::machines::{Machine, Network};
use crate::support::postgres::Postgres;
use crate::support::rows::{Place, Readers};
use crate::support::server::{Operator, PublicPlace};
use crate::support::wait;
use crate::support::workspace::Workspace;

/// How long the cluster may take to be as it was.
pub const LIMIT: Duration = Duration::from_secs(120);

/// The regions.
pub const REGIONS: &[&str] = &["east", "west"];

/// What every bastion and every browser calls the vendor.
const PAGES: &str = "10.77.0.10";
const DATABASE_PORT: u16 = 5432;
/// The ports of each region.
const PORTS: &str = "20000-20099";

/// How many tunnels the customer of each region has.
const TUNNELS: usize = 2;

/// One at a time: each is many processes, and what is measured is time.
static PLACE: Mutex<()> = Mutex::new(());

/// A region: where it is, and who serves it.
pub struct Region {
    /// What it is called.
    pub name: String,
    /// Where its bastions and the vendor's programs connect to.
    pub balancer: Balancer,
    /// Its nodes, by their places in [`Cluster::nodes`].
    pub nodes: [usize; 2],
    /// Its customer.
    pub customer: Customer,
}

/// A tunnel that is used.
pub struct Tunnel {
    /// The data source.
    pub source: DataSource,
    /// Its region, by its place in [`Cluster::regions`].
    pub region: usize,
}

/// The installation. The test's thread is on the machine of the vendor's own programs.
pub struct Cluster {
    // The order of the fields is the order of the end.
    /// Who reads rows all the time.
    pub readers: Readers,
    /// Who looks at what is shown all the time.
    pub watcher: Watcher,
    /// The tunnels.
    pub tunnels: Vec<Tunnel>,
    /// The regions.
    pub regions: Vec<Region>,
    /// The two web nodes, and those of the regions after them.
    pub nodes: Vec<Node>,
    /// The vendor's operator.
    pub operator: Operator,
    operator_token: String,
    balancers: [Balancer; 2],
    https: Certified,
    /// The database of the nodes, as they reach it.
    pub database: PostgresDatabase,
    /// PostgreSQL, on a machine of its own.
    pub primary: (Postgres, Machine),
    /// Its standby.
    pub standby: (Postgres, Machine),
    _customers_database: (Postgres, Machine),
    _inside: Inside,
    _programs: Machine,
    network: Network,
    workspace: Workspace,
    _place: MutexGuard<'static, ()>,
}

/// The two web nodes.
pub const WEB: [usize; 2] = [0, 1];

impl Cluster {
    /// All of it, with rows that come through every tunnel.
    pub fn start(names: &[&str]) -> Self {
        Self::with_ports(names, PORTS)
    }

    /// The same with these ports in each region.
    pub fn with_ports(names: &[&str], ports: &str) -> Self {
        let place = PLACE.lock().unwrap_or_else(PoisonError::into_inner);
        let workspace = Workspace::new();
        let network = Network::new(&workspace);
        let machine = |name: &str, third: u8, fourth: u8| {
            network.machine(&workspace, name, Ipv4Addr::new(10, 77, third, fourth))
        };

        let primary = on(machine("db-1", 0, 21), Postgres::start_on);
        let standby = on(machine("db-2", 0, 22), |address| {
            primary.0.standby_on(address)
        });
        let databases = Balancer::of_databases(
            machine("db", 0, 20),
            [&primary, &standby].map(|(postgres, machine)| (machine.address, postgres.port())),
            DATABASE_PORT,
        );
        let address = format!("{}:{DATABASE_PORT}", databases.address());
        let database = primary.0.server_database_behind(&address);
        let customers_database = on(machine("orders", 9, 5), Postgres::start_on);

        let https = certificate::for_address(address_of_pages(), &workspace.folder("https"));
        let nodes = start_nodes(names, ports, &machine, &database, &https);
        let pages = Balancer::of_pages(machine("pages", 0, 10), &[&nodes[0], &nodes[1]]);
        let programs = machine("programs", 0, 30);
        let inside = programs.enter();
        let token = nodes[0]
            .run(&["token", "create", "operator"])
            .expect_code(0);
        let operator_token = token.stdout.trim().to_owned();
        let place_of_pages = PublicPlace {
            name: PAGES,
            address: address_of_pages(),
            certificate: https.certificate.clone(),
            key: https.key.clone(),
            authority: https.authority.clone(),
        };
        let operator = Operator::at(&place_of_pages, &operator_token);

        let regions: Vec<_> = (0..names.len())
            .map(|index| region(names[index], index, ports, &nodes, &machine))
            .collect();
        let (host, port) = (
            customers_database.1.address.to_string(),
            customers_database.0.port(),
        );
        let mut tunnels = Vec::new();
        for (index, region) in regions.iter().enumerate() {
            for number in 1..=TUNNELS {
                let name = format!("{}-{number}", region.name);
                let source = operator.create_in(&region.name, &name, &host, port);
                let url = place_of_pages.url();
                let source = region
                    .customer
                    .set_up(&operator, &url, &https.authority, &source);
                tunnels.push(Tunnel {
                    source,
                    region: index,
                });
            }
        }

        let places: Vec<_> = tunnels
            .iter()
            .map(|tunnel| Place {
                name: tunnel.source.display_name.clone(),
                host: regions[tunnel.region].balancer.address().to_string(),
                port: port_of(tunnel),
            })
            .collect();
        let mut list = nodes[0].command("node");
        list.args(["list", "--json"]);
        let cluster = Cluster {
            readers: Readers::start(&programs, &places, &customers_database.0.login()),
            watcher: Watcher::start(&programs, list, api(&operator_token, &https)),
            tunnels,
            regions,
            nodes,
            operator,
            operator_token,
            balancers: [databases, pages],
            https,
            database,
            primary,
            standby,
            _customers_database: customers_database,
            _inside: inside,
            _programs: programs,
            network,
            workspace,
            _place: place,
        };
        cluster.wait_until_all_is_true();
        cluster
    }

    /// One more machine.
    pub fn machine(&self, name: &str, address: Ipv4Addr) -> Machine {
        self.network.machine(&self.workspace, name, address)
    }

    /// How its API is asked.
    pub fn api(&self) -> Api {
        api(&self.operator_token, &self.https)
    }

    /// Waits until everything is as it should be: every node is heard, every data source is active wherever that is
    /// asked, rows come through the regions' addresses and through each node itself.
    #[track_caller]
    pub fn wait_until_all_is_true(&self) {
        wait::until_true(
            "every node to be up and heard",
            LIMIT,
            || format!("{:#}\n{}", self.node_list(), self.describe()),
            || {
                let list = self.node_list();
                let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
                let is_well = |node: &Value| node["state"] == "up" && node["beat_moves"] == true;
                all.len() == self.nodes.len() && all.iter().all(is_well)
            },
        );
        let api = self.api();
        let client = api.client();
        wait::until_true(
            "every data source to be active, at each web node",
            LIMIT,
            || self.describe(),
            || {
                let mut shown = (0..2 * WEB.len()).map(|_| api.shown(&client));
                shown.all(|shown| {
                    let sources = shown.iter().filter(|(what, _)| what.starts_with("data"));
                    let states: Vec<_> = sources.map(|(_, state)| state.as_str()).collect();
                    states.len() == self.tunnels.len() && states.iter().all(|is| *is == "active")
                })
            },
        );
        for tunnel in &self.tunnels {
            for node in self.regions[tunnel.region].nodes {
                let at = &self.nodes[node];
                wait::until_true(
                    "a connection through each node of the region",
                    LIMIT,
                    || format!("{} at {}\n{}", port_of(tunnel), at.name(), self.describe()),
                    || std::net::TcpStream::connect((at.address(), port_of(tunnel))).is_ok(),
                );
            }
        }
        self.wait_for_rows();
    }

    /// Waits until rows have come through all tunnels for five seconds on end.
    #[track_caller]
    pub fn wait_for_rows(&self) {
        wait::until_true(
            "rows through all tunnels for five seconds on end",
            LIMIT,
            || self.describe(),
            || self.readers.have_been_well_for(Duration::from_secs(5)),
        );
    }

    /// Waits until `node list` shows that this node is not heard, or is.
    #[track_caller]
    pub fn wait_until_heard(&self, node: usize, heard: bool) {
        let name = self.nodes[node].name();
        wait::until_true(
            &format!("{name} to be heard: {heard}"),
            LIMIT,
            || format!("{:#}\n{}", self.node_list(), self.describe()),
            || {
                let list = self.node_list();
                let all = list.as_array().map(Vec::as_slice).unwrap_or_default();
                let own = all.iter().find(|one| one["name"] == name);
                own.is_some_and(|own| own["beat_moves"] == heard)
            },
        );
    }

    /// Waits until the other nodes have found this one dead.
    #[track_caller]
    pub fn wait_until_found_dead(&self, node: usize) {
        let name = self.nodes[node].name();
        let query = format!("SELECT count(*) FROM nodes WHERE name = '{name}' AND found_dead");
        wait::until_true(
            &format!("{name} to be declared dead"),
            LIMIT,
            || self.describe(),
            || self.as_stored().number(&query) == 1,
        );
    }

    /// The database, to look into.
    pub fn as_stored(&self) -> ServerDatabase {
        ServerDatabase::Postgres(self.database.clone())
    }

    /// The names of the tunnels that this node holds.
    pub fn held_by(&self, node: usize) -> Vec<String> {
        let query = format!(
            "SELECT s.display_name FROM sessions JOIN nodes n ON n.name = sessions.node AND n.epoch = sessions.epoch
             JOIN tunnels t ON t.id = sessions.tunnel_id JOIN data_sources s ON s.id = t.data_source_id
             WHERE n.name = '{}' ORDER BY s.display_name",
            self.nodes[node].name()
        );
        self.as_stored().texts(&query)
    }

    /// The node of this region that holds a tunnel; the one with the most, if both do.
    pub fn holder_in(&self, region: usize) -> usize {
        let nodes = self.regions[region].nodes;
        let most = nodes
            .into_iter()
            .max_by_key(|node| self.held_by(*node).len());
        most.expect("two nodes")
    }

    /// Kills a node.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Starts a node again.
    pub fn start_node(&mut self, node: usize) {
        self.nodes[node].start();
    }

    /// Starts PostgreSQL again.
    pub fn start_primary(&mut self) {
        let (postgres, machine) = &mut self.primary;
        let _inside = machine.enter();
        postgres.start_again(false);
    }

    /// `node list` as it says it to programs.
    pub fn node_list(&self) -> Value {
        let list = self.nodes[WEB[0]].run(&["node", "list", "--json"]);
        serde_json::from_str(&list.stdout).unwrap_or_default()
    }

    /// Everything that could say why something is not so.
    pub fn describe(&self) -> String {
        let mut said = vec![self.readers.describe()];
        said.extend(self.watcher.changes_since(Instant::now() - LIMIT));
        said.extend(self.regions.iter().map(|region| region.balancer.log()));
        said.extend(self.balancers.iter().map(Balancer::log));
        said.extend(self.regions.iter().map(|region| region.customer.log()));
        said.extend(self.nodes.iter().map(Node::log));
        said.join("\n")
    }
}

/// The port of a tunnel, which it has.
pub fn port_of(tunnel: &Tunnel) -> u16 {
    tunnel_of(&tunnel.source).remote_port.expect("a port")
}

fn address_of_pages() -> Ipv4Addr {
    PAGES.parse().expect("an address")
}

fn api(token: &str, https: &Certified) -> Api {
    let authority = std::fs::read(&https.authority).expect("the authority's certificate");
    Api {
        url: format!("https://{PAGES}"),
        token: token.to_owned(),
        authority: reqwest::Certificate::from_pem(&authority).expect("a certificate in PEM"),
    }
}

/// Something that is started on a machine, with that machine.
fn on<T>(machine: Machine, start: impl FnOnce(Ipv4Addr) -> T) -> (T, Machine) {
    let inside = machine.enter();
    let started = start(machine.address);
    drop(inside);
    (started, machine)
}

/// The third part of the addresses of a region.
fn third_of(region: usize) -> u8 {
    u8::try_from(region + 1).expect("few regions")
}

fn start_nodes(
    names: &[&str],
    ports: &str,
    machine: &impl Fn(&str, u8, u8) -> Machine,
    database: &PostgresDatabase,
    https: &Certified,
) -> Vec<Node> {
    let mut tunnels: Vec<Node> = Vec::new();
    for (index, region) in names.iter().enumerate() {
        for number in [1, 2] {
            let machine = machine(&format!("{region}-{number}"), third_of(index), 10 + number);
            let mut arguments = words(&format!("--public-url https://{PAGES}"));
            arguments.extend(words(&format!(
                "--role tunnel --drain-timeout 20s --region {region} --trusted-proxy 10.77.{}.10",
                third_of(index)
            )));
            let mut node = Node::new(machine, database.url(), arguments, tunnels.first());
            if number == 1 {
                add_region(&node, region, index, ports);
            }
            node.start();
            tunnels.push(node);
        }
    }
    let mut nodes = Vec::new();
    for number in [1, 2] {
        let machine = machine(&format!("web-{number}"), 0, 10 + number);
        let mut arguments = words(&format!("--public-url https://{PAGES}"));
        arguments.extend(words(&format!(
            "--role web --tls-cert {} --tls-key {}",
            https.certificate.display(),
            https.key.display()
        )));
        let mut node = Node::new(machine, database.url(), arguments, tunnels.first());
        node.start();
        nodes.push(node);
    }
    nodes.extend(tunnels);
    nodes
}

fn add_region(node: &Node, name: &str, index: usize, ports: &str) {
    let host = format!("10.77.{}.10", third_of(index));
    let add = ["region", "add", name, "--ssh-host", &host, "--ports", ports];
    node.run(&add).expect_code(0);
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn region(
    name: &str,
    index: usize,
    ports: &str,
    nodes: &[Node],
    machine: &impl Fn(&str, u8, u8) -> Machine,
) -> Region {
    let third = third_of(index);
    let first = WEB.len() + 2 * index;
    let own = [&nodes[first], &nodes[first + 1]];
    Region {
        name: name.to_owned(),
        balancer: Balancer::of_a_region(machine(&format!("{name}-in"), third, 10), &own, ports),
        nodes: [first, first + 1],
        customer: Customer::new(machine(&format!("{name}-bastion"), third, 50)),
    }
}

//! What is true at the moment of reading: nothing here can drift.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::counts::PREFIX;
use crate::server::domain::ControlPlane;
use crate::server::log;
use crate::server::store::StoreError;
use crate::server::tunnel_server::Counters;

/// A number, or numbers by one property of what they count.
#[derive(Debug)]
struct Fact {
    name: &'static str,
    help: &'static str,
    only_grows: bool,
    numbers: Numbers,
}

#[derive(Debug)]
enum Numbers {
    One(u64),
    By(&'static str, Vec<(&'static str, u64)>),
}

impl Fact {
    fn now(name: &'static str, help: &'static str, numbers: Numbers) -> Self {
        Fact {
            name,
            help,
            only_grows: false,
            numbers,
        }
    }

    fn so_far(name: &'static str, help: &'static str, numbers: Numbers) -> Self {
        Fact {
            only_grows: true,
            ..Fact::now(name, help, numbers)
        }
    }

    fn encode_one(&self, encoder: MetricEncoder<'_>, number: u64) -> fmt::Result {
        match self.only_grows {
            true => ConstCounter::new(number).encode(encoder),
            false => ConstGauge::new(number).encode(encoder),
        }
    }
}

/// What is true of the web.
#[derive(Debug, Clone, Copy)]
pub struct Web {
    /// Live streams that are open.
    pub streams: usize,
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were refused.
    pub refused: u64,
    /// Connections that made room for others.
    pub made_room: u64,
}

/// All of them.
#[derive(Debug)]
pub struct Facts(Vec<Fact>);

impl Facts {
    /// Asks for them.
    pub async fn of(control: &ControlPlane, web: Web) -> Result<Self, StoreError> {
        let enrolled = u64::from(control.store.enrolled_tunnels().await?);
        let up = whole(control.tunnels.tunnels_up());
        let tunnels = vec![
            ("up", up),
            // A tunnel may be removed between the two questions.
            ("down", enrolled.saturating_sub(up)),
        ];
        let mut facts = vec![
            Fact::now(
                "tunnels",
                "Enrolled tunnels, by whether they are up.",
                Numbers::By("state", tunnels),
            ),
            Fact::now(
                "remote_ports",
                "Ports that may be given to tunnels; each enrolled tunnel has one.",
                Numbers::One(control.ports.size().into()),
            ),
            Fact::now(
                "live_streams",
                "Streams of server-sent events that are open.",
                Numbers::One(whole(web.streams)),
            ),
            Fact::now(
                "web_connections",
                "Connections to the pages and the API that are open.",
                Numbers::One(whole(web.connections)),
            ),
            Fact::so_far(
                "web_connections_ended",
                "Web connections that found no room, or were idle and made room for others.",
                Numbers::By(
                    "reason",
                    vec![("refused", web.refused), ("made_room", web.made_room)],
                ),
            ),
            Fact::so_far(
                "log_lines_lost",
                "Lines of the log that nobody took in time, or that could not be written.",
                Numbers::One(log::lost_lines()),
            ),
        ];
        let counters = control.tunnels.counters();
        facts.extend(sessions(counters));
        facts.extend(connections(counters));
        Ok(Facts(facts))
    }

    /// A registry of these numbers, and of which program this is.
    pub fn registry(self) -> Registry {
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register(
            "build",
            "Which version this is",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(self));
        registry
    }
}

fn sessions(counters: &Counters) -> [Fact; 8] {
    let refused = &counters.refused;
    let logins = vec![
        ("key", refused.keys.get()),
        ("user", refused.users.get()),
        ("signature", refused.signatures.get()),
        ("late", refused.late_logins.get()),
        ("too_many", refused.ssh_connections.get()),
        ("too_many_of_key", refused.sessions.get()),
    ];
    let ended = vec![
        ("unused", counters.ended.unused.get()),
        ("too_many_of_key", counters.ended.replaced.get()),
        ("silent", counters.ended.silent.get()),
        ("misused", counters.ended.misused.get()),
    ];
    let forwards = vec![
        ("address", refused.addresses.get()),
        ("port", refused.ports.get()),
        ("held", refused.held_ports.get()),
        ("taken", refused.taken_ports.get()),
    ];
    [
        Fact::now(
            "ssh_sessions",
            "SSH sessions whose key is proved.",
            Numbers::One(whole(counters.sessions.get())),
        ),
        Fact::so_far(
            "ssh_sessions_ended",
            "SSH sessions that the server ended, by why.",
            Numbers::By("reason", ended),
        ),
        Fact::so_far(
            "ssh_connections_unfinished",
            "SSH connections that ended before a login, by why; refused logins are counted by themselves.",
            Numbers::By("reason", counters.unfinished.by_reason()),
        ),
        Fact::so_far(
            "forwards_paced",
            "Requests to listen, or to stop it, that had to wait since their session asked too often.",
            Numbers::One(counters.paced.get()),
        ),
        Fact::so_far(
            "takeovers",
            "Ports that passed from a silent session to a new one, or to a new key's.",
            Numbers::One(counters.takeovers.get()),
        ),
        Fact::so_far(
            "logins_refused",
            "SSH logins that were refused, by what was wrong.",
            Numbers::By("reason", logins),
        ),
        Fact::so_far(
            "forwards_refused",
            "Requests to listen that were refused, by what was wrong with the port.",
            Numbers::By("reason", forwards),
        ),
        Fact::so_far(
            "ssh_requests_refused",
            "Shells, commands and forwarding of other kinds that were refused.",
            Numbers::One(refused.other_requests.get()),
        ),
    ]
}

fn connections(counters: &Counters) -> [Fact; 4] {
    let failed = vec![
        ("unreachable", counters.unreachable.get()),
        ("too_many", counters.refused.connections.get()),
    ];
    let bytes = vec![
        ("from_bastion", counters.from_bastions.get()),
        ("to_bastion", counters.to_bastions.get()),
    ];
    [
        Fact::now(
            "forwarded_connections",
            "Connections through tunnels that are open.",
            Numbers::One(whole(counters.connections.get())),
        ),
        Fact::so_far(
            "forwarded_connections_accepted",
            "Connections to tunnels' ports.",
            Numbers::One(counters.accepted.get()),
        ),
        Fact::so_far(
            "forwarded_connections_failed",
            "Connections to tunnels' ports that came to nothing, by the reason.",
            Numbers::By("reason", failed),
        ),
        Fact::so_far(
            "forwarded_bytes",
            "Bytes carried through tunnels, by their direction.",
            Numbers::By("direction", bytes),
        ),
    ]
}

fn whole(number: usize) -> u64 {
    number.try_into().unwrap_or(u64::MAX)
}

impl Collector for Facts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for fact in &self.0 {
            let kind = match fact.only_grows {
                true => ConstCounter::new(0_u64).metric_type(),
                false => ConstGauge::new(0_u64).metric_type(),
            };
            let mut encoder = encoder.encode_descriptor(fact.name, fact.help, None, kind)?;
            match &fact.numbers {
                Numbers::One(number) => fact.encode_one(encoder, *number)?,
                Numbers::By(label, numbers) => {
                    for (value, number) in numbers {
                        let labels = [(*label, *value)];
                        fact.encode_one(encoder.encode_family(&labels)?, *number)?;
                    }
                }
            }
        }
        Ok(())
    }
}

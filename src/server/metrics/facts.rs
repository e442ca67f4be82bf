//! What is true at the moment of reading: nothing here can drift.

use std::collections::HashSet;

use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::counts::{Label, PREFIX};
use crate::server::cluster::key_table::KeyTable;
use crate::server::domain::ControlPlane;
use crate::server::log;
use crate::server::store::StoreError;

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

/// Asks for them.
pub async fn now(control: &ControlPlane, web: Web) -> Result<Registry, StoreError> {
    let enrolled = match &control.keys {
        // Readable also while the database is not.
        Some(keys) => keys.tunnels(),
        None => {
            let region = control.regions.own_name();
            control.store.enrolled_tunnels(region).await?
        }
    };
    let all_up: HashSet<_> = control.tunnels.up().into_iter().collect();
    let up = enrolled.iter().filter(|tunnel| all_up.contains(tunnel));
    let up = up.count();
    let tunnels = Family::<Label, Gauge>::default();
    for (state, number) in [("up", up), ("down", enrolled.len() - up)] {
        tunnels
            .get_or_create(&[("state", state)])
            .set(whole(number));
    }

    let mut registry = Registry::with_prefix(PREFIX);
    registry.register(
        "build",
        "Which version this is",
        Info::new([("version", env!("CARGO_PKG_VERSION"))]),
    );
    registry.register(
        "tunnels",
        "Enrolled tunnels of this server's region and those that are to move there, by whether they are up anywhere",
        tunnels,
    );
    registry.register(
        "remote_ports",
        "Ports of this server's region that may be given to tunnels; each of those tunnels has one",
        ConstGauge::new(i64::from(control.regions.own().ports.size())),
    );
    registry.register(
        "live_streams",
        "Streams of server-sent events that are open",
        ConstGauge::new(whole(web.streams)),
    );
    registry.register(
        "web_connections",
        "Connections to the pages and the API that are open",
        ConstGauge::new(whole(web.connections)),
    );
    let ended = Family::<Label, Counter>::default();
    for (reason, number) in [("refused", web.refused), ("made_room", web.made_room)] {
        ended.get_or_create(&[("reason", reason)]).inc_by(number);
    }
    registry.register(
        "web_connections_ended",
        "Web connections that found no room, or were idle and made room for others",
        ended,
    );
    if let Some(keys) = &control.keys {
        registry.register(
            "database_open",
            "Whether the database could be used since the start: 1 or 0",
            ConstGauge::new(i64::from(control.store.is_open())),
        );
        register_keys(&mut registry, keys);
    }
    registry.register(
        "log_lines_lost",
        "Lines of the log that nobody took in time, or that could not be written",
        ConstCounter::new(log::lost_lines()),
    );
    Ok(registry)
}

/// How the table stands that logins are answered from.
fn register_keys(registry: &mut Registry, keys: &KeyTable) {
    registry.register_with_unit(
        "key_table_age",
        "How long ago the keys that logins are answered from were last known to be current",
        Unit::Seconds,
        ConstGauge::new(keys.age().as_secs_f64()),
    );
    registry.register(
        "key_table_version",
        "The last change of a key that was taken over",
        ConstGauge::new(keys.version()),
    );
    registry.register(
        "key_table_keys",
        "Keys that logins are answered from",
        ConstGauge::new(whole(keys.len())),
    );
    registry.register(
        "key_table_behind",
        "Whether the database cannot be asked for changes of keys now: 1 or 0",
        ConstGauge::new(i64::from(keys.is_behind())),
    );
    registry.register(
        "stale_key_answers",
        "How often a known key was accepted without the database being asked; a login asks several times",
        ConstCounter::new(keys.answered_behind()),
    );
}

fn whole(number: usize) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

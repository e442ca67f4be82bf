//! What the cluster costs while nothing happens: processors, and what PostgreSQL reads and writes.

use std::time::Instant;

use crate::cluster::installation::{Cluster, WEB};

/// What it has cost since it began.
pub struct Costs {
    at: Instant,
    postgres: f64,
    nodes: Vec<f64>,
    counts: [i64; COUNTS.len()],
}

/// What PostgreSQL counts, and by which query.
const COUNTS: [(&str, &str); 4] = [
    (
        "transactions",
        "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()",
    ),
    (
        "rows written",
        "SELECT tup_inserted + tup_updated + tup_deleted FROM pg_stat_database WHERE datname = current_database()",
    ),
    (
        "rows read",
        "SELECT tup_returned FROM pg_stat_database WHERE datname = current_database()",
    ),
    (
        "bytes of its log",
        "SELECT CAST(pg_current_wal_lsn() - '0/0' AS bigint)",
    ),
];

impl Costs {
    /// Until now.
    pub fn of(cluster: &Cluster) -> Self {
        let stored = cluster.as_stored();
        let nodes = cluster.nodes[WEB.len()..].iter();
        Costs {
            at: Instant::now(),
            postgres: of_family(cluster.primary.0.pid()),
            nodes: nodes.map(|node| of_family(node.pid())).collect(),
            counts: COUNTS.map(|(_, query)| stored.number(query)),
        }
    }

    /// For each second from then until now.
    pub fn until_now(&self, cluster: &Cluster) -> String {
        let now = Costs::of(cluster);
        let seconds = (now.at - self.at).as_secs_f64();
        let share = |now: f64, then: f64| format!("{:.2} %", (now - then) / seconds * 100.0);
        let nodes = now.nodes.iter().zip(&self.nodes);
        let nodes: Vec<_> = nodes.map(|(now, then)| share(*now, *then)).collect();
        let counts = COUNTS.iter().zip(now.counts.iter().zip(&self.counts));
        let counts: Vec<_> = counts
            .map(|((what, _), (now, then))| format!("{:.1} {what}", (now - then) as f64 / seconds))
            .collect();
        format!(
            "a second {}; of a processor PostgreSQL takes {}, the tunnel nodes {}",
            counts.join(", "),
            share(now.postgres, self.postgres),
            nodes.join(" and ")
        )
    }
}

/// The seconds of a processor that a process and its children have taken, those included that have ended.
fn of_family(pid: u32) -> f64 {
    let own = stat(pid).map_or(0, |stat| stat.times.iter().sum());
    let processes = std::fs::read_dir("/proc").expect("/proc");
    let children = processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(stat)
        .filter(|stat| stat.parent == pid);
    let children: u64 = children.map(|stat| stat.times[0] + stat.times[1]).sum();
    (own + children) as f64 / rustix::param::clock_ticks_per_second() as f64
}

struct Stat {
    parent: u32,
    /// Its own time as a user and in the kernel, and that of its children that have ended.
    times: [u64; 4],
}

fn stat(pid: u32) -> Option<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the name, which may hold anything.
    let fields: Vec<_> = text.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        times: [number(11)?, number(12)?, number(13)?, number(14)?],
    })
}

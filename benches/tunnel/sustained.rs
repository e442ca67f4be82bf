//! What one connection carries over the long path, once every window has grown.

use std::time::Duration;

use anyhow::Context;

use crate::figures::Figures;
use crate::path::{Path, TcpBuffers};
use crate::report::{Report, mbits, none, two};
use crate::source::{Direction, quarters};
use crate::ssh::{Bastion, Route, Server, Software, Tunnel};
use crate::{AES_128_GCM, Options};

/// Some tens of round trips until TCP is at its largest.
const WARM_UP: Duration = Duration::from_secs(4);
/// How many quarters of a second are measured in each turn.
const QUARTERS: usize = 12;

pub fn measure(
    bastion: &Bastion,
    path: &Path,
    options: &Options,
    report: &mut Report,
) -> anyhow::Result<()> {
    for buffers in [TcpBuffers::Default, TcpBuffers::Large] {
        // Sockets have the size of the moment they are made: everything is made anew.
        path.set_buffers(buffers)?;
        let route = Route::Long(path);
        let source = route.source()?;
        let mut candidates = vec![("direct", route.direct(source.port), Figures::default())];
        let mut parts = Vec::new();
        for software in Software::all() {
            let server = Server::start(bastion, software)?;
            let tunnel = Tunnel::open(bastion, &server, route, 0, source.port, AES_128_GCM)?;
            candidates.push((software.name(), server.entrance(0), Figures::default()));
            // Ended in this order.
            parts.push((tunnel, server));
        }
        for _ in 0..options.turns {
            for (name, address, rates) in &mut candidates {
                let from = Direction::FromDatabase;
                let passed = quarters(*address, &source, from, WARM_UP, QUARTERS).context(*name)?;
                rates.push(passed.mean());
            }
        }
        let mut table = report.table(
            &format!(
                "Bulk from the database over {} ms, one connection, sustained; {}",
                options.one_way.as_millis() * 2,
                buffers.name()
            ),
            &["at least 0.9 of direct and 10 x sshd, if TCP's windows allow it"],
            &["Mbit/s", "x direct", "worst", "x sshd"],
        );
        let (direct, sshd) = (&candidates[0].2, &candidates[candidates.len() - 1].2);
        for (i, (name, _, rates)) in candidates.iter().enumerate() {
            let to_direct = rates.over(direct);
            let [median, worst] = match i {
                0 => [none(), none()],
                _ => [two(to_direct.median()), two(to_direct.least())],
            };
            let to_sshd = two(rates.over(sshd).median());
            table.row(name, &[mbits(rates.median()), median, worst, to_sshd]);
        }
    }
    Ok(())
}

//! Which ports are held, found by port, by tunnel and by session.
//!
//! A tunnel has one port at most, a session may have many. All three ways are look-ups: when
//! thousands of sessions end at once, none of them reads the table through.

use std::collections::HashMap;

use super::live_session::SessionId;
use crate::protocol::TunnelId;

/// A port that is held.
#[derive(Debug)]
pub(super) struct Row<H> {
    pub(super) tunnel: TunnelId,
    pub(super) session: SessionId,
    pub(super) holding: H,
}

/// The table; `H` is what is kept of each port.
#[derive(Debug)]
pub(super) struct Table<H> {
    rows: HashMap<u16, Row<H>>,
    of_tunnels: HashMap<TunnelId, u16>,
    of_sessions: HashMap<SessionId, Vec<u16>>,
}

impl<H> Default for Table<H> {
    fn default() -> Self {
        Table {
            rows: HashMap::new(),
            of_tunnels: HashMap::new(),
            of_sessions: HashMap::new(),
        }
    }
}

impl<H> Table<H> {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn get(&self, port: u16) -> Option<&Row<H>> {
        self.rows.get(&port)
    }

    pub(super) fn get_mut(&mut self, port: u16) -> Option<&mut Row<H>> {
        self.rows.get_mut(&port)
    }

    pub(super) fn tunnels(&self) -> impl Iterator<Item = TunnelId> {
        self.of_tunnels.keys().copied()
    }

    pub(super) fn port_of(&self, tunnel: TunnelId) -> Option<u16> {
        self.of_tunnels.get(&tunnel).copied()
    }

    pub(super) fn ports_of(&self, session: SessionId) -> &[u16] {
        self.of_sessions.get(&session).map_or(&[], Vec::as_slice)
    }

    /// Adds a row. The caller has looked: the port is free, and the tunnel has no other one.
    pub(super) fn insert(&mut self, port: u16, row: Row<H>) {
        self.of_tunnels.insert(row.tunnel, port);
        self.of_sessions.entry(row.session).or_default().push(port);
        self.rows.insert(port, row);
    }

    pub(super) fn remove(&mut self, port: u16) -> Option<Row<H>> {
        let row = self.rows.remove(&port)?;
        self.of_tunnels.remove(&row.tunnel);
        self.leave(row.session, port);
        Some(row)
    }

    /// Gives a port to another session.
    pub(super) fn pass(&mut self, port: u16, session: SessionId) {
        let Some(row) = self.rows.get_mut(&port) else {
            return;
        };
        let former = std::mem::replace(&mut row.session, session);
        self.leave(former, port);
        self.of_sessions.entry(session).or_default().push(port);
    }

    fn leave(&mut self, session: SessionId, port: u16) {
        if let Some(ports) = self.of_sessions.get_mut(&session) {
            ports.retain(|held| *held != port);
            if ports.is_empty() {
                self.of_sessions.remove(&session);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORMER: SessionId = SessionId(7);
    const NEXT: SessionId = SessionId(8);

    fn row(tunnel: i64, session: SessionId) -> Row<()> {
        Row {
            tunnel: TunnelId(tunnel),
            session,
            holding: (),
        }
    }

    #[test]
    fn the_three_ways_to_a_port_agree_after_every_change() {
        let mut table = Table::default();
        table.insert(20_000, row(1, FORMER));
        table.insert(20_001, row(2, FORMER));
        assert_eq!(table.port_of(TunnelId(2)), Some(20_001));
        assert_eq!(table.ports_of(FORMER), [20_000, 20_001]);

        table.pass(20_000, NEXT);
        assert_eq!(table.ports_of(FORMER), [20_001]);
        assert_eq!(table.ports_of(NEXT), [20_000]);
        assert_eq!(table.get(20_000).map(|row| row.session), Some(NEXT));

        assert_eq!(
            table.remove(20_000).map(|row| row.tunnel),
            Some(TunnelId(1))
        );
        assert_eq!(table.port_of(TunnelId(1)), None);
        assert_eq!(table.tunnels().collect::<Vec<_>>(), [TunnelId(2)]);
        assert!(table.remove(20_000).is_none());
        table.remove(20_001);
        assert_eq!(table.len(), 0);
        assert!(table.of_tunnels.is_empty() && table.of_sessions.is_empty());
    }
}

//! The bounds of the tunnel server, in one place: how many, how large, how long, and why.

use std::time::Duration;

/// The only user name that is accepted.
pub(super) const USER: &str = "tunnel";

/// The bounds that depend on the machine and on what stands in front of it; `serve` has a flag for
/// each of the numbers. [`Limits::default`] says what they are otherwise, and why.
#[derive(Debug, Clone)]
pub struct Limits {
    /// SSH connections in all, logged in or not.
    pub connections: usize,
    /// Connections that have not logged in, of all addresses together.
    pub unauthenticated: usize,
    /// Connections that have not logged in, of one address (IPv4) or one network of 64 bits (IPv6).
    pub unauthenticated_per_address: usize,
    /// Sessions of one key, beyond one for each of its tunnels.
    pub spare_sessions_per_key: usize,
    /// Connections through one session at the same time.
    pub forwarded_per_session: usize,
    /// What all windows may grow by above the first one, together, in bytes.
    pub window_memory: u64,
    /// How long a connection may take to say that it speaks SSH.
    pub identification_time: Duration,
    /// How long a connection may take to log in.
    pub login_time: Duration,
    /// How long a session may last without having been given a port.
    pub unused_session_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // Two descriptors and 34 KiB each: a gigabyte is enough.
            connections: 10_000,
            // A login takes a second or two over a long path, so that this many are some hundred
            // logins a second: ten thousand bastions are back within a minute. About 50 MB.
            unauthenticated: 1_024,
            // Many bastions may stand behind one address and come back together. It is far below
            // half of `unauthenticated`, so that one address alone never makes others feel it.
            unauthenticated_per_address: 128,
            // A bastion that lost its line comes back before the old session is known to be dead,
            // perhaps more than once, and its doctor logs in besides.
            spare_sessions_per_key: 8,
            // A pool of connections for each of many workers; each takes a descriptor and a window.
            forwarded_per_session: 512,
            window_memory: 1 << 30,
            // ssh sends its line without waiting for ours. A load balancer's health check, a
            // scanner and a browser do not, and they need not stay for as long as a login.
            identification_time: Duration::from_secs(5),
            // Seven round trips, and a key that is on a slow smart card.
            login_time: Duration::from_secs(20),
            // ssh asks for its ports as soon as it has logged in; what else logs in to see that
            // its key is accepted leaves at once. A refused forward does not end an ssh that was
            // not told to exit on it: this does, so that whoever watches it tries again.
            unused_session_time: Duration::from_secs(60),
        }
    }
}

impl Limits {
    /// From how many connections that have not logged in newcomers are refused at random: a chance
    /// of [`EARLY_DROP`] here, certainty at `unauthenticated`. As with sshd's `MaxStartups`, whoever
    /// tries again gets in at last, and those who are in the middle of it are not cut off. Silent
    /// connections make room first, so that chance decides only between those who talk.
    pub(super) fn early_drop_from(&self) -> usize {
        self.unauthenticated / 2
    }

    pub(super) fn check(&self) -> anyhow::Result<()> {
        let all = [
            self.connections,
            self.unauthenticated,
            self.unauthenticated_per_address,
            self.spare_sessions_per_key,
            self.forwarded_per_session,
        ];
        anyhow::ensure!(
            !all.contains(&0) && self.window_memory > 0,
            "a bound of the tunnel server is zero, so that nothing could connect"
        );
        anyhow::ensure!(
            self.unauthenticated <= self.connections,
            "{} SSH connections that have not logged in (--ssh-logins) are more than the {} in all \
             (--ssh-connections)",
            self.unauthenticated,
            self.connections
        );
        anyhow::ensure!(
            self.unauthenticated_per_address <= self.unauthenticated,
            "{} SSH connections of one address that have not logged in (--ssh-logins-per-address) are \
             more than the {} of all addresses (--ssh-logins)",
            self.unauthenticated_per_address,
            self.unauthenticated
        );
        Ok(())
    }
}

/// See [`Limits::early_drop_from`].
pub(super) const EARLY_DROP: f64 = 0.3;

/// How long a connection that has said that it speaks SSH has for its login before it may have to
/// make room for a newcomer. An honest login is done by then.
pub(super) const LOGIN_UNDISTURBED: Duration = Duration::from_secs(5);

/// How many of those that could make room are looked at for a newcomer, so that many who have just
/// spoken do not slow accepting down.
pub(super) const LOOKED_AT: usize = 16;

/// How many forwards and cancels a session may ask for at once, beyond two for each of its key's
/// tunnels: an ssh with many `-R` starts without a pause.
pub(super) const FORWARDS_AT_ONCE: u32 = 32;

/// How many more it may ask for each second. Each is written to the log and to the database.
pub(super) const FORWARDS_PER_SECOND: f64 = 5.0;

/// How many lines of one kind about one peer stand in the log at once, and how often another.
pub(super) const LINES_AT_ONCE: u32 = 5;
/// See [`LINES_AT_ONCE`].
pub(super) const LINES_PER_SECOND: f64 = 1.0 / 30.0;

/// How often the log is told how many lines were left out.
pub(super) const LINES_TOLD: Duration = Duration::from_secs(45);

/// How many kinds of lines and peers are told apart; all others share what one is given.
pub(super) const LINES_APART: usize = 2_048;

/// How many of a connection's first bytes are kept until it has logged in: one line of SSH.
pub(super) const FIRST_BYTES: usize = 255;

/// How much of what a stranger sent is shown in the log, in characters.
pub(super) const QUOTED: usize = 160;

/// Rejected attempts before a connection is closed. A bastion has one key.
pub(super) const AUTHENTICATION_ATTEMPTS: usize = 6;

/// How often one connection may ask about keys, or prove one, before all is refused unseen: an
/// accepted question is no rejected attempt, whoever asks it, and each is looked up.
pub(super) const QUESTIONS: usize = 2 * AUTHENTICATION_ATTEMPTS;

/// How long a rejection takes, so that guessing is slow and says nothing.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(300);

/// How long the key authority may take before the answer counts as no.
pub(super) const AUTHORITY_TIME: Duration = Duration::from_secs(5);

/// How often a quiet client is asked for a sign of life, and how many may stay unanswered: a dead
/// peer is found after 27 s. A tunnel whose line was lost without a word is down within 30 s.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(9);
/// See [`KEEPALIVE_INTERVAL`].
pub(super) const KEEPALIVES_UNANSWERED: usize = 2;

/// How long sent bytes may stay unacknowledged by the client's kernel. Keepalives cannot find a
/// dead peer while the server waits to write to it; this can, within the same time.
#[cfg(target_os = "linux")]
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(27);

/// How long is waited for a trusted proxy's header before the connection counts as its own: load balancers
/// send it with the first packet, and a client may be waiting for the server's first word.
pub(super) const PROXY_SILENCE: Duration = Duration::from_secs(2);

/// How long the holder of a port has to show that it is alive when another session asks for it.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long a port that should be free may still be bound: the last listener is being closed.
pub(super) const REBIND_TIME: Duration = Duration::from_millis(500);

/// How long a session that is being closed has to be told why.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);

/// How long all of them have, when the server ends.
pub(super) const END: Duration = Duration::from_secs(2);

/// How long a bastion may take to reach the database for a new connection.
pub(super) const CHANNEL_OPEN_TIME: Duration = Duration::from_secs(30);

/// Keys are exchanged again after so many bytes in one direction. OpenSSH's own limit for AES is
/// 64 GiB; clients that want it earlier (for chacha20-poly1305, say) ask for it themselves.
pub(super) const REKEY_BYTES: usize = 32 << 30;

/// The largest packet a client may send, in bytes of data.
pub(super) const PACKET: u32 = 64 << 10;

/// The window every channel starts with. None of the window sizes is a multiple of a packet
/// size, so that a packet which ends exactly at a window's edge was cut there (`window.rs`).
pub(super) const WINDOW_AT_FIRST: u32 = (256 << 10) - 1;

/// The window a channel gets when it has use for more: what OpenSSH gives to every channel.
pub(super) const WINDOW_COMMON: u32 = (2 << 20) - 1;

/// The largest window: 2.5 Gbit/s at 100 ms.
pub(super) const WINDOW_LARGEST: u32 = (32 << 20) - 1;

/// What the windows of one session may grow by above [`WINDOW_COMMON`], together, in bytes.
pub(super) const WINDOW_BUDGET_PER_SESSION: u64 = 96 << 20;

/// How often a bastion that carries data is asked for a sign of life, to measure the round trip.
pub(super) const ROUND_TRIP_ASKED: Duration = Duration::from_secs(15);

/// How long the shortest round trip counts: paths change, and an answer that had to wait in a queue
/// is no longer path.
pub(super) const ROUND_TRIP_REMEMBERED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_bounds_fit_each_other() {
        Limits::default().check().unwrap();
    }

    #[test]
    fn bounds_that_let_nothing_in_are_refused() {
        for wrong in [
            Limits {
                connections: 0,
                ..Limits::default()
            },
            Limits {
                unauthenticated_per_address: 2_000,
                ..Limits::default()
            },
            Limits {
                connections: 100,
                ..Limits::default()
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}

//! The bounds of the tunnel server, in one place: how many, how large, how long.

use std::time::Duration;

/// The only user name that is accepted.
pub(super) const USER: &str = "tunnel";

/// Connections that have not authenticated yet; one more is closed at once.
pub(super) const UNAUTHENTICATED_CONNECTIONS: usize = 256;

/// Connections in all.
pub(super) const CONNECTIONS: usize = 10_000;

/// How long a connection may take to authenticate.
pub(super) const LOGIN_GRACE: Duration = Duration::from_secs(20);

/// Rejected attempts before a connection is closed. A bastion has one key.
pub(super) const AUTHENTICATION_ATTEMPTS: usize = 6;

/// How long a rejection takes, so that guessing is slow and says nothing.
pub(super) const REJECTION_TIME: Duration = Duration::from_millis(300);

/// How long the key authority may take before the answer counts as no.
pub(super) const AUTHORITY_TIME: Duration = Duration::from_secs(5);

/// How often a quiet client is asked for a sign of life, and how many may stay unanswered:
/// a dead peer is found after 45 s.
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// See [`KEEPALIVE_INTERVAL`].
pub(super) const KEEPALIVES_UNANSWERED: usize = 2;

/// How long sent bytes may stay unacknowledged by the client's kernel. Keepalives cannot find a
/// dead peer while the server waits to write to it; this can.
#[cfg(target_os = "linux")]
pub(super) const UNACKNOWLEDGED: Duration = Duration::from_secs(45);

/// How long the holder of a port has to show that it is alive when another session asks for it.
pub(super) const SIGN_OF_LIFE: Duration = Duration::from_secs(2);

/// How long a port that should be free may still be bound: the last listener is being closed.
pub(super) const REBIND_TIME: Duration = Duration::from_millis(500);

/// How long a session that is being closed has to be told why.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);

/// Connections through one session at the same time.
pub(super) const FORWARDED_PER_SESSION: usize = 512;

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

/// What all windows may grow by above [`WINDOW_AT_FIRST`], together, in bytes.
pub(super) const WINDOW_BUDGET_IN_ALL: u64 = 1 << 30;

/// How often a bastion that carries data is asked for a sign of life, to measure the round trip.
pub(super) const ROUND_TRIP_ASKED: Duration = Duration::from_secs(15);

/// How long the shortest round trip counts: paths change, and an answer that had to wait in a queue
/// is no longer path.
pub(super) const ROUND_TRIP_REMEMBERED: Duration = Duration::from_secs(60);

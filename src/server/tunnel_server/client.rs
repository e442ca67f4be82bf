//! What an SSH client may do here: prove an enrolled key, and listen on that key's own ports.
//!
//! Whatever is not answered in this file is refused by `russh`'s default: agent, passwords,
//! certificates. Sessions (and with them shell, exec, subsystem), X11, direct-tcpip and stream-local are
//! refused in the same way, by an answer that is dropped, and counted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::counters::Token;
use super::delivery::Deliveries;
use super::key_sessions::{Entry, KeySessions, Place};
use super::limits::{self, Limits};
use super::live_session::{LiveSession, ProvedKey, SessionId};
use super::log_lines::{Kind, LogLines};
use super::opening::{Opening, quote};
use super::pace::Pace;
use super::ports::OwnPorts;
use super::ports::Ports;
use super::socket::Socket;
use super::window::Budget;
use super::{Grant, KeyAuthority};

/// What all clients share.
pub(super) struct Shared {
    pub(super) keys: Arc<dyn KeyAuthority>,
    pub(super) ports: Arc<Ports>,
    pub(super) sessions: Arc<KeySessions>,
    pub(super) log_lines: Arc<LogLines>,
    pub(super) limits: Limits,
}

/// The `russh` side of one connection.
pub(super) struct Client {
    id: SessionId,
    peer: SocketAddr,
    socket: Arc<Socket>,
    deliveries: Arc<Deliveries>,
    own_ports: OwnPorts,
    shared: Arc<Shared>,
    opening: Arc<Opening>,
    /// How often it has asked about a key, or proved one.
    judged: usize,
    proved: Option<(ProvedKey, usize)>,
    live: Option<Arc<LiveSession>>,
    /// How often it may ask for forwards and cancels.
    pace: Pace,
    /// Its place among the sessions of its key, once that is proved.
    place: Option<Place>,
    /// Counts it among the open sessions, once its key is proved.
    open: Option<Token>,
    /// Told once, when the key is proved.
    authenticated: Option<oneshot::Sender<Arc<LiveSession>>>,
}

impl Client {
    pub(super) fn new(
        id: SessionId,
        peer: SocketAddr,
        socket: Arc<Socket>,
        deliveries: Arc<Deliveries>,
        shared: Arc<Shared>,
        opening: Arc<Opening>,
        authenticated: oneshot::Sender<Arc<LiveSession>>,
    ) -> Self {
        Client {
            id,
            peer,
            socket,
            deliveries,
            own_ports: OwnPorts::new(&shared.ports, id),
            shared,
            opening,
            judged: 0,
            proved: None,
            live: None,
            pace: pace(0),
            place: None,
            open: None,
            authenticated: Some(authenticated),
        }
    }

    async fn judge(&mut self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Verdict {
        const KIND: Kind = "a login was refused";
        self.judged += 1;
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let counters = &self.shared.ports.counters().refused;
        let refused = |count: &Counter, why: &str| {
            count.inc();
            self.opening.login_refused();
            if let Some(more) = self.shared.log_lines.may(KIND, self.peer) {
                info!(peer = %self.peer, key = %fingerprint, "refused a login: {why}{more}");
            }
            Verdict::Refused
        };
        if self.judged > limits::QUESTIONS {
            return refused(&counters.keys, "it asks about keys again and again");
        }
        if user != limits::USER {
            return refused(&counters.users, "the user is not \"tunnel\"");
        }
        if matches!(algorithm, Algorithm::Rsa { hash: None }) {
            return refused(
                &counters.signatures,
                "signatures with SHA-1 are not accepted",
            );
        }
        let Ok(line) = key.to_openssh() else {
            return refused(&counters.keys, "the key has no one-line form");
        };
        // The form with a comment would be another text for the same key.
        let line = line.split(' ').take(2).collect::<Vec<_>>().join(" ");
        let mut tunnels = self.grants(&line).await.len();
        if tunnels == 0 && self.shared.keys.catch_up().await {
            tunnels = self.grants(&line).await.len();
        }
        if tunnels == 0 {
            return refused(&counters.keys, "the key is not enrolled");
        }
        Verdict::Enrolled(ProvedKey { line, fingerprint }, tunnels)
    }

    /// Takes its place among the sessions of its key.
    ///
    /// # Errors
    /// They are as many as there may be, and each holds a port.
    fn enter(&mut self, live: &Arc<LiveSession>, tunnels: usize) -> Result<(), russh::Error> {
        const REPLACED: Kind = "a key's oldest SSH session without a port was ended";
        const REFUSED: Kind = "a key has too many SSH sessions";
        let Shared {
            ports,
            sessions,
            limits,
            ..
        } = self.shared.as_ref();
        let bound = tunnels.saturating_add(limits.spare_sessions_per_key);
        match sessions.enter(live, bound, |session| ports.has_one(session.id)) {
            Entry::Entered(place) => self.place = Some(place),
            Entry::Replaced(place, oldest) => {
                ports.counters().ended.replaced.inc();
                if let Some(more) = live.may_log(REPLACED) {
                    info!(session = %oldest, bound, "too many sessions of one key: the oldest without a port is ended{more}");
                }
                oldest.close("too many sessions of this key; this one held no port");
                self.place = Some(place);
            }
            Entry::Refused => {
                ports.counters().refused.sessions.inc();
                self.opening.login_refused();
                if let Some(more) = live.may_log(REFUSED) {
                    warn!(session = %live, bound, "too many sessions of one key: one is refused{more}");
                }
                return Err(russh::Error::Disconnect);
            }
        }
        Ok(())
    }

    /// Waits until the session may ask for a forward or a cancel again. Whoever asks for its sign of
    /// life meanwhile must not take it for dead.
    async fn wait_for_pace(&mut self) {
        let wait = self.pace.take(Instant::now());
        if !wait.is_zero() {
            self.shared.ports.counters().paced.inc();
            tokio::time::sleep(wait).await;
        }
    }

    /// The ports of a key; none if the authority cannot tell.
    async fn grants(&self, key: &str) -> Vec<Grant> {
        const KIND: Kind = "a key could not be looked up";
        match timeout(limits::AUTHORITY_TIME, self.shared.keys.grants(key)).await {
            Ok(Ok(grants)) => grants,
            Ok(Err(e)) => {
                if let Some(more) = self.shared.log_lines.may(KIND, self.peer) {
                    warn!(peer = %self.peer, "cannot look up a key, so it is refused: {e:#}{more}");
                }
                Vec::new()
            }
            Err(_) => {
                if let Some(more) = self.shared.log_lines.may(KIND, self.peer) {
                    warn!(peer = %self.peer, "looking up a key took too long, so it is refused{more}");
                }
                Vec::new()
            }
        }
    }

    fn refuse_other(&self, what: &str) {
        const KIND: Kind = "a request was refused";
        self.shared.ports.counters().refused.other_requests.inc();
        let Some(session) = &self.live else { return };
        if let Some(more) = session.may_log(KIND) {
            info!(%session, "refused {what}{more}");
        }
    }

    async fn grant(&self, key: &ProvedKey, port: u32) -> Option<Grant> {
        let grants = self.grants(&key.line).await;
        grants.into_iter().find(|g| u32::from(g.port) == port)
    }

    async fn forward(&self, session: &Arc<LiveSession>, address: &str, port: u32) -> bool {
        const KIND: Kind = "a request to listen was refused";
        let may_log = || session.may_log(KIND);
        let refused = &self.shared.ports.counters().refused;
        if !is_forward_address(address, self.shared.ports.address()) {
            refused.addresses.inc();
            if let Some(more) = may_log() {
                let address = quote(address.as_bytes());
                info!(%session, address, port, "refused to listen: only the forward address is offered{more}");
            }
            return false;
        }
        let mut grant = self.grant(&session.key, port).await;
        // A bastion may be quicker here than what it has just been given.
        if grant.is_none() && self.shared.keys.catch_up().await {
            grant = self.grant(&session.key, port).await;
        }
        let Some(grant) = grant else {
            refused.ports.inc();
            if let Some(more) = may_log() {
                info!(%session, port, "refused to listen: the port is not this key's{more}");
            }
            return false;
        };
        if let Err(refusal) = self.own_ports.claim(grant, session, address).await {
            if let Some(more) = may_log() {
                warn!(%session, port, tunnel = grant.tunnel_id.0, "refused to listen: {refusal}{more}");
            }
            return false;
        }
        // The tunnel may have been removed, or its key replaced, before the port was held: whoever
        // did it has found nothing to close, so it is asked again. No answer is taken for a no here
        // too: a bastion comes again, but nobody would close a tunnel that is gone.
        let still = self.grant(&session.key, port).await;
        if still.is_some_and(|still| still.tunnel_id == grant.tunnel_id) {
            return true;
        }
        self.own_ports.release(grant.port).await;
        refused.ports.inc();
        warn!(%session, port, tunnel = grant.tunnel_id.0, "refused to listen: the port is no longer this key's");
        false
    }
}

impl Drop for Client {
    /// It is dropped with its session, however that ends.
    fn drop(&mut self) {
        self.deliveries.session_ended();
    }
}

enum Verdict {
    /// With how many tunnels.
    Enrolled(ProvedKey, usize),
    Refused,
}

/// Whether an address means the configured forward address: one of the names that always do, or
/// that address itself in any notation. The client is told the one it asked for, since it knows its
/// forwards by it.
fn is_forward_address(asked: &str, forward: IpAddr) -> bool {
    if matches!(asked, "" | "*" | "localhost" | "127.0.0.1") {
        return true;
    }
    asked.parse::<IpAddr>().is_ok_and(|asked| {
        asked.to_canonical() == forward.to_canonical()
            || (asked.is_unspecified() && forward.is_unspecified())
    })
}

fn pace(tunnels: usize) -> Pace {
    let twice = u32::try_from(tunnels.saturating_mul(2)).unwrap_or(u32::MAX);
    let at_once = twice.saturating_add(limits::FORWARDS_AT_ONCE);
    Pace::new(at_once, limits::FORWARDS_PER_SECOND, Instant::now())
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let verdict = Box::pin(self.judge(user, offer.public_key, offer.algorithm)).await;
        match verdict {
            Verdict::Enrolled(..) => Ok(Auth::Accept),
            Verdict::Refused => Ok(Auth::reject()),
        }
    }

    async fn auth_publickey(
        &mut self,
        user: &str,
        key: VerifiedPublicKey<'_>,
    ) -> Result<Auth, Self::Error> {
        let verdict = Box::pin(self.judge(user, key.public_key, key.algorithm)).await;
        match verdict {
            Verdict::Enrolled(key, tunnels) => {
                self.proved = Some((key, tunnels));
                Ok(Auth::Accept)
            }
            Verdict::Refused => Ok(Auth::reject()),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let (key, tunnels) = self.proved.take().ok_or(russh::Error::Inconsistent)?;
        let live = Arc::new(LiveSession {
            id: self.id,
            handle: session.handle(),
            scheduler: Handle::current(),
            slots: Arc::new(Semaphore::new(self.shared.limits.forwarded_per_session)),
            window_budget: Budget::per_session(),
            round_trip: Arc::default(),
            deliveries: Arc::clone(&self.deliveries),
            socket: Arc::clone(&self.socket),
            peer: self.peer,
            key,
            since: jiff::Timestamp::now(),
            was_given_a_port: AtomicBool::new(false),
            log_lines: Arc::clone(&self.shared.log_lines),
            waits_for_us: AtomicBool::new(false),
        });
        self.enter(&live, tunnels)?;
        self.opening.forget();
        self.pace = pace(tunnels);
        self.open = Some(self.shared.ports.counters().sessions.enter());
        if let Some(authenticated) = self.authenticated.take() {
            let _ = authenticated.send(Arc::clone(&live));
        }
        self.live = Some(live);
        Ok(())
    }

    async fn tcpip_forward(
        &mut self,
        address: &str,
        port: &mut u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        let session = Arc::clone(self.live.as_ref().ok_or(russh::Error::Inconsistent)?);
        let _waits = session.wait_for_us();
        self.wait_for_pace().await;
        let listening = Box::pin(self.forward(&session, address, *port)).await;
        session
            .was_given_a_port
            .fetch_or(listening, Ordering::Relaxed);
        Ok(listening)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        _: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
        self.wait_for_pace().await;
        match u16::try_from(port) {
            Ok(port) => Ok(Box::pin(self.own_ports.release(port)).await),
            Err(_) => Ok(false),
        }
    }

    async fn channel_open_confirmation(
        &mut self,
        id: ChannelId,
        _: u32,
        _: u32,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.deliveries.confirmed(id);
        Ok(())
    }

    async fn data(
        &mut self,
        id: ChannelId,
        data: &Bytes,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.deliveries.arrived(id, data.clone());
        Ok(())
    }

    async fn channel_eof(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.deliveries.said_everything(id);
        Ok(())
    }

    async fn channel_close(&mut self, id: ChannelId, _: &mut Session) -> Result<(), Self::Error> {
        self.deliveries.closed(id);
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        // Counted, and no line for the log: a bastion's doctor asks for one to see its key accepted.
        self.shared.ports.counters().refused.other_requests.inc();
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_other("X11");
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_other("a connection from here to elsewhere");
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_other("a connection that only a server opens");
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        self.refuse_other("a connection to a socket here");
        Ok(())
    }

    async fn streamlocal_forward(&mut self, _: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.refuse_other("to listen on a socket here");
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notation_of_the_forward_address_is_accepted_and_no_other_address() {
        for (forward, accepted, refused) in [
            (
                "127.0.0.1",
                &["::ffff:127.0.0.1"][..],
                &["::1", "0.0.0.0", "::", "10.0.0.5"][..],
            ),
            (
                "::1",
                &["::1", "0:0:0:0:0:0:0:1"],
                &["::", "0.0.0.0", "::2"],
            ),
            ("0.0.0.0", &["0.0.0.0", "::"], &["10.0.0.5", "::1"]),
            ("::", &["::", "0.0.0.0"], &["::1", "10.0.0.5"]),
            ("10.0.0.5", &["10.0.0.5"], &["10.0.0.50", "0.0.0.0", "::1"]),
            (
                "fd00::5",
                &["fd00:0:0::5", "FD00::5"],
                &["fd00::50", "db.example.com"],
            ),
        ] {
            let means = |asked: &str| is_forward_address(asked, forward.parse().unwrap());
            let always = ["", "*", "localhost", "127.0.0.1"];
            for asked in always.iter().chain(accepted) {
                assert!(means(asked), "{asked:?} should mean {forward}");
            }
            for asked in refused {
                assert!(!means(asked), "{asked:?} should not mean {forward}");
            }
        }
    }
}

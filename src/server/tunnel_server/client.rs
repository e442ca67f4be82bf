//! What an SSH client may do here: prove an enrolled key, and listen on that key's own ports.
//!
//! Whatever is not answered in this file is refused by `russh`'s default: agent, passwords,
//! certificates. Sessions (and with them shell, exec, subsystem), X11, direct-tcpip and stream-local are
//! refused in the same way, by an answer that is dropped, and counted.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use russh::keys::{Algorithm, HashAlg, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey,
};
use russh::{Channel, ChannelId};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::timeout;
use tracing::{info, warn};

use super::counters::{Count, Token};
use super::delivery::Deliveries;
use super::limits;
use super::live_session::{LiveSession, ProvedKey, SessionId};
use super::ports::{OwnPorts, Ports};
use super::socket::Socket;
use super::window::Budget;
use super::{Grant, KeyAuthority};

/// The `russh` side of one connection.
pub(super) struct Client {
    id: SessionId,
    peer: SocketAddr,
    socket: Arc<Socket>,
    deliveries: Arc<Deliveries>,
    keys: Arc<dyn KeyAuthority>,
    ports: Arc<Ports>,
    own_ports: OwnPorts,
    proved: Option<ProvedKey>,
    live: Option<Arc<LiveSession>>,
    /// Counts it among the open sessions, once its key is proved.
    open: Option<Token>,
    /// Told once, when the key is proved.
    authenticated: Option<oneshot::Sender<()>>,
}

impl Client {
    pub(super) fn new(
        id: SessionId,
        peer: SocketAddr,
        socket: Arc<Socket>,
        deliveries: Arc<Deliveries>,
        keys: Arc<dyn KeyAuthority>,
        ports: Arc<Ports>,
        authenticated: oneshot::Sender<()>,
    ) -> Self {
        Client {
            id,
            peer,
            socket,
            deliveries,
            keys,
            own_ports: OwnPorts::new(&ports, id),
            ports,
            proved: None,
            live: None,
            open: None,
            authenticated: Some(authenticated),
        }
    }

    async fn judge(&self, user: &str, key: &PublicKey, algorithm: &Algorithm) -> Verdict {
        let fingerprint = key.fingerprint(HashAlg::Sha256).to_string();
        let counters = &self.ports.counters().refused;
        let refused = |count: &Count, why: &str| {
            count.one();
            info!(peer = %self.peer, key = %fingerprint, "refused a login: {why}");
            Verdict::Refused
        };
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
        if self.grants(&line).await.is_empty() {
            return refused(&counters.keys, "the key is not enrolled");
        }
        Verdict::Enrolled(ProvedKey { line, fingerprint })
    }

    /// The ports of a key; none if the authority cannot tell.
    async fn grants(&self, key: &str) -> Vec<Grant> {
        match timeout(limits::AUTHORITY_TIME, self.keys.grants(key)).await {
            Ok(Ok(grants)) => grants,
            Ok(Err(e)) => {
                warn!(peer = %self.peer, "cannot look up a key, so it is refused: {e:#}");
                Vec::new()
            }
            Err(_) => {
                warn!(peer = %self.peer, "looking up a key took too long, so it is refused");
                Vec::new()
            }
        }
    }

    fn refuse_other(&self, what: &str) {
        self.ports.counters().refused.other_requests.one();
        info!(peer = %self.peer, "refused {what}");
    }

    /// What a key is granted of a port.
    async fn grant(&self, key: &ProvedKey, port: u32) -> Option<Grant> {
        let grants = self.grants(&key.line).await;
        grants.into_iter().find(|g| u32::from(g.port) == port)
    }

    async fn forward(&self, session: &Arc<LiveSession>, address: &str, port: u32) -> bool {
        let refused = &self.ports.counters().refused;
        if !is_forward_address(address, self.ports.address()) {
            refused.addresses.one();
            info!(%session, address, port, "refused to listen: only the forward address is offered");
            return false;
        }
        let Some(grant) = self.grant(&session.key, port).await else {
            refused.ports.one();
            info!(%session, port, "refused to listen: the port is not this key's");
            return false;
        };
        if let Err(refusal) = self.own_ports.claim(grant, session, address).await {
            warn!(%session, port, tunnel = grant.tunnel_id, "refused to listen: {refusal}");
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
        refused.ports.one();
        warn!(%session, port, tunnel = grant.tunnel_id, "refused to listen: the port is no longer this key's");
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
    Enrolled(ProvedKey),
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

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(
        &mut self,
        user: &str,
        offer: PublicKeyOffer<'_>,
    ) -> Result<Auth, Self::Error> {
        let verdict = Box::pin(self.judge(user, offer.public_key, offer.algorithm)).await;
        match verdict {
            Verdict::Enrolled(_) => Ok(Auth::Accept),
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
            Verdict::Enrolled(key) => {
                self.proved = Some(key);
                Ok(Auth::Accept)
            }
            Verdict::Refused => Ok(Auth::reject()),
        }
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), Self::Error> {
        let key = self.proved.take().ok_or(russh::Error::Inconsistent)?;
        self.live = Some(Arc::new(LiveSession {
            id: self.id,
            handle: session.handle(),
            slots: Arc::new(Semaphore::new(limits::FORWARDED_PER_SESSION)),
            window_budget: Budget::per_session(),
            round_trip: Arc::default(),
            deliveries: Arc::clone(&self.deliveries),
            socket: Arc::clone(&self.socket),
            peer: self.peer,
            key,
            since: jiff::Timestamp::now(),
            waits_for_us: AtomicBool::new(false),
        }));
        self.open = Some(self.ports.counters().sessions.enter());
        if let Some(authenticated) = self.authenticated.take() {
            let _ = authenticated.send(());
        }
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
        Ok(Box::pin(self.forward(&session, address, *port)).await)
    }

    async fn cancel_tcpip_forward(
        &mut self,
        _: &str,
        port: u32,
        _: &mut Session,
    ) -> Result<bool, Self::Error> {
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
        self.ports.counters().refused.other_requests.one();
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

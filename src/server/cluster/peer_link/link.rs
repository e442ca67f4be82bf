//! The link to one node at one address: the connections that are kept open and unused, the turns for new
//! ones, and whether the node has answered lately.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Address;
use super::client::{Answered, NoAnswer};
use super::stream::{PeerStream, set_options};
use super::tls;
use super::wire::{Answer, Request};

/// How long a node may take for its answer, a handshake included.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(1);

/// For how long a node that has not answered is suspect at least.
const SUSPECT_TIME: Duration = Duration::from_secs(3);

/// How many connections to the node are kept open and unused.
const WARM: usize = 4;

/// For how long; a path may be forgotten by what is on it, and the other node ends it at last.
const WARM_TIME: Duration = Duration::from_secs(45);

/// How many handshakes with the node may be under way.
pub(super) const HANDSHAKES: usize = 64;

/// How long is waited for one of these turns. It says nothing of the node.
pub(super) const TURN_TIME: Duration = Duration::from_secs(5);

pub(super) struct Link {
    tls: Arc<ClientConfig>,
    address: Address,
    handshakes: Semaphore,
    state: Mutex<State>,
    /// Told when the node has not answered.
    has_not_answered: Notify,
    suspects: Gauge,
}

#[derive(Default)]
struct State {
    warm: Vec<Warm>,
    suspect: Option<Suspect>,
    /// Whether somebody opens connections to be kept.
    is_refilled: bool,
    /// The first to be tried where the node has several.
    answered_last: Option<SocketAddr>,
}

/// A connection without a request.
struct Warm {
    stream: TlsStream<TcpStream>,
    since: Instant,
}

/// That the node has not answered; counted as long as it is so.
struct Suspect {
    since: Instant,
    all: Gauge,
}

impl Link {
    /// To whoever has the key that this configuration expects; suspects are counted in the gauge.
    pub(super) fn new(tls: Arc<ClientConfig>, address: &str, suspects: Gauge) -> Arc<Self> {
        Arc::new(Link {
            tls,
            address: Address::new(address),
            handshakes: Semaphore::new(HANDSHAKES),
            state: Mutex::default(),
            has_not_answered: Notify::new(),
            suspects,
        })
    }

    pub(super) fn is_suspect(&self) -> bool {
        self.state().suspect.is_some()
    }

    /// Asks the node; it is suspect from now on or not, as it answers.
    pub(super) async fn ask(self: &Arc<Self>, request: &Request) -> Result<Answered, NoAnswer> {
        let answered = match timeout(ANSWER_TIME, self.ask_on_kept(request)).await {
            Ok(Some(answered)) => Ok(answered),
            Ok(None) => self.ask_on_new(request).await,
            Err(_) => Err(NoAnswer::Late),
        };
        self.note(&answered);
        answered
    }

    /// Asks on a connection that is kept, if there is one that has not ended.
    async fn ask_on_kept(self: &Arc<Self>, request: &Request) -> Option<Answered> {
        loop {
            let kept = self.state().warm.pop()?;
            self.refill();
            // One that has ended meanwhile says nothing of the node as it is now.
            if let Ok(answered) = exchange(kept.stream, request).await {
                return Some(answered);
            }
        }
    }

    async fn ask_on_new(&self, request: &Request) -> Result<Answered, NoAnswer> {
        let _turn = self.turn().await?;
        self.ask_in_turn(request).await
    }

    async fn ask_in_turn(&self, request: &Request) -> Result<Answered, NoAnswer> {
        let ask = async |socket| exchange(self.shake_hands(socket).await?, request).await;
        self.in_time(ask).await
    }

    /// Waits for a turn. Whoever waits while others get no answer would get none either.
    async fn turn(&self) -> Result<SemaphorePermit<'_>, NoAnswer> {
        let others_in_vain = self.has_not_answered.notified();
        tokio::select! {
            biased;
            turn = timeout(TURN_TIME, self.handshakes.acquire()) => match turn {
                Ok(turn) => turn.map_err(|closed| NoAnswer::Failed(io::Error::other(closed))),
                Err(_) => Err(NoAnswer::NoTurn),
            },
            () = others_in_vain => Err(NoAnswer::NoTurn),
        }
    }

    /// What begins with a connection, which has a second from here: neither a turn nor a name is waited for in it.
    async fn in_time<T>(
        &self,
        step: impl AsyncFnOnce(TcpStream) -> io::Result<T>,
    ) -> Result<T, NoAnswer> {
        let mut addresses = self.address.resolve().await?;
        let answered_last = self.state().answered_last;
        addresses.sort_by_key(|address| Some(*address) != answered_last);
        let connected = async {
            let (address, socket) = connect(&addresses).await?;
            Ok::<_, io::Error>((address, step(socket).await?))
        };
        match timeout(ANSWER_TIME, connected).await {
            Ok(done) => {
                let (address, done) = done?;
                self.state().answered_last = Some(address);
                Ok(done)
            }
            Err(_) => Err(NoAnswer::Late),
        }
    }

    async fn shake_hands(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        set_options(&socket);
        let connector = TlsConnector::from(Arc::clone(&self.tls));
        connector.connect(tls::name(), socket).await
    }

    fn note<T>(&self, answered: &Result<T, NoAnswer>) {
        match answered {
            Ok(_) => self.state().suspect = None,
            Err(NoAnswer::NoTurn) => {}
            Err(NoAnswer::Late | NoAnswer::Failed(_)) => {
                self.address.doubt();
                self.state().has_not_answered(&self.suspects);
                self.has_not_answered.notify_waiters();
            }
        }
    }

    /// Opens as many connections as there should be, one after the other, beside everything else.
    pub(super) fn refill(self: &Arc<Self>) {
        {
            let mut state = self.state();
            let suspect = state.suspect.as_ref();
            let is_recent = suspect.is_some_and(|it| it.since.elapsed() < SUSPECT_TIME);
            if is_recent || state.warm.len() >= WARM || state.is_refilled {
                return;
            }
            state.is_refilled = true;
        }
        let link = Arc::clone(self);
        tokio::spawn(async move {
            while link.has_room() && link.keep_another().await {}
            link.state().is_refilled = false;
        });
    }

    fn has_room(&self) -> bool {
        self.state().warm.len() < WARM
    }

    /// Opens a connection to be kept, or sees whether a suspect is back.
    async fn keep_another(&self) -> bool {
        let Ok(_turn) = self.turn().await else {
            return false;
        };
        if self.is_suspect() {
            // With TLS 1.3 a finished handshake does not say yet that the other side lets us in: its answer does.
            let answered = self.ask_in_turn(&Request::NOTHING).await;
            self.note(&answered);
            return answered.is_ok();
        }
        let shake_hands = async |socket| self.shake_hands(socket).await;
        match self.in_time(shake_hands).await {
            Ok(stream) => {
                let since = Instant::now();
                self.state().warm.push(Warm { stream, since });
                true
            }
            failed => {
                self.note(&failed);
                false
            }
        }
    }

    /// Ends those that are kept for long, or that the other side has ended.
    pub(super) fn drop_old(&self) {
        self.state()
            .warm
            .retain_mut(|warm| warm.since.elapsed() < WARM_TIME && is_open(&mut warm.stream));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_not_answered(&mut self, suspects: &Gauge) {
        self.warm.clear();
        match &mut self.suspect {
            Some(suspect) => suspect.since = Instant::now(),
            None => self.suspect = Some(Suspect::new(suspects)),
        }
    }
}

impl Suspect {
    fn new(all: &Gauge) -> Self {
        all.inc();
        let (since, all) = (Instant::now(), all.clone());
        Suspect { since, all }
    }
}

impl Drop for Suspect {
    fn drop(&mut self) {
        self.all.dec();
    }
}

/// Connects to the first of these addresses that answers. Each has its share of the time, so that one where nobody
/// says anything leaves some for the others.
async fn connect(addresses: &[SocketAddr]) -> io::Result<(SocketAddr, TcpStream)> {
    let share = ANSWER_TIME / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
    let mut failed = io::ErrorKind::AddrNotAvailable.into();
    for address in addresses {
        match timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok((*address, socket)),
            Ok(Err(error)) => failed = error,
            Err(late) => failed = late.into(),
        }
    }
    Err(failed)
}

/// Whether the other side has neither ended it nor said anything unasked; what TLS itself has to say is read.
fn is_open(stream: &mut TlsStream<TcpStream>) -> bool {
    let mut byte = [0];
    let mut context = Context::from_waker(Waker::noop());
    let read = Pin::new(stream).poll_read(&mut context, &mut ReadBuf::new(&mut byte));
    read.is_pending()
}

async fn exchange(mut stream: TlsStream<TcpStream>, request: &Request) -> io::Result<Answered> {
    stream.write_all(&request.bytes()).await?;
    stream.flush().await?;
    match Answer::read(stream.read_u8().await?)? {
        Answer::Accepted => {
            let (socket, connection) = stream.into_inner();
            let stream = PeerStream::new(socket, connection.into());
            Ok(Answered::Accepted(stream))
        }
        other => Ok(Answered::Not(other)),
    }
}

#[cfg(test)]
mod tests {
    use tokio::time;

    use super::super::test_node::{REQUEST, TestNode, nobody};
    use super::*;

    fn link_to(node: &TestNode) -> Arc<Link> {
        let tls = node.asked_by(&node.known);
        Link::new(tls, &node.address.to_string(), Gauge::default())
    }

    #[tokio::test]
    async fn a_turn_is_waited_for_beside_the_second_for_the_answer() {
        let node = TestNode::start().await;
        let link = link_to(&node);
        let others = link.handshakes.acquire_many(HANDSHAKES as u32);
        let others = others.await.unwrap();
        let asking = Arc::clone(&link);
        let asking = tokio::spawn(async move { asking.ask(&REQUEST).await });
        time::sleep(ANSWER_TIME * 3 / 2).await;
        drop(others);
        let answered = asking.await.unwrap();
        assert!(
            matches!(answered, Ok(Answered::Not(Answer::NotHeld))),
            "{answered:?}"
        );
        assert!(!link.is_suspect());
    }

    #[tokio::test]
    async fn nobody_waits_for_a_turn_with_a_node_that_has_not_answered_meanwhile() {
        let node = TestNode::start().await;
        let link = link_to(&node);
        let others = link.handshakes.acquire_many(HANDSHAKES as u32);
        let _others = others.await.unwrap();
        link.note(&Err::<(), _>(NoAnswer::NoTurn));
        assert!(!link.is_suspect(), "it was not asked");
        let started = Instant::now();
        let in_vain = async { link.note(&Err::<(), _>(NoAnswer::Late)) };
        let (answered, ()) = tokio::join!(link.ask(&REQUEST), in_vain);
        assert!(matches!(answered, Err(NoAnswer::NoTurn)), "{answered:?}");
        assert!(started.elapsed() < TURN_TIME);
        assert!(link.is_suspect(), "as the one who asked it has found");
    }

    #[tokio::test]
    async fn a_suspect_is_back_when_it_has_answered_and_not_when_it_has_shaken_hands() {
        let node = TestNode::start().await;
        let gauge = Gauge::default();
        let refused = node.asked_by(&node.stranger);
        let link = Link::new(refused, &node.address.to_string(), gauge.clone());
        assert!(link.ask(&REQUEST).await.is_err());
        assert_eq!(gauge.get(), 1);
        assert!(!link.keep_another().await);
        assert_eq!(gauge.get(), 1);

        let link = Link::new(
            node.asked_by(&node.known),
            &node.address.to_string(),
            gauge.clone(),
        );
        link.note(&Err::<(), _>(NoAnswer::Late));
        assert_eq!(gauge.get(), 2);
        assert!(link.keep_another().await);
        assert_eq!(gauge.get(), 1, "only the other");
        assert!(link.state().warm.is_empty());
        assert!(link.keep_another().await);
        assert_eq!(link.state().warm.len(), 1);
    }

    #[tokio::test]
    async fn a_link_that_is_given_up_is_not_counted_as_suspect() {
        let node = TestNode::start().await;
        let (_nobody, address) = nobody();
        let gauge = Gauge::default();
        let link = Link::new(node.asked_by(&node.known), &address, gauge.clone());
        for _ in 0..2 {
            assert!(link.ask(&REQUEST).await.is_err());
            assert_eq!(gauge.get(), 1);
        }
        drop(link);
        assert_eq!(gauge.get(), 0);
    }
    #[tokio::test]
    async fn an_address_where_nobody_says_anything_does_not_hide_the_next_one() {
        // Linux says nothing to whoever comes when nobody is let in any more.
        let full =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        full.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        full.listen(0).unwrap();
        let silent = full.local_addr().unwrap().as_socket().unwrap();
        let _waiting = std::net::TcpStream::connect(silent).unwrap();
        let node = TestNode::start().await;
        let (address, _socket) = connect(&[silent, node.address]).await.unwrap();
        assert_eq!(address, node.address);
    }
}

//! The web's connections: how many there may be, whose, and which of them ends.
//!
//! Nobody who only holds connections open keeps others out. Where there is no room for a newcomer, the
//! one goes that has been idle for longest: of the newcomer's own address if that has its fill, else of
//! the address with the most idle ones. Idle is a connection on which nothing is asked: it may be new,
//! in the middle of a handshake or of a request's head, or done with its last answer.
//!
//! All together take a share of the descriptors alone, so that what SSH needs is there whatever happens
//! to the web.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Shutdown};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use crate::server::domain::peer_network::PeerNetwork;
use crate::server::domain::proxies::TrustedProxies;

/// How long a connection may be idle. Load balancers keep theirs for a minute, and must be the ones who
/// end them: a request that crosses our end would be lost.
const IDLE: Duration = Duration::from_secs(75);

/// How long an answer may stand still: a line that stalls comes back, and a live stream says something
/// every 15 s. It is longer than a request may take until its answer begins.
const STALLED: Duration = Duration::from_secs(5 * 60);

/// How often is looked for such.
const LOOK: Duration = Duration::from_secs(5);

/// What part of all descriptors the web may take.
const SHARE: u64 = 4;

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Of all together.
    pub in_all: usize,
    /// Of one address (IPv4) or one network of 64 bits (IPv6); a trusted proxy's are not counted so.
    pub per_address: usize,
}

impl Bounds {
    /// The same with no more than the web's share of this many descriptors.
    #[must_use]
    pub fn within(self, descriptors: Option<u64>) -> Self {
        let share = descriptors.map_or(usize::MAX, |all| {
            usize::try_from(all / SHARE).unwrap_or(usize::MAX)
        });
        Bounds {
            in_all: self.in_all.min(share).max(1),
            ..self
        }
    }
}

/// One of them, as long as it is open.
struct Entry {
    network: PeerNetwork,
    is_proxy: bool,
    socket: Arc<TcpStream>,
    usage: Arc<Mutex<Usage>>,
}

/// What is done on a connection.
struct Usage {
    /// Requests whose answer is not complete.
    requests: usize,
    /// When a request began, or a part of an answer went, for the last time.
    moved: Instant,
}

impl Entry {
    fn usage(&self) -> MutexGuard<'_, Usage> {
        lock(&self.usage)
    }

    /// Since when nothing is asked. What has arrived and is not read yet is asked.
    fn idle_since(&self) -> Option<Instant> {
        let usage = self.usage();
        let is_idle = usage.requests == 0 && !has_unread(&self.socket);
        is_idle.then_some(usage.moved)
    }

    fn has_had_its_time(&self, now: Instant) -> bool {
        let usage = self.usage();
        let bound = match usage.requests {
            0 => IDLE,
            _ => STALLED,
        };
        now.saturating_duration_since(usage.moved) >= bound
    }

    fn end(&self) {
        // It fails only if the peer has closed it already.
        let _ = SockRef::from(&*self.socket).shutdown(Shutdown::Both);
    }
}

fn has_unread(socket: &TcpStream) -> bool {
    let mut byte = [std::mem::MaybeUninit::uninit()];
    matches!(SockRef::from(socket).peek(&mut byte), Ok(1))
}

/// By the order in which they came.
type Table = BTreeMap<u64, Entry>;

pub struct Connections {
    bounds: Bounds,
    proxies: TrustedProxies,
    table: Mutex<Table>,
    next: AtomicU64,
    made_room: AtomicU64,
    refused: AtomicU64,
}

/// The right to be connected; given back when dropped.
pub(super) struct Place {
    number: u64,
    all: Arc<Connections>,
    usage: Arc<Mutex<Usage>>,
}

/// A request, until its answer is complete.
pub(super) struct Running(Arc<Mutex<Usage>>);

impl Connections {
    /// None is open yet.
    pub fn new(bounds: Bounds, proxies: TrustedProxies) -> Arc<Self> {
        Arc::new(Connections {
            bounds,
            proxies,
            table: Mutex::default(),
            next: AtomicU64::new(0),
            made_room: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })
    }

    /// How many are open.
    pub fn open(&self) -> usize {
        self.table().len()
    }

    /// How many were ended so that another had room.
    pub fn made_room(&self) -> u64 {
        self.made_room.load(Ordering::Relaxed)
    }

    /// How many were refused since all others were busy.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Ends those that have had their time, again and again; never returns.
    pub async fn end_idle(&self) {
        let mut told = 0;
        let mut look = tokio::time::interval(LOOK);
        loop {
            look.tick().await;
            let now = Instant::now();
            for entry in self.table().values().filter(|e| e.has_had_its_time(now)) {
                entry.end();
            }
            let refused = self.refused();
            if refused > told {
                tracing::warn!(
                    refused = refused - told,
                    "web connections were refused: the limit was reached"
                );
                told = refused;
            }
        }
    }

    /// Lets a connection in, or not.
    pub(super) fn admit(self: &Arc<Self>, peer: IpAddr, socket: &Arc<TcpStream>) -> Option<Place> {
        let usage = Arc::new(Mutex::new(Usage {
            requests: 0,
            moved: Instant::now(),
        }));
        let entry = Entry {
            network: PeerNetwork::of(peer),
            is_proxy: self.proxies.trusts(peer),
            socket: Arc::clone(socket),
            usage: Arc::clone(&usage),
        };
        let mut table = self.table();
        if !self.has_room(&mut table, &entry) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        table.insert(number, entry);
        drop(table);
        let all = Arc::clone(self);
        Some(Place { number, all, usage })
    }

    fn has_room(&self, table: &mut Table, newcomer: &Entry) -> bool {
        let own = |entry: &Entry| !entry.is_proxy && entry.network == newcomer.network;
        let of_its_own = table.values().filter(|entry| own(entry)).count();
        if !newcomer.is_proxy && of_its_own >= self.bounds.per_address {
            return self.an_idle_one_leaves(table, own);
        }
        if table.len() < self.bounds.in_all {
            return true;
        }
        let greediest = greediest(table);
        self.an_idle_one_leaves(table, |entry| Some(entry.network) == greediest)
    }

    /// The one of these leaves that has been idle for longest, if one is.
    fn an_idle_one_leaves(&self, table: &mut Table, of: impl Fn(&Entry) -> bool) -> bool {
        let idle = table
            .iter()
            .filter(|(_, entry)| of(entry))
            .filter_map(|(&number, entry)| Some((entry.idle_since()?, number)));
        let Some(entry) = idle.min().and_then(|(_, number)| table.remove(&number)) else {
            return false;
        };
        entry.end();
        self.made_room.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }
}

/// The network with the most idle ones.
fn greediest(table: &Table) -> Option<PeerNetwork> {
    let mut idle = HashMap::<PeerNetwork, usize>::new();
    for entry in table.values().filter(|e| e.idle_since().is_some()) {
        *idle.entry(entry.network).or_default() += 1;
    }
    let most = idle.into_iter().max_by_key(|&(_, count)| count);
    most.map(|(network, _)| network)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere leaves everything in here whole: every change is a single operation.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Place {
    /// A request begins on this connection.
    pub(super) fn begin(&self) -> Running {
        let mut usage = lock(&self.usage);
        usage.requests += 1;
        usage.moved = Instant::now();
        drop(usage);
        Running(Arc::clone(&self.usage))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.all.table().remove(&self.number);
    }
}

impl Running {
    /// A part of its answer goes.
    pub(super) fn moves(&self) {
        lock(&self.0).moved = Instant::now();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut usage = lock(&self.0);
        usage.requests -= 1;
        usage.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    const BOUNDS: Bounds = Bounds {
        in_all: 4,
        per_address: 2,
    };

    async fn socket() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (theirs, ours) = tokio::join!(TcpStream::connect(address), listener.accept());
        (Arc::new(ours.unwrap().0), theirs.unwrap())
    }

    fn all() -> Arc<Connections> {
        let proxy = crate::server::domain::proxies::network("10.0.0.1").unwrap();
        Connections::new(BOUNDS, TrustedProxies::new(vec![proxy]))
    }

    #[tokio::test]
    async fn whoever_has_been_idle_for_longest_makes_room_for_others_of_his_address() {
        let all = all();
        let peer = "192.0.2.1".parse().unwrap();
        let (socket, _theirs) = socket().await;
        let first = all.admit(peer, &socket).unwrap();
        let second = all.admit(peer, &socket).unwrap();
        drop(first.begin());
        let third = all.admit(peer, &socket).unwrap();
        assert_eq!(all.open(), 2);
        assert!(!all.table().contains_key(&second.number));
        let (_one, _two) = (first.begin(), third.begin());
        assert!(all.admit(peer, &socket).is_none());
        assert_eq!((all.made_room(), all.refused()), (1, 1));
    }

    #[tokio::test]
    async fn one_address_keeps_no_other_out_and_a_proxy_may_have_as_many_as_there_are() {
        let all = all();
        let proxy = "10.0.0.1".parse().unwrap();
        let (socket, _theirs) = socket().await;
        let mut places: Vec<_> = (0..4).map(|_| all.admit(proxy, &socket).unwrap()).collect();
        let other = "192.0.2.1".parse().unwrap();
        places.push(all.admit(other, &socket).unwrap());
        assert_eq!(all.open(), 4);
        assert!(!all.table().contains_key(&0));
    }

    #[tokio::test]
    async fn what_stands_still_has_its_time_and_a_request_more_of_it() {
        let all = all();
        let (socket, _theirs) = socket().await;
        let place = all.admit("192.0.2.1".parse().unwrap(), &socket).unwrap();
        let is_over = |after: Duration| {
            let table = all.table();
            table[&place.number].has_had_its_time(Instant::now() + after)
        };
        assert!(is_over(IDLE));
        let running = place.begin();
        assert!(!is_over(IDLE) && is_over(STALLED));
        drop(running);
        assert!(is_over(IDLE) && !is_over(IDLE / 2));
    }

    #[tokio::test]
    async fn what_has_arrived_counts_as_asked() {
        let all = all();
        let (socket, theirs) = socket().await;
        let place = all.admit("192.0.2.1".parse().unwrap(), &socket).unwrap();
        assert!(all.table()[&place.number].idle_since().is_some());
        theirs.writable().await.unwrap();
        theirs.try_write(b"G").unwrap();
        socket.readable().await.unwrap();
        assert!(all.table()[&place.number].idle_since().is_none());
    }

    #[test]
    fn the_web_takes_its_share_of_the_descriptors() {
        let bounds = Bounds {
            in_all: 1_000,
            per_address: 100,
        };
        assert_eq!(bounds.within(Some(2_000)).in_all, 500);
        assert_eq!(bounds.within(Some(1 << 20)).in_all, 1_000);
        assert_eq!(bounds.within(None).in_all, 1_000);
        assert_eq!(bounds.within(Some(3)).in_all, 1);
    }
}

//! Whoever has connected to a tunnel's port, as its bytes are read and written: directly, or through another
//! node that has passed the connection on.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::time::Duration;

use bytes::BytesMut;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::server::cluster::peer_link::stream::{PeerStream, until_gone};

/// How long the other side has to end, too. What the system has taken for it is sent after that all the same, unless
/// the other side still talks to nobody.
const LEAVING: Duration = Duration::from_secs(2);

/// Its connection. Nothing here waits but what says so.
pub(super) enum Reader {
    Direct(TcpStream),
    Peer(PeerStream),
}

impl Reader {
    /// Moves it to this scheduler, if another one watches it.
    pub(super) fn move_to(self, scheduler: &Handle) -> io::Result<Self> {
        match self {
            Reader::Direct(socket) => adopt(socket, scheduler).map(Reader::Direct),
            Reader::Peer(stream) => stream.move_to(scheduler).map(Reader::Peer),
        }
    }

    /// Waits until there is something to read, perhaps.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Reader::Direct(socket) => socket.readable().await,
            Reader::Peer(stream) => stream.readable().await,
        }
    }

    /// Waits until there is room for writing, perhaps.
    pub(super) async fn writable(&self) -> io::Result<()> {
        match self {
            Reader::Direct(socket) => socket.writable().await,
            Reader::Peer(stream) => stream.writable().await,
        }
    }

    pub(super) fn try_read_buf(&self, bytes: &mut BytesMut) -> io::Result<usize> {
        match self {
            Reader::Direct(socket) => socket.try_read_buf(bytes),
            Reader::Peer(stream) => stream.try_read_buf(bytes),
        }
    }

    pub(super) fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Reader::Direct(socket) => socket.try_write_vectored(slices),
            Reader::Peer(stream) => stream.try_write_vectored(slices),
        }
    }

    /// Whether something was taken and not sent, so that it has to be [flushed](Self::try_flush).
    pub(super) fn has_unsent(&self) -> bool {
        match self {
            Reader::Direct(_) => false,
            Reader::Peer(stream) => stream.has_unsent(),
        }
    }

    /// Sends what was taken and not sent.
    pub(super) fn try_flush(&self) -> io::Result<()> {
        match self {
            Reader::Direct(_) => Ok(()),
            Reader::Peer(stream) => stream.try_flush(),
        }
    }

    /// Tells it that nothing more follows; to be repeated while it would block.
    pub(super) fn say_everything(&self) -> io::Result<()> {
        match self {
            Reader::Direct(socket) => shut_down_write(socket),
            Reader::Peer(stream) => stream.say_everything(),
        }
    }

    /// Makes the close that follows a reset, which no protocol takes for a regular end.
    pub(super) fn abort(&self) {
        match self {
            Reader::Direct(socket) => abort(socket),
            Reader::Peer(stream) => stream.abort(),
        }
    }

    /// After everything was said: makes its close a regular end, and waits a while for the other side's. Closing
    /// while that still says something would reset the connection, and take back what is on its way there.
    pub(super) async fn leave(&self) {
        match self {
            Reader::Direct(socket) => leave(socket).await,
            Reader::Peer(stream) => {
                let _ = timeout(LEAVING, stream.leave()).await;
            }
        }
    }

    /// Small answers are to go at once, and a peer that vanishes is to be found.
    pub(super) fn set_options(&self) {
        match self {
            Reader::Direct(socket) => set_options(socket),
            // It has been done where it was accepted.
            Reader::Peer(_) => {}
        }
    }
}

/// Moves a socket to this scheduler, if another one watches it.
pub(super) fn adopt(socket: TcpStream, scheduler: &Handle) -> io::Result<TcpStream> {
    if Handle::current().id() == scheduler.id() {
        return Ok(socket);
    }
    let socket = socket.into_std()?;
    let _there = scheduler.enter();
    TcpStream::from_std(socket)
}

pub(super) fn set_options(socket: &TcpStream) {
    // Without the first, small queries wait for acknowledgements; without the second, a peer
    // that vanished while idle is never found. Neither is worth losing the connection for.
    let _ = socket.set_nodelay(true);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(15));
    let _ = SockRef::from(socket).set_tcp_keepalive(&keepalive);
}

pub(super) fn abort(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// See [`Reader::leave`].
pub(super) async fn leave(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(None);
    let _ = timeout(LEAVING, until_gone(socket)).await;
}

pub(super) fn shut_down_write(socket: &TcpStream) -> io::Result<()> {
    match SockRef::from(socket).shutdown(Shutdown::Write) {
        Err(e) if e.kind() != ErrorKind::NotConnected => Err(e),
        _ => Ok(()),
    }
}

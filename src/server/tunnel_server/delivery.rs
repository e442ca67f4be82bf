//! What a bastion sends on its channels, on the way to the readers' sockets.
//!
//! The session's own task writes it: it takes in everything that one read of the bastion's connection
//! has brought, and then writes to each reader once. What a reader does not take stays in that
//! channel's backlog, within its window, and is written by the connection's task when the socket
//! takes it: no reader holds up another, nor the session.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use russh::ChannelId;
use russh::server::Handle;
use tokio::sync::Notify;

use super::activity::Carried;
use super::backlog::Backlog;
use super::counters::Counters;
use super::reader::Reader;
use super::round_trip::RoundTrip;
use super::window::ReceiveWindow;

/// The channels of one session.
#[derive(Default)]
pub(super) struct Deliveries(Mutex<Channels>);

#[derive(Default)]
struct Channels {
    open: HashMap<ChannelId, Channel>,
    /// Those for which the present read has brought something.
    touched: Vec<Arc<Delivery>>,
    /// Whether the session is over: a connection may be given its channel only after that.
    is_over: bool,
}

/// A channel is known from two sides, which may come in either order: the client confirms it, and the
/// connection that it is for is given it.
struct Channel {
    delivery: Arc<Delivery>,
    is_confirmed: bool,
    /// Whether the connection has ended already.
    is_over: bool,
}

impl Channel {
    fn new() -> Self {
        Channel {
            delivery: Arc::default(),
            is_confirmed: false,
            is_over: false,
        }
    }
}

impl Deliveries {
    /// The client has confirmed a channel: from now on there may be data.
    pub(super) fn confirmed(&self, id: ChannelId) {
        let mut channels = self.channels();
        let channel = channels.open.entry(id).or_insert_with(Channel::new);
        channel.is_confirmed = true;
        if channel.is_over {
            channels.open.remove(&id);
        }
    }

    /// Data has arrived. It is written by [`Deliveries::write_out`].
    pub(super) fn arrived(&self, id: ChannelId, data: Bytes) {
        self.touch(id, |state| state.arrived(data));
    }

    /// The bastion says no more on a channel.
    pub(super) fn said_everything(&self, id: ChannelId) {
        self.touch(id, |state| state.is_complete = true);
    }

    /// The bastion has closed a channel.
    pub(super) fn closed(&self, id: ChannelId) {
        self.touch(id, |state| state.end = Some(End::Closed));
    }

    /// The session is over.
    pub(super) fn session_ended(&self) {
        let mut channels = self.channels();
        channels.is_over = true;
        for (_, channel) in channels.open.drain() {
            channel.delivery.state().end = Some(End::SessionOver);
            channel.delivery.changed.notify_one();
        }
    }

    /// Writes what has arrived to its readers, as far as they take it. Called by the session's task
    /// before it waits for more.
    pub(super) fn write_out(&self) {
        let mut touched = {
            let mut channels = self.channels();
            if channels.touched.is_empty() {
                return;
            }
            std::mem::take(&mut channels.touched)
        };
        for delivery in touched.drain(..) {
            delivery.write_out();
        }
        // The list keeps its memory: it is needed again with the next read.
        self.channels().touched = touched;
    }

    /// The delivery of a channel that was opened for this connection.
    pub(super) fn begin(&self, id: ChannelId, sink: Sink) -> Arc<Delivery> {
        let delivery = self.delivery(id);
        let mut state = delivery.state();
        state.begin(sink);
        state.write_out(&delivery.changed);
        drop(state);
        delivery
    }

    fn delivery(&self, id: ChannelId) -> Arc<Delivery> {
        let mut channels = self.channels();
        let is_over = channels.is_over;
        let channel = channels.open.entry(id).or_insert_with(Channel::new);
        if is_over {
            channel.delivery.state().end = Some(End::SessionOver);
        }
        Arc::clone(&channel.delivery)
    }

    /// The connection has ended; what still arrives on its channel is dropped.
    pub(super) fn over(&self, id: ChannelId) {
        let mut channels = self.channels();
        let channel = channels.open.entry(id).or_insert_with(Channel::new);
        channel.is_over = true;
        channel.delivery.state().sink = None;
        if channel.is_confirmed {
            channels.open.remove(&id);
        }
    }

    fn touch(&self, id: ChannelId, change: impl FnOnce(&mut State)) {
        let mut channels = self.channels();
        let Some(channel) = channels.open.get(&id) else {
            return;
        };
        let delivery = Arc::clone(&channel.delivery);
        let mut state = delivery.state();
        change(&mut state);
        if !std::mem::replace(&mut state.is_touched, true) {
            drop(state);
            channels.touched.push(delivery);
        }
    }

    fn channels(&self) -> MutexGuard<'_, Channels> {
        // Every change leaves the tables whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What has ended a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// The bastion has closed it.
    Closed,
    /// The session is gone.
    SessionOver,
}

/// Where a channel's data goes, and what is told and counted on the way.
pub(super) struct Sink {
    pub(super) reader: Arc<Reader>,
    pub(super) channel: ChannelId,
    pub(super) window: ReceiveWindow,
    pub(super) handle: Handle,
    pub(super) round_trip: Arc<RoundTrip>,
    pub(super) counters: Arc<Counters>,
    pub(super) carried: Arc<Carried>,
}

/// The direction from the bastion of one channel.
#[derive(Default)]
pub(super) struct Delivery {
    state: Mutex<State>,
    /// Told when the connection's task has something to do or to know.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// None before the connection has been given its channel, and after its end.
    sink: Option<Sink>,
    /// What came before there was a sink; the first window bounds it.
    early: Vec<Bytes>,
    backlog: Backlog,
    /// Whether the database has said everything.
    is_complete: bool,
    end: Option<End>,
    failed: Option<io::Error>,
    /// Whether it stands in the session's list of those to be written.
    is_touched: bool,
    /// Whether the connection's task is to write the backlog.
    is_left_to_task: bool,
}

/// What the connection's task has to wait for.
enum Wait {
    Change,
    Writable(Arc<Reader>),
}

impl Delivery {
    /// Waits until the bastion has said everything and the reader has taken it; writes what the
    /// session's task could not.
    ///
    /// # Errors
    /// The reader is gone, or the channel or session was closed without an end of data: it must not
    /// look to the reader as if it had ended well.
    pub(super) async fn finished(&self) -> io::Result<()> {
        loop {
            // Made before the look, so that no change falls between.
            let changed = self.changed.notified();
            let wait = self.state().proceed()?;
            match wait {
                None => return Ok(()),
                Some(Wait::Change) => changed.await,
                Some(Wait::Writable(reader)) => tokio::select! {
                    () = changed => {}
                    ready = reader.writable() => ready?,
                },
            }
        }
    }

    /// Waits for the end of a channel that has nothing more to say.
    pub(super) async fn closed(&self) -> io::Result<()> {
        loop {
            let changed = self.changed.notified();
            let end = self.state().end;
            match end {
                Some(End::Closed) => return Ok(()),
                Some(End::SessionOver) => return Err(session_ended()),
                _ => changed.await,
            }
        }
    }

    fn write_out(&self) {
        let mut state = self.state();
        state.is_touched = false;
        if !state.is_left_to_task {
            state.write_out(&self.changed);
        }
        if state.is_complete || state.end.is_some() {
            self.changed.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in the middle of it would leave bytes unwritten: the connection is aborted then,
        // since its task or its session has ended.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin(&mut self, sink: Sink) {
        self.sink = Some(sink);
        for data in std::mem::take(&mut self.early) {
            self.arrived(data);
        }
    }

    fn arrived(&mut self, data: Bytes) {
        match &mut self.sink {
            Some(sink) => {
                sink.window.received(data.len());
                self.backlog.push(data);
            }
            None => self.early.push(data),
        }
    }

    /// Writes what the reader takes at this moment; leaves the rest to the connection's task.
    fn write_out(&mut self, changed: &Notify) {
        match self.write() {
            Ok(()) if self.is_written() => {}
            Ok(()) => {
                self.is_left_to_task = true;
                changed.notify_one();
            }
            Err(error) => {
                self.failed = Some(error);
                changed.notify_one();
            }
        }
    }

    /// Writes what the reader takes at this moment, and lets the bastion send as much again.
    fn write(&mut self) -> io::Result<()> {
        let Some(sink) = &mut self.sink else {
            return Ok(());
        };
        let mut written = 0;
        while !self.backlog.is_empty() {
            match self.backlog.write_to(&sink.reader) {
                Ok(bytes) => {
                    sink.window.consumed(bytes);
                    written += bytes;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
        }
        match sink.reader.try_flush() {
            Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
            _ => {}
        }
        sink.counters.from_bastions.inc_by(written as u64);
        sink.carried.count_from_bastion(written as u64);
        sink.round_trip.ask(&sink.handle);
        if let Some(bytes) = sink.window.grant(Instant::now()) {
            // Fails where the session has just ended, which is told by `end`; what has arrived until
            // then goes to the reader all the same.
            let _ = sink.handle.grant_window(sink.channel, bytes);
        }
        Ok(())
    }

    /// Whether the reader's socket has everything that has arrived.
    fn is_written(&self) -> bool {
        let has_unsent = |sink: &Sink| sink.reader.has_unsent();
        self.backlog.is_empty() && !self.sink.as_ref().is_some_and(has_unsent)
    }

    /// A step of the connection's task; says what to wait for, or nothing at the end.
    fn proceed(&mut self) -> io::Result<Option<Wait>> {
        if self.is_left_to_task {
            self.write()?;
        }
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if self.end == Some(End::SessionOver) && !self.is_complete {
            return Err(session_ended());
        }
        let Some(sink) = &self.sink else {
            return Err(ErrorKind::NotConnected.into());
        };
        if !self.is_written() {
            return Ok(Some(if self.is_left_to_task {
                Wait::Writable(Arc::clone(&sink.reader))
            } else {
                Wait::Change
            }));
        }
        self.is_left_to_task = false;
        if self.is_complete {
            return match sink.reader.say_everything() {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {
                    // It is taken and not sent: what is left of it goes as all else that did not fit.
                    self.is_left_to_task = true;
                    Ok(Some(Wait::Writable(Arc::clone(&sink.reader))))
                }
                said => said.map(|()| None),
            };
        }
        match self.end {
            None => Ok(Some(Wait::Change)),
            // An end without EOF is none that the database has asked for.
            Some(_) => Err(io::Error::new(
                ErrorKind::ConnectionAborted,
                "the bastion has closed the channel",
            )),
        }
    }
}

fn session_ended() -> io::Error {
    io::Error::new(ErrorKind::ConnectionAborted, "the session has ended")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use futures_util::FutureExt;
    use russh::keys::ssh_key::encoding::Decode;
    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::protocol::TunnelId;
    use crate::server::cluster::peer_link::test_node;
    use crate::server::tunnel_server::activity::Activity;
    use crate::server::tunnel_server::live_session::SessionId;
    use crate::server::tunnel_server::test_session::session;
    use crate::server::tunnel_server::window::Budget;

    /// Any channel: russh makes no numbers for others but by reading them.
    fn channel() -> ChannelId {
        ChannelId::decode(&mut &[0, 0, 0, 2][..]).unwrap()
    }

    fn known(deliveries: &Deliveries) -> usize {
        deliveries.channels().open.len()
    }

    #[test]
    fn a_channel_is_forgotten_whichever_side_comes_first() {
        let deliveries = Deliveries::default();
        deliveries.confirmed(channel());
        deliveries.arrived(channel(), Bytes::from_static(b"early"));
        deliveries.delivery(channel());
        deliveries.over(channel());
        assert_eq!(known(&deliveries), 0);

        deliveries.delivery(channel());
        deliveries.over(channel());
        deliveries.confirmed(channel());
        assert_eq!(known(&deliveries), 0);

        deliveries.arrived(channel(), Bytes::from_static(b"late"));
        deliveries.write_out();
        assert_eq!(known(&deliveries), 0);
    }

    #[test]
    fn a_connection_that_is_given_its_channel_after_the_session_has_ended_ends_too() {
        let deliveries = Deliveries::default();
        deliveries.confirmed(channel());
        deliveries.session_ended();
        let ended = deliveries.delivery(channel()).closed().now_or_never();
        assert!(ended.expect("it would wait for ever").is_err());
    }

    #[test]
    fn a_connection_whose_session_ends_is_told() {
        let deliveries = Deliveries::default();
        let delivery = deliveries.delivery(channel());
        assert!(delivery.closed().now_or_never().is_none());
        deliveries.session_ended();
        assert!(delivery.closed().now_or_never().is_some_and(|r| r.is_err()));
    }

    /// Leaves no room in the socket, nor on the way.
    async fn fill(socket: &mut std::net::TcpStream) {
        let mut former = None;
        let mut filled = 0;
        while former != Some(filled) {
            former = Some(filled);
            while let Ok(written) = socket.write(&[7; 4 << 10]) {
                filled += written;
            }
            // What was under way has arrived by then.
            sleep(Duration::from_millis(50)).await;
        }
    }

    #[tokio::test]
    async fn an_end_that_another_node_had_no_room_for_is_said_when_it_has() {
        let (stream, mut beside, mut other) = test_node::connection().await;
        let (session, _bastion) = session(SessionId(7)).await;
        fill(&mut beside).await;
        let delivery = Delivery::default();
        let counters: Arc<Counters> = Arc::default();
        {
            let mut state = delivery.state();
            state.is_complete = true;
            state.sink = Some(Sink {
                reader: Arc::new(Reader::Peer(stream)),
                channel: channel(),
                window: ReceiveWindow::new(
                    Arc::clone(&session.window_budget),
                    Budget::in_all(0),
                    Arc::clone(&session.round_trip),
                ),
                handle: session.handle.clone(),
                round_trip: Arc::clone(&session.round_trip),
                counters,
                carried: Activity::default().up(TunnelId(1)),
            });
        }
        let finished = delivery.finished();
        tokio::pin!(finished);
        tokio::select! {
            biased;
            ended = &mut finished => panic!("there was room: {ended:?}"),
            () = sleep(Duration::from_millis(50)) => {}
        }
        let mut sink = tokio::io::sink();
        tokio::select! {
            read = tokio::io::copy(&mut other, &mut sink) => panic!("it has ended: {read:?}"),
            ended = timeout(Duration::from_secs(10), finished) => {
                ended.expect("it would wait for ever").unwrap();
            }
        }
    }
}

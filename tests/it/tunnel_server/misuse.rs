//! Messages that no honest client sends, one and many thousand of each: refused, or the end of that
//! session, and nothing that anybody else feels.

use std::time::Duration;

use holistics_tunnel::protocol::TunnelId;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::tunnel_server::bastion::Ssh;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::raw::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_EOF, CHANNEL_EXTENDED_DATA, CHANNEL_FAILURE, CHANNEL_OPEN,
    CHANNEL_OPEN_CONFIRMATION, CHANNEL_OPEN_FAILURE, CHANNEL_REQUEST, CHANNEL_SUCCESS,
    CHANNEL_WINDOW_ADJUST, GLOBAL_REQUEST, Message, REQUEST_FAILURE, REQUEST_SUCCESS, RawClient,
    RawKey, Reader,
};
use crate::tunnel_server::vendor::{Tunnel, Vendor, connect, until};
use crate::tunnel_server::{SOON, assert_echo};

/// More than the windows of a channel in number.
const FLOOD: usize = 500;

/// One who misuses the server, and another whose tunnel must not feel it.
pub struct Misuse {
    pub vendor: Vendor,
    pub client: RawClient,
    pub tunnel: Tunnel,
    key: RawKey,
    other: Tunnel,
    held_open: TcpStream,
    _database: Database,
    _ssh: Ssh,
}

/// What becomes of the session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Then {
    Ends,
    GoesOn,
}

impl Misuse {
    pub async fn start() -> Self {
        let vendor = Vendor::start().await;
        let database = Database::echo().await;
        let other = vendor.enroll(2);
        let ssh = vendor.up(&other, database.address).await;
        let mut held_open = connect(&other).await;
        assert_echo(&mut held_open, "before").await;
        let key = RawKey::generate();
        let tunnel = vendor.enroll_key(1, &key);
        let client = RawClient::login(vendor.server.ssh_address(), &key).await;
        let mut misuse = Misuse {
            client: client.unwrap(),
            vendor,
            tunnel,
            key,
            other,
            held_open,
            _database: database,
            _ssh: ssh,
        };
        assert!(misuse.client.forward(misuse.tunnel.port).await.unwrap());
        misuse
    }

    /// A new session in place of the one that may have ended.
    pub async fn log_in_again(&mut self) {
        let to = self.vendor.server.ssh_address();
        self.client = RawClient::login(to, &self.key).await.unwrap();
        let server = &self.vendor.server;
        until("the former is gone", SOON, || !server.is_up(TunnelId(1))).await;
        assert!(self.client.forward(self.tunnel.port).await.unwrap());
    }

    /// A connection to the tunnel's port, and the number of the channel that the server wants for it.
    pub async fn opening(&mut self) -> (TcpStream, u32) {
        let stream = connect(&self.tunnel).await;
        let open = self.client.expect(CHANNEL_OPEN).await.unwrap();
        let mut open = Reader(&open[1..]);
        assert_eq!(open.string(), b"forwarded-tcpip");
        (stream, open.number())
    }

    /// The same, and the client has confirmed it.
    pub async fn opened(&mut self) -> (TcpStream, u32) {
        let (stream, channel) = self.opening().await;
        self.client.send(confirmation(channel)).await.unwrap();
        (stream, channel)
    }

    /// The same, and it is closed on both sides.
    pub async fn closed(&mut self) -> u32 {
        let (_, channel) = self.opened().await;
        let close = Message::new(CHANNEL_CLOSE).number(channel);
        self.client.send(close).await.unwrap();
        self.client.expect(CHANNEL_CLOSE).await.unwrap();
        channel
    }

    /// Sends the message once and then many times, and looks after everybody.
    pub async fn flood(&mut self, what: &str, message: Message, times: usize, then: Then) {
        let misused = self.vendor.server.counters().ended.misused.get();
        if self.client.send(message.clone()).await.is_ok() {
            // The answers have to be read, or both would wait for the other.
            for _ in 0..times / FLOOD {
                for _ in 0..FLOOD {
                    self.client.put(message.clone());
                }
                let sent = self.client.flush().await;
                if sent.is_err() || self.client.sync().await.is_err() {
                    break;
                }
            }
        }
        let goes_on = self.client.forward(self.tunnel.port).await;
        assert_eq!(goes_on.is_ok(), then == Then::GoesOn, "{what}: {goes_on:?}");
        if then == Then::Ends {
            let counters = self.vendor.server.counters();
            until("it is counted", SOON, || {
                counters.ended.misused.get() > misused
            })
            .await;
        }
        assert_echo(&mut self.held_open, what).await;
        assert_echo(&mut connect(&self.other).await, what).await;
        if then == Then::Ends {
            self.log_in_again().await;
        }
    }
}

fn confirmation(channel: u32) -> Message {
    Message::new(CHANNEL_OPEN_CONFIRMATION)
        .number(channel)
        .number(channel)
        .number(2 << 20)
        .number(32 << 10)
}

/// Every message about a channel, but the confirmation.
fn about(channel: u32) -> [(&'static str, Message); 10] {
    let message = |kind| Message::new(kind).number(channel);
    [
        ("data", message(CHANNEL_DATA).string("x")),
        (
            "extended data",
            message(CHANNEL_EXTENDED_DATA).number(1).string("x"),
        ),
        ("the end", message(CHANNEL_EOF)),
        ("a window", message(CHANNEL_WINDOW_ADJUST).number(u32::MAX)),
        (
            "a request",
            message(CHANNEL_REQUEST).string("exec").byte(1).string("id"),
        ),
        (
            "an unknown request",
            message(CHANNEL_REQUEST).string("\x1b[31m").byte(1),
        ),
        ("a success", message(CHANNEL_SUCCESS)),
        ("a failure", message(CHANNEL_FAILURE)),
        ("a close", message(CHANNEL_CLOSE)),
        (
            "a refusal",
            message(CHANNEL_OPEN_FAILURE)
                .number(1)
                .string("")
                .string(""),
        ),
    ]
}

pub async fn for_channels_that_never_were(times: usize) {
    let mut misuse = Misuse::start().await;
    for channel in [4_242, u32::MAX >> 1, 0] {
        let about = about(channel);
        let all = about
            .into_iter()
            .chain([("a confirmation", confirmation(channel))]);
        for (what, message) in all {
            misuse.flood(what, message, times, Then::Ends).await;
        }
    }
}

pub async fn for_channels_that_are_closed(times: usize) {
    let mut misuse = Misuse::start().await;
    let channel = misuse.closed().await;
    for (what, message) in about(channel) {
        misuse.flood(what, message, times, Then::GoesOn).await;
    }
    let confirmation = confirmation(channel);
    misuse
        .flood("a confirmation", confirmation, times, Then::Ends)
        .await;
}

pub async fn for_channels_that_are_not_confirmed(times: usize) {
    let mut misuse = Misuse::start().await;
    let (mut stream, channel) = misuse.opening().await;
    for (what, message) in about(channel) {
        misuse.flood(what, message, times, Then::GoesOn).await;
    }
    let end = timeout(SOON, stream.read(&mut [0; 16])).await;
    assert!(matches!(end, Ok(Ok(0) | Err(_))), "it was refused: {end:?}");
}

pub async fn requests_and_channels_that_only_servers_have(times: usize) {
    let mut misuse = Misuse::start().await;
    let open = |kind: &str| {
        Message::new(CHANNEL_OPEN)
            .string(kind)
            .number(1)
            .number(2 << 20)
            .number(32 << 10)
    };
    let tcp = |kind: &str| {
        open(kind)
            .string("10.0.0.1")
            .number(22)
            .string("10.0.0.2")
            .number(1)
    };
    for (what, message) in [
        ("session", open("session")),
        ("x11", open("x11").string("10.0.0.1").number(1)),
        ("direct-tcpip", tcp("direct-tcpip")),
        ("forwarded-tcpip", tcp("forwarded-tcpip")),
        (
            "direct-streamlocal",
            open("direct-streamlocal@openssh.com")
                .string("/run/x")
                .string("")
                .number(0),
        ),
        (
            "forwarded-streamlocal",
            open("forwarded-streamlocal@openssh.com")
                .string("/run/x")
                .string(""),
        ),
        ("agent", open("auth-agent@openssh.com")),
        ("unknown", open("\x1b[31m")),
        (
            "global",
            Message::new(GLOBAL_REQUEST).string("\x1b[31m").byte(1),
        ),
        (
            "stream-local forward",
            Message::new(GLOBAL_REQUEST)
                .string("streamlocal-forward@openssh.com")
                .byte(1)
                .string("/run/x"),
        ),
        ("an answer", Message::new(REQUEST_SUCCESS)),
        ("another answer", Message::new(REQUEST_FAILURE)),
        ("an unknown message", Message::new(199)),
        ("an ignored one", Message::new(2).string("x")),
    ] {
        misuse.flood(what, message, times, Then::GoesOn).await;
    }
    let none = Message::new(CHANNEL_OPEN)
        .string("session")
        .number(1)
        .number(2 << 20)
        .number(0);
    misuse.flood("no packets", none, times, Then::Ends).await;
    for (what, message) in [
        ("cut off", Message::new(CHANNEL_OPEN).string("session")),
        ("too long", Message::new(CHANNEL_CLOSE).number(2).byte(7)),
        (
            "a string without an end",
            Message::new(GLOBAL_REQUEST).number(u32::MAX),
        ),
    ] {
        misuse.flood(what, message, times, Then::Ends).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_channel_that_never_was_ends_that_session_alone() {
    for_channels_that_never_were(FLOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_closed_channel_is_passed_over() {
    for_channels_that_are_closed(FLOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_a_channel_that_is_not_confirmed_is_passed_over() {
    for_channels_that_are_not_confirmed(FLOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_a_server_may_ask_is_refused_however_often_it_is_asked() {
    requests_and_channels_that_only_servers_have(FLOOD).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_of_whatever_kind_is_refused_once() {
    let mut misuse = Misuse::start().await;
    for kind in ["session", "auth-agent@openssh.com", "unknown@raw"] {
        let open = |number| {
            Message::new(CHANNEL_OPEN)
                .string(kind)
                .number(number)
                .number(2 << 20)
                .number(32 << 10)
        };
        for number in 1..=50 {
            misuse.client.send(open(number)).await.unwrap();
            let refusal = misuse.client.expect(CHANNEL_OPEN_FAILURE).await.unwrap();
            assert_eq!(Reader(&refusal[1..]).number(), number, "{kind}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_beyond_its_window_is_disconnected() {
    let mut misuse = Misuse::start().await;
    let (_stalled, channel) = misuse.opened().await;
    let data = Message::new(CHANNEL_DATA)
        .number(channel)
        .string(vec![7; 32 << 10]);
    misuse.flood("data", data, 100 << 10, Then::Ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_confirmed_once() {
    let mut misuse = Misuse::start().await;
    let (_stream, channel) = misuse.opened().await;
    let again = confirmation(channel);
    misuse.flood("confirmation", again, FLOOD, Then::Ends).await;

    let (_stream, channel) = misuse.opening().await;
    let empty = Message::new(CHANNEL_OPEN_CONFIRMATION)
        .number(channel)
        .number(channel)
        .number(2 << 20)
        .number(0);
    misuse.flood("no packets", empty, FLOOD, Then::Ends).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_that_overflows_is_a_large_one() {
    let mut misuse = Misuse::start().await;
    let (mut stream, channel) = misuse.opened().await;
    let adjust = Message::new(CHANNEL_WINDOW_ADJUST)
        .number(channel)
        .number(u32::MAX);
    misuse.flood("a window", adjust, FLOOD, Then::GoesOn).await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, b"select 1")
        .await
        .unwrap();
    let data = misuse.client.expect(CHANNEL_DATA).await.unwrap();
    assert_eq!(&data[9..], b"select 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_no_answers_holds_up_nobody_else() {
    let mut misuse = Misuse::start().await;
    let request = Message::new(GLOBAL_REQUEST).string("x").byte(1);
    let flood = async {
        loop {
            for _ in 0..FLOOD {
                misuse.client.put(request.clone());
            }
            if misuse.client.flush().await.is_err() {
                return;
            }
        }
    };
    let _ = timeout(Duration::from_secs(2), flood).await;
    assert_echo(&mut misuse.held_open, "meanwhile").await;
    assert_echo(&mut connect(&misuse.other).await, "meanwhile").await;
}

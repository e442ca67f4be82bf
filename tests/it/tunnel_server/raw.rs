//! An SSH client that sends whatever it is told to, in any order: what no honest client sends.
//!
//! The fuzzer of the tunnel server speaks with it, too, so it stands on nothing else of these tests.
//!
//! It knows one cipher (aes256-gcm), one kind of key (ed25519) and computes one exchange
//! (curve25519); others it begins with a number that costs it nothing, as an attacker would.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

const CLIENT_ID: &str = "SSH-2.0-raw";

/// The client's number of the channel by which it sees how far the server is.
const SYNC: u32 = 0x5359_4e43;

pub const KEXINIT: u8 = 20;
pub const NEWKEYS: u8 = 21;
pub const GLOBAL_REQUEST: u8 = 80;
pub const REQUEST_SUCCESS: u8 = 81;
pub const REQUEST_FAILURE: u8 = 82;
pub const CHANNEL_OPEN: u8 = 90;
pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
pub const CHANNEL_OPEN_FAILURE: u8 = 92;
pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
pub const CHANNEL_DATA: u8 = 94;
pub const CHANNEL_EXTENDED_DATA: u8 = 95;
pub const CHANNEL_EOF: u8 = 96;
pub const CHANNEL_CLOSE: u8 = 97;
pub const CHANNEL_REQUEST: u8 = 98;
pub const CHANNEL_SUCCESS: u8 = 99;
pub const CHANNEL_FAILURE: u8 = 100;

/// A message in the making.
#[derive(Clone, Default)]
pub struct Message(Vec<u8>);

impl Message {
    pub fn new(kind: u8) -> Self {
        Message(vec![kind])
    }

    pub fn byte(mut self, byte: u8) -> Self {
        self.0.push(byte);
        self
    }

    pub fn number(mut self, number: u32) -> Self {
        self.0.extend(number.to_be_bytes());
        self
    }

    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend(bytes);
        self
    }

    pub fn string(self, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.number(bytes.len() as u32).bytes(bytes)
    }

    /// An unsigned number of any length.
    fn mpint(self, bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
        let bytes = &bytes[zeros..];
        if bytes.first().is_some_and(|&byte| byte >= 0x80) {
            return self.string([&[0], bytes].concat());
        }
        self.string(bytes)
    }
}

/// A key of which the private part is known here.
pub struct RawKey(Ed25519KeyPair);

impl RawKey {
    pub fn generate() -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        RawKey(Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap())
    }

    fn blob(&self) -> Vec<u8> {
        let public = self.0.public_key();
        Message::default().string("ssh-ed25519").string(public).0
    }

    /// As a vendor enrolls it.
    pub fn public(&self) -> String {
        format!("ssh-ed25519 {}", BASE64_STANDARD.encode(self.blob()))
    }
}

struct Cipher {
    key: LessSafeKey,
    iv: [u8; 12],
}

impl Cipher {
    fn new(key: &[u8], iv: &[u8]) -> Self {
        Cipher {
            key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).unwrap()),
            iv: iv[..12].try_into().unwrap(),
        }
    }

    fn nonce(&mut self) -> Nonce {
        let nonce = Nonce::assume_unique_for_key(self.iv);
        let counter = u64::from_be_bytes(self.iv[4..].try_into().unwrap()) + 1;
        self.iv[4..].copy_from_slice(&counter.to_be_bytes());
        nonce
    }
}

pub struct RawClient {
    stream: BufReader<TcpStream>,
    server_id: String,
    session_id: Vec<u8>,
    has_service: bool,
    sending: Option<Cipher>,
    receiving: Option<Cipher>,
    /// Not written yet.
    out: Vec<u8>,
}

/// A connection from this address, so that loopback has many peers.
pub async fn connect_from(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((source, 0).into())?;
    socket.connect(to).await
}

impl RawClient {
    /// Connects, and tells the server that it speaks SSH.
    pub async fn connect(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut stream = BufReader::new(stream);
        stream
            .write_all(format!("{CLIENT_ID}\r\n").as_bytes())
            .await?;
        let mut line = Vec::new();
        while line.last() != Some(&b'\n') {
            line.push(stream.read_u8().await?);
        }
        Ok(RawClient {
            stream,
            server_id: String::from_utf8_lossy(line.trim_ascii_end()).into_owned(),
            session_id: Vec::new(),
            has_service: false,
            sending: None,
            receiving: None,
            out: Vec::new(),
        })
    }

    /// Connects and logs in with this key.
    pub async fn login(to: SocketAddr, key: &RawKey) -> io::Result<Self> {
        let mut client = Self::connect(TcpStream::connect(to).await?).await?;
        client.exchange_keys().await?;
        client.authenticate(key).await?;
        Ok(client)
    }

    /// Puts a message behind those that are to be sent.
    pub fn put(&mut self, message: Message) {
        let block = if self.sending.is_some() { 16 } else { 8 };
        let length_counts = if self.sending.is_some() { 0 } else { 4 };
        let body = 1 + message.0.len();
        let mut padding = block - (body + length_counts) % block;
        if padding < 4 {
            padding += block;
        }
        let length = ((body + padding) as u32).to_be_bytes();
        let mut packet = vec![padding as u8];
        packet.extend(&message.0);
        packet.resize(body + padding, 0);
        if let Some(cipher) = &mut self.sending {
            let nonce = cipher.nonce();
            cipher
                .key
                .seal_in_place_append_tag(nonce, Aad::from(length), &mut packet)
                .unwrap();
        }
        self.out.extend(length);
        self.out.extend(packet);
    }

    /// Puts bytes behind those messages that are none, and are not encrypted.
    #[allow(dead_code, reason = "the fuzzer alone does so")]
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.out.extend(bytes);
    }

    /// Sends nothing more, and still hears what is said.
    #[allow(dead_code, reason = "the fuzzer alone does so")]
    pub async fn end_sending(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    pub async fn flush(&mut self) -> io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await
    }

    pub async fn send(&mut self, message: Message) -> io::Result<()> {
        self.put(message);
        self.flush().await
    }

    /// The next message, whatever it is.
    pub async fn receive(&mut self) -> io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).await?;
        let mut packet = vec![0; u32::from_be_bytes(length) as usize];
        if let Some(cipher) = &mut self.receiving {
            packet.resize(packet.len() + 16, 0);
            self.stream.read_exact(&mut packet).await?;
            let nonce = cipher.nonce();
            cipher
                .key
                .open_in_place(nonce, Aad::from(length), &mut packet)
                .map_err(|_| io::ErrorKind::InvalidData)?;
            packet.truncate(packet.len() - 16);
        } else {
            self.stream.read_exact(&mut packet).await?;
        }
        let padding = packet[0] as usize;
        Ok(packet[1..packet.len() - padding].to_vec())
    }

    /// The next message of this kind; others are passed over.
    pub async fn expect(&mut self, kind: u8) -> io::Result<Vec<u8>> {
        let awaited = async {
            loop {
                let message = self.receive().await?;
                if message[0] == kind {
                    return Ok(message);
                }
            }
        };
        timeout(Duration::from_secs(20), awaited)
            .await
            .unwrap_or_else(|_| panic!("no message {kind} has come"))
    }

    /// Reads until the server has ended the connection.
    pub async fn ended(&mut self) {
        let end = timeout(Duration::from_secs(20), async {
            while self.receive().await.is_ok() {}
        });
        end.await.expect("the server should have ended it");
    }

    pub fn kexinit(kex: &str) -> Message {
        let mut message = Message::new(KEXINIT).bytes(&[7; 16]);
        for list in [
            kex,
            "ssh-ed25519",
            "aes256-gcm@openssh.com",
            "aes256-gcm@openssh.com",
            "hmac-sha2-256",
            "hmac-sha2-256",
            "none",
            "none",
            "",
            "",
        ] {
            message = message.string(list);
        }
        message.byte(0).number(0)
    }

    pub async fn exchange_keys(&mut self) -> io::Result<()> {
        let server_init = self.expect(KEXINIT).await?;
        let random = SystemRandom::new();
        let private = EphemeralPrivateKey::generate(&X25519, &random).unwrap();
        let public = private.compute_public_key().unwrap();
        let client_init = Self::kexinit("curve25519-sha256");
        self.put(client_init.clone());
        self.put(Message::new(30).string(&public));
        self.flush().await?;
        let reply = self.expect(31).await?;
        let mut reply = Reader(&reply[1..]);
        let (host_key, theirs) = (reply.string(), reply.string());
        let secret = agree_ephemeral(private, &UnparsedPublicKey::new(&X25519, theirs), |k| {
            k.to_vec()
        })
        .unwrap();
        let secret = Message::default().mpint(&secret).0;
        let exchange = Message::default()
            .string(CLIENT_ID)
            .string(&self.server_id)
            .string(&client_init.0)
            .string(&server_init)
            .string(host_key)
            .string(&public)
            .string(theirs)
            .bytes(&secret);
        let hash = digest(&SHA256, &exchange.0).as_ref().to_vec();
        if self.session_id.is_empty() {
            self.session_id.clone_from(&hash);
        }
        let derive = |letter: u8| {
            let text = [&secret, &hash, &[letter][..], &self.session_id].concat();
            digest(&SHA256, &text).as_ref().to_vec()
        };
        let sending = Cipher::new(&derive(b'C'), &derive(b'A'));
        let receiving = Cipher::new(&derive(b'D'), &derive(b'B'));
        self.send(Message::new(NEWKEYS)).await?;
        self.sending = Some(sending);
        self.expect(NEWKEYS).await?;
        self.receiving = Some(receiving);
        Ok(())
    }

    /// Logs in with this key.
    pub async fn authenticate(&mut self, key: &RawKey) -> io::Result<()> {
        self.offer(key).await?;
        self.expect(52).await.map(drop)
    }

    /// Asks whether this key would be accepted, whatever the answer will be.
    pub async fn ask_about(&mut self, key: &RawKey) -> io::Result<()> {
        self.want_service().await?;
        let question = Message::new(50)
            .string("tunnel")
            .string("ssh-connection")
            .string("publickey")
            .byte(0)
            .string("ssh-ed25519")
            .string(key.blob());
        self.send(question).await
    }

    async fn want_service(&mut self) -> io::Result<()> {
        if !self.has_service {
            self.send(Message::new(5).string("ssh-userauth")).await?;
            self.expect(6).await?;
            self.has_service = true;
        }
        Ok(())
    }

    /// Signs with this key, whatever the answer will be.
    pub async fn offer(&mut self, key: &RawKey) -> io::Result<()> {
        self.want_service().await?;
        let request = Message::new(50)
            .string("tunnel")
            .string("ssh-connection")
            .string("publickey")
            .byte(1)
            .string("ssh-ed25519")
            .string(key.blob());
        let signed = Message::default()
            .string(&self.session_id)
            .bytes(&request.0);
        let signature = Message::default()
            .string("ssh-ed25519")
            .string(key.0.sign(&signed.0));
        self.send(request.string(&signature.0)).await
    }

    /// Asks to listen on a port, and says whether it may.
    pub async fn forward(&mut self, port: u16) -> io::Result<bool> {
        self.sync().await?;
        self.send(forward(port)).await?;
        self.answer().await
    }

    /// Returns when everything that was sent has been taken.
    pub async fn sync(&mut self) -> io::Result<()> {
        // A channel of an unknown kind is refused in its turn.
        let last = Message::new(CHANNEL_OPEN)
            .string("sync@raw")
            .number(SYNC)
            .number(1)
            .number(1);
        self.send(last).await?;
        loop {
            let refusal = self.expect(CHANNEL_OPEN_FAILURE).await?;
            if Reader(&refusal[1..]).number() == SYNC {
                return Ok(());
            }
        }
    }

    /// The answer to a request; the server's own requests are passed over.
    pub async fn answer(&mut self) -> io::Result<bool> {
        loop {
            match self.receive().await?[0] {
                REQUEST_SUCCESS => return Ok(true),
                REQUEST_FAILURE => return Ok(false),
                _ => {}
            }
        }
    }
}

pub fn forward(port: u16) -> Message {
    Message::new(GLOBAL_REQUEST)
        .string("tcpip-forward")
        .byte(1)
        .string("127.0.0.1")
        .number(port.into())
}

pub fn cancel(port: u16) -> Message {
    Message::new(GLOBAL_REQUEST)
        .string("cancel-tcpip-forward")
        .byte(1)
        .string("127.0.0.1")
        .number(port.into())
}

/// What a message says, one part after the other.
pub struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn number(&mut self) -> u32 {
        let (number, rest) = self.0.split_at(4);
        self.0 = rest;
        u32::from_be_bytes(number.try_into().unwrap())
    }

    pub fn string(&mut self) -> &'a [u8] {
        let length = self.number() as usize;
        let (string, rest) = self.0.split_at(length);
        self.0 = rest;
        string
    }
}

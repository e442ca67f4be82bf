//! Requests to listen: a key is given its own port on the one address that is offered, and nothing else.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::LazyLock;

use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::fields::text;
use crate::raw::{GLOBAL_REQUEST, Message, RawClient};
use crate::tunnel_server::{Lab, SOON, lab};

/// As many as a session may ask for without a pause.
const REQUESTS: usize = 14;

/// A session that is used for some requests.
static SESSION: LazyLock<Mutex<Option<(RawClient, usize)>>> = LazyLock::new(Mutex::default);

pub fn run(input: &[u8]) {
    let Some(([flags, port @ ..], address)) = input.split_first_chunk::<5>() else {
        return;
    };
    let lab = lab();
    let port = match flags % 4 {
        0 => u32::from(lab.port),
        1 => u32::from(lab.port) + (1 << 16),
        2 => 0,
        _ => u32::from_be_bytes(*port),
    };
    let name = match flags / 4 % 4 {
        0 => "tcpip-forward".to_owned(),
        1 => "cancel-tcpip-forward".to_owned(),
        2 => "streamlocal-forward@openssh.com".to_owned(),
        _ => text(address),
    };
    let wants_answer = flags & 0x80 == 0;
    let request = Message::new(GLOBAL_REQUEST)
        .string(&name)
        .byte(wants_answer.into());
    let request = request.string(address).number(port);
    lab.runtime.block_on(async {
        let asked = timeout(SOON, ask(lab, request, wants_answer)).await;
        let granted = asked.expect("there is no answer").unwrap_or(false);
        if granted && name == "tcpip-forward" {
            assert_eq!(port, u32::from(lab.port), "another's port is given");
            assert!(
                is_offered(&text(address)),
                "it listens on {:?}",
                text(address)
            );
        }
        lab.goes_on().await;
    });
}

/// Whether it was granted. A session that did not end is used again, without what it was granted.
async fn ask(lab: &Lab, request: Message, wants_answer: bool) -> io::Result<bool> {
    let mut session = SESSION.lock().await;
    let (mut client, left) = match session.take() {
        Some(kept) => kept,
        None => (
            RawClient::login(lab.ssh, &lab.key).await.expect("a login"),
            REQUESTS,
        ),
    };
    client.send(request).await?;
    let granted = if wants_answer {
        client.answer().await?
    } else {
        client.sync().await.map(|()| false)?
    };
    if !granted && left > 0 {
        *session = Some((client, left - 1));
        return Ok(granted);
    }
    client.end_sending().await?;
    client.ended().await;
    Ok(granted)
}

fn is_offered(address: &str) -> bool {
    let local = IpAddr::from(Ipv4Addr::LOCALHOST);
    let named = ["", "*", "localhost"].contains(&address);
    named
        || address
            .parse()
            .is_ok_and(|asked: IpAddr| asked.to_canonical() == local)
}

//! An embedded tunnel server, somebody who misuses it, and another whose tunnel must not feel that.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use async_trait::async_trait;
use holistics_tunnel::protocol::TunnelId;
use holistics_tunnel::server::domain::proxies::TrustedProxies;
use holistics_tunnel::server::tunnel_server::{
    Grant, KeyAuthority, Limits, TunnelServer, TunnelServerConfig,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::raw::{
    CHANNEL_CLOSE, CHANNEL_DATA, CHANNEL_OPEN, CHANNEL_OPEN_CONFIRMATION, GLOBAL_REQUEST, Message,
    REQUEST_FAILURE, RawClient, RawKey, Reader,
};

/// Within this, a server that nothing is wrong with has done whatever is waited for here, also where a fuzzer gets only what
/// others leave of the processors. A hang of libFuzzer's own minute would not say what was waited for.
pub const SOON: Duration = Duration::from_secs(45);

pub struct Lab {
    pub runtime: Runtime,
    pub ssh: SocketAddr,
    /// Of the one who misuses it.
    pub key: RawKey,
    pub port: u16,
    /// A connection through the other's tunnel.
    other: Mutex<TcpStream>,
    server: TunnelServer,
    _folder: TempDir,
}

static LAB: LazyLock<Lab> = LazyLock::new(|| {
    let runtime = Runtime::new().expect("the system has room for threads");
    let (folder, server, key, port, other) = runtime.block_on(start());
    Lab {
        ssh: server.ssh_address(),
        runtime,
        key,
        port,
        other: Mutex::new(other),
        server,
        _folder: folder,
    }
});

pub fn lab() -> &'static Lab {
    &LAB
}

struct Enrolled(HashMap<String, Grant>);

#[async_trait]
impl KeyAuthority for Enrolled {
    async fn grants(&self, public_key: &str) -> anyhow::Result<Vec<Grant>> {
        Ok(self.0.get(public_key).copied().into_iter().collect())
    }
}

async fn start() -> (TempDir, TunnelServer, RawKey, u16, TcpStream) {
    let folder = tempfile::tempdir().expect("there is room for a folder");
    let keys = [(); 2].map(|()| RawKey::generate());
    let ports = free_ports();
    let grant = |tunnel: usize| Grant {
        tunnel_id: TunnelId(tunnel as i64),
        port: ports[tunnel],
        replaces: false,
    };
    let enrolled = [0, 1].map(|tunnel| (keys[tunnel].public(), grant(tunnel)));
    let config = TunnelServerConfig {
        ssh_listen: (Ipv4Addr::LOCALHOST, 0).into(),
        forward_listen: Ipv4Addr::LOCALHOST.into(),
        host_key_dir: folder.path().join("host-keys"),
        trusted_proxies: TrustedProxies::default(),
        limits: Limits::default(),
    };
    let server = TunnelServer::start(config, Arc::new(Enrolled(enrolled.into()))).await;
    let server = server.expect("the server starts");
    let [key, other_key] = keys;
    let mut other = RawClient::login(server.ssh_address(), &other_key)
        .await
        .expect("a login");
    assert!(other.forward(ports[1]).await.expect("an answer"));
    tokio::spawn(echo(other));
    let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).await;
    (
        folder,
        server,
        key,
        ports[0],
        connection.expect("its port is listened on"),
    )
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port"));
    listeners.map(|listener| listener.local_addr().expect("it is bound").port())
}

/// What a bastion does whose database says everything again.
async fn echo(mut client: RawClient) -> std::io::Result<()> {
    loop {
        let message = client.receive().await?;
        let mut said = Reader(&message[1..]);
        let answer = match message[0] {
            CHANNEL_OPEN => {
                said.string();
                let theirs = said.number();
                Message::new(CHANNEL_OPEN_CONFIRMATION)
                    .number(theirs)
                    .number(theirs)
                    .number(1 << 30)
                    .number(1 << 15)
            }
            CHANNEL_DATA => {
                let channel = said.number();
                Message::new(CHANNEL_DATA)
                    .number(channel)
                    .string(said.string())
            }
            CHANNEL_CLOSE => Message::new(CHANNEL_CLOSE).number(said.number()),
            GLOBAL_REQUEST => {
                said.string();
                match said.0 {
                    [0, ..] => continue,
                    _ => Message::new(REQUEST_FAILURE),
                }
            }
            _ => continue,
        };
        client.send(answer).await?;
    }
}

impl Lab {
    /// The other's tunnel still carries what it is given, and newcomers are let in.
    pub async fn goes_on(&self) {
        let mut other = self.other.lock().await;
        let said = b"are you there?";
        let mut heard = [0; 14];
        other
            .write_all(said)
            .await
            .expect("the other's connection is open");
        let echoed = timeout(SOON, other.read_exact(&mut heard)).await;
        echoed
            .expect("the other's tunnel is stuck")
            .expect("the other's tunnel is cut");
        assert_eq!(heard, *said);
        assert!(self.server.is_up(TunnelId(1)), "the other's tunnel is down");
        assert!(
            self.server.works_within(SOON).await,
            "the server does not work"
        );
    }
}

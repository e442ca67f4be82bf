//! Key exchanges: what a stranger can make the server compute, and who feels it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::tunnel_server::SOON;
use crate::tunnel_server::database::Database;
use crate::tunnel_server::raw::{KEXINIT, Message, RawClient, RawKey};
use crate::tunnel_server::vendor::{Vendor, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_exchange_before_the_login_is_the_end() {
    let vendor = Vendor::start().await;
    let key = RawKey::generate();
    vendor.enroll_key(1, &key);
    let to = vendor.server.ssh_address();
    let stream = TcpStream::connect(to).await.unwrap();
    let mut client = RawClient::connect(stream).await.unwrap();
    client.exchange_keys().await.unwrap();
    client
        .send(RawClient::kexinit("curve25519-sha256"))
        .await
        .unwrap();
    client.ended().await;
    let counted = || {
        let reasons = vendor.server.counters().unfinished.by_reason();
        reasons.contains(&("second_exchange", 1))
    };
    until("it is counted", SOON, counted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_exchange_after_the_login_is_not() {
    let vendor = Vendor::start().await;
    let key = RawKey::generate();
    let tunnel = vendor.enroll_key(1, &key);
    let to = vendor.server.ssh_address();
    let mut client = RawClient::login(to, &key).await.unwrap();
    client
        .send(RawClient::kexinit("curve25519-sha256"))
        .await
        .unwrap();
    client.expect(KEXINIT).await.unwrap();
    assert!(!vendor.server.is_up(tunnel.id));
}

/// Begins an exchange whose answer costs the server a great deal and the client nothing, and waits for
/// the answer.
async fn exchange(vendor: &Vendor, kex: &str, public: &[u8]) -> std::io::Result<()> {
    let stream = TcpStream::connect(vendor.server.ssh_address()).await?;
    let mut client = RawClient::connect(stream).await?;
    client.expect(KEXINIT).await?;
    client.send(RawClient::kexinit(kex)).await?;
    client.send(Message::new(30).string(public)).await?;
    client.expect(31).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bastion_logs_in_while_strangers_exchange_keys_as_expensively_as_is_offered() {
    let vendor = Arc::new(Vendor::start().await);
    let database = Database::echo().await;
    let tunnel = vendor.enroll(1);
    let is_over = Arc::new(AtomicBool::new(false));
    let exchanges = Arc::new(AtomicU64::new(0));
    let strangers: Vec<_> = (0..8)
        .map(|_| {
            let (vendor, is_over) = (Arc::clone(&vendor), Arc::clone(&is_over));
            let exchanges = Arc::clone(&exchanges);
            tokio::spawn(async move {
                while !is_over.load(Ordering::Relaxed) {
                    let public = [&[2][..], &[7; 255]].concat();
                    let kex = "diffie-hellman-group14-sha256";
                    // One that waited too long for its turn is ended, and begins again.
                    if exchange(&vendor, kex, &public).await.is_ok() {
                        exchanges.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    until("they are at it", SOON, || {
        exchanges.load(Ordering::Relaxed) > 0
    })
    .await;
    let mut slowest = Duration::ZERO;
    for _ in 0..5 {
        let started = Instant::now();
        let ssh = vendor.up(&tunnel, database.address).await;
        slowest = slowest.max(started.elapsed());
        drop(ssh);
        until("the tunnel is down", SOON, || !vendor.is_up(1)).await;
    }
    is_over.store(true, Ordering::Relaxed);
    for stranger in strangers {
        stranger.await.unwrap();
    }
    println!("{exchanges:?} exchanges; the slowest login took {slowest:?}");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

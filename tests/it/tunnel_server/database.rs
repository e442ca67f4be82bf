//! Stands at the far end of a tunnel: a listener on the bastion's side that behaves in one way.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A listener; it ends when dropped.
pub struct Database {
    pub address: SocketAddr,
    /// How many bytes it could send.
    pub sent: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Drop for Database {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Database {
    async fn start<F>(behaviour: impl Fn(TcpStream, Arc<AtomicU64>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let sent = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&sent);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                tokio::spawn(behaviour(socket, Arc::clone(&counter)));
            }
        });
        Database {
            address,
            sent,
            task,
        }
    }

    /// Sends back what it gets; ends when the other side has ended.
    pub async fn echo() -> Self {
        Self::start(|mut socket, _| async move {
            let (mut reader, mut writer) = socket.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        })
        .await
    }

    /// Answers only when it has read everything: with the number of bytes.
    pub async fn count() -> Self {
        Self::start(|mut socket, _| async move {
            let mut total = 0;
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                total += n;
            }
            let _ = socket.write_all(format!("{total} bytes").as_bytes()).await;
        })
        .await
    }

    /// Says goodbye, ends its own direction, and still counts what it is sent.
    pub async fn goodbye() -> Self {
        Self::start(|mut socket, counter| async move {
            let _ = socket.write_all(b"goodbye").await;
            let _ = socket.shutdown().await;
            let mut buffer = vec![0; 64 << 10];
            while let Ok(n @ 1..) = socket.read(&mut buffer).await {
                counter.fetch_add(n as u64, Ordering::Relaxed);
            }
        })
        .await
    }

    /// Says goodbye and closes, whatever it gets.
    pub async fn goodbye_and_close() -> Self {
        Self::start(|mut socket, _| async move {
            let _ = socket.write_all(b"goodbye").await;
        })
        .await
    }

    /// Sends so many bytes (see [`expected`]) as fast as it can, whatever it gets.
    pub async fn flood(bytes: u64) -> Self {
        Self::start(move |mut socket, counter| async move {
            let block: Vec<u8> = (0..64 << 10).map(expected).collect();
            let mut left = bytes;
            while left > 0 {
                let n = left.min(block.len() as u64);
                if socket.write_all(&block[..n as usize]).await.is_err() {
                    return;
                }
                counter.fetch_add(n, Ordering::Relaxed);
                left -= n;
            }
        })
        .await
    }
}

/// The byte at an offset of a flood.
pub fn expected(offset: usize) -> u8 {
    (((offset % (64 << 10)) * 31) >> 3) as u8
}

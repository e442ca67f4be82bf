//! Something that listens on loopback and does what a test says.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longer than any test; a connection that is forgotten ends all the same.
const LONGEST: Duration = Duration::from_secs(120);

/// Such a listener. Dropped, it takes no more connections.
pub struct Peer {
    port: u16,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// One that says this to whoever connects, and then listens.
    pub fn says(words: &[u8]) -> Self {
        let words = words.to_vec();
        Self::serving(move |mut stream| {
            let _ = stream.write_all(&words);
            listen(&mut stream);
        })
    }

    /// One that says this once it was told something, and hangs up.
    pub fn answers(words: &[u8]) -> Self {
        let words = words.to_vec();
        Self::serving(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&words);
        })
    }

    /// One that says this once it was told something, and then listens.
    pub fn answers_once(words: &[u8]) -> Self {
        let words = words.to_vec();
        Self::serving(move |mut stream| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(&words);
            listen(&mut stream);
        })
    }

    /// One that listens and says nothing.
    pub fn silent() -> Self {
        Self::serving(|mut stream| listen(&mut stream))
    }

    /// One that hangs up at once.
    pub fn hangs_up() -> Self {
        Self::serving(drop)
    }

    /// One that does this with each connection, in a thread of its own.
    pub fn serving(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("its address").port();
        let is_over = Arc::new(AtomicBool::new(false));
        let serve = Arc::new(serve);
        let over = Arc::clone(&is_over);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if over.load(Ordering::Acquire) {
                    return;
                }
                let limit = stream.set_read_timeout(Some(LONGEST));
                limit.expect("a limit above zero");
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Peer {
            port,
            is_over,
            thread: Some(thread),
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        // Wakes it up.
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let _ = TcpStream::connect_timeout(&address, Duration::from_secs(5));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn listen(stream: &mut TcpStream) {
    while let Ok(1..) = stream.read(&mut [0; 4096]) {}
}

//! A line between the bastion and the control plane that drops at the worst moment: the request
//! arrives and is carried out, and its answer is lost.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// A proxy that loses the answer to one kind of request, once.
pub struct LossyLine {
    /// Where the control plane is reached through it.
    pub url: String,
    lost: Arc<AtomicBool>,
}

impl LossyLine {
    /// In front of the server at this `http` address; `request` is how the fatal request begins.
    pub fn to(server: &str, request: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let server = server.trim_start_matches("http://").to_owned();
        let lost = Arc::new(AtomicBool::new(false));
        let has_lost = Arc::clone(&lost);
        // It ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(&server).expect("the server behind the line");
                carry(client, server, request, &has_lost);
            }
        });
        LossyLine { url, lost }
    }

    /// Whether the answer was lost.
    pub fn has_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

fn carry(client: TcpStream, server: TcpStream, request: &'static str, lost: &Arc<AtomicBool>) {
    let fatal = Arc::new(AtomicBool::new(false));
    let is_fatal = Arc::clone(&fatal);
    let has_lost = Arc::clone(lost);
    let (up, down) = (
        (
            client.try_clone().expect("a socket"),
            server.try_clone().expect("a socket"),
        ),
        (server, client),
    );
    thread::spawn(move || {
        pump(up.0, up.1, |bytes| {
            if bytes.starts_with(request.as_bytes()) && !has_lost.load(Ordering::SeqCst) {
                is_fatal.store(true, Ordering::SeqCst);
            }
            true
        });
    });
    let lost = Arc::clone(lost);
    thread::spawn(move || {
        pump(down.0, down.1, |_| {
            let drop_it = fatal.load(Ordering::SeqCst);
            if drop_it {
                lost.store(true, Ordering::SeqCst);
            }
            !drop_it
        });
    });
}

/// Carries bytes as long as `pass` lets them; then both ends are cut.
fn pump(mut from: TcpStream, mut to: TcpStream, mut pass: impl FnMut(&[u8]) -> bool) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if !pass(&buffer[..count]) || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

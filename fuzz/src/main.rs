//! The fuzzers of what comes from outside: files, wires, people. `scripts/fuzz` builds and runs them.
//!
//! All are in one program, so that all is linked once; the variable FUZZ_TARGET says which one it is. Each is a file
//! with a `run`, which panics where a promise is broken: the panic of any thread ends the fuzzer, which keeps the
//! bytes that led there. To add one: a file, its line in [`TARGETS`], and seeds in `fuzz/seeds/NAME/`.
#![no_main]

mod fields;
mod first_words;
mod forward;
mod forwarded_for;
mod http;
mod in_shells;
mod peer_link;
mod proxy_header;
mod public_key;
mod receipt;
mod release_files;
mod shell;
mod ssh;
mod sudo_rules;
mod systemd;
mod tunnel_server;
mod website;

#[allow(dead_code, reason = "the tests use the rest")]
#[path = "../../tests/it/tunnel_server/raw.rs"]
mod raw;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

const TARGETS: [(&str, fn(&[u8])); 12] = [
    ("first-words", first_words::run),
    ("forward", forward::run),
    ("forwarded-for", forwarded_for::run),
    ("http", http::run),
    ("peer-link", peer_link::run),
    ("proxy-header", proxy_header::run),
    ("public-key", public_key::run),
    ("receipt", receipt::run),
    ("release-files", release_files::run),
    ("shell", shell::run),
    ("ssh", ssh::run),
    ("sudo-rules", sudo_rules::run),
];

static CHOSEN: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = TARGETS.iter().find(|(target, _)| *target == name);
    let Some((_, run)) = found else {
        let names = TARGETS.map(|(target, _)| target).join(", ");
        eprintln!("there is no fuzzer {name:?}. The fuzzers are: {names}");
        std::process::exit(2);
    };
    // As in any program whose main is Rust's: a connection that its other side has closed is an error, and no death.
    // SAFETY: nothing else here sets what becomes of signals.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    // What would be logged is put together, too, and thrown away.
    tracing_subscriber::fmt().with_writer(std::io::sink).init();
    *run
});

fuzz_target!(|input: &[u8]| CHOSEN(input));

//! The source of autossh: which one, where from, and the proof that it is that one.
//!
//! The checksum is pinned, so it does not matter who hands the archive over: a mirror, a proxy, plain
//! http within a closed network, or a file that somebody carried in.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};
use url::Url;

use crate::bastion::failure::{Failure, OneLine, is_interruption};
use crate::bastion::host::{Host, aside};
use crate::protocol::is_loopback;

pub const VERSION: &str = "1.4g";
pub const ARCHIVE: &str = "autossh-1.4g.tgz";
const SHA256: &str = "5fc3cee3361ca1615af862364c480593171d0c54ec156de79fc421e31ae21277";
/// The archive's size in bytes.
const SIZE: u64 = 67_599;
/// The author's own site, and Debian's archive, which keeps the same file.
const ORIGINS: [&str; 2] = [
    "https://www.harding.motd.ca/autossh/autossh-1.4g.tgz",
    "https://deb.debian.org/debian/pool/main/a/autossh/autossh_1.4g.orig.tar.gz",
];

/// How much is read at a time, in bytes.
const PIECE: usize = 8 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the archive is taken from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Source {
    /// Its author's site, or else Debian's archive.
    #[default]
    Origins,
    Url(Url),
    File(PathBuf),
}

impl Source {
    /// Reads the value of `--autossh-source`.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("give a URL that begins with https:// or http://, or a file".into());
        }
        if text.starts_with("https://") || text.starts_with("http://") {
            return Url::parse(text)
                .map(Source::Url)
                .map_err(|error| error.to_string());
        }
        Ok(Source::File(text.into()))
    }

    /// Looks whether a file that was given is the right one; a URL is only fetched when it is needed.
    pub fn check(&self, host: &dyn Host) -> anyhow::Result<()> {
        match self {
            Source::File(file) => read(host, file).map(|_| ()),
            Source::Origins | Source::Url(_) => Ok(()),
        }
    }

    /// Fetches the archive and proves that it is the one. `progress` is told how many of how many bytes
    /// have come.
    pub fn fetch(&self, host: &dyn Host, progress: &dyn Fn(u64, u64)) -> anyhow::Result<Vec<u8>> {
        let urls = match self {
            Source::File(file) => return read(host, file),
            Source::Url(url) => vec![url.clone()],
            Source::Origins => ORIGINS
                .map(Url::parse)
                .into_iter()
                .collect::<Result<_, _>>()?,
        };
        let mut errors = Vec::new();
        for url in urls {
            match download(host, &url, progress) {
                Err(error) if !is_interruption(&error) => errors.push(error),
                result => return result,
            }
        }
        Err(cannot_download(errors))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Origins => f.write_str(ORIGINS[0]),
            Source::Url(url) => url.fmt(f),
            Source::File(file) => file.display().fmt(f),
        }
    }
}

/// What the plan says about fetching it.
pub fn fetch_line(source: &Source) -> String {
    format!("fetch {source} (SHA-256 {SHA256})")
}

fn read(host: &dyn Host, file: &Path) -> anyhow::Result<Vec<u8>> {
    let content = host.read(file).with_context(|| {
        Failure::new(
            format!("cannot read {}", file.display()),
            format!("give the path of {ARCHIVE} with --autossh-source"),
        )
    })?;
    verified(content, &file.display())
}

/// Downloads on a thread of its own, so that an interrupt need not wait for the answer.
fn download(host: &dyn Host, url: &Url, progress: &dyn Fn(u64, u64)) -> anyhow::Result<Vec<u8>> {
    let address = url.clone();
    let received = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&received);
    let look = || {
        let so_far = received.load(Ordering::Relaxed);
        if so_far < SIZE {
            progress(so_far, SIZE);
        }
        host.check_interrupt()
    };
    let content = aside(move || get(&address, &counter), look)?
        .unwrap_or_else(|| Err(anyhow::anyhow!("the download ended without a result")))
        .with_context(|| url.to_string())?;
    let archive = verified(content, url)?;
    progress(SIZE, SIZE);
    Ok(archive)
}

fn get(url: &Url, received: &AtomicU64) -> anyhow::Result<Vec<u8>> {
    // Only the first call installs it; the library has no default built in.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = reqwest::blocking::Client::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(DOWNLOAD_TIMEOUT)
        .user_agent(concat!("holistics-tunnel/", env!("CARGO_PKG_VERSION")));
    if is_loopback(url) {
        builder = builder.no_proxy();
    }
    let mut response = builder.build()?.get(url.clone()).send()?;
    let status = response.status();
    ensure!(status.is_success(), "answered with status {status}");
    let mut content = Vec::new();
    let mut piece = [0; PIECE];
    // One byte more shows that it is too long.
    while content.len() as u64 <= SIZE {
        match response.read(&mut piece)? {
            0 => break,
            length => content.extend_from_slice(&piece[..length]),
        }
        received.store(content.len() as u64, Ordering::Relaxed);
    }
    Ok(content)
}

/// The content if it is the archive.
fn verified(content: Vec<u8>, origin: &dyn fmt::Display) -> anyhow::Result<Vec<u8>> {
    let length = content.len() as u64;
    let digest = Sha256::digest(&content);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    if digest == SHA256 {
        return Ok(content);
    }
    let reason = if length > SIZE {
        format!("it is longer than {SIZE} bytes")
    } else {
        format!("the SHA-256 of its {length} bytes is {digest}, not {SHA256}")
    };
    bail!(Failure::new(
        format!("{origin} is not the source of autossh {VERSION}: {reason}"),
        format!(
            "nothing of it was unpacked or run. Give an unmodified {ARCHIVE} with --autossh-source URL|FILE"
        ),
    ))
}

/// A single error that knows the next thing to do speaks for itself.
fn cannot_download(mut errors: Vec<anyhow::Error>) -> anyhow::Error {
    if errors.len() == 1 && errors[0].is::<Failure>() {
        return errors.remove(0);
    }
    let said: Vec<String> = errors
        .iter()
        .map(|error| OneLine(error).to_string())
        .collect();
    Failure::new(
        "could not download the autossh source",
        format!(
            "check that this host can reach it (proxies are taken from https_proxy); or fetch {ARCHIVE} on another \
             machine, copy it here, and run the same command with --autossh-source FILE"
        ),
    )
    .because(said.join("; "))
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_a_file_are_told_apart() {
        let parsed = |text| Source::parse(text).unwrap();
        for url in ["https://mirror.example/a.tgz", "http://10.0.0.1:8080/a.tgz"] {
            assert_eq!(parsed(url), Source::Url(url.parse().unwrap()));
        }
        assert_eq!(parsed("./a.tgz"), Source::File("./a.tgz".into()));
        assert_eq!(parsed("ftp.tgz"), Source::File("ftp.tgz".into()));
        for bad in ["", "https://", "http://["] {
            assert!(Source::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_origins_are_addresses() {
        for origin in ORIGINS {
            assert_eq!(Url::parse(origin).unwrap().scheme(), "https");
        }
        assert!(ORIGINS[0].ends_with(ARCHIVE));
    }

    #[test]
    fn only_the_pinned_archive_is_taken() {
        let archive = include_bytes!("../../../../tests/data/autossh-1.4g.tgz");
        assert_eq!(archive.len() as u64, SIZE);
        let verify = |content: &[u8]| verified(content.to_vec(), &"a.tgz");
        assert_eq!(verify(archive).unwrap(), archive);
        for wrong in [&archive[1..], &[]] {
            let error = verify(wrong).unwrap_err().to_string();
            assert!(error.contains("a.tgz is not the source"), "{error}");
            assert!(error.ends_with(SHA256), "{error}");
        }
    }
}

//! The file: a tar whose first entry says what follows, with sizes and hashes. These tell damage, and not
//! malice: whoever can write the file has the keys in it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::server::data_dir::{DATABASE, HOST_KEYS, PUBLIC_URL, SECRET_KEY};
use crate::server::store::whole;

/// The first entry.
const MANIFEST: &str = "manifest.json";

/// What this program writes, and the newest it reads.
const FORMAT: u32 = 1;

/// A manifest of thousands of files has less.
const MANIFEST_BOUND: u64 = 1 << 20;

/// What a backup says of itself.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Manifest {
    format: u32,
    /// The program that made it.
    version: String,
    /// The version of its database's schema.
    schema: i64,
    /// Of whom it is: see `SecretKey::installation`.
    pub installation: String,
    pub made_at: Timestamp,
    files: Vec<Entry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Entry {
    name: String,
    bytes: u64,
    sha256: String,
}

impl Manifest {
    /// Whether the database has the schema that this program has.
    pub(super) fn is_of_this_schema(&self) -> bool {
        self.schema == whole::newest_schema()
    }
}

/// Writes files, each from where it lies, under the names they have in the data folder.
pub(super) fn write(
    to: &mut impl Write,
    schema: i64,
    installation: String,
    files: &[(String, PathBuf)],
) -> anyhow::Result<Manifest> {
    let mut opened = Vec::new();
    let mut entries = Vec::new();
    for (name, path) in files {
        let cannot_read = || format!("cannot read {}", path.display());
        let file = File::open(path).with_context(cannot_read)?;
        let (bytes, sha256) = hashed(file, &path.display().to_string(), None)?;
        entries.push(Entry {
            name: name.clone(),
            bytes,
            sha256,
        });
        opened.push(path);
    }
    let manifest = Manifest {
        format: FORMAT,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        schema,
        installation,
        made_at: Timestamp::now(),
        files: entries,
    };
    let mut tar = tar::Builder::new(to);
    let text = serde_json::to_vec_pretty(&manifest)?;
    append(&mut tar, &manifest, MANIFEST, text.len() as u64, &text[..])?;
    for (entry, path) in manifest.files.iter().zip(opened) {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        append(&mut tar, &manifest, &entry.name, entry.bytes, file)?;
    }
    tar.into_inner()?.flush()?;
    Ok(manifest)
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    manifest: &Manifest,
    name: &str,
    bytes: u64,
    content: impl Read,
) -> anyhow::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes);
    header.set_mode(0o600);
    header.set_mtime(u64::try_from(manifest.made_at.as_second()).unwrap_or(0));
    // One that has grown since it was hashed must not run into the next.
    tar.append_data(&mut header, name, content.take(bytes))?;
    Ok(())
}

/// Reads all of a backup and makes sure that it is whole and fit for this program; writes its files into a
/// folder, if there is one.
///
/// # Errors
/// It is cut short, damaged, of a newer version, or no backup; or a file cannot be written.
pub(super) fn read(path: &Path, into: Option<&Path>) -> anyhow::Result<Manifest> {
    let mut tar = tar::Archive::new(open(path)?);
    let mut entries = tar.entries()?;
    let no_backup = || format!("{} is not a backup made by this program", path.display());
    let first = entries.next().with_context(no_backup)?;
    let first = first.with_context(no_backup)?;
    ensure!(first.path_bytes()[..] == *MANIFEST.as_bytes(), no_backup());
    let mut text = Vec::new();
    first
        .take(MANIFEST_BOUND)
        .read_to_end(&mut text)
        .with_context(no_backup)?;
    let manifest = Manifest::parse(&text).with_context(|| cannot_use(path))?;
    let mut missing: Vec<&Entry> = manifest.files.iter().collect();
    for entry in entries {
        let entry = entry.with_context(|| damaged(path))?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let at = missing.iter().position(|expected| expected.name == name);
        let is_file = entry.header().entry_type().is_file();
        let Some(at) = at.filter(|_| is_file) else {
            bail!(
                "{}: it holds {name:?}, which its manifest does not name",
                damaged(path)
            );
        };
        let expected = missing.swap_remove(at);
        expected.unpack(entry, into, path)?;
    }
    if let Some(entry) = missing.first() {
        bail!(
            "{}: it is incomplete: {} is missing",
            damaged(path),
            entry.name
        );
    }
    Ok(manifest)
}

/// The backup, from its beginning; `-` is standard input.
fn open(path: &Path) -> anyhow::Result<File> {
    if path != Path::new("-") {
        return File::open(path).with_context(|| format!("cannot read {}", path.display()));
    }
    let mut file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
    // All of it is read twice, and whoever runs this may not be allowed to open it again.
    file.rewind()
        .context("a backup is read twice, so standard input must be a file: restore - <FILE")?;
    Ok(file)
}

fn damaged(path: &Path) -> String {
    format!(
        "{} is damaged; take another backup, or fetch this one again",
        path.display()
    )
}

fn cannot_use(path: &Path) -> String {
    format!("cannot use {}", path.display())
}

impl Manifest {
    fn parse(text: &[u8]) -> anyhow::Result<Self> {
        // Of a newer format nothing but this may be as it is here.
        #[derive(Deserialize)]
        struct Version {
            format: u32,
            version: String,
        }
        let made_by: Version = serde_json::from_slice(text).context("its manifest is damaged")?;
        let newer = |version: &str| {
            format!(
                "version {version} made it, which is newer than this one ({}); restore it with that one",
                env!("CARGO_PKG_VERSION")
            )
        };
        ensure!(made_by.format <= FORMAT, newer(&made_by.version));
        let manifest: Manifest = serde_json::from_slice(text).context("its manifest is damaged")?;
        ensure!(
            manifest.schema <= whole::newest_schema(),
            newer(&manifest.version)
        );
        for entry in &manifest.files {
            ensure!(
                is_ours(&entry.name),
                "it names {:?}, which is no file of a data folder",
                entry.name
            );
        }
        for name in [DATABASE, SECRET_KEY] {
            let times = manifest.files.iter().filter(|entry| entry.name == name);
            ensure!(times.count() == 1, "{name} is not in it");
        }
        Ok(manifest)
    }

    /// Its size without the tar around it.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|entry| entry.bytes).sum()
    }

    /// The names of its files.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.iter().map(|entry| entry.name.as_str())
    }
}

/// Whether a backup may hold a file of this name.
fn is_ours(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut parts = name.split('/');
    match parts.next() {
        Some(HOST_KEYS) => {
            let parts: Vec<_> = parts.collect();
            let is_plain =
                |part: &&str| !part.is_empty() && !part.starts_with('.') && part.chars().all(plain);
            !parts.is_empty() && parts.iter().all(is_plain)
        }
        _ => [DATABASE, SECRET_KEY, PUBLIC_URL].contains(&name),
    }
}

impl Entry {
    /// Makes sure that this is its content, and writes it into the folder, if there is one. `path` is the backup.
    fn unpack(&self, content: impl Read, into: Option<&Path>, path: &Path) -> anyhow::Result<()> {
        let Entry {
            name,
            bytes,
            sha256,
        } = self;
        let file = into
            .map(|folder| folder.join(name))
            .map(|path| Ok::<_, anyhow::Error>((create(&path)?, path)))
            .transpose()?;
        // One byte more shows that there are too many.
        let content = content.take(bytes.saturating_add(1));
        let (read, hash) = hashed(content, &format!("{}: {name}", damaged(path)), file)?;
        ensure!(
            read == *bytes,
            "{}: {name} has {read} bytes and should have {bytes}",
            damaged(path)
        );
        ensure!(
            hash == *sha256,
            "{}: {name} is not what was put in",
            damaged(path)
        );
        Ok(())
    }
}

/// Reads to the end, into a file if there is one. Returns how much it was, and its SHA-256. `what` is said where
/// that fails.
fn hashed(
    mut from: impl Read,
    what: &str,
    mut to: Option<(File, PathBuf)>,
) -> anyhow::Result<(u64, String)> {
    let mut hash = Sha256::new();
    let mut bytes = 0;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from
            .read(&mut buffer)
            .with_context(|| format!("{what} cannot be read to its end"))?;
        if read == 0 {
            break;
        }
        bytes += read as u64;
        hash.update(&buffer[..read]);
        if let Some((file, path)) = &mut to {
            file.write_all(&buffer[..read])
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    let hash = hash.finalize();
    Ok((
        bytes,
        hash.iter().map(|byte| format!("{byte:02x}")).collect(),
    ))
}

/// Makes a file and its folder, for their owner alone.
fn create(path: &Path) -> anyhow::Result<File> {
    let cannot_make = || format!("cannot make {}", path.display());
    if let Some(folder) = path.parent() {
        let mut builder = fs::DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(folder);
        made.with_context(cannot_make)?;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path).with_context(cannot_make)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backup_holds_files_of_a_data_folder_and_nothing_else() {
        for name in [
            DATABASE,
            SECRET_KEY,
            PUBLIC_URL,
            "ssh/ssh_host_ed25519_key",
            "ssh/next/key",
        ] {
            assert!(is_ours(name), "{name}");
        }
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "ssh",
            "ssh/",
            "ssh/../x",
            "ssh/.x",
            "ssh/a/",
            "serve.lock",
            "control-plane.sqlite-wal",
            "sshx",
            "ssh/a\0b",
            "ssh/\u{202e}",
        ] {
            assert!(!is_ours(name), "{name:?}");
        }
    }

    /// A backup with a database and a key that are none, and what else is put in at its end.
    fn archive(folder: &Path, more: impl FnOnce(&mut tar::Builder<File>)) -> PathBuf {
        let files: Vec<_> = [DATABASE, SECRET_KEY]
            .map(|name| (name.to_owned(), folder.join(name)))
            .into();
        for (name, path) in &files {
            fs::write(path, name).unwrap();
        }
        let whole = folder.join("whole.tar");
        let mut file = File::create(&whole).unwrap();
        write(&mut file, whole::newest_schema(), "it".to_owned(), &files).unwrap();
        let longer = folder.join("longer.tar");
        let mut tar = tar::Builder::new(File::create(&longer).unwrap());
        for entry in tar::Archive::new(File::open(&whole).unwrap())
            .entries()
            .unwrap()
        {
            let entry = entry.unwrap();
            tar.append(&entry.header().clone(), entry).unwrap();
        }
        more(&mut tar);
        tar.finish().unwrap();
        longer
    }

    #[test]
    fn what_the_manifest_does_not_name_is_refused_and_leads_nowhere() {
        type More = fn(&mut tar::Builder<File>);
        let more: [More; 4] = [
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.set_size(2);
                tar.append_data(&mut header, "ssh/more", &b"hi"[..])
                    .unwrap();
            },
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.set_size(10);
                tar.append_data(&mut header, SECRET_KEY, &b"secret.key"[..])
                    .unwrap();
            },
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                tar.append_link(&mut header, HOST_KEYS, "/etc").unwrap();
            },
            |tar| {
                let mut header = tar::Header::new_gnu();
                header.as_gnu_mut().unwrap().name[..5].copy_from_slice(b"../up");
                header.set_size(0);
                header.set_cksum();
                tar.append(&header, std::io::empty()).unwrap();
            },
        ];
        for more in more {
            let folder = tempfile::tempdir().unwrap();
            let path = archive(folder.path(), more);
            let into = folder.path().join("into");
            let error = read(&path, Some(&into)).unwrap_err().to_string();
            assert!(error.contains("does not name"), "{error}");
            assert!(!folder.path().join("up").exists());
        }
        let folder = tempfile::tempdir().unwrap();
        let path = archive(folder.path(), |_| {});
        read(&path, Some(&folder.path().join("into"))).unwrap();
    }
}

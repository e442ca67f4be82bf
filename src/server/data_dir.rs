//! The data folder: everything the server keeps, readable by its own user alone.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use super::data_owner::{self, Redirect};
use super::store::{DatabaseUrl, Store, whole};
use super::whole_file;

/// The names in it.
pub const DATABASE: &str = "control-plane.sqlite";
pub const SECRET_KEY: &str = "secret.key";
pub const PUBLIC_URL: &str = "public-url";
pub const HOST_KEYS: &str = "ssh";
pub const SIGN_IN_LINK: &str = "sign-in-link";
pub const LAST_RUN: &str = "last-run";
pub const KEY_TABLE: &str = "key-table";
pub const KEY_TABLE_AGE: &str = "key-table-age";
pub const PEER_LINK: &str = "peer-link";
pub const MOVED: &str = "moved";
pub const LOCK: &str = "serve.lock";

/// What a restore puts aside is in a folder whose name begins so, until it is done.
pub const HALF_REPLACED: &str = "replacing-";

/// All that a server makes in it but the lock; the companions of a database go with it.
pub const OURS: [&str; 12] = [
    DATABASE,
    "control-plane.sqlite-wal",
    "control-plane.sqlite-shm",
    SECRET_KEY,
    PUBLIC_URL,
    HOST_KEYS,
    LAST_RUN,
    PEER_LINK,
    SIGN_IN_LINK,
    KEY_TABLE,
    KEY_TABLE_AGE,
    MOVED,
];

/// Where the installation of a folder has gone; written by `migrate`, in words that people read as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// Into this database, unless the command ended at just that moment.
    PerhapsTo(String),
    /// Into this database.
    To(String),
}

impl Moved {
    const TO: &str = "to ";
    const PERHAPS_TO: &str = "perhaps to ";

    fn words(&self) -> String {
        match self {
            Moved::To(place) => format!("{}{place}\n", Self::TO),
            Moved::PerhapsTo(place) => format!("{}{place}\n", Self::PERHAPS_TO),
        }
    }

    /// What cannot be read is no permission to start.
    fn read(words: &str) -> Self {
        let words = words.trim_end();
        match words.strip_prefix(Self::TO) {
            Some(place) => Moved::To(place.to_owned()),
            None => Moved::PerhapsTo(
                words
                    .strip_prefix(Self::PERHAPS_TO)
                    .unwrap_or(words)
                    .to_owned(),
            ),
        }
    }
}

/// The folder named by `--data-dir`.
#[derive(Debug, Clone)]
pub struct DataDir(PathBuf);

/// Held while a server runs on the folder; released by the system when the process ends.
#[derive(Debug)]
pub struct ServeLock(
    #[allow(dead_code, reason = "the lock lasts as long as the file is open")] File,
);

impl DataDir {
    /// Opens the folder for a server; makes it (0700) with its parents if it is absent.
    ///
    /// # Errors
    /// The folder cannot be made, its mode cannot be set to 0700, or it or something in it is another user's.
    pub fn open_or_create(path: &Path) -> anyhow::Result<Self> {
        let data_dir = DataDir::create(path)?;
        data_owner::check(&data_dir.0, None)?;
        data_dir.make_private()?;
        data_owner::check_files(&data_dir.0, &data_dir.needed())?;
        Ok(data_dir)
    }

    /// Opens the folder of a server that has run, for a command that writes to it.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let data_dir = DataDir::existing(path)?;
        data_owner::check(&data_dir.0, None)?;
        ensure!(
            data_dir.database().exists() || data_dir.has_keys(),
            no_server_yet(&data_dir.0)
        );
        Ok(data_dir)
    }

    /// Opens the folder of a server that has run, for a backup of it to this file.
    pub fn open_for_backup(path: &Path, file: &Path) -> anyhow::Result<Self> {
        let data_dir = DataDir::existing(path)?;
        data_owner::check(&data_dir.0, Some(Redirect::To(file)))?;
        Ok(data_dir)
    }

    fn existing(path: &Path) -> anyhow::Result<Self> {
        let path = fs::canonicalize(path)
            .with_context(|| format!("there is no data folder {}", path.display()))?;
        Ok(DataDir(path))
    }

    fn create(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {shown}"))?;
        let path = fs::canonicalize(path).with_context(|| format!("cannot open {shown}"))?;
        Ok(DataDir(path))
    }

    fn make_private(&self) -> anyhow::Result<()> {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("cannot make the data folder {} private", self.0.display()))
    }

    /// What a server does not start without, as far as it is there.
    fn needed(&self) -> Vec<PathBuf> {
        let names = OURS.into_iter().chain([LOCK]);
        let without = [PUBLIC_URL, SIGN_IN_LINK, KEY_TABLE, KEY_TABLE_AGE, MOVED];
        let names = names.filter(|name| !without.contains(name));
        let mut paths: Vec<_> = names.map(|name| self.0.join(name)).collect();
        // Where they cannot be listed, their folder itself tells.
        let host_keys = fs::read_dir(self.host_keys()).into_iter().flatten();
        paths.extend(host_keys.flatten().map(|entry| entry.path()));
        // The next and the former ones, which it does without, are in folders.
        paths.retain(|path| !path.is_dir() || *path == self.host_keys());
        paths
    }

    /// Makes sure that no other server runs on the folder.
    pub fn lock_for_serving(&self) -> anyhow::Result<ServeLock> {
        let path = self.0.join(LOCK);
        let file = private_file(&path)?;
        match file.try_lock() {
            Ok(()) => Ok(ServeLock(file)),
            Err(TryLockError::WouldBlock) => bail!(
                "a holistics-tunnel-server runs on {}; stop it, or give another --data-dir",
                self.0.display()
            ),
            Err(TryLockError::Error(error)) => {
                Err(error).with_context(|| format!("cannot lock {}", path.display()))
            }
        }
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Opens the database; makes it if the folder is a new one, or is to be.
    ///
    /// # Errors
    /// The database is gone and what goes with it is there, or it cannot be opened or made.
    pub async fn open_store(&self, new_installation: bool) -> anyhow::Result<Store> {
        self.refuse_if_moved()?;
        self.refuse_half_restored()?;
        let path = self.database();
        if !new_installation && self.has_keys() && whole::is_empty(&path).await? {
            bail!(
                "{folder} has the keys of an installation, and its database is {state}: all data sources would be \
                 forgotten. Bring it back from a backup: holistics-tunnel-server restore FILE --data-dir {folder} \
                 --replace (a copy of {DATABASE} alone, made while a server ran, is none: what is new stands in \
                 {DATABASE}-wal). If a new installation is meant, start it with: serve --new-installation",
                folder = self.0.display(),
                state = if path.exists() { "empty" } else { "missing" },
            );
        }
        // Private from its start; SQLite gives its companion files the same mode.
        private_file(&path)?;
        Store::open(&path).await
    }

    /// Opens the database of this address. A folder from which a server has run does not take part in a new
    /// installation, unless one is meant: the database was made anew, to be restored, more likely.
    pub async fn connect(
        &self,
        url: &DatabaseUrl,
        new_installation: bool,
    ) -> anyhow::Result<Store> {
        let has_run = self.public_url().exists() || self.key_table().exists();
        if has_run && !new_installation {
            Store::refuse_without_schema(url).await?;
        }
        let store = Store::connect(url).await?;
        if new_installation && !store.has_data_sources().await? {
            for path in [self.key_table(), self.key_table_age()] {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => {
                        return Err(error)
                            .with_context(|| format!("cannot remove {}", path.display()));
                    }
                    _ => {}
                }
            }
        }
        Ok(store)
    }

    /// Makes sure that the installation is still in the folder's own database.
    pub fn refuse_if_moved(&self) -> anyhow::Result<()> {
        let folder = self.0.display();
        let file = self.0.join(MOVED);
        let file = file.display();
        match self.moved()? {
            None => Ok(()),
            Some(Moved::To(place)) => bail!(
                "the installation in {folder} was moved to the database {place}, and has gone on there: start it with \
                 --database-url. To go back to what it was before, and lose all since, delete {file}"
            ),
            Some(Moved::PerhapsTo(place)) => bail!(
                "migrate ended while it moved the installation in {folder} to the database {place}: give the same \
                 command again, which sees how far it was. To stay with the folder's own database, make sure that \
                 no server uses the other one, and delete {file}"
            ),
        }
    }

    /// Whether the installation was moved into another database.
    pub fn moved(&self) -> anyhow::Result<Option<Moved>> {
        let path = self.0.join(MOVED);
        match fs::read_to_string(&path) {
            Ok(words) => Ok(Some(Moved::read(&words))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// Notes where the installation has gone, to be found after a power cut as well.
    pub fn mark_moved(&self, moved: &Moved) -> anyhow::Result<()> {
        let path = self.0.join(MOVED);
        whole_file::replace(&path, &[moved.words().as_bytes()])
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// Where a restore puts what is there aside, as long as it is at it.
    pub fn half_replaced(&self) -> anyhow::Result<Option<PathBuf>> {
        let cannot_read = || format!("cannot read {}", self.0.display());
        for entry in fs::read_dir(&self.0).with_context(cannot_read)? {
            let entry = entry.with_context(cannot_read)?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(HALF_REPLACED) {
                return Ok(Some(entry.path()));
            }
        }
        Ok(None)
    }

    /// While neither what was there nor what comes from the backup is whole, a start would begin something third.
    fn refuse_half_restored(&self) -> anyhow::Result<()> {
        if self.half_replaced()?.is_some() && !self.database().exists() {
            bail!(
                "a restore into {} was ended half-way: give the same command again, which begins anew with what was \
                 there before",
                self.0.display()
            );
        }
        Ok(())
    }

    fn has_keys(&self) -> bool {
        let host_keys = fs::read_dir(self.host_keys()).is_ok_and(|mut keys| keys.next().is_some());
        self.secret_key().exists() || host_keys
    }

    /// The SQLite database.
    pub fn database(&self) -> PathBuf {
        self.0.join(DATABASE)
    }

    /// Everything else that makes an installation, by its path below the folder, as far as it is there.
    pub fn identity(&self) -> anyhow::Result<Vec<String>> {
        let mut names = vec![SECRET_KEY.to_owned()];
        if self.public_url().exists() {
            names.push(PUBLIC_URL.to_owned());
        }
        ensure!(self.secret_key().exists(), no_server_yet(&self.0));
        self.add_files(HOST_KEYS, &mut names)?;
        names.sort();
        Ok(names)
    }

    fn add_files(&self, folder: &str, names: &mut Vec<String>) -> anyhow::Result<()> {
        let path = self.0.join(folder);
        let cannot_read = || format!("cannot read {}", path.display());
        for entry in fs::read_dir(&path).with_context(cannot_read)? {
            let entry = entry.with_context(cannot_read)?;
            let name = entry.file_name();
            // What begins with a dot is being written.
            let Some(name) = name.to_str().filter(|name| !name.starts_with('.')) else {
                continue;
            };
            let name = format!("{folder}/{name}");
            if entry.path().is_dir() {
                self.add_files(&name, names)?;
            } else {
                names.push(name);
            }
        }
        Ok(())
    }

    pub fn secret_key(&self) -> PathBuf {
        self.0.join(SECRET_KEY)
    }

    /// The file that says what browsers call the server; for commands beside it.
    pub fn public_url(&self) -> PathBuf {
        self.0.join(PUBLIC_URL)
    }

    /// The file with the first sign-in link; absent once that was used.
    pub fn sign_in_link(&self) -> PathBuf {
        self.0.join(SIGN_IN_LINK)
    }

    /// The file that says which run was the last.
    pub fn last_run(&self) -> PathBuf {
        self.0.join(LAST_RUN)
    }

    /// The table of keys of a server that shares its database.
    pub fn key_table(&self) -> PathBuf {
        self.0.join(KEY_TABLE)
    }

    /// The file that says how old that table is.
    pub fn key_table_age(&self) -> PathBuf {
        self.0.join(KEY_TABLE_AGE)
    }

    /// The folder of what this node shows of itself to others.
    pub fn peer_link(&self) -> PathBuf {
        self.0.join(PEER_LINK)
    }

    /// The folder of the tunnel server's host keys.
    pub fn host_keys(&self) -> PathBuf {
        self.0.join(HOST_KEYS)
    }
}

fn no_server_yet(folder: &Path) -> String {
    format!(
        "no server has run on {} yet: start it, or give its folder with --data-dir",
        folder.display()
    )
}

/// Opens a file for writing; makes it (0600) if it is absent.
fn private_file(path: &Path) -> anyhow::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_data_folder_is_private_and_serves_once() {
        let parent = tempfile::tempdir().unwrap();
        let data = DataDir::open_or_create(&parent.path().join("a/b")).unwrap();
        let mode = fs::metadata(data.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let held = data.lock_for_serving().unwrap();
        assert!(data.lock_for_serving().is_err());
        drop(held);
        data.lock_for_serving().unwrap();
    }
}

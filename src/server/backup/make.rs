//! `backup`: a copy of everything at one moment, while the server goes on.

use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use serde_json::json;

use super::archive::{self, Manifest};
use crate::server::cli::BackupArgs;
use crate::server::data_dir::{DATABASE, DataDir};
use crate::server::domain::secret::SecretKey;
use crate::server::scratch::Scratch;
use crate::server::store::{Actor, whole};

/// How the folders begin in which one is put together, for its owner alone.
const SCRATCH: &str = ".backup-";

/// Carries out `backup`.
///
/// # Errors
/// There is no installation, the file is there already or cannot be written, or something cannot be read.
pub async fn run(arguments: BackupArgs) -> anyhow::Result<()> {
    ensure!(
        arguments.data.database_url()?.is_none(),
        "a database of PostgreSQL's is backed up with its own means, such as pg_dump; keep secret.key of the data \
         folder beside that, without which nothing in it can be used"
    );
    let data_dir = DataDir::open_for_backup(&arguments.data.path(), &arguments.file)?;
    data_dir.refuse_if_moved()?;
    if arguments.file == Path::new("-") {
        ensure!(
            !io::stdout().is_terminal(),
            "a backup holds secret keys and is binary: write it to a file or a program, not to a terminal"
        );
        let mut out = io::stdout().lock();
        let scratch = Scratch::new_in(data_dir.path(), SCRATCH)
            .with_context(|| format!("cannot write to {}", data_dir.path().display()))?;
        let manifest = write(&data_dir, &scratch, &mut out).await?;
        out.flush()?;
        note(&data_dir, &manifest, "standard output").await;
        eprintln!("{}", in_words(&manifest));
        return Ok(());
    }
    let manifest = write_file(&data_dir, &arguments.file).await?;
    note(&data_dir, &manifest, &arguments.file.to_string_lossy()).await;
    if arguments.json {
        let said = json!({
            "file": arguments.file,
            "bytes": manifest.bytes(),
            "installation": manifest.installation,
            "made_at": manifest.made_at,
            "files": manifest.names().collect::<Vec<_>>(),
        });
        println!("{said:#}");
    } else {
        println!("{}: {}", arguments.file.display(), in_words(&manifest));
    }
    Ok(())
}

/// The backup is made, whether or not that can be written down. It is not written into a database with another
/// schema than this program's: opening that would bring it up to date under a server that runs.
async fn note(data_dir: &DataDir, manifest: &Manifest, place: &str) {
    let noted = async {
        ensure!(
            manifest.is_of_this_schema(),
            "the server that keeps it has another version than this program"
        );
        let store = data_dir.open_store(false).await?;
        store
            .audit(&Actor::CommandLine, "backup made", place)
            .await?;
        store.close().await;
        Ok(())
    };
    if let Err(error) = noted.await {
        tracing::warn!("the backup is not in the audit log: {error:#}");
    }
}

fn in_words(manifest: &Manifest) -> String {
    format!(
        "installation {} as it was at {:.0}, {} bytes. It holds the secret keys: whoever reads it can pose as \
         this server",
        manifest.installation,
        manifest.made_at,
        manifest.bytes()
    )
}

async fn write_file(data_dir: &DataDir, path: &Path) -> anyhow::Result<Manifest> {
    let shown = path.display();
    let taken = || format!("{shown} already exists; choose another name");
    if path.symlink_metadata().is_ok() {
        bail!(taken());
    }
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let cannot_write = || format!("cannot write {shown}");
    let scratch = Scratch::new_in(folder, SCRATCH).with_context(cannot_write)?;
    let mut file = tempfile::NamedTempFile::new_in(scratch.path()).with_context(cannot_write)?;
    let manifest = write(data_dir, &scratch, file.as_file_mut())
        .await
        .with_context(cannot_write)?;
    file.as_file().sync_all().with_context(cannot_write)?;
    match file.persist_noclobber(path) {
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => bail!(taken()),
        persisted => persisted.with_context(cannot_write)?,
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(cannot_write)?;
    Ok(manifest)
}

/// Writes the backup; the copy of the database lies in the scratch folder meanwhile.
async fn write(
    data_dir: &DataDir,
    scratch: &Scratch,
    to: &mut impl io::Write,
) -> anyhow::Result<Manifest> {
    let identity = data_dir.identity()?;
    let installation = SecretKey::load(&data_dir.secret_key())?.installation();
    if whole::is_empty(&data_dir.database()).await? {
        bail!(
            "{} is empty: there is nothing to keep",
            data_dir.database().display()
        );
    }
    let copy = scratch.path().join(DATABASE);
    let schema = whole::copy(&data_dir.database(), &copy).await?;
    let mut files: Vec<(String, PathBuf)> = vec![(DATABASE.to_owned(), copy)];
    for name in identity {
        let path = data_dir.path().join(&name);
        files.push((name, path));
    }
    archive::write(to, schema, installation, &files)
}

//! Whether the database is the one that a server last ran with on this folder.
//!
//! Somebody may put an older copy of its file back. What was given since would be given again, and nobody
//! would know. So every run has a mark, in the database and in a file beside it.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};

use super::data_dir::DataDir;
use super::store::Store;
use super::whole_file;

/// Makes sure of it, and marks the new run.
pub async fn check_and_mark(
    data_dir: &DataDir,
    store: &Store,
    new_installation: bool,
) -> anyhow::Result<()> {
    let mark = store.last_run().await?;
    let is_new = new_installation && mark.is_none();
    if !is_new && !goes_on(data_dir, mark.as_deref())? {
        let folder = data_dir.path().display();
        bail!(
            "the database in {folder} is older than the server that last ran there: numbers and ports that were \
             given since would be given again. If nothing newer is left: holistics-tunnel-server backup FILE \
             --data-dir {folder}, and restore FILE with --data-dir of an empty folder"
        );
    }
    // Until the database has the new mark, the former one is good as well. A full disk is no reason not to start.
    let new = format!("{:032x}", rand::random::<u128>());
    let marked = async {
        let marks = format!("{}\n{new}\n", mark.unwrap_or_default());
        write(&data_dir.last_run(), &marks)?;
        store.begin_run(&new).await?;
        write(&data_dir.last_run(), &format!("{new}\n"))?;
        anyhow::Ok(())
    };
    if let Err(error) = marked.await {
        tracing::error!("this run is not marked: {error:#}");
    }
    Ok(())
}

/// Whether a database with this mark goes on from the last run on the folder, as far as that is known.
pub fn goes_on(data_dir: &DataDir, mark: Option<&str>) -> anyhow::Result<bool> {
    let path = data_dir.last_run();
    match fs::read_to_string(&path) {
        Ok(marks) => Ok(marks.lines().any(|known| known == mark.unwrap_or_default())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    whole_file::replace(path, &[text.as_bytes()])
        .with_context(|| format!("cannot write {}", path.display()))
}

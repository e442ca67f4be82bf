//! `restore`: everything is looked at before anything is changed. The files are put together in a folder below
//! the data folder, which may be a mount, and then renamed, the database first away and last into its place:
//! where that is cut short, there is none, a start is refused with the reason, and the same command puts what was there
//! back and begins anew.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use jiff::Timestamp;
use serde_json::json;

use super::archive::{self, Manifest};
use crate::server::cli::RestoreArgs;
use crate::server::data_dir::{
    DATABASE, DataDir, HALF_REPLACED, HOST_KEYS, LOCK, OURS, PUBLIC_URL, SECRET_KEY,
};
use crate::server::data_owner::{self, Redirect};
use crate::server::deaths;
use crate::server::domain::secret::SecretKey;
use crate::server::last_run;
use crate::server::scratch::Scratch;
use crate::server::store::{Given, Store, whole};

/// What may be in a folder that counts as empty.
const NOTHING: [&str; 2] = [LOCK, "lost+found"];

/// What `--replace` has put aside is in a folder that is called so, and when.
const REPLACED: &str = "replaced-";

/// Carries out `restore`.
///
/// # Errors
/// The backup is not whole or not fit for this folder, a server runs on it, or a file cannot be written.
pub async fn run(arguments: RestoreArgs) -> anyhow::Result<()> {
    let RestoreArgs { file, replace, .. } = &arguments;
    ensure!(
        arguments.data.database_url()?.is_none(),
        "a backup goes into a data folder; from there, migrate takes it to PostgreSQL"
    );
    let target = &arguments.data.path();
    if target.exists() {
        data_owner::check(target, Some(Redirect::From(file)))?;
    }
    let manifest = archive::read(file, None)?;
    check_target(target, *replace, &manifest)?;

    let new_folder = NewFolder::if_absent(target);
    let data_dir = DataDir::open_or_create(target)?;
    let _lock = data_dir.lock_for_serving()?;
    if *replace {
        put_back(&data_dir)?;
    }
    let staging = Scratch::new_in(data_dir.path(), STAGING)
        .with_context(|| format!("cannot write to {}", data_dir.path().display()))?;
    let files = staging.path().join("files");
    // It is read for the second time, and so is all that depends on it.
    let manifest = archive::read(file, Some(&files))?;
    check_target(data_dir.path(), *replace, &manifest)?;
    let given = if *replace {
        what_was_given(&data_dir, &staging).await
    } else {
        Err("the folder was empty".to_owned())
    };
    let known = prepare(&files.join(DATABASE), &manifest, given, &arguments).await?;
    let put_aside = take_the_place(&data_dir, &files)?;
    new_folder.stays();
    say(
        &arguments,
        &manifest,
        &data_dir,
        put_aside.as_deref(),
        &known,
    );
    Ok(())
}

fn check_target(target: &Path, replace: bool, manifest: &Manifest) -> anyhow::Result<()> {
    let shown = target.display();
    let entries = match fs::read_dir(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("cannot read {shown}"))?,
    };
    let secret = target.join(SECRET_KEY);
    if secret.exists() {
        let installation = SecretKey::load(&secret)?.installation();
        ensure!(
            installation == manifest.installation,
            "{shown} belongs to another installation ({installation}) than the backup ({}): restore it into a \
             folder of its own, with --data-dir",
            manifest.installation
        );
    }
    if replace {
        return Ok(());
    }
    for entry in entries {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let counts = !NOTHING.contains(&&*name) && !name.starts_with(STAGING);
        ensure!(
            !counts,
            "{shown} is not empty, {name} is in it: give an empty folder, or --replace, which puts the server's \
             data in it aside"
        );
    }
    Ok(())
}

/// A folder that was not there before, and is not afterwards if nothing comes of it.
struct NewFolder(Option<PathBuf>);

impl NewFolder {
    fn if_absent(path: &Path) -> Self {
        NewFolder((!path.exists()).then(|| path.to_owned()))
    }

    fn stays(mut self) {
        self.0 = None;
    }
}

impl Drop for NewFolder {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path.join(LOCK));
            let _ = fs::remove_dir(path);
        }
    }
}

/// The names of folders in which a restore is put together begin so.
const STAGING: &str = ".restore-";

/// Has what an earlier restore has put aside in its place again, if that was ended half-way.
fn put_back(data_dir: &DataDir) -> anyhow::Result<()> {
    let folder = data_dir.path();
    let Some(aside) = data_dir.half_replaced()? else {
        return Ok(());
    };
    if !data_dir.database().exists() {
        // The database last, as ever: it says that this is done.
        for name in OURS.into_iter().rev() {
            let (there, kept) = (folder.join(name), aside.join(name));
            if kept.symlink_metadata().is_ok() {
                // From the backup, which is read again.
                remove(&there)?;
                rename(&kept, &there)?;
            }
        }
    }
    let has_begun = fs::read_dir(&aside)?.next().is_some();
    if has_begun {
        // It was ended when all was done but this.
        finish(&aside).map(drop)
    } else {
        fs::remove_dir(&aside).with_context(|| cannot_change(&aside))
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| cannot_change(path))
}

fn cannot_change(path: &Path) -> String {
    format!("cannot remove {}", path.display())
}

/// Gives what was put aside the name that says that it is done.
fn finish(aside: &Path) -> anyhow::Result<PathBuf> {
    let name = aside.file_name().unwrap_or_default().to_string_lossy();
    let since = name.trim_start_matches(HALF_REPLACED);
    let mut done = aside.with_file_name(format!("{REPLACED}{since}"));
    // One that was killed when all was done may be followed by another within the same second.
    let mut number = 1;
    while done.symlink_metadata().is_ok() {
        number += 1;
        done = aside.with_file_name(format!("{REPLACED}{since}-{number}"));
    }
    rename(aside, &done)?;
    Ok(done)
}

/// What the database that is to be replaced has given, or why it cannot tell. It is not touched.
async fn what_was_given(data_dir: &DataDir, staging: &Scratch) -> Result<Given, String> {
    let database = data_dir.database();
    let asked = async {
        ensure!(!whole::is_empty(&database).await?, "it has none");
        let copy = staging.path().join("replaced.sqlite");
        whole::copy(&database, &copy).await?;
        whole::check(&copy).await?;
        let store = Store::open(&copy).await?;
        let mark = store.last_run().await?;
        ensure!(
            last_run::goes_on(data_dir, mark.as_deref())?,
            "it is older than the server that last ran there"
        );
        let given = store.given().await?;
        store.close().await;
        Ok(given)
    };
    asked
        .await
        .map_err(|error: anyhow::Error| format!("the replaced database cannot tell: {error:#}"))
}

/// Brings the database up to date, and makes sure that it gives nothing twice. Returns why it is not known what
/// was given since, if it is not.
async fn prepare(
    database: &Path,
    manifest: &Manifest,
    given: Result<Given, String>,
    arguments: &RestoreArgs,
) -> anyhow::Result<Result<(), String>> {
    let cannot_use = || format!("cannot use {}", arguments.file.display());
    whole::check(database).await.with_context(cannot_use)?;
    let store = Store::open(database).await.with_context(cannot_use)?;
    let own = store.given().await?;
    let given = given.and_then(|given| {
        if given.continues(&own) {
            Ok(given)
        } else {
            Err("the replaced database is older than the backup".to_owned())
        }
    });
    let since = given.as_ref().ok();
    store
        .begin_after_restore(manifest.made_at, since, arguments.unused_ports)
        .await?;
    store.close().await;
    let journal = database.with_extension("sqlite-wal");
    ensure!(!journal.exists(), "{} was not closed", database.display());
    Ok(given.map(drop))
}

/// Puts aside what is there and puts the files in its place. Returns where the former ones are, if there were any.
fn take_the_place(data_dir: &DataDir, files: &Path) -> anyhow::Result<Option<PathBuf>> {
    let folder = data_dir.path();
    sync(files)?;
    let old = OURS.map(|name| folder.join(name));
    let there = old.iter().any(|path| path.symlink_metadata().is_ok());
    let aside = there.then(|| {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%SZ").to_string();
        folder.join(format!("{HALF_REPLACED}{now}"))
    });
    if let Some(aside) = &aside {
        fs::create_dir(aside).with_context(|| format!("cannot make {}", aside.display()))?;
        fs::set_permissions(aside, fs::Permissions::from_mode(0o700))?;
        for name in OURS {
            let path = folder.join(name);
            if path.symlink_metadata().is_ok() {
                rename(&path, &aside.join(name))?;
            }
        }
    }
    for name in [SECRET_KEY, PUBLIC_URL, HOST_KEYS, DATABASE] {
        let new = files.join(name);
        if new.exists() {
            rename(&new, &folder.join(name))?;
        }
    }
    File::open(folder)?.sync_all()?;
    let aside = aside.map(|aside| finish(&aside)).transpose()?;
    File::open(folder)?.sync_all()?;
    Ok(aside)
}

#[track_caller]
fn rename(from: &Path, to: &Path) -> anyhow::Result<()> {
    deaths::around_file(|| fs::rename(from, to))
        .with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Everything below the folder is on the disk afterwards.
fn sync(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    Ok(File::open(folder)?.sync_all()?)
}

fn say(
    arguments: &RestoreArgs,
    manifest: &Manifest,
    data_dir: &DataDir,
    put_aside: Option<&Path>,
    known: &Result<(), String>,
) {
    let folder = data_dir.path().display();
    if arguments.json {
        let said = json!({
            "data_dir": data_dir.path(),
            "installation": manifest.installation,
            "made_at": manifest.made_at,
            "put_aside": put_aside,
            "given_since_is_known": known.is_ok(),
        });
        println!("{said:#}");
        return;
    }
    println!("{folder} is as it was at {:.0}.", manifest.made_at);
    if let Some(put_aside) = put_aside {
        println!("What was there is in {}.", put_aside.display());
    }
    match known {
        Ok(()) => println!("Numbers and ports that were given since are given to nobody else."),
        Err(why) => {
            println!("It is not known which numbers and ports were given since: {why}.");
            println!(
                "New numbers go on from the clock. A port that a tunnel may have had is given again only after"
            );
            match arguments.unused_ports {
                Some(range) => {
                    println!(
                        "--port-rest of `serve`; until then new tunnels get ports of {range}."
                    );
                }
                None => println!(
                    "--port-rest of `serve`. For new tunnels before that, restore once more, before you start the server, \
                     with --replace and --unused-ports."
                ),
            }
        }
    }
    let back = match known {
        Ok(()) => "removed data sources are back, and keys that were revoked",
        Err(_) => {
            "removed data sources and operators are back, and API tokens and keys that were revoked"
        }
    };
    println!(
        "Changes made since then are lost: {back}. Bastions set up since, or with a newer key, are \
         refused (\"the key is not enrolled\" in the log, refused keys in /metrics): create their data sources anew."
    );
}

//! The `host-key` commands, and the task by which a running server takes up what they have changed. They
//! work on the files and the database themselves, so also while the server runs.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{MissedTickBehavior, interval};

use super::cli::{HostKeyAction, HostKeyArgs};
use super::cluster::tunnels::Tunnels;
use super::data_dir::DataDir;
use super::domain::host_keys::{fingerprint, fingerprints, strangers};
use super::domain::secret::SecretKey;
use super::http::app::App;
use super::region_keys::{RegionKeys, TakenOut};
use super::store::{Actor, DEFAULT_REGION, Engine, Knowledge, Store};
use super::tunnel_server::{Generation, HostKey, KeyFolder, Marks, TunnelServer};

/// How often a running server looks whether the files have changed.
const LOOK: Duration = Duration::from_secs(5);

const TAKES_UP: &str = "A running server takes that up within a few seconds, at once on SIGHUP.";

/// The keys that a command works on: the only server's files, or a region's in the shared database.
struct Keys<'a> {
    folder: KeyFolder,
    region: String,
    shared: Option<(RegionKeys<'a>, TakenOut)>,
}

impl Keys<'_> {
    /// What was made of the files holds from now on.
    async fn keep(&self) -> anyhow::Result<()> {
        match &self.shared {
            Some((keys, taken)) => keys.bring_back(taken).await,
            None => Ok(()),
        }
    }
}

/// Carries out `host-key list`, `next`, `promote` or `drop`.
///
/// # Errors
/// What was asked for would lock bastions out or has nothing to work on, another command is at work, or a file
/// or the database failed.
pub async fn run(arguments: HostKeyArgs) -> anyhow::Result<()> {
    let data_dir = DataDir::open(&arguments.data.path())?;
    let store = arguments.data.open_store(&data_dir, false).await?;
    let done = carry_out(&arguments, &data_dir, &store).await;
    store.close().await;
    done
}

async fn carry_out(
    arguments: &HostKeyArgs,
    data_dir: &DataDir,
    store: &Store,
) -> anyhow::Result<()> {
    let secret;
    let region = arguments.region.as_deref();
    let keys = match store.engine() {
        Engine::Sqlite => {
            ensure!(
                region.is_none(),
                "--region is for several servers that share a database of PostgreSQL, and this one keeps its own \
                 file: leave it out, or name the database with --database-url"
            );
            Keys {
                folder: KeyFolder::new(data_dir.host_keys()),
                region: DEFAULT_REGION.to_owned(),
                shared: None,
            }
        }
        Engine::Postgres => {
            let region = region.unwrap_or(DEFAULT_REGION);
            secret = SecretKey::load(&data_dir.secret_key())?;
            let keys = RegionKeys::new(store, &secret, region);
            let taken = keys.take_out(data_dir).await?;
            Keys {
                folder: taken.folder.clone(),
                region: region.to_owned(),
                shared: Some((keys, taken)),
            }
        }
    };
    match arguments.action {
        HostKeyAction::List { json } => list(&keys, store, json).await,
        HostKeyAction::Next => next(&keys, store).await,
        HostKeyAction::Promote { force } => promote(&keys, store, force).await,
        HostKeyAction::Drop => drop_former(&keys, store).await,
    }
}

async fn list(keys: &Keys<'_>, store: &Store, as_json: bool) -> anyhow::Result<()> {
    let [current, next, former] = [Generation::Current, Generation::Next, Generation::Former]
        .map(|generation| keys.folder.load(generation));
    let (current, next, former) = (current?, next?, former?);
    let known = knowledge(&keys.folder, store, &keys.region).await?;
    if as_json {
        let list = json!({
            "current": described(&current)?,
            "next": described(&next)?,
            "former": described(&former)?,
            "tunnels": tunnels(&known, &prints(&current)?, &prints(&next)?)?,
        });
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for (name, keys) in [("current", &current), ("next", &next), ("former", &former)] {
        show(name, keys)?;
    }
    println!();
    let of = known.len();
    let lost = strangers(&known, &prints(&current)?);
    if !lost.is_empty() {
        println!(
            "{} of {of} enrolled tunnels cannot reconnect, since their bastions do not know the current key:",
            lost.len()
        );
        show_tunnels(&lost);
    }
    if next.is_empty() {
        println!("There is no next key: `host-key next` makes one and announces it.");
        return Ok(());
    }
    let strangers = strangers(&known, &prints(&next)?);
    if strangers.is_empty() {
        println!("The bastions of all {of} enrolled tunnels know the next key.");
    } else {
        println!(
            "{} of {of} enrolled tunnels would be locked out by the next key, since their bastions do not know it:",
            strangers.len()
        );
        show_tunnels(&strangers);
        println!(
            "`holistics-tunnel update-tunnel ID` on such a bastion pins it; the tunnel runs on."
        );
    }
    Ok(())
}

async fn next(keys: &Keys<'_>, store: &Store) -> anyhow::Result<()> {
    let lock = keys.folder.lock()?;
    // Before there is another key that they could have been told of.
    knowledge(&keys.folder, store, &keys.region).await?;
    let made = keys.folder.make_next(&lock)?;
    keys.keep().await?;
    note(store, "host key made", &made).await?;
    show("next", &made)?;
    println!(
        "{TAKES_UP} From then on it is announced: new bastions pin it, others when `holistics-tunnel update-tunnel ID` \
         runs on them. `host-key list` shows who does not know it yet."
    );
    Ok(())
}

async fn promote(keys: &Keys<'_>, store: &Store, force: bool) -> anyhow::Result<()> {
    let lock = keys.folder.lock()?;
    let next = keys.folder.load(Generation::Next)?;
    if !next.is_empty() {
        let known = knowledge(&keys.folder, store, &keys.region).await?;
        let strangers = strangers(&known, &prints(&next)?);
        if !strangers.is_empty() {
            println!(
                "The bastions of {} of {} enrolled tunnels do not know the next key:",
                strangers.len(),
                known.len()
            );
            show_tunnels(&strangers);
        }
        ensure!(
            force || strangers.is_empty(),
            "these bastions could not reconnect; nothing was changed. Have `holistics-tunnel update-tunnel ID` run on \
             each, or on one that was set up by hand pin the keys that its page shows and register its own key again; \
             then promote again; or promote with --force, after which it has to run on them all the same"
        );
    }
    keys.folder.promote(&lock)?;
    keys.keep().await?;
    note(store, "host key promoted", &next).await?;
    show("current", &keys.folder.load(Generation::Current)?)?;
    println!(
        "{TAKES_UP} Running sessions go on. `host-key drop` deletes the former key, which is kept aside."
    );
    Ok(())
}

async fn drop_former(keys: &Keys<'_>, store: &Store) -> anyhow::Result<()> {
    let lock = keys.folder.lock()?;
    let former = keys.folder.load(Generation::Former).unwrap_or_default();
    keys.folder.drop_former(&lock)?;
    keys.keep().await?;
    note(store, "host key deleted", &former).await?;
    println!("The former host key is deleted.");
    Ok(())
}

/// What is done is done, whether or not it can be written down.
async fn note(store: &Store, action: &str, keys: &[HostKey]) -> anyhow::Result<()> {
    let prints = prints(keys)?.join(" ");
    if let Err(error) = store.audit(&Actor::CommandLine, action, &prints).await {
        tracing::error!(?error, action, "not in the audit log");
    }
    Ok(())
}

/// What is known of each tunnel of a region, those of former versions included.
async fn knowledge(
    folder: &KeyFolder,
    store: &Store,
    region: &str,
) -> anyhow::Result<Vec<Knowledge>> {
    let current = prints(&folder.load(Generation::Current)?)?;
    // Without a key, as in a database that was restored before its keys were, nothing can be assumed.
    if !current.is_empty() {
        store.assume_host_keys(region, &current).await?;
    }
    Ok(store.host_key_knowledge(region).await?)
}

fn prints(keys: &[HostKey]) -> anyhow::Result<Vec<String>> {
    let keys = keys
        .iter()
        .map(HostKey::public)
        .collect::<anyhow::Result<Vec<_>>>()?;
    Ok(fingerprints(&keys)?)
}

fn show(name: &str, keys: &[HostKey]) -> anyhow::Result<()> {
    for key in keys {
        let public = key.public()?;
        let (kind, _) = public.split_once(' ').unwrap_or_default();
        let print = fingerprint(&public)?;
        println!("{name:<8} {kind:<20} {print}  since {:.0}", key.since);
    }
    Ok(())
}

fn show_tunnels(tunnels: &[&Knowledge]) {
    for tunnel in tunnels {
        let seen = tunnel
            .last_seen
            .map_or_else(|| "never".to_owned(), |at| format!("{at:.0}"));
        let machine = match tunnel.bastion.as_str() {
            "" => "a machine that was set up by hand".to_owned(),
            name => format!("{name:?}"),
        };
        println!(
            "  {:>6}  {:?} on {machine}, last seen {seen} ({})",
            tunnel.tunnel_id,
            tunnel.display_name,
            tunnel.source.explained()
        );
    }
}

fn described(keys: &[HostKey]) -> anyhow::Result<Vec<Value>> {
    let describe = |key: &HostKey| {
        let public = key.public()?;
        let fingerprint = fingerprint(&public)?;
        Ok(json!({ "public_key": public, "fingerprint": fingerprint, "since": key.since }))
    };
    keys.iter().map(describe).collect()
}

fn tunnels(known: &[Knowledge], current: &[String], next: &[String]) -> anyhow::Result<Vec<Value>> {
    let knows = |tunnel: &Knowledge, keys| strangers(std::slice::from_ref(tunnel), keys).is_empty();
    let describe = |tunnel: &Knowledge| {
        let mut described = serde_json::to_value(tunnel)?;
        described["knows_current"] = knows(tunnel, current).into();
        described["knows_next"] = (!next.is_empty() && knows(tunnel, next)).into();
        Ok(described)
    };
    known.iter().map(describe).collect()
}

/// Lets the tunnel server show and announce what the files hold whenever they have changed, and when somebody
/// asks for it with SIGHUP; where several servers share a database, the files follow that. `read` is what they were when
/// the server read them.
pub fn keep_fresh(
    app: Arc<App>,
    folder: KeyFolder,
    mut read: Marks,
) -> io::Result<impl Future<Output = anyhow::Result<()>>> {
    let mut asked = signal(SignalKind::hangup())?;
    let mut look = interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    Ok(async move {
        let mut told = None;
        loop {
            tokio::select! {
                _ = asked.recv() => {}
                _ = look.tick() => {}
            }
            let followed = follow(&app, &folder).await.err();
            let why = followed.map(|error| format!("{error:#}"));
            if let Some(why) = why.as_ref().filter(|why| told.as_ref() != Some(*why)) {
                tracing::error!(
                    "cannot follow the regions and their host keys in the database: {why}"
                );
            }
            told = why;
            // Taken before the files are read: what changes meanwhile is seen the next time.
            let now = folder.marks();
            if now == read {
                continue;
            }
            read = now;
            take(&app.tunnels, &folder);
        }
    })
}

/// Takes over what the shared database says of the regions, and of the host keys of this server's own.
async fn follow(app: &App, folder: &KeyFolder) -> anyhow::Result<()> {
    if app.store.engine() == Engine::Sqlite || !app.store.is_open() {
        return Ok(());
    }
    // First: a folder that cannot be written is not in the way of that.
    app.learn_regions().await?;
    if app.tunnels.local().is_some() {
        let region = app.regions.own_name();
        RegionKeys::new(&app.store, &app.secret, region)
            .copy_to(folder)
            .await?;
    }
    Ok(())
}

/// Has this server's tunnel server show and announce what the files hold.
fn take(tunnels: &Tunnels, folder: &KeyFolder) {
    let Some(local) = tunnels.local() else {
        return;
    };
    let before = local.host_keys();
    match read_into(local, folder) {
        // They were written at this start.
        Ok(()) if local.host_keys() == before => {}
        Ok(()) => tracing::info!(announced = ?local.host_keys(), "host keys read again"),
        Err(error) => tracing::error!(
            "cannot use the host keys: {error:#}; the former ones are shown until that is fixed"
        ),
    }
}

fn read_into(local: &TunnelServer, folder: &KeyFolder) -> anyhow::Result<()> {
    let current = folder.load(Generation::Current)?;
    ensure!(
        !current.is_empty(),
        "there are none in {}",
        folder.place(Generation::Current).display()
    );
    local.take_host_keys(&current, &folder.load(Generation::Next)?)
}

/// Notes what the bastions of a region know that were set up when that was not kept yet.
pub async fn note_former_bastions(
    folder: &KeyFolder,
    store: &Store,
    region: &str,
) -> anyhow::Result<()> {
    knowledge(folder, store, region).await.map(drop)
}

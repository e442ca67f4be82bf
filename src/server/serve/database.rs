//! The database at the start: opened, or, where several servers share one that cannot be used, opened later.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use super::tasks;
use super::tunnels::Joining;
use crate::server::cli::Serve;
use crate::server::cluster::key_file::KeyFile;
use crate::server::cluster::key_keeper::KeyKeeper;
use crate::server::cluster::key_table::KeyTable;
use crate::server::cluster::node::{self, FreeName};
use crate::server::cluster::tunnels::Member;
use crate::server::core_tasks::CoreTasks;
use crate::server::data_dir::DataDir;
use crate::server::domain::logins;
use crate::server::domain::secret::SecretKey;
use crate::server::host_keys;
use crate::server::http::app::App;
use crate::server::last_run;
use crate::server::region_keys::RegionKeys;
use crate::server::regions;
use crate::server::store::{DatabaseUrl, Role, Store, StoreError};
use crate::server::tunnel_server::{KeyAuthority, KeyFolder};

/// How long to wait before a database is tried again that could not be opened.
const REOPEN_PAUSE: Duration = Duration::from_secs(2);

/// The database, and what belongs to it.
pub(super) struct Database {
    pub(super) store: Store,
    pub(super) secret: SecretKey,
    /// Where it is, if several servers share it.
    pub(super) url: Option<DatabaseUrl>,
    /// This node's own table of keys, and what keeps it current, where several servers share the database.
    pub(super) key_table: Option<Arc<KeyTable>>,
    pub(super) keeper: Option<KeyKeeper>,
    /// The name that this server may have among several, once the database could be asked.
    pub(super) free_name: Option<FreeName>,
}

impl Database {
    pub(super) async fn open(settings: &Serve, data_dir: &DataDir) -> anyhow::Result<Self> {
        let url = settings.data.database_url()?;
        let secret = || SecretKey::load_or_create(&data_dir.secret_key());
        let (opened, secret) = match &url {
            // First: a key without a database says that one is missing.
            None => (open_own(settings, data_dir).await?, secret()?),
            Some(url) => {
                let secret = secret()?;
                (open_shared(settings, data_dir, &secret, url).await?, secret)
            }
        };
        let Opened {
            store,
            keeper,
            free_name,
        } = opened;
        Ok(Database {
            store,
            secret,
            url,
            key_table: keeper.as_ref().map(KeyKeeper::table),
            keeper,
            free_name,
        })
    }

    /// Whether the tunnels do not wait for what has failed: the database can be used again later.
    pub(super) fn is_later(&self, failed: &anyhow::Error) -> bool {
        Store::is_outage(failed) && self.keeper.as_ref().is_some_and(KeyKeeper::has_kept)
    }

    /// Who knows which keys are enrolled.
    pub(super) fn key_authority(&self) -> Arc<dyn KeyAuthority> {
        match &self.key_table {
            Some(table) => Arc::clone(table) as _,
            None => Arc::new(self.store.clone()),
        }
    }
}

/// A database, and what could be asked of it.
struct Opened {
    store: Store,
    keeper: Option<KeyKeeper>,
    free_name: Option<FreeName>,
}

/// One that no other server has.
async fn open_own(settings: &Serve, data_dir: &DataDir) -> anyhow::Result<Opened> {
    let new = settings.new_installation;
    let store = settings.data.open_store(data_dir, new).await?;
    // Nobody puts a file of PostgreSQL's back, and it runs with several servers.
    last_run::check_and_mark(data_dir, &store, new).await?;
    Ok(Opened {
        store,
        keeper: None,
        free_name: None,
    })
}

/// One that several servers share, and what keeps this node's own table of its keys. With such a table on disk, the
/// tunnels do not wait for a database that cannot be used, whatever has to be mended there: it is opened later.
async fn open_shared(
    settings: &Serve,
    data_dir: &DataDir,
    secret: &SecretKey,
    url: &DatabaseUrl,
) -> anyhow::Result<Opened> {
    let node = settings.node_name()?;
    let keeper = |store: &Store| {
        let region = settings.region();
        let file = KeyFile::new(data_dir, secret.installation(), region);
        let own = (node.clone(), region.to_owned());
        KeyKeeper::new(file, store.clone(), url.clone(), own, settings.stale_logins)
    };
    let opened = async {
        let store = data_dir.connect(url, settings.new_installation).await?;
        let keeper = (settings.role != Role::Web).then(|| keeper(&store));
        if keeper
            .as_ref()
            .is_some_and(|keeper| !keeper.table().is_empty())
        {
            store.refuse_without_data_sources().await?;
        }
        node::check_secret(secret, &store).await?;
        regions::check(settings, &store).await?;
        let free_name = Some(FreeName::find(url, &node).await?);
        let folder = KeyFolder::new(data_dir.host_keys());
        share_host_keys(&store, secret, settings.region(), settings.role, &folder).await?;
        if let Some(keeper) = &keeper {
            keeper.fill().await?;
        }
        anyhow::Ok(Opened {
            store,
            keeper,
            free_name,
        })
    };
    match opened.await {
        Err(error) if settings.role != Role::Web && Store::is_outage(&error) => {
            let store = Store::shut(url).await;
            let keeper = keeper(&store);
            if !keeper.has_kept() {
                return Err(error);
            }
            tracing::error!(
                "{error:#}. Until it can be used, tunnels are served to the keys that are known on disk, and \
                 everything else is answered 503"
            );
            Ok(Opened {
                store,
                keeper: Some(keeper),
                free_name: None,
            })
        }
        opened => opened,
    }
}

/// Has a server with tunnels show its region's host keys.
async fn share_host_keys(
    store: &Store,
    secret: &SecretKey,
    region: &str,
    role: Role,
    folder: &KeyFolder,
) -> anyhow::Result<()> {
    match role {
        Role::Web => Ok(()),
        Role::Tunnel | Role::All => {
            let keys = RegionKeys::new(store, secret, region);
            let shared = keys.copy_to(folder).await;
            shared.context("cannot share the host keys of the region")
        }
    }
}

/// What is done once the database is open.
pub(super) async fn begin(app: &App, host_keys: &KeyFolder, role: Role) {
    if let Err(error) = regions::begin(app, role).await {
        // What this server's flags say goes on; the tunnels do not wait for room on the disk.
        tracing::error!("cannot write down the region of this server: {error:#}");
    }
    if let Err(error) = app.store.fold_names().await {
        // Those names are not found until the next start: the tunnels do not wait for room on the disk.
        tracing::error!("cannot keep names as they are searched for: {error:#}");
    }
    if let Err(error) =
        host_keys::note_former_bastions(host_keys, &app.store, app.regions.own_name()).await
    {
        // The tunnels do not wait for room on the disk; the commands that need it note it, too.
        tracing::error!("cannot note which host keys the bastions know: {error:#}");
    }
    if let Err(error) = check_saved_passwords(app).await {
        // Whoever uses one is told; the tunnels do not wait for the database.
        tracing::error!("cannot check whether the saved passwords can be read: {error:#}");
    }
    app.sign_in_link.delete_if_over(&app.store).await;
}

/// Says at once, and not at the next test of a connection, that the key file is not the right one.
async fn check_saved_passwords(app: &App) -> anyhow::Result<()> {
    let unreadable = logins::unreadable(&app.secret, &app.store).await?;
    if unreadable > 0 {
        tracing::error!(
            unreadable,
            "saved passwords cannot be read: secret.key is not the file that they were saved with. \
             Restore it from a backup, or enter the passwords again"
        );
    }
    Ok(())
}

/// What a database is opened with, and the other nodes are joined, where that could not be done at the start.
pub(super) struct Late {
    pub(super) url: DatabaseUrl,
    pub(super) data_dir: DataDir,
    pub(super) host_keys: KeyFolder,
    pub(super) joining: Joining,
    pub(super) drain_timeout: Duration,
}

/// Opens it as soon as it can be, unless it is, and makes this server one of several then.
pub(super) async fn open_late(app: Arc<App>, late: Late) -> anyhow::Result<()> {
    if !app.store.is_open() {
        let store = opened(&app, &late).await?;
        app.store.take_over(&store);
        tracing::info!("the database is open");
    }
    let member = loop {
        match join_late(&app, &late).await {
            Ok(member) => break member,
            // A database that has just come back has much to do: the tunnels do not end for that.
            Err(error) if error.chain().any(|cause| cause.is::<StoreError>()) => {
                tracing::warn!("cannot join the other nodes yet: {error:#}");
                tokio::time::sleep(REOPEN_PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    };
    app.tunnels.join(member);
    begin(&app, &late.host_keys, late.joining.role()).await;
    let mut core = CoreTasks::default();
    tasks::spawn_member_tasks(&mut core, &app, &late.url, late.drain_timeout);
    Err(core.first_end().await)
}

/// The database, once it can be used. It is looked at whose it is before anybody else uses it: the keys in it are taken
/// over at once.
async fn opened(app: &App, late: &Late) -> anyhow::Result<Store> {
    let has_keys = app.keys.as_ref().is_some_and(|keys| !keys.is_empty());
    let mut told = String::new();
    loop {
        let opened = async {
            let store = late.data_dir.connect(&late.url, false).await?;
            if has_keys {
                store.refuse_without_data_sources().await?;
            }
            anyhow::Ok(store)
        };
        let why = match opened.await {
            Ok(store) => match node::check_secret(&app.secret, &store).await {
                Ok(()) => return Ok(store),
                Err(error) if error.chain().any(|cause| cause.is::<StoreError>()) => error,
                Err(error) => return Err(error),
            },
            Err(error) => error,
        };
        let why = format!("{why:#}");
        if told != why {
            tracing::error!("the database cannot be used yet, and is tried again and again: {why}");
            told = why;
        }
        tokio::time::sleep(REOPEN_PAUSE).await;
    }
}

async fn join_late(app: &App, late: &Late) -> anyhow::Result<Member> {
    let (region, role) = (late.joining.region(), late.joining.role());
    share_host_keys(&app.store, &app.secret, region, role, &late.host_keys).await?;
    let free_name = FreeName::find(&late.url, late.joining.name()).await?;
    late.joining.join(free_name).await
}

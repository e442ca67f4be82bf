//! `migrate`: an installation moves from its folder's own database into one of PostgreSQL.
//!
//! The folder stays, with its keys and the file as it was, and a mark that it is not to be served from again. The mark
//! is put down in two steps around the moment from which the copy counts, so that whatever ends the command between
//! them, it can be carried out again, and then sees how far it was.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Map, json};

use super::cli::MigrateArgs;
use super::data_dir::{DataDir, Moved};
use super::store::{Actor, DatabaseUrl, Progress, Store, moving, whole};

/// How often it is said how far a long table is.
const TELL_EVERY: Duration = Duration::from_secs(2);

/// Carries out `migrate`.
///
/// # Errors
/// A server runs on the folder, there is nothing to move or it was moved, or the database cannot take it.
pub async fn run(arguments: MigrateArgs) -> anyhow::Result<()> {
    let url = arguments.target()?;
    let data_dir = DataDir::open(&arguments.data.path())?;
    let _lock = data_dir.lock_for_serving()?;
    let file = data_dir.database();
    let was_begun = match data_dir.moved()? {
        Some(Moved::To(to)) => bail!(
            "{} was moved to {to} already; start it with --database-url",
            data_dir.path().display()
        ),
        Some(Moved::PerhapsTo(_)) => true,
        None => false,
    };
    ensure!(
        !whole::is_empty(&file).await?,
        "there is nothing in {} to move: no server has run on it yet. A new one makes what it needs in the database \
         of its --database-url",
        data_dir.path().display()
    );
    if was_begun && moving::is_copied(&file, &url).await? {
        data_dir.mark_moved(&Moved::To(url.to_string()))?;
        return tell_end(&arguments, &url, None);
    }
    // Its schema is brought up to date as by a start of the server.
    Store::open(&file).await?.close().await;
    let mut teller = Teller::new(arguments.json);
    let copied = moving::copy(&file, &url, |progress| teller.tell(progress)).await?;
    let tables = copied.tables.clone();
    data_dir.mark_moved(&Moved::PerhapsTo(url.to_string()))?;
    copied.keep().await.with_context(|| {
        format!(
            "it is not known whether {url} has kept everything: give the same command again, which sees to it"
        )
    })?;
    data_dir.mark_moved(&Moved::To(url.to_string()))?;
    note(&url, data_dir.path()).await;
    tell_end(&arguments, &url, Some(&tables))
}

/// It is moved, whether or not that can be written down.
async fn note(url: &DatabaseUrl, from: &std::path::Path) {
    let noted = async {
        let store = Store::connect(url).await?;
        let from = from.display().to_string();
        store
            .audit(&Actor::CommandLine, "moved to PostgreSQL", &from)
            .await?;
        store.close().await;
        anyhow::Ok(())
    };
    if let Err(error) = noted.await {
        tracing::warn!("the move is not in the audit log: {error:#}");
    }
}

fn tell_end(
    arguments: &MigrateArgs,
    url: &DatabaseUrl,
    tables: Option<&[(&'static str, u64)]>,
) -> anyhow::Result<()> {
    if arguments.json {
        let tables = tables.map(|tables| {
            let counted = tables
                .iter()
                .map(|&(table, rows)| (table.to_owned(), rows.into()));
            counted.collect::<Map<_, _>>()
        });
        println!("{:#}", json!({ "to": url.to_string(), "tables": tables }));
        return Ok(());
    }
    match tables {
        Some(tables) => {
            let rows: u64 = tables.iter().map(|(_, rows)| rows).sum();
            println!(
                "Moved to {url}: {rows} rows in {} tables, counted there.",
                tables.len()
            );
        }
        None => println!(
            "{url} has everything already: the command before had only not lived to say so."
        ),
    }
    println!(
        "Start the server with --database-url and the same --data-dir, whose keys it goes on to need. The file {} is \
         left as it was, and no server starts from it any more.",
        super::data_dir::DATABASE
    );
    Ok(())
}

/// Says to people how far it is.
struct Teller {
    is_silent: bool,
    told: Instant,
}

impl Teller {
    fn new(is_silent: bool) -> Self {
        Teller {
            is_silent: is_silent && !std::io::stderr().is_terminal(),
            told: Instant::now(),
        }
    }

    fn tell(&mut self, progress: Progress) {
        let Progress {
            table,
            copied,
            rows,
        } = progress;
        if self.is_silent || (copied < rows && self.told.elapsed() < TELL_EVERY) || copied == 0 {
            return;
        }
        self.told = Instant::now();
        if copied < rows {
            eprintln!("{table}: {copied} of {rows} rows");
        } else {
            eprintln!("{table}: {rows} rows");
        }
    }
}

//! This node: its name, its life, and how it is.
//!
//! A name is one server's at a time. Whether another has it is seen by its beat alone.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::beat;
use crate::server::domain::secret::SecretKey;
use crate::server::store::{DatabaseUrl, Line, NewNode, NodeLife, NodeRow, NodeState, Store};

/// For how long another server of the same name is listened for: longer than two of its beats are apart.
const LISTEN: Duration = Duration::from_secs(3);
const LISTEN_EVERY: Duration = Duration::from_millis(250);

/// How long a question at the start may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A name that no living server has.
#[derive(Debug)]
pub struct FreeName {
    line: Line,
    name: String,
    /// The row of the one that had it before.
    former: Option<NodeRow>,
}

impl FreeName {
    /// Looks whether a server of this name lives. That takes 3 s, where the one before has not ended in an
    /// orderly way.
    pub async fn find(url: &DatabaseUrl, name: &str) -> anyhow::Result<Self> {
        let mut line = Line::new(url, LIMIT);
        let first = read(&mut line, name).await?;
        let until = Instant::now() + LISTEN;
        let may_live = first
            .as_ref()
            .is_some_and(|row| row.state != NodeState::Stopped);
        while may_live && Instant::now() < until {
            sleep(LISTEN_EVERY).await;
            let now = read(&mut line, name).await?;
            let is_same =
                |one: &NodeRow, other: &NodeRow| (one.epoch, one.beat) == (other.epoch, other.beat);
            if let (Some(first), Some(now)) = (&first, &now)
                && !is_same(first, now)
            {
                bail!(taken(name));
            }
        }
        Ok(FreeName {
            line,
            name: name.to_owned(),
            former: first,
        })
    }

    /// Begins a life under this name.
    ///
    /// # Errors
    /// Another server has taken the name meanwhile, or the database failed.
    pub async fn register(mut self, new: NewNode) -> anyhow::Result<Node> {
        let life = self.line.register(&new, self.former.as_ref()).await;
        let life = life.context("cannot tell the other nodes of this one")?;
        let life = life.with_context(|| taken(&self.name))?;
        tracing::info!(
            node = life.name,
            epoch = life.epoch,
            "this node is registered"
        );
        Ok(Node {
            new,
            life: watch::Sender::new(Life {
                life,
                round: 0,
                looks: 0,
            }),
            state: watch::Sender::new(NodeState::Up),
            written: watch::Sender::new(NodeState::Up),
            is_leaving: AtomicBool::new(false),
        })
    }
}

async fn read(line: &mut Line, name: &str) -> anyhow::Result<Option<NodeRow>> {
    let row = line.node(name).await;
    row.context("cannot read which nodes there are")
}

fn taken(name: &str) -> String {
    format!(
        "cannot start as the node {name:?}: another server of this name runs on the same database. Give this one \
         another name with --node-name, or stop the other one first"
    )
}

/// This node, in its present life.
#[derive(Debug)]
pub struct Node {
    new: NewNode,
    life: watch::Sender<Life>,
    state: watch::Sender<NodeState>,
    /// As it was written last, so that others know.
    written: watch::Sender<NodeState>,
    /// Whether it drains since it is about to end, whoever asks for what.
    is_leaving: AtomicBool,
}

/// A life, how often all of its sessions had to be written anew, and how often it had to be looked whether what was
/// written is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Life {
    pub(super) life: NodeLife,
    round: u64,
    looks: u64,
}

impl Life {
    /// Whether all sessions that were written in the other one are void.
    pub(super) fn voids(&self, written: &Life) -> bool {
        (&self.life, self.round) != (&written.life, written.round)
    }
}

impl Node {
    /// What it said of itself at its start.
    pub fn described(&self) -> &NewNode {
        &self.new
    }

    pub fn name(&self) -> &str {
        &self.new.name
    }

    /// Its present life.
    pub fn life(&self) -> NodeLife {
        self.life.borrow().life.clone()
    }

    pub fn state(&self) -> NodeState {
        *self.state.borrow()
    }

    /// Whether others are preferred.
    pub fn is_draining(&self) -> bool {
        self.state() == NodeState::Draining
    }

    /// Told when it is otherwise.
    pub fn states(&self) -> watch::Receiver<NodeState> {
        self.state.subscribe()
    }

    /// From now on others are preferred, since this one is about to end.
    pub fn leave(&self) {
        self.is_leaving.store(true, Ordering::Relaxed);
        self.follow(true);
    }

    /// Drains while somebody asks for it.
    pub(super) fn follow(&self, drain_asked: bool) {
        let changes = self.state.send_if_modified(|state| {
            let next = match (*state, drain_asked) {
                (NodeState::Up, true) => NodeState::Draining,
                (NodeState::Draining, false) if !self.is_leaving.load(Ordering::Relaxed) => {
                    NodeState::Up
                }
                _ => return false,
            };
            *state = next;
            true
        });
        if changes {
            let state = self.state();
            tracing::info!(node = self.name(), %state, "this node is in another state");
        }
    }

    pub(super) fn has_written(&self, state: NodeState) {
        self.written.send_replace(state);
    }

    /// Returns when the others can know that it is in this state.
    pub async fn is_written(&self, state: NodeState) {
        let mut written = self.written.subscribe();
        // It is not dropped before this is.
        let _ = written.wait_for(|written| *written == state).await;
    }

    pub(super) fn lives(&self) -> watch::Receiver<Life> {
        self.life.subscribe()
    }

    /// Has all of its sessions written anew: they may have been found void while it was not heard.
    pub(super) fn write_all_again(&self) {
        self.life.send_modify(|life| life.round += 1);
    }

    /// Has it looked whether the sessions that were written are still there: a database that takes another's place may
    /// have lost what was written last.
    pub(super) fn compare_sessions(&self) {
        self.life.send_modify(|life| life.looks += 1);
    }

    /// Begins another life, since the row of this one is gone: somebody has deleted it, or brought an older
    /// database back.
    pub(super) async fn live_again(&self, line: &mut Line) -> anyhow::Result<()> {
        let present = self.life();
        let former = line.node(self.name()).await?;
        if let Some(former) = &former {
            if former.epoch == present.epoch {
                return Ok(());
            }
            ensure!(
                former.epoch < present.epoch,
                "another server took the name {:?} while this one was out of contact. Start this one under \
                 another name (--node-name), or stop the other one",
                self.name()
            );
        }
        if let Some(life) = line.register(&self.new, former.as_ref()).await? {
            tracing::warn!(
                node = life.name,
                epoch = life.epoch,
                "this node was not known any more; it is registered again"
            );
            self.life.send_modify(|now| now.life = life);
        }
        Ok(())
    }

    /// Says that it has ended, as its last word.
    ///
    /// # Errors
    /// The database failed: then the others find out by themselves.
    pub async fn stop(&self, url: &DatabaseUrl) -> anyhow::Result<()> {
        self.state.send_replace(NodeState::Stopped);
        let mut line = Line::new(url, beat::LIMIT);
        line.end_life(&self.life()).await?;
        Ok(())
    }
}

/// Looks whether this node has the secret.key of the installation; the first node's is the right one.
pub async fn check_secret(secret: &SecretKey, store: &Store) -> anyhow::Result<()> {
    let own = secret.node_mark();
    let mark = store
        .secret_mark(&own)
        .await
        .context("cannot read whose secret.key the database belongs to")?;
    ensure!(
        mark == own,
        "the secret.key in this data folder is another one than that of the other nodes on this database, so tokens \
         and saved passwords would not be read. Copy secret.key from the data folder of a node that runs (0600), \
         and start again"
    );
    Ok(())
}

/// A name for a node or a region: it stands in addresses of commands, in pages and in logs.
pub fn name(text: &str) -> Result<String, String> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if (1..=100).contains(&text.len()) && text.chars().all(is_good) {
        return Ok(text.to_owned());
    }
    Err(format!(
        "{text:?} is not a name: it may have 1 to 100 letters, digits, '-', '_' and '.'"
    ))
}

/// What the machine is called.
pub fn machine_name() -> anyhow::Result<String> {
    let name_of_machine = nix::unistd::gethostname().context("cannot read the machine's name")?;
    let text = name_of_machine.to_string_lossy();
    name(&text)
        .map_err(anyhow::Error::msg)
        .context("the machine's name cannot be the node's; give one with --node-name")
}

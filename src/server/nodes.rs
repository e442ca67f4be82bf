//! The `node` commands. They work on the shared database itself, so also where no server runs.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::cli::{NodeAction, NodeArgs};
use super::cluster::beat;
use super::domain::Actor;
use super::store::{DatabaseUrl, DeadNode, Line, NodeRow, NodeState, Role, Store};

/// How long a question may take.
const LIMIT: Duration = Duration::from_secs(10);

/// For how long a node has to be silent before it is forgotten: longer than two of its beats are apart, also where the
/// database is slow.
const SILENCE: Duration = Duration::from_secs(5);

/// Carries out `node list`, `node drain` or `node forget`.
pub async fn run(arguments: NodeArgs) -> anyhow::Result<()> {
    let url = arguments.data.database_url()?.context(
        "there are nodes only where several servers share a database of PostgreSQL; name it with --database-url",
    )?;
    let mut line = Line::new(&url, LIMIT);
    match arguments.action {
        NodeAction::List { json } => list(&mut line, json).await,
        NodeAction::Drain { name, undo } => drain(&mut line, &url, &name, undo).await,
        NodeAction::Forget { name } => forget(&mut line, &url, &name).await,
    }
}

async fn drain(line: &mut Line, url: &DatabaseUrl, name: &str, undo: bool) -> anyhow::Result<()> {
    let store = Store::connect(url).await?;
    ensure!(
        store.ask_to_drain(name, !undo, &Actor::CommandLine).await?,
        "there is no node {name:?} that runs; `node list` shows those that there are"
    );
    let (asked, shown) = if undo {
        ("not to drain any more", "up, unless it is about to end,")
    } else {
        ("to drain", "draining")
    };
    println!(
        "{name} is asked {asked}; `node list` shows it as {shown} within a few seconds if it lives"
    );
    if !undo && !can_be_taken_over(&line.nodes().await?, name) {
        println!(
            "No other node of its region is up, so its bastions find none until one is. `node drain {name} --undo` \
             lets them in again."
        );
    }
    Ok(())
}

/// Whether another node is said to be up that could take this one's tunnels over.
fn can_be_taken_over(nodes: &[NodeRow], name: &str) -> bool {
    let is_drained = |row: &&NodeRow| row.name == name;
    let Some(drained) = nodes.iter().find(is_drained) else {
        return false;
    };
    drained.role == Role::Web
        || nodes.iter().any(|row| {
            let is_up = row.state == NodeState::Up && row.role != Role::Web;
            is_up && row.name != name && row.region == drained.region
        })
}

async fn forget(line: &mut Line, url: &DatabaseUrl, name: &str) -> anyhow::Result<()> {
    let seen = line.node(name).await?;
    let seen = seen.with_context(|| {
        format!("there is no node {name:?}; `node list` shows those that there are")
    })?;
    let store = Store::connect(url).await?;
    if seen.state != NodeState::Stopped {
        sleep(SILENCE).await;
    }
    ensure!(
        store.forget_node(&DeadNode::from(&seen)).await?,
        "the node {name:?} lives: its beat moves. Stop its server first, and let it be forgotten if that will not be \
         started again"
    );
    println!("{name} is forgotten: nobody waits for it any more");
    Ok(())
}

/// A beat says nothing but that it moves: so it is looked at twice.
async fn list(line: &mut Line, as_json: bool) -> anyhow::Result<()> {
    let first = line.nodes().await?;
    let first: HashMap<_, _> = first
        .into_iter()
        .map(|row| (row.name.clone(), row))
        .collect();
    sleep(beat::EVERY + Duration::from_millis(500)).await;
    let nodes = line.nodes().await?;
    let tunnels = line.tunnels_of_nodes().await?;
    let moves = |row: &NodeRow| {
        first
            .get(&row.name)
            .is_none_or(|first| (first.epoch, first.beat) != (row.epoch, row.beat))
    };
    let held = |row: &NodeRow| tunnels.get(&row.name).copied().unwrap_or(0);
    if as_json {
        let described = |row: &NodeRow| {
            json!({
                "name": row.name,
                "region": row.region,
                "role": row.role.into_str(),
                "version": row.version,
                "state": row.state.into_str(),
                "beat_moves": moves(row),
                "since": row.started_at(),
                "tunnels": held(row),
                "peer_address": row.peer_address,
            })
        };
        let list: Vec<_> = nodes.iter().map(described).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for row in &nodes {
        let life = match (row.state, moves(row)) {
            (NodeState::Stopped, _) => "",
            (_, true) => "",
            (_, false) => ", but its beat stands still",
        };
        println!(
            "{:<24} {}{life}  {} in {}  {}  since {:.0}  tunnels: {}",
            row.name,
            row.state,
            row.role,
            row.region,
            row.version,
            row.started_at(),
            held(row)
        );
    }
    Ok(())
}

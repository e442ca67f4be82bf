//! Regions: which there are, what bastions are told of each, and which one a new tunnel gets.
//!
//! What the database says of them is kept in memory, since every answer about a tunnel names its server.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::address::host_and_port;
use super::control_plane::ControlPlane;
use super::error::{Error, Result};
use super::inputs::Invalid;
use crate::server::store::{Actor, DEFAULT_REGION, Engine, Record, Region, Store, Writing};

/// The regions as this server knows them.
pub struct Regions {
    /// The one of this server.
    own: String,
    /// What its flags say of that.
    as_started: Region,
    known: RwLock<Arc<Known>>,
}

#[derive(Default)]
struct Known {
    regions: Vec<Region>,
    /// What their tunnel servers show and announce.
    host_keys: HashMap<String, Vec<String>>,
}

impl Regions {
    /// For a server of the region that is described as its flags say; others are not known yet.
    pub fn new(as_started: Region) -> Self {
        let known = Known {
            regions: vec![as_started.clone()],
            host_keys: HashMap::new(),
        };
        Regions {
            own: as_started.name.clone(),
            as_started,
            known: RwLock::new(Arc::new(known)),
        }
    }

    fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, mut known: Known) {
        if known.regions.is_empty() && self.own == DEFAULT_REGION {
            known.regions.push(self.as_started.clone());
        }
        for region in &mut known.regions {
            // Each of its servers goes on telling what it was started with, until an operator has said what holds.
            if region.name == self.own && !region.is_settled {
                *region = self.as_started.clone();
            }
        }
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(known);
    }

    /// The name of this server's.
    pub fn own_name(&self) -> &str {
        &self.own
    }

    /// This server's, as its flags say, where nothing else is known.
    pub fn own(&self) -> Region {
        self.find(&self.own)
            .unwrap_or_else(|| self.as_started.clone())
    }

    /// What this server's flags say of its own.
    pub fn as_started(&self) -> &Region {
        &self.as_started
    }

    /// All of them, by name.
    pub fn all(&self) -> Vec<Region> {
        self.known().regions.clone()
    }

    pub fn find(&self, name: &str) -> Option<Region> {
        let known = self.known();
        known
            .regions
            .iter()
            .find(|region| region.name == name)
            .cloned()
    }

    fn knows(&self, name: &str) -> bool {
        let known = self.known();
        known.regions.iter().any(|region| region.name == name)
    }

    fn know_those_of(&self, record: &Record) -> bool {
        let next = record.next_place().map(|next| next.region.as_str());
        let mut names = record.region().into_iter().chain(next);
        names.all(|name| self.knows(name))
    }

    fn host_keys(&self, name: &str) -> Option<Vec<String>> {
        self.known().host_keys.get(name).cloned()
    }
}

impl ControlPlane {
    /// Learns which regions there are now.
    pub async fn learn_regions(&self) -> Result<()> {
        let host_keys = match self.store.engine() {
            Engine::Sqlite => HashMap::new(),
            Engine::Postgres => self.store.announced_host_keys().await?,
        };
        let regions = self.store.regions().await?;
        self.regions.take(Known { regions, host_keys });
        Ok(())
    }

    /// Learns of the regions of these tunnels, if one was added a moment ago.
    pub async fn know_regions_of(&self, records: &[Record]) -> Result<()> {
        if records
            .iter()
            .all(|record| self.regions.know_those_of(record))
        {
            Ok(())
        } else {
            self.learn_regions().await
        }
    }

    /// What a region's tunnel servers show and announce, `ssh-ed25519 AAAA…`: the current keys, and the next ones
    /// after them. None before the first of them was started.
    pub fn host_keys_of(&self, region: &str) -> Vec<String> {
        let told = self.regions.host_keys(region);
        let here = || {
            if region == self.regions.own_name() {
                self.tunnels.host_keys()
            } else {
                Vec::new()
            }
        };
        told.unwrap_or_else(here)
    }

    /// The region of a new tunnel: the one that was asked for, or else the only one, or else `default`.
    pub(super) async fn region_for(&self, asked: Option<&str>) -> Result<Region> {
        if !asked.is_some_and(|name| self.regions.knows(name)) {
            self.learn_regions().await?;
        }
        let all = self.regions.all();
        let wanted = match (asked, &all[..]) {
            (Some(name), _) => name,
            (None, [only]) => &only.name,
            (None, _) => DEFAULT_REGION,
        };
        let found = all.iter().find(|region| region.name == wanted);
        Ok(found.cloned().ok_or_else(|| unknown(asked, &all))?)
    }

    /// The region in which a tunnel gets its port, with a tunnel server to connect to.
    pub(super) fn ready_region(&self, name: &str) -> Result<Region> {
        let region = self.regions.find(name);
        let region = region.ok_or_else(|| Error::NoTunnelServer(name.to_owned()))?;
        if self.host_keys_of(name).is_empty() {
            Err(Error::NoTunnelServer(name.to_owned()))
        } else {
            Ok(region)
        }
    }

    /// A port of a region that nobody had, or one that has rested.
    pub(super) async fn choose_port(&self, tx: &mut Writing, region: &Region) -> Result<u16> {
        let choice = tx.choose_port(&region.name, region.ports).await?;
        let choice = choice.ok_or(Error::PortsExhausted)?;
        let rest = jiff::SignedDuration::try_from(self.port_rest);
        let until = |since: jiff::Timestamp| {
            let end = rest.ok().and_then(|rest| since.checked_add(rest).ok());
            end.unwrap_or(jiff::Timestamp::MAX)
        };
        match choice.rests_since.map(until) {
            Some(until) if until > choice.now => Err(Error::PortsRest(until)),
            _ => Ok(choice.port),
        }
    }
}

/// How bastions reach a region, for people.
pub fn ssh_servers(region: &Region) -> String {
    let hosts = region.ssh_hosts.iter();
    let servers: Vec<_> = hosts
        .map(|host| host_and_port(host, region.ssh_port))
        .collect();
    servers.join(" or ")
}

pub async fn add(store: &Store, region: &Region, actor: &Actor) -> Result<()> {
    check(region)?;
    let mut tx = store.write().await?;
    if tx
        .regions()
        .await?
        .iter()
        .any(|known| known.name == region.name)
    {
        let rule = format!("{:?} is there already", region.name);
        return Err(Invalid::new("region", rule).into());
    }
    tx.put_region(region).await?;
    tx.add_audit(actor, "region added", &region.name).await?;
    Ok(tx.commit().await?)
}

/// Changes a region, which is settled from then on.
pub async fn change(store: &Store, name: &str, change: impl FnOnce(&mut Region)) -> Result<Region> {
    let mut tx = store.write().await?;
    let all = tx.regions().await?;
    let mut region = existing(name, &all)?;
    change(&mut region);
    region.is_settled = true;
    check(&region)?;
    tx.put_region(&region).await?;
    tx.add_audit(&Actor::CommandLine, "region changed", name)
        .await?;
    tx.commit().await?;
    Ok(region)
}

/// Removes a region.
pub async fn remove(store: &Store, name: &str) -> Result<()> {
    let mut tx = store.write().await?;
    existing(name, &tx.regions().await?)?;
    let used = tx.region_use(name).await?;
    if used.tunnels > 0 || used.nodes > 0 {
        let rule = format!(
            "{name:?} is still used: {} tunnels are there or are to move there, and {} servers. Move or remove those, \
             and stop these",
            used.tunnels, used.nodes
        );
        return Err(Invalid::new("region", rule).into());
    }
    tx.remove_region(name).await?;
    tx.add_audit(&Actor::CommandLine, "region removed", name)
        .await?;
    Ok(tx.commit().await?)
}

fn check(region: &Region) -> Result<(), Invalid> {
    let hosts = &region.ssh_hosts;
    let is_twice = hosts.len() == 2 && hosts[0] == hosts[1];
    if !(1..=2).contains(&hosts.len()) || is_twice {
        return Err(Invalid::new(
            "ssh_host",
            "must be one name, or two different ones",
        ));
    }
    Ok(())
}

fn existing(name: &str, all: &[Region]) -> Result<Region, Invalid> {
    let found = all.iter().find(|region| region.name == name);
    found.cloned().ok_or_else(|| unknown(Some(name), all))
}

fn unknown(asked: Option<&str>, all: &[Region]) -> Invalid {
    let names: Vec<_> = all
        .iter()
        .map(|region| format!("{:?}", region.name))
        .collect();
    let names = names.join(", ");
    Invalid::new(
        "region",
        match (asked, all) {
            (_, []) => "cannot be chosen: there is none yet".to_owned(),
            (Some(name), [_]) => format!(
                "{name:?} is not known: this server has the one region {names}, which may be left out"
            ),
            (Some(name), _) => format!("{name:?} is not known: it must be one of {names}"),
            (None, _) => format!("must be said, since there are several: one of {names}"),
        },
    )
}

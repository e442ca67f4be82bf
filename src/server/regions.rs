//! The `region` commands, and what a server's start has to do with regions. The commands work on the shared database
//! itself, so also where no server runs.

use anyhow::{Context as _, bail, ensure};
use serde_json::json;

use super::cli::{RegionAction, RegionArgs, Serve};
use super::domain::ControlPlane;
use super::domain::address::PublicAddress;
use super::domain::regions::{self, ssh_servers};
use super::store::{Actor, DEFAULT_REGION, PortRange, Region, Role, Store};

/// Carries out `region add`, `change`, `list` or `remove`.
pub async fn run(arguments: RegionArgs) -> anyhow::Result<()> {
    let url = arguments.data.database_url()?.context(
        "there are regions only where several servers share a database of PostgreSQL; name it with --database-url",
    )?;
    let store = Store::connect(&url).await?;
    let done = match arguments.action {
        RegionAction::Add {
            name,
            ssh_host,
            ssh_port,
            ports,
        } => {
            let region = Region {
                name,
                ssh_hosts: ssh_host,
                ssh_port,
                ports,
                is_settled: true,
            };
            add(&store, region).await
        }
        RegionAction::Change {
            name,
            ssh_host,
            ssh_port,
            ports,
        } => change(&store, &name, ssh_host, ssh_port, ports).await,
        RegionAction::List { json } => list(&store, json).await,
        RegionAction::Remove { name } => remove(&store, &name).await,
    };
    store.close().await;
    done
}

async fn add(store: &Store, region: Region) -> anyhow::Result<()> {
    regions::add(store, &region, &Actor::CommandLine).await?;
    println!(
        "The region {} is added: bastions connect to {}, tunnels get ports {}. Start its tunnel servers with \
         `serve --region {0}`",
        region.name,
        ssh_servers(&region),
        region.ports
    );
    Ok(())
}

async fn change(
    store: &Store,
    name: &str,
    ssh_hosts: Vec<String>,
    ssh_port: Option<u16>,
    ports: Option<PortRange>,
) -> anyhow::Result<()> {
    ensure!(
        !ssh_hosts.is_empty() || ssh_port.is_some() || ports.is_some(),
        "say what is to be changed: --ssh-host, --ssh-port or --ports"
    );
    let changed = regions::change(store, name, |region| {
        if !ssh_hosts.is_empty() {
            region.ssh_hosts = ssh_hosts;
        }
        region.ssh_port = ssh_port.unwrap_or(region.ssh_port);
        region.ports = ports.unwrap_or(region.ports);
    });
    let region = changed.await?;
    println!(
        "Bastions of the region {name} connect to {} from now on, and its new tunnels get ports {}. On those that are \
         set up, `holistics-tunnel update-tunnel ID` takes that over",
        ssh_servers(&region),
        region.ports
    );
    Ok(())
}

async fn list(store: &Store, as_json: bool) -> anyhow::Result<()> {
    let regions = store.regions().await?;
    if as_json {
        let described = |region: &Region| {
            json!({
                "name": region.name,
                "ssh_hosts": region.ssh_hosts,
                "ssh_port": region.ssh_port,
                "ports": region.ports.to_string(),
                "settled": region.is_settled,
            })
        };
        let list: Vec<_> = regions.iter().map(described).collect();
        println!("{}", serde_json::to_string_pretty(&list)?);
        return Ok(());
    }
    for region in &regions {
        let since = if region.is_settled {
            ""
        } else {
            "  (as a server was last started)"
        };
        println!(
            "{:<24} {}  ports {}{since}",
            region.name,
            ssh_servers(region),
            region.ports
        );
    }
    Ok(())
}

async fn remove(store: &Store, name: &str) -> anyhow::Result<()> {
    regions::remove(store, name).await?;
    println!("The region {name} is removed.");
    Ok(())
}

/// A server of a region that nobody has added is refused. One of the region `default` makes that, where there is none at
/// all or tunnels are in it since a former version; and one that has no tunnels and names no region needs none.
pub async fn check(settings: &Serve, store: &Store) -> anyhow::Result<()> {
    let (name, all) = (settings.region(), store.regions().await?);
    if let Some(region) = all.iter().find(|region| region.name == name) {
        warn_of_other_flags(settings, region);
        return Ok(());
    }
    let needs_none = settings.role == Role::Web;
    if name == DEFAULT_REGION && (needs_none || store.needs_default_region().await?) {
        return Ok(());
    }
    let names: Vec<_> = all.iter().map(|region| region.name.as_str()).collect();
    let known = match &names[..] {
        [] => "none has been added yet".to_owned(),
        names => format!("there are {}", names.join(", ")),
    };
    bail!(
        "there is no region {name:?}: {known}. Name one of them with --region, or add this one first: \
         holistics-tunnel-server region add {name} --ssh-host HOST"
    )
}

fn warn_of_other_flags(settings: &Serve, region: &Region) {
    let (host, port) = (&settings.public_ssh_host, settings.public_ssh_port);
    let is_other = host
        .as_ref()
        .is_some_and(|host| !region.ssh_hosts.contains(host))
        || port.is_some_and(|port| port != region.ssh_port);
    if region.is_settled && is_other {
        tracing::warn!(
            "--public-ssh-host and --public-ssh-port mean nothing here: bastions of the region {} are told {}, which \
             `region change` changes",
            region.name,
            ssh_servers(region)
        );
    }
}

/// The region of a server as its flags say.
pub fn as_started(settings: &Serve, public: &PublicAddress) -> Region {
    Region {
        name: settings.region().to_owned(),
        ssh_hosts: vec![public.ssh_host.clone()],
        ssh_port: public.ssh_port,
        ports: settings.ports,
        is_settled: false,
    }
}

/// Writes down for the others what this server is started with, as long as no operator has said what holds of its
/// region; and learns which regions there are.
pub async fn begin(control: &ControlPlane, role: Role) -> anyhow::Result<()> {
    let started = control.regions.as_started();
    let all = control.store.regions().await?;
    let is_to_be_written = match all.iter().find(|region| region.name == started.name) {
        // One without pages tells bastions nothing, and may not know how they get to it.
        Some(known) => !known.is_settled && known != started && role != Role::Tunnel,
        None => started.name == DEFAULT_REGION && control.store.needs_default_region().await?,
    };
    if is_to_be_written {
        let mut tx = control.store.write().await?;
        tx.put_region(started).await?;
        tx.commit().await?;
    }
    Ok(control.learn_regions().await?)
}

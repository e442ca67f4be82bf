//! The plan: facts, settings and the receipt go in, an ordered list of steps comes out.
//!
//! Pure: it reads nothing and changes nothing. `--dry-run` prints the very list that `setup` runs.

use std::cell::{Cell, RefCell};

use url::Url;

use super::control_plane::ControlPlane;
use super::facts::{AutosshOrigin, Facts, Family, Init};
use super::failure::Failure;
use super::host::Command;
use super::layout::Layout;
use super::packages::{self, Need, PackageManager};
use super::receipt::{Receipt, Scope};
use super::service::{self, ForeignScript};
use super::settings::Settings;
use super::ssh::{Forward, KeyType, Way, client};
use super::steps::autossh::Autossh;
use super::steps::database::Database;
use super::steps::directory::Directory;
use super::steps::enrollment::Enrollment as EnrollmentStep;
use super::steps::foreground::Foreground;
use super::steps::key_pair::KeyPair;
use super::steps::packages::Packages;
use super::steps::service::Service;
use super::steps::service_tunnel::ServiceTunnelStep;
use super::steps::temporary_tunnel::TemporaryTunnel;
use super::steps::wait_for_save::WaitForSave;
use super::steps::way_out::WayOutStep;
use super::steps::{Step, StepName};
use super::way_out::WayOut;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::{DataSourceState, Enrollment};

/// What the plan is for. Without an enrollment, placeholders stand in for what is not known yet.
#[derive(Debug, Clone)]
pub struct Target {
    pub control_plane: String,
    pub tunnel: TunnelName,
    /// What the operator calls the data source.
    pub display_name: String,
    /// Where the data source stands.
    pub state: DataSourceState,
    pub forward: Forward,
}

impl Target {
    pub fn new(
        control_plane: &Url,
        enrollment: &Enrollment,
        layout: &Layout,
        key: KeyType,
    ) -> Self {
        Target {
            control_plane: control_plane.to_string(),
            tunnel: TunnelName::new(control_plane, enrollment.tunnel_id),
            display_name: enrollment.display_name.clone(),
            state: enrollment.state,
            forward: preview(control_plane, enrollment, layout, key),
        }
    }

    /// Its command line as far as it is known before enrollment, on this way out.
    pub fn forward_through(&self, way_out: &WayOut, layout: &Layout) -> Forward {
        let mut forward = self.forward.clone();
        if *way_out != WayOut::Direct {
            forward.way = Way::Settings(layout.ssh_config(self.tunnel));
        }
        forward
    }

    /// A target of which nothing is known.
    pub fn unknown(layout: &Layout, key: KeyType) -> Self {
        Target {
            control_plane: "<server>".to_owned(),
            tunnel: TunnelName::unknown(),
            display_name: "<data source>".to_owned(),
            state: DataSourceState::Draft,
            forward: placeholders(layout, key),
        }
    }
}

fn preview(control_plane: &Url, enrollment: &Enrollment, layout: &Layout, key: KeyType) -> Forward {
    let mut forward = Forward {
        host_key_alias: TunnelName::new(control_plane, enrollment.tunnel_id).host_key_alias(),
        target_host: enrollment.host.clone(),
        target_port: enrollment.port.to_string(),
        ..placeholders(layout, key)
    };
    if let Some(server) = &enrollment.server {
        forward.server_user.clone_from(&server.user);
        forward.server_host.clone_from(&server.host);
        forward.server_port = server.port.to_string();
        forward.host_keys.clone_from(&server.host_keys);
    }
    forward
}

fn placeholders(layout: &Layout, key: KeyType) -> Forward {
    Forward {
        way: Way::Direct,
        ciphers: client::ciphers(),
        private_key: layout.private_key(key),
        known_hosts: layout.known_hosts(),
        host_key_alias: Some(TunnelName::unknown().slug()),
        host_keys: Vec::new(),
        server_user: "<tunnel-user>".to_owned(),
        server_host: "<tunnel-server>".to_owned(),
        server_port: "<ssh-port>".to_owned(),
        remote_port: "<remote-port>".to_owned(),
        target_host: "<database-host>".to_owned(),
        target_port: "<database-port>".to_owned(),
    }
}

/// The kind of key a plan uses: the one that is in use, else the one asked for.
pub fn key_type(settings: &Settings, receipt: Option<&Receipt>) -> KeyType {
    receipt
        .and_then(|receipt| receipt.key_type)
        .unwrap_or(settings.key_type)
}

pub struct PlanInput<'a> {
    pub facts: &'a Facts,
    pub settings: &'a Settings,
    pub layout: &'a Layout,
    /// What was done to the host before.
    pub receipt: Option<&'a Receipt>,
    pub target: Target,
    pub has_key: bool,
    /// The control plane with the credential that enrolls, where there is an enrollment.
    pub client: Option<ControlPlane>,
    /// `user@host`, for the public key.
    pub key_comment: String,
    /// What becomes reachable, where that is known.
    pub database: Option<Database>,
    /// How ssh gets to the tunnel server, and what is missing for that.
    pub way_out: WayOut,
    pub missing_for_way_out: Option<Need>,
    /// A script of somebody else's under the service's name.
    pub foreign: Option<ForeignScript>,
    /// What shows that the service can start a tunnel here.
    pub rehearsals: Vec<Command>,
}

pub fn plan(input: &PlanInput) -> anyhow::Result<Vec<Box<dyn Step>>> {
    let PlanInput {
        facts,
        settings,
        layout,
        target,
        ..
    } = input;
    let key_type = key_type(settings, input.receipt);
    let preview = target.forward_through(&input.way_out, layout);
    check_openssh(facts, key_type)?;
    let mut steps: Vec<Box<dyn Step>> = vec![
        Box::new(Directory {
            layout: (*layout).clone(),
        }),
        Box::new(packages_step(input)?),
    ];
    if usable_autossh(facts).is_none() {
        steps.push(Box::new(Autossh {
            layout: (*layout).clone(),
            manager: packages::for_host(facts),
            source: settings.autossh_source.clone(),
        }));
    }
    steps.push(Box::new(KeyPair {
        layout: (*layout).clone(),
        key_type,
        exists: input.has_key,
        comment: input.key_comment.clone(),
    }));
    let record = input
        .receipt
        .and_then(|receipt| receipt.tunnels.get(&target.tunnel));
    if input.way_out != WayOut::Direct
        || record.is_some_and(|record| record.proxy_command.is_some())
    {
        steps.push(Box::new(WayOutStep {
            layout: (*layout).clone(),
            tunnel: target.tunnel,
            way: input.way_out.clone(),
            preview: preview.clone(),
        }));
    }
    steps.push(Box::new(EnrollmentStep {
        layout: (*layout).clone(),
        tunnel: target.tunnel,
        client: input.client.clone(),
        control_plane: target.control_plane.clone(),
        key_type,
        os_name: facts.name.clone(),
        database: input.database.clone(),
        public_key: RefCell::default(),
    }));
    if needs_the_browser(target.state) {
        let temporary = || TemporaryTunnel {
            layout: (*layout).clone(),
            tunnel: target.tunnel,
            preview: preview.clone(),
        };
        steps.push(Box::new(temporary()));
        steps.push(Box::new(WaitForSave {
            temporary: temporary(),
            wait: settings.wait,
            display_name: target.display_name.clone(),
        }));
    }
    let init = init(facts, settings, input.receipt)?;
    if init == Init::None {
        steps.push(Box::new(Foreground {
            layout: (*layout).clone(),
            tunnel: target.tunnel,
            preview: preview.clone(),
        }));
        return Ok(steps);
    }
    steps.push(Box::new(Service {
        layout: (*layout).clone(),
        init,
        manager: service::manager(init)?,
        foreign: input.foreign.clone(),
    }));
    steps.push(Box::new(ServiceTunnelStep {
        layout: (*layout).clone(),
        tunnel: target.tunnel,
        manager: service::manager(init)?,
        autossh: usable_autossh(facts),
        preview,
        rehearsals: input.rehearsals.clone(),
        begun: Cell::default(),
        has_own_mounts: Cell::default(),
    }));
    Ok(steps)
}

/// The oldest OpenSSH whose client knows `-E` and the ciphers the command lines name.
pub const OLDEST_OPENSSH: (u32, u32) = (6, 5);

fn check_openssh(facts: &Facts, key_type: KeyType) -> anyhow::Result<()> {
    let version = facts.openssh.as_deref().map(openssh_version);
    if let Some(None) = version {
        return Err(client::not_openssh(facts.openssh.as_deref().unwrap_or_default()).into());
    }
    if let Some(Some(version)) = version
        && version < OLDEST_OPENSSH
    {
        return Err(Failure::new(
            format!("OpenSSH {}.{} is too old: {}.{} or newer is needed", version.0, version.1, OLDEST_OPENSSH.0, OLDEST_OPENSSH.1),
            "use a bastion with a newer system; `holistics-tunnel manual linux` shows what it takes by hand",
        )
        .into());
    }
    // An ssh that is there is asked.
    if facts.fips && version.is_none() && key_type == KeyType::Ed25519 {
        return Err(Failure::usage(
            "this host is in FIPS mode, which does not allow ed25519",
            "use --key-type rsa or --key-type ecdsa",
        )
        .into());
    }
    Ok(())
}

/// `OpenSSH_9.2p1` → (9, 2).
pub fn openssh_version(text: &str) -> Option<(u32, u32)> {
    let (major, rest) = text.strip_prefix("OpenSSH_")?.split_once('.')?;
    let minor: String = rest.chars().take_while(char::is_ascii_digit).collect();
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Once it is saved, the browser has nothing more to say, and a tunnel may be in use already.
fn needs_the_browser(state: DataSourceState) -> bool {
    matches!(
        state,
        DataSourceState::Draft | DataSourceState::Enrolled | DataSourceState::Connected
    )
}

/// One service manager for all tunnels of a host: the one in use, the one asked for, the host's own.
pub fn init(facts: &Facts, settings: &Settings, receipt: Option<&Receipt>) -> anyhow::Result<Init> {
    let in_use = receipt.and_then(|receipt| receipt.init);
    match (in_use, settings.init) {
        (Some(in_use), Some(asked)) if in_use != asked => Err(Failure::usage(
            format!("this host's tunnels run under {in_use:?}, but --init asks for {asked:?}"),
            "leave --init out, or remove all tunnels first",
        )
        .into()),
        (Some(init), _) | (None, Some(init)) => Ok(init),
        (None, None) => Ok(facts.init),
    }
}

fn usable_autossh(facts: &Facts) -> Option<std::path::PathBuf> {
    let autossh = facts.tools.autossh.as_ref()?;
    (autossh.origin != AutosshOrigin::Snap).then(|| autossh.path.clone())
}

fn packages_step(input: &PlanInput) -> anyhow::Result<Packages> {
    let facts = input.facts;
    let mut needs = Vec::new();
    if facts.tools.ssh.is_none() || facts.tools.ssh_keygen.is_none() {
        needs.push(Need::OpensshClient);
    }
    if facts.tools.curl.is_none() {
        needs.push(Need::Curl);
    }
    if usable_autossh(facts).is_none() && !is_compiled(input) {
        needs.push(Need::Autossh);
    }
    needs.extend(input.missing_for_way_out);
    let manager = packages::for_host(facts);
    let is_served = facts.family != Family::Unsupported
        || (needs.is_empty() && (facts.init != Init::None || input.settings.init.is_some()));
    if !is_served || !can_be_met(&needs, manager.as_deref()) {
        return Err(cannot_install(facts, &needs).into());
    }
    let is_done = |receipt: &Receipt| receipt.is_done(Scope::Host, StepName::Packages);
    Ok(Packages {
        manager,
        snap: snap_autossh(facts),
        enable_extra_repository: input.settings.enable_epel,
        renew_trust: !input.receipt.is_some_and(is_done),
        needs,
    })
}

/// An autossh that an earlier run compiled, and that may stand where PATH does not lead.
fn is_compiled(input: &PlanInput) -> bool {
    let compiled = input.layout.compiled_autossh();
    input.receipt.is_some_and(|receipt| {
        receipt.is_done(Scope::Host, StepName::Autossh)
            && receipt.has_made(Scope::Host, StepName::Autossh, &compiled)
    })
}

/// Everything but autossh, which can be compiled, has to come from a package.
fn can_be_met(needs: &[Need], manager: Option<&dyn PackageManager>) -> bool {
    needs
        .iter()
        .filter(|need| **need != Need::Autossh)
        .all(|need| manager.is_some_and(|manager| manager.package(*need).is_some()))
}

fn snap_autossh(facts: &Facts) -> Option<std::path::PathBuf> {
    let autossh = facts.tools.autossh.as_ref()?;
    (autossh.origin == AutosshOrigin::Snap).then(|| autossh.path.clone())
}

fn cannot_install(facts: &Facts, needs: &[Need]) -> Failure {
    let missing: Vec<&str> = needs.iter().map(|need| need.name()).collect();
    let missing = missing.join(", ");
    if facts.family == Family::Unsupported {
        return Failure::new(
            format!("{} is not supported by setup", facts.name),
            "set the tunnel up by hand: `holistics-tunnel manual linux` shows how",
        );
    }
    Failure::new(
        format!(
            "{} has no package manager that setup can use, and lacks: {missing}",
            facts.name
        ),
        "install them by hand, then run the same command again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_openssh_are_read() {
        assert_eq!(openssh_version("OpenSSH_9.2p1"), Some((9, 2)));
        assert_eq!(openssh_version("OpenSSH_10.0p2"), Some((10, 0)));
        assert_eq!(openssh_version("OpenSSH_5.3p1"), Some((5, 3)));
        assert_eq!(openssh_version("Dropbear"), None);
    }
}

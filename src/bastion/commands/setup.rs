//! `setup`: the journey from a token to a service that keeps the tunnel up.

use std::net::IpAddr;

use anyhow::bail;
use serde_json::json;
use url::Url;

use super::{
    acquire_root, foreign_service, key_comment, questions, refuse_sudo, rehearsals, settings, token,
};
use crate::bastion::cli::Setup;
use crate::bastion::control_plane::{ApiError, ControlPlane, Given, Reach, parse_address};
use crate::bastion::copies;
use crate::bastion::facts::{self, Facts, Family, Init};
use crate::bastion::failure::{Exit, Failure};
use crate::bastion::guide;
use crate::bastion::host::{Authority, Host, HostExt, WayToRoot, own_name};
use crate::bastion::layout::Layout;
use crate::bastion::lock;
use crate::bastion::plan::{PlanInput, Target, init, key_type, plan};
use crate::bastion::receipt::{Receipt, Scope, TunnelRecord};
use crate::bastion::run::{Progress, Run};
use crate::bastion::service::{ForeignScript, SERVICE_NAME};
use crate::bastion::settings::Settings;
use crate::bastion::ssh::command_line::bracketed;
use crate::bastion::ssh::vetting;
use crate::bastion::steps::database::Database;
use crate::bastion::steps::{Audience, Step, begin_proofs, planned, prove, rename, rotation};
use crate::bastion::tunnel_name::TunnelName;
use crate::bastion::ui::{Event, Ui};
use crate::bastion::way_out::{self, WayOut};
use crate::manual::{self, System};
use crate::protocol::{DatabaseAddress, Enrollment};

pub(super) fn run(host: &dyn Host, ui: &Ui, command: &Setup) -> anyhow::Result<Exit> {
    refuse_sudo(host.user())?;
    let settings = settings(&command.plan, command.wait)?;
    let server = parse_address(&questions::server(host, command.server.as_deref())?)?;
    let token = token::read(
        host,
        command.token.as_deref(),
        command.token_file.as_deref(),
    )?;
    let layout = Layout::new(host, &settings.prefix);
    if !command.dry_run {
        lock::refuse_a_second_run(host, &layout)?;
    }
    let receipt = Receipt::load(host, &layout.receipt())?;
    check_prefix(receipt.as_ref(), &settings)?;
    if let Some(receipt) = &receipt {
        rotation::refuse_unfinished(receipt)?;
        copies::refuse_setup(host, receipt)?;
    }

    let known = receipt
        .as_ref()
        .and_then(|receipt| tunnel_of_token(receipt, &server, &token));
    for tunnel in receipt.iter().flat_map(|receipt| receipt.tunnels.values()) {
        if let Some(enrolled) = &tunnel.enrolled {
            host.log().hide(&enrolled.tunnel_token);
        }
    }
    let credential = known
        .as_ref()
        .map_or(token.as_str(), |(_, credential)| credential.as_str());
    let kept = receipt.as_ref().and_then(|known| known.reach_of(&server));
    let given = Given::read(host, command.authority.file())?;
    let kept = kept.cloned().unwrap_or_default();
    let likely = kept.begin_renewal(host, &given, &server);
    ControlPlane::new(&server, credential, likely)?.begin_enrollment(host);
    let facts = facts::probe(host, std::path::Path::new("/"), host.privilege());
    let needs_root = facts.family != Family::Unsupported
        && layout.system_authority() == Authority::Root
        && init(&facts, &settings, receipt.as_ref()).is_ok_and(|init| init != Init::None);
    if needs_root {
        begin_proofs_of_host(
            host,
            &facts,
            &settings,
            &layout,
            receipt.as_ref(),
            Audience::of(command.dry_run),
        )?;
    }
    // What later commands go by is what this one goes by.
    let reach = kept.renewed(host, &given, &server)?;
    let control_plane = ControlPlane::new(&server, credential, reach.clone())?;
    let enrollment = control_plane
        .enrollment(host)
        .map_err(ApiError::with_advice)?;
    vetting::check_enrollment(&enrollment)?;

    let request = Request {
        foreign: foreign_service(host, &facts, &settings, &layout, receipt.as_ref())?,
        facts: &facts,
        settings: &settings,
        layout: &layout,
        server: &server,
        enrollment: &enrollment,
        control_plane: &control_plane,
        database: database(command, &enrollment),
        way_out: way_out(
            host,
            &settings,
            &layout,
            receipt.as_ref(),
            &server,
            &enrollment,
            reach.proxy.as_deref(),
        )?,
    };
    let steps = request.plan(host, receipt.as_ref());
    if steps.is_err() && facts.family == Family::Unsupported {
        let key_type = key_type(&settings, receipt.as_ref());
        let values = guide::of_enrollment(
            &server,
            &enrollment,
            &layout,
            key_type,
            settings.proxy_command.as_ref(),
        );
        ui.note(&manual::render(System::Linux, &values)?);
    }
    let mut steps = steps?;
    if let Some(goes_by) = facts.goes_by() {
        ui.note(&goes_by);
    }
    if let Some(receipt) = &receipt {
        steps.splice(0..0, rename::steps(receipt, &layout)?);
    }
    ui.show(&Event::Plan {
        introduction: &introduction(host, &enrollment, &server),
        steps: &planned(&WayToRoot::of(host), &steps),
        with_commands: command.dry_run,
    });
    let proofs = prove(host, &steps, Audience::of(command.dry_run))?;
    if let Some(foreign) = &request.foreign {
        ui.note(&foreign.description());
    }
    if command.dry_run {
        ui.show(&Event::Proofs(&proofs));
        return Ok(Exit::Done);
    }
    confirm(host, command)?;
    if request.foreign.is_some() {
        confirm_replacement(host, command)?;
    }
    acquire_root(host, "Installing packages and the service", &steps)?;

    let mut run = Run::begin(host, ui, layout.clone(), Given::default())?;
    // Another run may have ended while this one asked.
    rotation::refuse_unfinished(&run.receipt)?;
    rename::carry_out(&mut run)?;
    let steps = request.plan(host, Some(&run.receipt))?;
    remember_tunnel(&mut run, &enrollment, &server, reach, &token);
    let progress = run.carry_out(&steps, Some(request.tunnel()))?;
    finish(&run, &enrollment, progress);
    // Only now: a run that is interrupted goes on by the same command.
    token::remove_file(host, command.token_file.as_deref())?;
    Ok(Exit::Done)
}

/// Has what is asked in any case asked while the vendor is: the steps that are the same for whatever tunnel.
fn begin_proofs_of_host(
    host: &dyn Host,
    facts: &Facts,
    settings: &Settings,
    layout: &Layout,
    receipt: Option<&Receipt>,
    audience: Audience,
) -> anyhow::Result<()> {
    let key_type = key_type(settings, receipt);
    let steps = plan(&PlanInput {
        facts,
        settings,
        layout,
        receipt,
        target: Target::unknown(layout, key_type),
        has_key: true,
        client: None,
        key_comment: String::new(),
        database: None,
        way_out: WayOut::Direct,
        missing_for_way_out: None,
        foreign: None,
        rehearsals: Vec::new(),
    });
    // Why there is no plan is told with what is known of the tunnel.
    let mut steps = steps.unwrap_or_default();
    steps.retain(|step| step.scope() == Scope::Host);
    begin_proofs(host, &steps, audience)
}

/// The tunnel an earlier run of the same command has enrolled, with its own credential: the token in
/// the command may be used up or expired by now.
fn tunnel_of_token(receipt: &Receipt, server: &Url, token: &str) -> Option<(TunnelName, String)> {
    let digest = token::digest(token);
    let (id, tunnel) = receipt
        .tunnels
        .iter()
        .find(|(_, tunnel)| tunnel.control_plane == *server && tunnel.token_sha256 == digest)?;
    Some((*id, tunnel.enrolled.as_ref()?.tunnel_token.clone()))
}

fn check_prefix(receipt: Option<&Receipt>, settings: &Settings) -> anyhow::Result<()> {
    let Some(receipt) = receipt.filter(|receipt| receipt.prefix != settings.prefix) else {
        return Ok(());
    };
    bail!(Failure::usage(
        format!(
            "this user's tunnels have their system files under {}, and --prefix says {}",
            receipt.prefix.display(),
            settings.prefix.display()
        ),
        format!("use --prefix {}", receipt.prefix.display()),
    ))
}

fn database(command: &Setup, enrollment: &Enrollment) -> Database {
    let address = DatabaseAddress {
        host: enrollment.host.trim_matches(['[', ']']).to_owned(),
        port: enrollment.port,
    };
    let meaning = meaning_of(&address.host);
    let skip = "--no-database-check goes on without it; the command from the browser takes it as `| sh -s -- \
                --no-database-check`";
    Database {
        address,
        correct: format!("correct host and port in the browser{meaning}"),
        skip: (!command.no_database_check).then_some(skip),
    }
}

/// A name that means another machine where the browser is.
fn meaning_of(name: &str) -> &'static str {
    let is_loopback = name
        .parse::<IpAddr>()
        .map_or(name == "localhost", |ip| ip.is_loopback());
    if is_loopback {
        " (from here, that one is this host itself)"
    } else {
        ""
    }
}

/// What stays the same for both plans of a run: the one that is shown, and the one that is carried out.
struct Request<'r> {
    facts: &'r Facts,
    settings: &'r Settings,
    layout: &'r Layout,
    server: &'r Url,
    enrollment: &'r Enrollment,
    control_plane: &'r ControlPlane,
    database: Database,
    way_out: WayOut,
    foreign: Option<ForeignScript>,
}

impl Request<'_> {
    fn tunnel(&self) -> TunnelName {
        TunnelName::new(self.server, self.enrollment.tunnel_id)
    }

    fn plan(
        &self,
        host: &dyn Host,
        receipt: Option<&Receipt>,
    ) -> anyhow::Result<Vec<Box<dyn Step>>> {
        let key_type = key_type(self.settings, receipt);
        let target = Target::new(self.server, self.enrollment, self.layout, key_type);
        plan(&PlanInput {
            facts: self.facts,
            settings: self.settings,
            layout: self.layout,
            receipt,
            has_key: host.exists(&self.layout.private_key(key_type)),
            client: Some(self.control_plane.clone()),
            key_comment: key_comment(host),
            database: Some(self.database.clone()),
            missing_for_way_out: self.way_out.need().filter(|need| !need.is_met(host)),
            way_out: self.way_out.clone(),
            foreign: self.foreign.clone(),
            rehearsals: rehearsals(
                host,
                init(self.facts, self.settings, receipt)?,
                self.layout,
                target.tunnel,
                &target.forward_through(&self.way_out, self.layout),
            )?,
            target,
        })
    }
}

fn way_out(
    host: &dyn Host,
    settings: &Settings,
    layout: &Layout,
    receipt: Option<&Receipt>,
    server: &Url,
    enrollment: &Enrollment,
    kept: Option<&str>,
) -> anyhow::Result<WayOut> {
    let target = Target::new(server, enrollment, layout, settings.key_type);
    let record = receipt.and_then(|receipt| receipt.tunnels.get(&target.tunnel));
    let question = way_out::Question {
        asked: settings.proxy_command.as_ref(),
        recorded: record.and_then(|record| record.proxy_command.as_ref()),
        kept,
        server: &target.forward,
    };
    way_out::find(host, &question)
}

fn introduction(host: &dyn Host, enrollment: &Enrollment, server: &Url) -> String {
    format!(
        "This sets up a tunnel on {} as {}: {:?} ({} at {}:{}) becomes reachable for {}, through a \
         connection that this host opens. Nothing is opened in the firewall. These are the steps:",
        host.hostname(),
        host.user().name,
        enrollment.display_name,
        enrollment.database_type,
        bracketed(&enrollment.host),
        enrollment.port,
        server.host_str().unwrap_or_default(),
    )
}

fn confirm(host: &dyn Host, command: &Setup) -> anyhow::Result<()> {
    if command.yes {
        return Ok(());
    }
    let unasked = Failure::usage(
        "cannot confirm without a terminal",
        "pass --yes to go on without asking, or --dry-run to see the plan; nothing was changed",
    );
    questions::require_yes(host.confirm("Go on?")?, unasked)
}

/// `--yes` is a yes to what setup does everywhere, not to the end of somebody's tunnels.
fn confirm_replacement(host: &dyn Host, command: &Setup) -> anyhow::Result<()> {
    if command.replace_service {
        return Ok(());
    }
    let question =
        format!("Stop the tunnels of the other service {SERVICE_NAME} and move it aside?");
    let unasked = Failure::usage(
        format!(
            "another service {SERVICE_NAME} exists, and there is no terminal to ask whether to move it aside"
        ),
        "look at it; pass --replace-service to stop its tunnels and move it aside. Nothing was changed",
    );
    questions::require_yes(host.confirm(&question)?, unasked)
}

fn remember_tunnel(
    run: &mut Run,
    enrollment: &Enrollment,
    server: &Url,
    reach: Reach,
    token: &str,
) {
    let record = run
        .receipt
        .tunnels
        .entry(TunnelName::new(server, enrollment.tunnel_id))
        .or_insert_with(|| TunnelRecord {
            control_plane: server.clone(),
            data_source_id: enrollment.data_source_id,
            display_name: String::new(),
            database_type: None,
            target_host: String::new(),
            target_port: 0,
            reach: Reach::default(),
            token_sha256: String::new(),
            proxy_command: None,
            enrolled: None,
            steps: Vec::new(),
        });
    record.display_name.clone_from(&enrollment.display_name);
    record.database_type = Some(enrollment.database_type);
    record.target_host.clone_from(&enrollment.host);
    record.target_port = enrollment.port;
    record.reach = reach;
    record.token_sha256 = token::digest(token);
}

fn finish(run: &Run, enrollment: &Enrollment, progress: Progress) {
    let id = enrollment.tunnel_id;
    let program = own_name(run.host);
    let name = &enrollment.display_name;
    let reached = match (run.receipt.init, progress) {
        (None, _) => format!(
            "{name:?} is enrolled as tunnel {id}, and reached while the command above runs."
        ),
        (Some(_), Progress::Made) => format!("Done: {name:?} is reachable through tunnel {id}."),
        (Some(_), Progress::NothingToDo) => {
            format!(
                "Already set up, nothing was changed: {name:?} is reachable through tunnel {id}."
            )
        }
    };
    run.ui.finished(
        &[String::new(), reached],
        json!({ "tunnel_id": id, "changed": progress == Progress::Made }),
    );
    let mut commands = vec![
        ("Is it up?", format!("{program} status {id}")),
        ("What is wrong?", format!("{program} doctor {id}")),
        (
            "Remove this one",
            format!("{program} uninstall-tunnel {id}"),
        ),
    ];
    if run.receipt.init.is_some() {
        let actions = "service start|stop|restart|status";
        commands.push(("All tunnels", format!("{program} {actions}")));
    }
    run.ui.show(&Event::CommandsToKnow(&commands));
}

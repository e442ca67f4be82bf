//! `plan`: what setup would do on this host, or on the host whose files are under `--root`.

use std::time::Duration;

use anyhow::ensure;
use serde_json::json;

use super::{foreign_service, key_comment, rehearsals, settings};
use crate::bastion::cli::Plan;
use crate::bastion::facts::{self, Family};
use crate::bastion::failure::{Exit, Failure, OneLine, advice_of};
use crate::bastion::guide;
use crate::bastion::host::{Host, HostExt, WayToRoot};
use crate::bastion::layout::Layout;
use crate::bastion::plan::{PlanInput, Target, init, key_type, plan};
use crate::bastion::receipt::Receipt;
use crate::bastion::steps::planned::{lines, planned};
use crate::bastion::steps::{Audience, Proofs, prove};
use crate::bastion::ui;
use crate::bastion::way_out::WayOut;
use crate::manual::{self, System};

const DEFAULT_WAIT: Duration = Duration::from_secs(30 * 60);

pub(super) fn run(host: &dyn Host, command: &Plan) -> anyhow::Result<Exit> {
    let settings = settings(&command.plan, DEFAULT_WAIT)?;
    ensure!(
        command.root.is_dir(),
        Failure::usage(
            format!("--root {} is not a folder", command.root.display()),
            "give the folder in which the other host's etc/ and usr/ are",
        )
    );
    let layout = Layout::new(host, &settings.prefix);
    let is_this_host = command.root == std::path::Path::new("/");
    // Another host's plan depends on its files alone, not on what was done to this one.
    let receipt = if is_this_host {
        Receipt::load(host, &layout.receipt())?
    } else {
        None
    };
    let facts = facts::probe(host, &command.root, host.privilege());
    let key_type = key_type(&settings, receipt.as_ref());
    // A plan for no tunnel server in particular looks for no proxy.
    let way_out = match &settings.proxy_command {
        Some(command) if !command.is_none() => WayOut::Command(command.clone()),
        _ => WayOut::Direct,
    };
    let target = Target::unknown(&layout, key_type);
    let input = PlanInput {
        facts: &facts,
        settings: &settings,
        layout: &layout,
        receipt: receipt.as_ref(),
        has_key: is_this_host && host.exists(&layout.private_key(key_type)),
        client: None,
        database: None,
        key_comment: if is_this_host {
            key_comment(host)
        } else {
            "<user>@<host>".to_owned()
        },
        missing_for_way_out: None,
        foreign: if is_this_host {
            foreign_service(host, &facts, &settings, &layout, receipt.as_ref())?
        } else {
            None
        },
        rehearsals: if is_this_host {
            let init = init(&facts, &settings, receipt.as_ref())?;
            let forward = target.forward_through(&way_out, &layout);
            rehearsals(host, init, &layout, target.tunnel, &forward)?
        } else {
            Vec::new()
        },
        target,
        way_out,
    };
    let steps = plan(&input);
    let guide = match facts.family {
        Family::Unsupported if steps.is_err() => {
            Some(manual::render(System::Linux, &guide::unknown(&layout))?)
        }
        _ => None,
    };
    let proofs = match &steps {
        Ok(steps) if is_this_host => prove(host, steps, Audience::Person),
        _ => Ok(Proofs::default()),
    };
    let way = if is_this_host {
        WayToRoot::of(host)
    } else {
        WayToRoot::of_another_host()
    };
    let obstacle = steps.as_ref().err().or(proofs.as_ref().err());
    if command.json {
        let document = json!({
            "host": facts,
            "supported": steps.is_ok(),
            "steps": planned(&way, steps.as_deref().unwrap_or_default()),
            "proofs": proofs.as_ref().ok(),
            "reason": obstacle.map(|error| OneLine(error).to_string()),
            "guide": guide,
            "next": obstacle.and_then(advice_of),
        });
        ui::print(&serde_json::to_string_pretty(&document)?);
        return Ok(if obstacle.is_none() {
            Exit::Done
        } else {
            Exit::Failed
        });
    }
    if let Some(guide) = guide {
        ui::print(&guide);
    }
    let steps = steps?;
    ui::print(&format!(
        "{} ({}), as {}",
        facts.name,
        facts.architecture.as_deref().unwrap_or("unknown processor"),
        host.user().name
    ));
    if let Some(goes_by) = facts.goes_by() {
        ui::print(&goes_by);
    }
    for (number, step) in steps.iter().enumerate() {
        ui::print(&format!("{}. {}", number + 1, step.summary()));
        for command in lines(&way, step.as_ref()) {
            ui::print(&format!("     {command}"));
        }
    }
    for line in proofs?.lines("-") {
        ui::print(&line);
    }
    Ok(Exit::Done)
}

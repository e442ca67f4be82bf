//! A report that can be sent to support: what was checked, what this host is, what was done to it, and
//! the last words of the logs; without tokens, keys and passwords.
//!
//! Secrets are kept out twice: the receipt is shown without the fields that hold them, and then the
//! whole text is searched for what looks like one.

use std::path::Path;

use serde_json::Value;

use super::check::Check;
use super::{Outcome, Target, log};
use crate::bastion::host::redaction::{HIDDEN, redact};
use crate::bastion::host::{Host, HostExt as _};
use crate::bastion::layout::Layout;
use crate::bastion::receipt::Receipt;
use crate::bastion::service;
use crate::bastion::ssh::command_line::AUTOSSH_ENVIRONMENT;

/// Fields of the receipt that are secrets, may hold one or a file of somebody else's, or say nothing to a person.
const LEFT_OUT: [&str; 6] = [
    "tunnel_token",
    "token_sha256",
    "former",
    "proxy",
    "proxy_command",
    "ca_cert",
];
/// Lines of each log.
const LOG_LINES: usize = 100;
/// Bytes of each file.
const LONGEST_FILE: u64 = 16 * 1024;

/// Puts the report together.
pub fn render(host: &dyn Host, target: &Target, checks: &[Check]) -> String {
    let mut report = String::from(
        "Report of holistics-tunnel doctor\n\n\
         It holds names of hosts and users, addresses and paths of this host. Tokens, keys and passwords are\n\
         left out.\n",
    );
    section(
        &mut report,
        "Program",
        &format!(
            "holistics-tunnel {}\nmade at {}",
            env!("CARGO_PKG_VERSION"),
            host.now()
        ),
    );
    section(&mut report, "Checks", &lines_of(checks));
    section(&mut report, "Host", &pretty(&target.facts));
    match &target.installed {
        Ok(Some((receipt, layout))) => installed(&mut report, host, receipt, layout),
        Ok(None) => section(&mut report, "Receipt", "there is none"),
        Err(error) => section(&mut report, "Receipt", &format!("{error:#}")),
    }
    redact(&report, &secrets(target))
}

fn section(report: &mut String, title: &str, content: &str) {
    report.push_str(&format!("\n== {title}\n\n{}\n", content.trim_end()));
}

fn lines_of(checks: &[Check]) -> String {
    checks
        .iter()
        .map(|check| {
            let outcome = match check.outcome {
                Outcome::Pass => "pass",
                Outcome::Fail => "FAIL",
                Outcome::Skip => "skip",
            };
            let remedy = check.remedy.as_deref();
            let remedy = remedy.map_or_else(String::new, |text| format!("\n     remedy: {text}"));
            format!(
                "{outcome} {} [{}] {} ({} ms){remedy}\n",
                check.name, check.subject, check.detail, check.milliseconds
            )
        })
        .collect()
}

fn installed(report: &mut String, host: &dyn Host, receipt: &Receipt, layout: &Layout) {
    let shown = serde_json::to_value(receipt).map(without_secrets);
    section(
        report,
        "Receipt",
        &shown.map_or_else(|error| error.to_string(), |shown| pretty(&shown)),
    );
    let variables: Vec<String> = AUTOSSH_ENVIRONMENT
        .iter()
        .map(|(name, _)| *name)
        .chain([
            "AUTOSSH_PORT",
            "AUTOSSH_DEBUG",
            "LANG",
            "https_proxy",
            "no_proxy",
        ])
        .filter_map(|name| Some(format!("{name}={}", host.env(name)?)))
        .collect();
    section(report, "Environment", &variables.join("\n"));
    file(report, host, &layout.known_hosts());
    for path in definitions(host, receipt, layout) {
        file(report, host, &path);
    }
    for id in receipt.tunnels.keys() {
        let path = layout.tunnel_log(*id);
        let said = log::tail(host, &host.user().home, &path).unwrap_or_else(|reason| reason);
        let lines: Vec<&str> = said.lines().collect();
        let last = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        section(report, &path.display().to_string(), &last);
    }
}

/// Every file of the service; the static ones once.
fn definitions(host: &dyn Host, receipt: &Receipt, layout: &Layout) -> Vec<std::path::PathBuf> {
    let mut paths = Vec::new();
    let manager = receipt.init.and_then(|init| service::manager(init).ok());
    for id in receipt.tunnels.keys() {
        let own = manager
            .iter()
            .flat_map(|manager| manager.paths(layout, *id));
        paths.extend(own);
    }
    paths.sort();
    paths.dedup();
    paths.retain(|path| host.exists(path));
    paths
}

fn file(report: &mut String, host: &dyn Host, path: &Path) {
    let content = match host.read_at_most(path, LONGEST_FILE) {
        Ok(content) => String::from_utf8_lossy(&content).into_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    section(report, &path.display().to_string(), &content);
}

fn pretty(value: &impl serde::Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|error| error.to_string())
}

fn without_secrets(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| {
                let value = if LEFT_OUT.contains(&name.as_str()) {
                    Value::from(HIDDEN)
                } else {
                    without_secrets(value)
                };
                (name, value)
            })
            .collect(),
        Value::Array(items) => items.into_iter().map(without_secrets).collect(),
        other => other,
    }
}

fn secrets(target: &Target) -> Vec<String> {
    let receipt = target.installed.as_ref().ok().and_then(Option::as_ref);
    let tunnels = receipt
        .iter()
        .flat_map(|(receipt, _)| receipt.tunnels.values());
    tunnels
        .filter_map(|tunnel| Some(tunnel.enrolled.as_ref()?.tunnel_token.clone()))
        .filter(|token| !token.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_receipt_is_shown_without_the_fields_that_hold_secrets() {
        let receipt = json!({
            "tunnels": {"1": {"token_sha256": "ab", "proxy_command": "p a:b", "reach": {"proxy": "ada:gh@proxy:1", "ca_cert": "ij"}, "enrolled": {"tunnel_token": "cd", "remote_port": 7}}},
            "steps": [{"changes": [{"former": "ZWY="}]}],
        });
        let shown = without_secrets(receipt).to_string();
        for secret in ["\"ab\"", "\"cd\"", "ZWY=", "gh", "\"ij\"", "a:b"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("\"remote_port\":7"));
    }
}

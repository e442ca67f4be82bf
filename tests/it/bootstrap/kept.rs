//! What reaching the vendor takes, a private authority's certificate and a proxy, is given to setup once: every
//! later command knows it.

use std::path::Path;

use holistics_tunnel::protocol::{DataSource, DataSourceState};

use crate::bootstrap::proxy::{NAME, Proxy};
use crate::bootstrap::{CANNOT_TELL, FAILED, content, run, shell, url_in, url_of};
use crate::support::bastion::{Bastion, SETUP_LIMIT};
use crate::support::hosts::certificate;
use crate::support::lab::{Lab, token_of};
use crate::support::postgres::Postgres;
use crate::support::process::Finished;
use crate::support::server::Server;
use crate::support::wait;
use crate::support::workspace::Workspace;

/// Sets a data source up by its command, with this before it and these options.
fn set_up(lab: &Lab, source: &DataSource, variables: &str, fetch: &str, options: &str) -> Finished {
    let line = format!(
        "{variables} {fetch} {} | sh -s -- --yes {options} {}",
        url_of(source),
        lab.bastion.setup_options()
    );
    let setup = lab.bastion.start(&mut shell(&lab.bastion, &line));
    lab.wait_until_connected(source, &setup);
    lab.save_and_finish(source, setup)
}

fn program(bastion: &Bastion, arguments: &[&str]) -> Finished {
    bastion.run(&mut bastion.program(arguments))
}

/// Moves a file away, so that whoever still needs it fails.
fn take_away(file: &Path) {
    std::fs::rename(file, file.with_extension("away")).expect("it is there");
}

#[test]
fn a_private_authority_is_given_once_and_every_later_command_reaches_the_control_plane() {
    let workspace = Workspace::new();
    let https = certificate::for_name("localhost", &workspace.folder("https"));
    let lab = Lab::with(Server::start_called("localhost", Some(&https), &[]));
    let before = lab.bastion.snapshot();
    let source = lab.data_source("Shop");
    let authority = https.authority.display();
    let fetch = format!("curl -fsSL --cacert {authority}");
    set_up(&lab, &source, "", &fetch, &format!("--ca-cert {authority}"));
    let elsewhere = workspace.folder("operator").join("authority.pem");
    std::fs::copy(&https.authority, &elsewhere).expect("a copy");
    take_away(&https.authority);

    program(&lab.bastion, &["status"]).expect_code(0);
    program(&lab.bastion, &["service", "restart"]).expect_code(0);
    program(&lab.bastion, &["doctor"])
        .expect_words(&["its certificate is accepted", "its token accepted"]);
    let port = lab.postgres.port().to_string();
    let moved = [
        "update-tunnel",
        "--host",
        "localhost",
        "--port",
        &port,
        "--yes",
    ];
    program(&lab.bastion, &moved).expect_code(0);
    program(&lab.bastion, &["rotate-key", "--yes"]).expect_code(0);
    // A second data source of the same vendor needs it as little.
    let second = lab.data_source("Stock");
    let mut setup = lab.bastion.setup(&lab.server, token_of(&second));
    let setup = lab.bastion.start(&mut setup);
    lab.wait_until_connected(&second, &setup);
    lab.save_and_finish(&second, setup);
    program(&lab.bastion, &["status"]).expect_code(0);

    // curl is the one that does not know it.
    for source in [&source, &second] {
        let removal = lab.operator.delete(source.id);
        let line = format!(
            "curl -fsSL --cacert {} {} | sh",
            elsewhere.display(),
            url_in(&removal.command)
        );
        run(&lab.bastion, &line).expect_code(0);
        assert_eq!(lab.state(source), DataSourceState::Removed);
    }
    before.assert_same(&lab.bastion.snapshot());
}

#[test]
fn a_proxy_is_given_once_and_its_password_is_in_the_receipt_alone() {
    const PASSWORD: &str = "geh-31m";
    let workspace = Workspace::new();
    let proxy = Proxy::start_for(&workspace, "ada", PASSWORD);
    let https = certificate::for_name(NAME, &workspace.folder("https"));
    let lab = Lab::with(Server::start_called(NAME, Some(&https), &[]));
    let source = lab.data_source("Shop");
    let authority = https.authority.display();
    let variables = format!(
        "export https_proxy={} CURL_CA_BUNDLE={authority};",
        proxy.url
    );
    let said = set_up(&lab, &source, &variables, "curl -fsSL", "--verbose").output();
    assert!(!said.contains(PASSWORD), "{said}");

    // From here on, no variable names it, and the name is nobody's without it.
    program(&lab.bastion, &["status"]).expect_code(0);
    program(&lab.bastion, &["service", "restart"]).expect_code(0);
    let doctor = program(&lab.bastion, &["doctor", "--report", "-"])
        .expect_words(&["through the proxy that is kept", "its token accepted"])
        .output();
    assert!(!doctor.contains(PASSWORD), "{doctor}");
    program(&lab.bastion, &["rotate-key", "--yes"]).expect_code(0);
    // What this run is given counts more.
    let mut direct = lab.bastion.program(["status"]);
    lab.bastion
        .run(direct.env("NO_PROXY", "*"))
        .expect_code(CANNOT_TELL);
    let mut elsewhere = lab.bastion.program(["status"]);
    lab.bastion
        .run(elsewhere.env("HTTPS_PROXY", "http://127.0.0.1:1"))
        .expect_code(CANNOT_TELL);

    let holders = files_with(&[&lab.bastion.home(), &lab.bastion.prefix()], PASSWORD);
    assert_eq!(holders, [lab.bastion.receipt()]);

    let removal = lab.operator.delete(source.id);
    let script = workspace.folder("script").join("removal");
    let line = format!(
        "{variables} curl -fsSL {} >{}; unset https_proxy CURL_CA_BUNDLE; sh {}",
        url_in(&removal.command),
        script.display(),
        script.display()
    );
    run(&lab.bastion, &line).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    assert!(proxy.requests("CONNECT ") > 6, "{}", content(&proxy.log));
}

/// The files below these folders that hold a text.
fn files_with(folders: &[&Path], text: &str) -> Vec<std::path::PathBuf> {
    let mut grep = std::process::Command::new("grep");
    let found = grep.args(["-rlaF", text]).args(folders).output();
    let found = String::from_utf8(found.expect("grep").stdout).expect("paths in UTF-8");
    found.lines().map(Into::into).collect()
}

#[test]
fn two_control_planes_are_each_reached_in_their_own_way_by_one_command() {
    let workspace = Workspace::new();
    let lab = Lab::new();
    lab.active_data_source("Shop");
    let vendors = ["one", "another"].map(|folder| {
        let https = certificate::for_name("localhost", &workspace.folder(folder));
        let server = Server::start_called("localhost", Some(&https), &[]);
        set_up_with(&lab.bastion, &server, &https.authority, &lab.postgres);
        take_away(&https.authority);
        server
    });
    let status = program(&lab.bastion, &["status"]).expect_code(0).output();
    assert_eq!(
        status.matches(": up ").count(),
        1 + vendors.len(),
        "{status}"
    );
    program(&lab.bastion, &["rotate-key", "--yes"]).expect_code(0);
}

#[test]
fn a_renewed_authority_takes_the_kept_one_s_place_and_another_s_does_not() {
    let workspace = Workspace::new();
    let [old, new, strange] = ["old", "new", "strange"]
        .map(|folder| certificate::for_name("localhost", &workspace.folder(folder)));
    let mut server = Server::start_called("localhost", Some(&old), &[]);
    let (bastion, database) = (Bastion::new(), Postgres::shared());
    set_up_with(&bastion, &server, &old.authority, &database);
    let update_with = |authority: &Path| {
        let mut update = bastion.program(["update-tunnel", "--yes", "--ca-cert"]);
        bastion.run(update.arg(authority)).expect_code(0).output()
    };
    let kept = "kept for later commands";
    assert!(!update_with(&strange.authority).contains(kept));
    program(&bastion, &["status"]).expect_code(0);

    let url = server.url.clone();
    server.stop().expect_code(0);
    let path = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (certificate, key) = (path(&new.certificate), path(&new.key));
    server.start_again_with(
        &[
            ["--public-url", &url],
            ["--public-ssh-host", "127.0.0.1"],
            ["--tls-cert", &certificate],
            ["--tls-key", &key],
        ]
        .concat(),
    );
    program(&bastion, &["status"]).expect_code(CANNOT_TELL);
    program(&bastion, &["doctor"])
        .expect_code(FAILED)
        .expect_words(&["does not fit", "update-tunnel", "--ca-cert FILE"]);
    assert!(update_with(&new.authority).contains(kept));
    take_away(&new.authority);
    // The tunnel comes back when autossh's next try is due.
    wait::until_true("the tunnel is up again", SETUP_LIMIT, String::new, || {
        program(&bastion, &["status"]).code == 0
    });
    take_away(&strange.authority);
    assert!(!content(&bastion.receipt()).contains(&content(&old.authority).replace('\n', "\\n")));
}

/// Sets up a data source of this vendor, with its authority's certificate.
fn set_up_with(bastion: &Bastion, server: &Server, authority: &Path, database: &Postgres) {
    let operator = server.operator();
    let source = operator.create("Shop", database.port());
    let mut setup = bastion.setup(server, token_of(&source));
    let setup = bastion.start(setup.arg("--ca-cert").arg(authority));
    setup.wait_until("the temporary tunnel", SETUP_LIMIT, || {
        setup.output().contains("Return to your browser")
    });
    operator.save(source.id);
    setup.wait(SETUP_LIMIT).expect_code(0);
}

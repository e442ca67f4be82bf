//! A server whose certificate comes from a private authority.

use crate::bootstrap::vendor::{Vendor, arguments};
use crate::bootstrap::{FAILED, run, url_of};
use crate::support::bastion::Bastion;
use crate::support::hosts::certificate::{self, Certified};
use crate::support::server::Server;
use crate::support::workspace::Workspace;

/// What fetches the script with the authority's certificate given, where the other is not installed.
const FETCHERS: [(&str, &str); 2] = [
    ("curl -fsSL --cacert", "wget"),
    ("wget -qO- --ca-certificate", "curl"),
];

fn certified(workspace: &Workspace) -> Certified {
    certificate::for_name("localhost", &workspace.folder("https"))
}

#[test]
fn ca_cert_is_used_for_the_download_and_reaches_the_program() {
    let workspace = Workspace::new();
    let https = certified(&workspace);
    let vendor =
        Vendor::with(|arguments| Server::start_called("localhost", Some(&https), arguments));
    let authority = https.authority.to_str().expect("a path in UTF-8");
    for (fetch, missing) in FETCHERS {
        let url = vendor.data_source();
        let url = url_of(&url);
        for flag in [
            format!("--ca-cert {authority}"),
            format!("--ca-cert={authority}"),
        ] {
            let bastion = Bastion::without(&[missing]);
            run(
                &bastion,
                &format!("{fetch} {authority} {url} | sh -s -- {flag}"),
            )
            .expect_code(0);
            let given = arguments(&bastion).join(" ");
            assert!(given.ends_with(&flag), "{given}");
        }
        let bastion = Bastion::without(&[missing]);
        let variable = format!("HOLISTICS_TUNNEL_CA_CERT={authority}");
        run(
            &bastion,
            &format!("export {variable}; {fetch} {authority} {url} | sh"),
        )
        .expect_code(0);
    }
    // What curl was told by its own variable counts for all of it.
    let line = format!(
        "export CURL_CA_BUNDLE={authority}; curl -fsSL {} | sh",
        url_of(&vendor.data_source())
    );
    run(&Bastion::without(&["wget"]), &line).expect_code(0);
}

#[test]
fn the_program_reaches_the_server_with_the_same_certificate() {
    let workspace = Workspace::new();
    let https = certified(&workspace);
    let server = Server::start_called("localhost", Some(&https), &[]);
    let bastion = Bastion::new();
    let source = server.operator().create("Shop", 5432);
    let authority = https.authority.display();
    let line = format!(
        "curl -fsSL --cacert {authority} {} | sh -s -- --ca-cert {authority} --dry-run \
         --no-database-check {}",
        url_of(&source),
        bastion.setup_options()
    );
    run(&bastion, &line)
        .expect_code(0)
        .expect_words(&["Shop", "localhost"]);
}

#[test]
fn without_it_the_certificate_and_the_flag_are_named_and_nothing_stays() {
    let workspace = Workspace::new();
    let https = certified(&workspace);
    let vendor =
        Vendor::with(|arguments| Server::start_called("localhost", Some(&https), arguments));
    for (fetch, missing) in FETCHERS {
        let bastion = Bastion::without(&[missing]);
        let before = bastion.snapshot();
        let source = vendor.data_source();
        let line = format!(
            "{fetch} {} {} | sh",
            https.authority.display(),
            url_of(&source)
        );
        run(&bastion, &line)
            .expect_code(FAILED)
            .expect_words(&["certificate", "--ca-cert FILE"]);
        before.assert_same(&bastion.snapshot());
    }
}

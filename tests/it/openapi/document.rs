//! The document as it is served.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::openapi::visitor::Visitor;
use crate::support::server::Server;

fn document(server: &Server, path: &str) -> Value {
    let page = Visitor::new(server).get(path);
    assert_eq!(page.status, 200, "{}", page.body);
    assert_eq!(page.headers["content-type"], "application/json");
    serde_json::from_str(&page.body).expect("JSON")
}

#[test]
fn every_call_has_a_name_of_its_own_and_says_how_it_is_refused() {
    let server = Server::start();
    let document = document(&server, "/api/v1/openapi.json");
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, call) in item.as_object().expect("calls") {
            let what = format!("{method} {path}");
            let name = call["operationId"].as_str().expect("a name");
            assert!(names.insert(name.to_owned()), "{what}: {name} is taken");
            assert!(call["summary"].is_string(), "{what} has no summary");
            assert!(call["tags"][0].is_string(), "{what} stands under nothing");
            let needs_credential = call["security"][0].is_object();
            for status in ["401", "403", "410"] {
                let is_told = call["responses"].get(status).is_some();
                assert_eq!(is_told, needs_credential, "{what}: {status}");
            }
            assert!(call["responses"].get("500").is_some(), "{what}: 500");
            for part in path.split('/').filter(|part| part.starts_with('{')) {
                let parameters = call["parameters"].as_array().expect("parameters");
                let is_told = parameters.iter().any(|p| {
                    p["in"] == "path" && part == format!("{{{}}}", p["name"].as_str().unwrap_or(""))
                });
                assert!(is_told, "{what}: {part} is not described");
            }
        }
    }
    assert!(names.len() >= 20, "{names:?}");
}

#[test]
fn it_names_the_installations_own_address_and_cookie() {
    let server = Server::start_with(10, &["--public-url", "https://vendor.example/tunnels"]);
    // The proxy in front would take the address; here the server itself is asked.
    let log = server.log();
    let web = log.lines().find_map(|line| line.strip_prefix("web "));
    let url = format!("{}/api/v1/openapi.json", web.expect("its address").trim());
    let document = document(&server, &url);
    assert_eq!(
        document["servers"][0]["url"],
        "https://vendor.example/tunnels"
    );
    let schemes = &document["components"]["securitySchemes"];
    // `__Host-` would be for all paths of the host.
    assert_eq!(schemes["session"]["name"], "__Secure-holistics-tunnel");
}

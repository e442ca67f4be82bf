//! One bastion that does the same thing again and again.

use reqwest::Method;
use serde_json::json;

use crate::openapi::world::World;

/// The audit log, by this kind of actors, page after page.
fn audit_log(world: &World, by: &str) -> Vec<String> {
    let mut entries = Vec::new();
    let mut path = Some(format!("/audit?by={by}"));
    while let Some(next) = path {
        let page = world.signed_in.get(&next);
        assert_eq!(page.status, 200, "{}", page.text());
        let shown = page.body.split("<li>").skip(1);
        entries.extend(shown.map(|entry| entry.split("</li>").next().unwrap().to_owned()));
        let has_older = page.body.contains(">Older<");
        path = has_older.then(|| page.link_of("older"));
    }
    entries
}

#[test]
fn a_bastion_that_floods_the_audit_log_pushes_out_no_operator_and_no_other_bastion() {
    let world = World::new();
    let own = &world.own;
    let path = format!("/api/v1/tunnels/{}", own.tunnel);
    for n in 0..520 {
        let target = json!({ "target": { "host": "db.internal", "port": 1 + n % 2 } });
        let request = world.stranger.request(Method::PATCH, &path);
        let answer = request.bearer_auth(&own.tunnel_token).json(&target).send();
        assert_eq!(answer.expect("the server answers").status(), 200);
    }
    let operators = audit_log(&world, "operator");
    for did in [
        "<span>signed in<",
        "<span>API token made<",
        "<span>signed out<",
    ] {
        assert!(
            operators.iter().any(|entry| entry.contains(did)),
            "{did}: {operators:?}"
        );
    }
    let programs = audit_log(&world, "api_token");
    assert!(
        programs
            .iter()
            .any(|entry| entry.contains("removal asked for"))
    );
    let bastions = audit_log(&world, "bastion");
    let of = |data_source: i64| {
        let subject = format!(">data source {data_source}<");
        bastions.iter().filter(|e| e.contains(&subject)).count()
    };
    assert_eq!(of(own.data_source), 500, "the newest of its own");
    assert_eq!(of(world.other.data_source), 1, "another's");
}

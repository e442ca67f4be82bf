//! What a server has kept in the end.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::support::database::ServerDatabase;

/// Everything but times, numbers, and what is by chance.
pub fn kept(database: &ServerDatabase) -> BTreeMap<&'static str, Vec<String>> {
    let named = |query: &str| database.texts(query);
    let parts = [
        (
            "data sources",
            "SELECT display_name || ' ' || host || ' ' || port || ' ' || (saved_at IS NOT NULL) || ' '
                 || (removing_at IS NOT NULL) || ' ' || (removed_at IS NOT NULL) FROM data_sources",
        ),
        (
            "tunnels",
            "SELECT d.display_name || ' ' || region || ' ' || (enrolled_at IS NOT NULL) || ' '
                 || (service_installed_at IS NOT NULL) || ' ' || (by_hand_at IS NOT NULL) || ' '
                 || COALESCE(applied_host, '-') || ' ' || COALESCE(applied_port, 0) || ' '
                 || COALESCE((SELECT public_key FROM keys WHERE id = key_id), '-') || ' '
                 || COALESCE((SELECT public_key FROM keys WHERE id = next_key_id), '-') || ' '
                 || COALESCE(bastion_hostname, '-') || ' ' || (last_seen_at IS NOT NULL)
             FROM tunnels JOIN data_sources AS d ON d.id = data_source_id",
        ),
        ("keys", "SELECT public_key FROM keys"),
        (
            "tokens of tunnels",
            "SELECT d.display_name || ' ' || kind || ' ' || (used_at IS NOT NULL) || ' ' || (revoked_at IS NOT NULL)
             FROM tokens JOIN tunnels AS t ON t.id = tunnel_id JOIN data_sources AS d ON d.id = data_source_id",
        ),
        (
            "tokens of operators",
            "SELECT DISTINCT name || ' ' || scope FROM tokens WHERE kind = 'operator' AND revoked_at IS NULL",
        ),
        // What was done twice is told twice.
        (
            "events",
            "SELECT DISTINCT d.display_name || ' ' || kind FROM events JOIN data_sources AS d ON d.id = data_source_id
             WHERE kind NOT IN ('up', 'down', 'taken_over', 'refused_held')",
        ),
        ("logins", "SELECT username FROM logins"),
        (
            "operators",
            "SELECT name || ' ' || (password_hash IS NOT NULL) || ' ' || (disabled_at IS NOT NULL) FROM operators",
        ),
        ("links", "SELECT 'a link' FROM login_links"),
        ("regions", "SELECT name || ' ' || ssh_hosts || ' ' || is_settled FROM regions WHERE name <> 'default'"),
        (
            "host keys",
            "SELECT d.display_name || ' ' || source FROM known_host_keys JOIN tunnels AS t ON t.id = tunnel_id
             JOIN data_sources AS d ON d.id = t.data_source_id",
        ),
        ("names of requests", "SELECT key FROM idempotency_keys"),
        // Host keys are files: a command that is killed once it has changed them has not written that down.
        ("audit log", "SELECT DISTINCT action FROM audit_log WHERE action NOT LIKE 'host key%'"),
    ];
    parts
        .into_iter()
        .map(|(what, query)| {
            // What PostgreSQL writes as true, SQLite writes as 1.
            let rows = named(query).into_iter();
            let rows = rows.map(|row| row.replace("true", "1").replace("false", "0"));
            let mut rows: Vec<_> = rows.collect();
            rows.sort();
            (what, rows)
        })
        .collect()
}

/// What nobody may ever find otherwise.
pub fn assert_whole(database: &ServerDatabase) {
    if database.is_file() {
        assert_eq!(database.texts("PRAGMA integrity_check"), ["ok"]);
        let dangling = "SELECT count(*) FROM pragma_foreign_key_check";
        assert_eq!(database.number(dangling), 0, "foreign keys");
    }
    for (what, query) in [
        (
            "a port is two tunnels'",
            "SELECT count(*) FROM (SELECT region, remote_port FROM tunnels WHERE removed_at IS NULL
                 AND remote_port IS NOT NULL GROUP BY region, remote_port HAVING count(*) > 1) AS twice",
        ),
        (
            "a tunnel is enrolled without a key or a port",
            "SELECT count(*) FROM tunnels WHERE removed_at IS NULL
                 AND (enrolled_at IS NOT NULL) <> (key_id IS NOT NULL AND remote_port IS NOT NULL)",
        ),
        (
            "a data source is removed and its tunnel is not",
            "SELECT count(*) FROM data_sources AS d JOIN tunnels AS t ON t.data_source_id = d.id
                 WHERE (d.removed_at IS NULL) <> (t.removed_at IS NULL)",
        ),
        (
            "a data source is there twice",
            "SELECT count(*) FROM (SELECT display_name FROM data_sources GROUP BY display_name
                 HAVING count(*) > 1) AS twice",
        ),
    ] {
        assert_eq!(database.number(query), 0, "{what}");
    }
}

/// The names of all files, without what a moment has given them.
pub fn names_below(folder: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        // What a restore has put aside is looked at by the tests of that; the journals come and go, and so does the note of
        // how old a node's table of keys is. A folder for making keys is taken away with the next one, without keys in it.
        let is_passing = name.starts_with("replaced-")
            || name.ends_with("-wal")
            || name.ends_with("-shm")
            || name == "key-table-age"
            || (name.starts_with(".new-") && names_below(&path) == ["lock"]);
        if is_passing {
            continue;
        }
        if path.is_dir() {
            let below = names_below(&path).into_iter();
            names.extend(below.map(|below| format!("{name}/{below}")));
        }
        names.push(name);
    }
    names.sort();
    names
}

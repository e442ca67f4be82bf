//! Where the server's source keeps something.

use std::fs;
use std::path::Path;

/// What is no part of the life that is led here, since it needs minutes or an hour, or servers in several regions; and where
/// all of them end.
const ELSEWHERE: [&str; 7] = [
    "src/server/store/sql.rs: commit",
    "src/server/store/tunnels.rs: note_seen",
    "src/server/store/audit.rs: forget_audit_older_than",
    "src/server/store/sign_ins.rs: forget_sessions_that_are_over",
    "src/server/store/moves.rs: note_moves_seen",
    // A node that is lost with its tunnels.
    "src/server/store/dead_nodes.rs: note_dead",
    "src/server/domain/moves.rs: end_moves",
];

/// Those of several servers on one PostgreSQL.
const OF_SEVERAL: [&str; 6] = [
    "src/server/store/nodes.rs: ",
    "src/server/store/dead_nodes.rs: ",
    "src/server/region_keys.rs: ",
    "src/server/domain/regions.rs: add",
    "src/server/domain/regions.rs: change",
    "src/server/domain/regions.rs: remove",
];

/// Those of a server with a file of its own.
const OF_ONE: [&str; 1] = ["src/server/store/restored.rs: "];

/// Where the server's source ends a transaction of such a life: `src/server/….rs:LINE`.
pub fn transactions(on_postgres: bool, is_meant: impl Fn(&str) -> bool) -> Vec<String> {
    let mut places = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    look_below(root, Path::new("src/server"), &mut places);
    assert!(places.len() > 40, "{places:?}");
    let others: &[&str] = if on_postgres { &OF_ONE } else { &OF_SEVERAL };
    let is_elsewhere = |function: &String| {
        let mut elsewhere = ELSEWHERE.iter().chain(others);
        elsewhere.any(|elsewhere| function.starts_with(elsewhere))
    };
    places.retain(|(function, _)| is_meant(function) && !is_elsewhere(function));
    places.into_iter().map(|(_, place)| place).collect()
}

/// Finds each with the function in which it is.
fn look_below(root: &Path, folder: &Path, places: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let path = folder.join(entry.expect("an entry").file_name());
        if root.join(&path).is_dir() {
            look_below(root, &path, places);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            let source = fs::read_to_string(root.join(&path)).expect("a source");
            // Tests come last.
            let source = source
                .split("#[cfg(test)]\nmod tests")
                .next()
                .unwrap_or_default();
            let mut function = "";
            for (line, number) in source.lines().zip(1..) {
                if let Some((_, name)) = line.split_once("fn ") {
                    function = name.split(['(', '<']).next().unwrap_or_default();
                }
                if line.contains("tx.commit()") {
                    let path = path.display();
                    places.push((format!("{path}: {function}"), format!("{path}:{number}")));
                }
            }
        }
    }
}

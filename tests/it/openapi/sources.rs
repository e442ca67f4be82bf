//! That the lists which the other tests walk hold everything, as far as the code itself shows it.

use std::fs;
use std::path::{Path, PathBuf};

/// Where routes are made: by the list of pages, and on the listener that serves metrics and nothing
/// else. The API's calls come in by `Calls::with` alone.
const ROUTE_MAKERS: [&str; 3] = [
    "http/api/metrics.rs",
    "http/web/mod.rs",
    "http/web/routes.rs",
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else {
            found.push(path);
        }
    }
}

#[test]
fn no_route_is_made_where_no_list_knows_it() {
    let server = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server");
    let mut sources = Vec::new();
    files(&server, &mut sources);
    let mut makers = Vec::new();
    for source in sources {
        let text = fs::read_to_string(&source).unwrap_or_default();
        let makes_routes = [".route(", ".route_service(", ".nest(", ".nest_service("]
            .iter()
            .any(|call| text.contains(call));
        if makes_routes {
            let path = source.strip_prefix(&server).expect("it lies there");
            makers.push(path.display().to_string());
        }
    }
    makers.sort();
    assert_eq!(makers, ROUTE_MAKERS);
}

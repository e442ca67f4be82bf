//! What the program finds on every distribution it may meet, from the files that distribution
//! ships, and what it would do there.
//!
//! `distro-fixtures/expected.tsv` says what a person who knows the distribution expects; the plans
//! are in `distro-fixtures/plans/`, each once.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

struct Fixture {
    dir: PathBuf,
    family: String,
    package_manager: Option<String>,
    init: String,
}

fn fixtures() -> Vec<Fixture> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("distro-fixtures");
    let table = fs::read_to_string(root.join("expected.tsv")).expect("the table of fixtures");
    let fixtures: Vec<_> = table
        .lines()
        .skip(1)
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            Fixture {
                dir: root.join(columns[0]),
                family: columns[1].to_owned(),
                package_manager: Some(columns[2].to_owned()).filter(|name| name != "null"),
                init: columns[3].to_owned(),
            }
        })
        .collect();
    assert!(
        fixtures.len() >= 60,
        "the table lists {} fixtures",
        fixtures.len()
    );
    fixtures
}

fn plan(root: &Path, home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holistics-tunnel"))
        .args(["plan", "--root"])
        .arg(root)
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("PATH", "/usr/bin:/bin")
        .output()
        .expect("the program runs")
}

fn json_of(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

#[test]
fn every_distribution_is_told_by_its_files() {
    let home = tempfile::tempdir().unwrap();
    for fixture in fixtures() {
        let output = plan(&fixture.dir, home.path(), &["--json"]);
        let document = json_of(&output);
        let name = fixture.dir.display();
        let host = &document["host"];
        assert_eq!(host["family"], *fixture.family, "{name}");
        assert_eq!(
            host["package_manager"].as_str(),
            fixture.package_manager.as_deref(),
            "{name}"
        );
        assert_eq!(host["init"], *fixture.init, "{name}");
        let by = BY_PACKAGE_MANAGER
            .iter()
            .any(|name| fixture.dir.ends_with(name));
        let by = by.then_some("package_manager");
        assert_eq!(host["family_by"].as_str(), by, "{name}");
        let supported = fixture.family != "unsupported";
        assert_eq!(document["supported"], supported, "{name}: {document:#}");
        let guide = document["guide"].as_str().unwrap_or_default();
        assert_eq!(guide.contains("By hand on Linux"), !supported, "{name}");
        assert_eq!(output.status.code(), Some(i32::from(!supported)), "{name}");
    }
}

/// Neither their `ID` nor their `ID_LIKE` is known.
const BY_PACKAGE_MANAGER: [&str; 5] = [
    "openeuler-22.03",
    "kylin-v10",
    "anolis-23",
    "home-made-apt",
    "no-release-apt",
];

#[test]
fn the_plan_says_that_it_goes_by_what_is_there_and_not_by_the_name() {
    let home = tempfile::tempdir().unwrap();
    for fixture in fixtures() {
        let text = plan(&fixture.dir, home.path(), &[]).stdout;
        let text = String::from_utf8_lossy(&text);
        let by = BY_PACKAGE_MANAGER
            .iter()
            .any(|name| fixture.dir.ends_with(name));
        let says = text.contains("goes by what is here");
        assert_eq!(says, by, "{}: {text}", fixture.dir.display());
    }
}

#[test]
fn a_host_of_no_known_family_is_supported_where_nothing_has_to_be_installed() {
    let root = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let folders = ["etc", "usr/bin", "run/systemd/system"];
    for folder in folders {
        fs::create_dir_all(root.path().join(folder)).unwrap();
    }
    fs::write(root.path().join("etc/os-release"), "ID=arch\n").unwrap();
    let supported = || {
        let output = plan(root.path(), home.path(), &["--json"]);
        let document = json_of(&output);
        assert_eq!(document["host"]["family"], "unsupported");
        assert_eq!(document["guide"].is_null(), document["supported"] == true);
        document["supported"] == true
    };
    for program in ["pacman", "ssh", "ssh-keygen", "curl", "autossh"] {
        assert!(!supported(), "without {program}");
        fs::write(root.path().join("usr/bin").join(program), "").unwrap();
    }
    assert!(supported());
    // Nothing that is known would start the service.
    fs::remove_dir(root.path().join("run/systemd/system")).unwrap();
    assert!(!supported());
}

/// Most distributions share their plan with others: each plan is one snapshot, under the name of the first that has it,
/// and one table says which plan a distribution has, beside what was read of it.
#[test]
fn the_plan_for_every_distribution() {
    let home = tempfile::tempdir().unwrap();
    let mut plans: Vec<(String, String)> = Vec::new();
    let mut table = "fixture\tid\tversion\tname\tmachine\tread-only\ttools\tplan\n".to_owned();
    for fixture in fixtures() {
        let name = fixture.dir.file_name().unwrap().to_string_lossy();
        let output = plan(&fixture.dir, home.path(), &["--json"]);
        let mut document = json_of(&output);
        let host = document.as_object_mut().unwrap().shift_remove("host");
        let host = host.expect("what was read of the host");
        let text = serde_json::to_string_pretty(&document).unwrap();
        let text = text
            .replace(&home.path().display().to_string(), "/home/ada")
            .replace(host["name"].as_str().unwrap_or("<none>"), "<its name>");
        let known = plans.iter().find(|(_, known)| *known == text);
        let of = match known {
            Some((first, _)) => first.clone(),
            None => {
                plans.push((name.to_string(), text));
                name.to_string()
            }
        };
        let cell = |value: &Value| value.as_str().unwrap_or("-").to_owned();
        let tools = host["tools"].as_object().unwrap().iter();
        let tools: Vec<_> = tools.filter(|(_, path)| path.is_string()).collect();
        let tools: Vec<_> = tools.iter().map(|(tool, _)| tool.as_str()).collect();
        let row = [
            name.to_string(),
            cell(&host["id"]),
            cell(&host["version"]),
            cell(&host["name"]),
            cell(&host["architecture"]),
            host["read_only"].to_string(),
            tools.join(" "),
            of,
        ];
        table += &(row.join("\t") + "\n");
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("distro-fixtures/plans");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(&folder);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| {
        insta::assert_snapshot!("of-each-distribution", table);
        for (first, text) in &plans {
            insta::assert_snapshot!(first.as_str(), text);
        }
    });
    let mut kept: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    let mut wanted: Vec<String> = plans
        .iter()
        .map(|(name, _)| format!("{name}.snap"))
        .collect();
    wanted.push("of-each-distribution.snap".to_owned());
    kept.sort();
    wanted.sort();
    assert_eq!(kept, wanted, "plans that no distribution has");
}

#[test]
fn another_host_s_files_are_only_read() {
    let home = tempfile::tempdir().unwrap();
    plan(&fixtures()[0].dir, home.path(), &[]);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
}

#[test]
fn damaged_files_make_an_unsupported_host_and_never_a_crash() {
    let huge = "ID=debian-".to_owned() + &"x".repeat(3_000_000);
    let contents: [&[u8]; 8] = [
        b"",
        b"\0\xff\xfe\x01binary\0\0",
        b"ID\nID=\n=debian\n\"\n'",
        b"ID=\"unclosed\nVERSION_ID='",
        b"ID=../../etc/passwd\n",
        b"ID=$(touch /tmp/owned)\n",
        huge.as_bytes(),
        b"\xef\xbb\xbf\r\n\r\n",
    ];
    let home = tempfile::tempdir().unwrap();
    for content in contents {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/os-release"), content).unwrap();
        let output = plan(root.path(), home.path(), &["--json"]);
        assert_eq!(output.status.code(), Some(1));
        assert_eq!(json_of(&output)["host"]["family"], "unsupported");
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_are_read_over() {
    let root = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    fs::create_dir_all(root.path().join("etc")).unwrap();
    fs::create_dir_all(root.path().join("usr/bin")).unwrap();
    fs::write(root.path().join("usr/bin/apt-get"), "").unwrap();
    let content = "\u{feff}ID=debian\r\nVERSION_ID=\"12\"\r\n";
    fs::write(root.path().join("etc/os-release"), content).unwrap();
    let document = json_of(&plan(root.path(), home.path(), &["--json"]));
    assert_eq!(document["host"]["id"], "debian");
    assert_eq!(document["host"]["version"], "12");
}

#[test]
fn links_that_leave_the_root_or_run_in_circles_lead_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let home = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    fs::create_dir(&etc).unwrap();
    std::os::unix::fs::symlink("/etc/os-release-of-this-machine", etc.join("os-release")).unwrap();
    std::os::unix::fs::symlink("circle", etc.join("circle")).unwrap();
    std::os::unix::fs::symlink(
        "../../../../../../../etc/debian_version",
        etc.join("redhat-release"),
    )
    .unwrap();
    let document = json_of(&plan(root.path(), home.path(), &["--json"]));
    assert_eq!(document["host"]["family"], "unsupported");
}

#[test]
fn a_root_that_is_not_there_is_told() {
    let home = tempfile::tempdir().unwrap();
    let output = plan(Path::new("/nowhere/at/all"), home.path(), &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
}

//! The images: both of deploy/Containerfile, made of the programs under test, and a PostgreSQL of Debian's that takes
//! the variables of the official image.

use std::fs;
use std::path::Path;

use crate::containers::engine::{Engine, target_folder};

pub const BASE: &str = "localhost/holistics-tunnel-test/base";
pub const SERVER: &str = "localhost/holistics-tunnel-test/server";
pub const BASTION: &str = "localhost/holistics-tunnel-test/bastion";
pub const POSTGRES: &str = "localhost/holistics-tunnel-test/postgres";

const POSTGRES_CONTAINERFILE: &str = include_str!("postgres.Containerfile");
const POSTGRES_START: &str = include_str!("postgres.sh");

/// Builds them all; what has not changed is kept by podman.
pub fn build(engine: &Engine, folder: &Path) {
    import_base(engine);
    let context = folder.join("context");
    let programs = context.join("target/dist/x86_64-unknown-linux-gnu");
    fs::create_dir_all(&programs).expect("a folder");
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    fs::create_dir_all(context.join("deploy")).expect("a folder");
    fs::copy(deploy.join("bastion.sh"), context.join("deploy/bastion.sh")).expect("a copy");
    let ignored = Path::new(env!("CARGO_MANIFEST_DIR")).join(".dockerignore");
    fs::copy(ignored, context.join(".dockerignore")).expect("a copy");
    for (name, program) in [
        ("holistics-tunnel", env!("CARGO_BIN_EXE_holistics-tunnel")),
        (
            "holistics-tunnel-server",
            env!("CARGO_BIN_EXE_holistics-tunnel-server"),
        ),
    ] {
        fs::copy(program, programs.join(name)).expect("a copy");
    }
    let file = deploy.join("Containerfile");
    for (target, image) in [("server", SERVER), ("bastion", BASTION)] {
        build_image(engine, &file, Some(target), image, &context);
    }
    let postgres = folder.join("postgres");
    fs::create_dir_all(&postgres).expect("a folder");
    fs::write(postgres.join("Containerfile"), POSTGRES_CONTAINERFILE).expect("a file");
    fs::write(postgres.join("postgres.sh"), POSTGRES_START).expect("a file");
    build_image(
        engine,
        &postgres.join("Containerfile"),
        None,
        POSTGRES,
        &postgres,
    );
}

/// In place of docker.io/library/debian:12-slim, which is not reached everywhere.
fn import_base(engine: &Engine) {
    if engine.podman(&["image", "exists", BASE]).code == 0 {
        return;
    }
    let base = target_folder().join("containers/base.tar");
    let base = base.to_str().expect("a path in UTF-8");
    engine.podman(&["import", base, BASE]).expect_code(0);
}

fn build_image(engine: &Engine, file: &Path, target: Option<&str>, image: &str, context: &Path) {
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let (file, context) = (text(file), text(context));
    let base = format!("BASE={BASE}");
    let mut arguments = vec![
        "build",
        "--format",
        "docker",
        "--layers",
        "--network",
        "host",
    ];
    arguments.extend(["--build-arg", &base, "--file", &file, "--tag", image]);
    if let Some(target) = target {
        arguments.extend(["--target", target]);
    }
    arguments.push(&context);
    engine.podman(&arguments).expect_code(0);
}

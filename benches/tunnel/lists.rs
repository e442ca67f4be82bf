//! What lists cost where there are many data sources.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use russh::client;
use russh::keys::{Algorithm, PrivateKey, PrivateKeyWithHashAlg};

use crate::Options;
use crate::control_plane::{ControlPlane, Installation};
use crate::figures::Figures;
use crate::idle::SmallClient;
use crate::report::{Report, mb, millis, number};

/// How many data sources there are.
const ALL: u32 = 100_000;
/// How many of them have a tunnel whose service is installed: as many as the ports allow, and some.
const SERVING: u32 = 40_000;
/// How many of those tunnels are up. Each has a socket.
const UP: u32 = 10_000;
/// How many tunnels a bastion has; as many as it may bring up without being slowed.
const OF_ONE_BASTION: u32 = 32;
const FIRST_PORT: u32 = 20_000;
const _: () = assert!(UP <= SERVING && SERVING <= ALL && FIRST_PORT + SERVING <= 60_000);

/// How often each is asked for in a turn.
const REQUESTS: usize = 20;

pub fn measure(options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let ours = PathBuf::from(env!("CARGO_BIN_EXE_holistics-tunnel-server"));
    measure_program(options, report, "ours", ours)?;
    if let Some(before) = std::env::var_os("BENCH_CONTROL_PLANE") {
        measure_program(options, report, "before", before.into())?;
    }
    Ok(())
}

fn measure_program(
    options: &Options,
    report: &mut Report,
    name: &str,
    program: PathBuf,
) -> anyhow::Result<()> {
    let installation = Installation::new(&program)?;
    let keys: Vec<_> = (0..UP.div_ceil(OF_ONE_BASTION))
        .map(|_| PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519))
        .collect::<Result<_, _>>()?;
    installation.fill(rows(&keys)?)?;
    // The first start after an update does what is done once.
    let first = installation.start(&[])?.start;
    let server = installation.start(&["--ports", "20000-59999"])?;
    let (at_start, _) = server.memory()?;
    let started = (first, server.start, at_start);
    let runtime = tokio::runtime::Runtime::new()?;
    let sessions = runtime.block_on(tunnels_up(keys, &server))?;
    requests(&installation, &server, options, report, name)?;
    drop(sessions);
    let mut table = report.table(
        &format!("{name}: the server with {ALL} data sources"),
        &[],
        &["value"],
    );
    let (_, most) = server.memory()?;
    table.row("first start, ms", &[millis(started.0.as_secs_f64())]);
    table.row("start, ms", &[millis(started.1.as_secs_f64())]);
    table.row("memory after start, MB", &[mb(started.2)]);
    table.row("most memory, MB", &[mb(most)]);
    Ok(())
}

/// Data sources of every kind: with a service, direct, waiting for their bastion.
fn rows(keys: &[PrivateKey]) -> anyhow::Result<String> {
    let mut rows =
        String::from("INSERT INTO keys (id, public_key, created_at) VALUES (1, 'none', 1)");
    for (bastion, key) in keys.iter().enumerate() {
        let key = key.public_key().to_openssh()?;
        rows.push_str(&format!(", ({}, '{}', 1)", bastion + 2, key.trim()));
    }
    rows.push_str(&format!(
        ";
         INSERT INTO data_sources (display_name, database_type, host, port, created_at, saved_at)
         WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ALL})
         SELECT 'Customer ' || i || ', sales', CASE i % 3 WHEN 0 THEN 'mysql' ELSE 'postgresql' END,
             'db' || (i % 97) || '.customer' || i || '.internal', 5432, i, CASE WHEN i % 10 THEN 1 END FROM n;
         INSERT INTO tunnels (data_source_id, key_id, remote_port, enrolled_with, enrolled_at, service_installed_at,
             last_seen_at)
         SELECT id, CASE WHEN place < {UP} THEN place / {OF_ONE_BASTION} + 2 ELSE 1 END, {FIRST_PORT} + place, x'00', 1, 1, 1
         FROM (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM data_sources WHERE id % 10 BETWEEN 1 AND 4)
         WHERE place < {SERVING};
         INSERT INTO tunnels (data_source_id) SELECT id FROM data_sources WHERE id % 10 = 0;
         INSERT INTO logins (data_source_id, database, username, tls, host, port, password)
         SELECT id, 'sales', 'reader', 'prefer', host, port, randomblob(44) FROM data_sources WHERE id % 10;"
    ));
    Ok(rows)
}

/// A session for each bastion, with its ports.
async fn tunnels_up(
    keys: Vec<PrivateKey>,
    server: &ControlPlane,
) -> anyhow::Result<Vec<client::Handle<SmallClient>>> {
    let config = Arc::new(client::Config::default());
    let mut sessions = Vec::new();
    let mut ports = FIRST_PORT..FIRST_PORT + UP;
    for key in keys {
        let config = Arc::clone(&config);
        let mut session = client::connect(config, &server.ssh, SmallClient).await?;
        let key = PrivateKeyWithHashAlg::new(Arc::new(key), None);
        let login = session.authenticate_publickey("tunnel", key).await?;
        ensure!(login.success(), "the key was refused");
        for port in ports.by_ref().take(OF_ONE_BASTION as usize) {
            session.tcpip_forward("127.0.0.1", port).await?;
        }
        sessions.push(session);
    }
    Ok(sessions)
}

fn requests(
    installation: &Installation,
    server: &ControlPlane,
    options: &Options,
    report: &mut Report,
    name: &str,
) -> anyhow::Result<()> {
    let token = format!("Authorization: Bearer {}\r\n", installation.token);
    let cookie = format!("Cookie: {}\r\n", installation.sign_in(server)?);
    let mut table = report.table(
        &format!("{name}: lists of {ALL} data sources, {SERVING} tunnels, {UP} of them up"),
        &["no request over 100 ms"],
        &["p50 ms", "p99 ms", "KB"],
    );
    for (what, path, header) in [
        ("API, first page", "/api/v1/data-sources", &token),
        ("API, 500 of them", "/api/v1/data-sources?limit=500", &token),
        (
            "API, a hit at the end",
            "/api/v1/data-sources?search=customer99999",
            &token,
        ),
        (
            "API, many hits",
            "/api/v1/data-sources?search=Sales",
            &token,
        ),
        ("API, no hit", "/api/v1/data-sources?search=nobody", &token),
        ("API, active", "/api/v1/data-sources?state=active", &token),
        ("API, down", "/api/v1/data-sources?state=down", &token),
        ("API, draft", "/api/v1/data-sources?state=draft", &token),
        (
            "API, enrolled: none",
            "/api/v1/data-sources?state=enrolled",
            &token,
        ),
        (
            "API, connected: none",
            "/api/v1/data-sources?state=connected",
            &token,
        ),
        ("API, saved", "/api/v1/data-sources?state=saved", &token),
        (
            "API, removing: none",
            "/api/v1/data-sources?state=removing",
            &token,
        ),
        (
            "API, a type: none",
            "/api/v1/data-sources?database_type=other",
            &token,
        ),
        ("page, first", "/data-sources", &cookie),
        ("page, no hit", "/data-sources?search=nobody", &cookie),
        ("page, many hits", "/data-sources?search=sales", &cookie),
        ("page, down", "/data-sources?state=down", &cookie),
        ("metrics", "/metrics", &token),
        ("ready", "/readyz", &token),
    ] {
        let (seconds, bytes) = ask(server, options, path, header).context(what)?;
        table.row(what, &cells(&seconds, bytes));
    }
    let last = "/api/v1/data-sources?limit=500";
    if let Some(deep) = last_page(server, last, &token)? {
        let (seconds, bytes) = ask(server, options, &deep, &token)?;
        table.row("API, the last page", &cells(&seconds, bytes));
    }
    Ok(())
}

fn cells(seconds: &Figures, bytes: usize) -> [crate::report::Cell; 3] {
    [
        millis(seconds.median()),
        millis(seconds.percentile(0.99)),
        number(bytes as f64 / 1e3, 1),
    ]
}

fn ask(
    server: &ControlPlane,
    options: &Options,
    path: &str,
    header: &str,
) -> anyhow::Result<(Figures, usize)> {
    let mut seconds = Figures::default();
    let mut bytes = 0;
    for _ in 0..options.turns * REQUESTS {
        let answer = server.get(path, header)?;
        ensure!(answer.head.contains(" 200 "), "{path}: {}", answer.head);
        seconds.push(answer.took.as_secs_f64());
        bytes = answer.body.len();
    }
    Ok((seconds, bytes))
}

/// Follows the links to the end; nothing if there are none.
fn last_page(server: &ControlPlane, first: &str, token: &str) -> anyhow::Result<Option<String>> {
    let mut page = None;
    let mut next = Some(first.to_owned());
    while let Some(path) = next {
        let answer = server.get(&path, token)?;
        let link = answer
            .head
            .lines()
            .find_map(|line| line.strip_prefix("link: <"));
        next = link.and_then(|link| Some(link.split_once('>')?.0.to_owned()));
        page = next.clone().or(page);
    }
    Ok(page)
}

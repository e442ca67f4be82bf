//! A customer's ClickHouse: a real one, with a port for HTTP and one for HTTPS.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::account::Account;
use super::hosts::certificate;
use super::ports;
use super::process::Running;
use super::sql::Login;
use super::workspace::Workspace;

const PROGRAM: &str = "/usr/sbin/clickhouse-server";
const START_LIMIT: Duration = Duration::from_secs(120);
const STOP_LIMIT: Duration = Duration::from_secs(20);
const READY: &str = "Ready for connections";

const USERS: &str = "
<yandex>
  <profiles><default/></profiles>
  <quotas><default/></quotas>
  <users>
    <reader>
      <password>open sesame</password>
      <networks><ip>127.0.0.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </reader>
    <stranger>
      <password>open sesame</password>
      <networks><ip>192.0.2.1</ip></networks>
      <profile>default</profile><quota>default</quota>
    </stranger>
  </users>
</yandex>
";

/// A running ClickHouse. `reader` may log in; `stranger` may not from here.
pub struct ClickHouse {
    http: u16,
    https: u16,
    native: u16,
    // The order of the fields is the order of the end: the process, then its folder.
    process: Running,
    _workspace: Workspace,
}

impl ClickHouse {
    /// Starts one.
    pub fn start() -> Self {
        let workspace = Workspace::new();
        let account = Account::for_a_database();
        let folder = workspace.path();
        account.give(folder);
        let (http, https, native) = (ports::free_port(), ports::free_port(), ports::free_port());
        configure(folder, &account, http, https, native);
        let process = start(folder, &account);
        process.wait_until("ClickHouse to take connections", START_LIMIT, || {
            process.output().contains(READY)
        });
        ClickHouse {
            http,
            https,
            native,
            process,
            _workspace: workspace,
        }
    }

    /// Its port of HTTP.
    pub fn http(&self) -> u16 {
        self.http
    }

    /// Its port of HTTPS.
    pub fn https(&self) -> u16 {
        self.https
    }

    /// Its port of its own protocol.
    pub fn native(&self) -> u16 {
        self.native
    }

    /// The reader's login.
    pub fn login(&self) -> Login {
        Login {
            database: "default".into(),
            username: "reader".into(),
            password: "open sesame".into(),
        }
    }
}

impl Drop for ClickHouse {
    fn drop(&mut self) {
        self.process.signal(Signal::TERM);
        let deadline = Instant::now() + STOP_LIMIT;
        while self.process.is_running() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn configure(folder: &Path, account: &Account, http: u16, https: u16, native: u16) {
    let certified = certificate::for_name("db.example", folder);
    account.give(&certified.key);
    let (certificate, key) = (certified.certificate.display(), certified.key.display());
    let folder_name = folder.display();
    let settings = format!(
        "
<yandex>
  <logger><level>information</level><console>1</console></logger>
  <listen_host>127.0.0.1</listen_host>
  <http_port>{http}</http_port>
  <https_port>{https}</https_port>
  <tcp_port>{native}</tcp_port>
  <path>{folder_name}/data/</path>
  <tmp_path>{folder_name}/tmp/</tmp_path>
  <user_files_path>{folder_name}/user_files/</user_files_path>
  <users_config>{folder_name}/users.xml</users_config>
  <default_profile>default</default_profile>
  <default_database>default</default_database>
  <mark_cache_size>1000000</mark_cache_size>
  <openSSL>
    <server>
      <certificateFile>{certificate}</certificateFile>
      <privateKeyFile>{key}</privateKeyFile>
      <verificationMode>none</verificationMode>
      <loadDefaultCAFile>false</loadDefaultCAFile>
    </server>
  </openSSL>
</yandex>
"
    );
    std::fs::write(folder.join("config.xml"), settings).expect("its settings");
    std::fs::write(folder.join("users.xml"), USERS).expect("its users");
}

fn start(folder: &Path, account: &Account) -> Running {
    assert!(
        Path::new(PROGRAM).exists(),
        "no {PROGRAM}: apt-get install clickhouse-server"
    );
    let mut server = Command::new(PROGRAM);
    server
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir(folder)
        .arg(format!(
            "--config-file={}",
            folder.join("config.xml").display()
        ));
    account.apply_to(&mut server);
    Running::start(&mut server, folder, "clickhouse")
}

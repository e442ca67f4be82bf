//! The journey on booted hosts: real users, real sudo, the host's own package manager and init.

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use holistics_tunnel::protocol::{DataSource, DataSourceState};
use support::hosts::disk::Disk;
use support::hosts::host::Host;
use support::hosts::host_lab::{AUTHORITY, HostLab, SETUP_LIMIT};
use support::hosts::image::Image;
use support::hosts::mirror::dnf_repository;
use support::lab::{SERVICE_LIMIT, token_of};
use support::process::{Finished, Running};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const ROLLED_BACK: i32 = 3;
const INTERRUPTED: i32 = 130;

const DNF_REPOSITORY: &str = "/etc/yum.repos.d/lab.repo";
const AUTOSSH_SOURCE: &str = "--autossh-source http://mirror.example/rpm/source/autossh-1.4g.tgz";

/// How long a tunnel may take to come back by itself.
const RETURN_LIMIT: Duration = Duration::from_secs(120);

// ---------------------------------------------------------------------------------------------
// Debian
// ---------------------------------------------------------------------------------------------

#[test]
fn debian_without_autossh_gets_it_by_apt_and_its_removal_leaves_packages_alone() {
    let lab = HostLab::boot(Image::Debian);
    let (disk, packages) = (Disk::of(&lab.host), packages(&lab.host));
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "");
    lab.wait_until_connected(&source, &setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    lab.host
        .run("ada", "sudo service h_autossh status")
        .expect_code(0);

    let installed: BTreeSet<_> = added(&packages, self::packages(&lab.host))
        .into_iter()
        .collect();
    for wanted in ["autossh", "curl", "openssh-client"] {
        assert!(installed.contains(wanted), "{wanted}: {installed:?}");
    }
    assert_eq!(packages_in_receipt(&lab.host), installed);

    let of_packages = files_of_packages(&lab.host, &installed);
    remove(&lab, &source).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        of_packages.contains(path) || is_left_by_purged_packages(path)
    });
}

#[test]
fn debian_with_autossh_is_set_up_by_the_generated_command_and_keeps_nothing_after_removal() {
    let lab = HostLab::boot(Image::DebianReady);
    let (disk, packages) = (Disk::of(&lab.host), packages(&lab.host));
    let source = lab.data_source("Shop");
    let setup = run_generated_command(&lab, &source);
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    assert_eq!(
        self::packages(&lab.host),
        packages,
        "something was installed"
    );
    assert_eq!(packages_in_receipt(&lab.host), BTreeSet::new());

    remove(&lab, &source).expect_code(0);
    assert_eq!(lab.state(&source), DataSourceState::Removed);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
}

#[test]
fn the_tunnel_comes_back_after_a_cut_line_a_reboot_and_a_power_cut() {
    let mut lab = HostLab::boot(Image::DebianReady);
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, "--key-type ed25519");
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);

    lab.network.cut_internet();
    lab.operator
        .wait_for_state(source.id, DataSourceState::Down, RETURN_LIMIT);
    let mended = Instant::now();
    lab.network.mend_internet();
    comes_back(&lab, &source, "a cut line", mended);

    let rebooted = Instant::now();
    lab.host.reboot();
    comes_back(&lab, &source, "the command to reboot", rebooted);

    lab.host.power_cut();
    let powered = Instant::now();
    lab.host.power_on();
    comes_back(&lab, &source, "the power's return", powered);
}

// ---------------------------------------------------------------------------------------------
// What apt may run into
// ---------------------------------------------------------------------------------------------

#[test]
fn a_mirror_that_cannot_be_reached_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.network.cut_mirror();
    setup_fails_without_a_trace(&lab).expect_words(&["mirror", "reach"]);

    lab.network.mend_mirror();
    setup_works(&lab, "");
}

#[test]
fn a_mirror_that_goes_away_after_its_lists_were_read_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    lab.network.cut_mirror();
    setup_fails_without_a_trace(&lab).expect_words(&["mirror", "reach"]);
}

#[test]
fn a_package_that_no_repository_has_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    let never = "Package: autossh\nPin: release *\nPin-Priority: -1\n";
    lab.host.write("/etc/apt/preferences.d/never", never);
    let packages = packages(&lab.host);
    // It was not known before that autossh cannot be compiled either: ssh and curl came and went.
    setup_fails(&lab, "", is_left_by_purged_packages).expect_words(&["autossh", "repository"]);
    assert_eq!(self::packages(&lab.host), packages);
}

#[test]
fn a_broken_repository_beside_the_good_one_does_not_matter() {
    let lab = HostLab::boot(Image::Debian);
    let broken = "deb http://mirror.example/nothing-here stable main\n";
    lab.host
        .write("/etc/apt/sources.list.d/broken.list", broken);
    setup_works(&lab, "");
}

#[test]
fn an_apt_lock_that_is_given_up_after_a_while_is_waited_for() {
    let lab = HostLab::boot(Image::Debian);
    let holder = hold_apt_s_locks(&lab.host, 15);
    setup_works(&lab, "");
    holder.wait(SERVICE_LIMIT).expect_code(0);
}

#[test]
fn an_apt_lock_that_is_never_given_up_is_named_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Debian);
    lab.host.run("root", "apt-get update").expect_code(0);
    let _holder = hold_apt_s_locks(&lab.host, 600);
    setup_fails_without_a_trace(&lab).expect_words(&["lock", "wait"]);
}

#[test]
fn ctrl_c_while_apt_works_leaves_the_host_as_before_and_the_next_run_works() {
    let lab = HostLab::boot(Image::Debian);
    let (disk, packages) = (Disk::of(&lab.host), packages(&lab.host));
    // Unpacking is made slow enough to be met in the middle.
    let slow = "DPkg::Pre-Invoke { \"sleep 4\"; };\n";
    lab.host.write("/etc/apt/apt.conf.d/slow", slow);
    let source = lab.data_source("Shop");
    let mut setup = lab.setup_at_terminal("ada", &source, "--key-type ed25519");
    setup.program().wait_for_output("Go on?", SETUP_LIMIT);
    setup.enter("y");
    setup
        .program()
        .wait_until("apt's download", SETUP_LIMIT, || {
            lab.host.run("root", "pgrep --exact sleep").code == 0
        });
    setup.press_ctrl_c();
    setup
        .wait(SETUP_LIMIT)
        .expect_code(INTERRUPTED)
        .expect_words(&["undone"]);
    std::fs::remove_file(lab.host.path("/etc/apt/apt.conf.d/slow")).expect("it is there");
    assert_eq!(self::packages(&lab.host), packages);
    disk.assert_same(&Disk::of(&lab.host), is_left_by_purged_packages);

    setup_works(&lab, "");
}

// ---------------------------------------------------------------------------------------------
// The Red Hat family
// ---------------------------------------------------------------------------------------------

#[test]
fn a_red_hat_host_gets_autossh_from_its_repository_by_dnf() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    let (disk, packages) = (Disk::of(&lab.host), rpm_packages(&lab.host));
    let source = setup_works(&lab, "");
    assert_eq!(added(&packages, rpm_packages(&lab.host)), ["autossh"]);
    let recorded = packages_in_receipt(&lab.host);
    assert!(
        recorded.iter().any(|name| name.starts_with("autossh")),
        "{recorded:?}"
    );

    remove(&lab, &source).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        path == "/usr/bin/autossh" || path.starts_with("/var/lib/rpm/")
    });
}

#[test]
fn a_red_hat_host_whose_repositories_lack_autossh_compiles_it_from_its_source() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("without-autossh"));
    let (disk, packages) = (Disk::of(&lab.host), rpm_packages(&lab.host));
    let began = Instant::now();
    let source = setup_works(&lab, AUTOSSH_SOURCE);
    println!(
        "compiled and set up in {:.1} s",
        began.elapsed().as_secs_f64()
    );
    lab.host
        .run("ada", "/usr/local/bin/autossh -V")
        .expect_code(0)
        .expect_words(&["1.4g"]);
    assert_eq!(rpm_packages(&lab.host), packages, "the compiler has stayed");

    remove(&lab, &source).expect_code(0);
    disk.assert_same(&Disk::of(&lab.host), |path| {
        path.starts_with("/var/lib/rpm/")
    });
}

#[test]
fn a_source_that_is_not_autossh_s_is_not_compiled_and_the_host_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("without-autossh"));
    let wrong = "--autossh-source http://mirror.example/debian/Packages";
    setup_fails_on_rpm_without_a_trace(&lab, wrong).expect_words(&["SHA-256"]);
}

#[test]
fn a_red_hat_host_without_a_compiler_to_be_had_is_told_so_and_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    let mut repository = dnf_repository("without-autossh");
    repository.push_str("excludepkgs=gcc\n");
    lab.host.write(DNF_REPOSITORY, &repository);
    setup_fails_on_rpm_without_a_trace(&lab, AUTOSSH_SOURCE).expect_words(&["gcc"]);
}

#[test]
fn a_red_hat_host_that_cannot_reach_its_mirror_is_told_so_and_is_as_before() {
    let lab = HostLab::boot(Image::Rpm);
    lab.host
        .write(DNF_REPOSITORY, dnf_repository("with-autossh"));
    lab.network.cut_mirror();
    setup_fails_on_rpm_without_a_trace(&lab, AUTOSSH_SOURCE).expect_words(&["mirror", "reach"]);
}

// ---------------------------------------------------------------------------------------------
// Who may do it
// ---------------------------------------------------------------------------------------------

#[test]
fn a_user_without_sudo_is_told_the_command_to_run_and_nothing_is_changed() {
    let lab = HostLab::boot(Image::Debian);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    lab.run_setup("bob", &source, "")
        .expect_code(USAGE)
        .expect_words(&["sudo", "bob"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

#[test]
fn a_user_whose_sudo_asks_for_a_password_is_asked_once_at_the_terminal() {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    lab.run_setup("carol", &source, "")
        .expect_code(USAGE)
        .expect_words(&["sudo true"]);

    let mut setup = lab.setup_at_terminal("carol", &source, "--yes --key-type ed25519");
    let screen = setup.program();
    screen.wait_for_output("Password of carol", SETUP_LIMIT);
    setup.enter("open sesame");
    lab.wait_until_connected(&source, setup.program());
    lab.operator.save(source.id);
    let finished = setup.wait(SETUP_LIMIT).expect_code(0);
    assert_eq!(
        finished.output().matches("Password").count(),
        1,
        "{finished}"
    );
    assert!(!finished.output().contains("sesame"), "{finished}");
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
}

#[test]
fn sudo_in_front_of_setup_is_refused_with_the_user_to_use() {
    let lab = HostLab::boot(Image::Debian);
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let line = lab
        .setup_line(&source, "--yes")
        .replace("exec ", "sudo -E ");
    lab.host
        .run("ada", &line)
        .expect_code(USAGE)
        .expect_words(&["ada", "without sudo"]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
}

// ---------------------------------------------------------------------------------------------

/// The command that the server generated, as ada types it, with the lab's own authority.
fn run_generated_command(lab: &HostLab, source: &DataSource) -> Running {
    let generated = &source.enrollment.as_ref().expect("a command").command;
    let line =
        format!("export CURL_CA_BUNDLE={AUTHORITY}; {generated} -s -- --yes --ca-cert {AUTHORITY}");
    lab.host.start("ada", &line)
}

/// The removal, from the browser's "Delete" to the end of its command.
fn remove(lab: &HostLab, source: &DataSource) -> Finished {
    let command = lab.operator.delete(source.id).command;
    let line = format!(
        "export CURL_CA_BUNDLE={AUTHORITY} HOLISTICS_TUNNEL_CA_CERT={AUTHORITY}; {command}"
    );
    lab.host.run("ada", &line)
}

// ---------------------------------------------------------------------------------------------
// Hosts that setup does not know
// ---------------------------------------------------------------------------------------------

#[test]
fn a_host_that_setup_does_not_know_gets_the_guide_and_is_as_before() {
    let lab = HostLab::boot(Image::DebianReady);
    lab.host
        .write("/etc/os-release", "ID=plan9\nPRETTY_NAME=\"Plan 9\"\n");
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let target = format!("{}:{}", source.host, source.port);
    lab.run_setup("ada", &source, "")
        .expect_code(FAILED)
        .expect_words(&["Plan 9", "By hand on Linux", &target, &lab.server.url]);
    disk.assert_same(&Disk::of(&lab.host), |_| false);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
}

// ---------------------------------------------------------------------------------------------
// How long it takes
// ---------------------------------------------------------------------------------------------

/// `scripts/bench setup` runs this: a fresh Debian up to its temporary tunnel, by setup and by the
/// bare commands in a shell script, in turn.
#[test]
#[ignore = "a measurement, which proves nothing: scripts/bench setup"]
fn setup_against_the_bare_commands() {
    const ROUNDS: usize = 3;
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.push(time_of_bare_commands());
        ours.push(time_of_setup());
    }
    let (ours, bare) = (median(ours), median(bare));
    println!(
        "setup {ours:.1} s, the bare commands {bare:.1} s (medians of {ROUNDS}): ratio {:.2}",
        ours / bare
    );
}

fn time_of_setup() -> f64 {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    let begun = Instant::now();
    let setup = lab.start_setup("ada", &source, "--key-type ed25519");
    lab.wait_until_connected(&source, &setup);
    begun.elapsed().as_secs_f64()
}

fn time_of_bare_commands() -> f64 {
    let lab = HostLab::boot(Image::Debian);
    let source = lab.data_source("Shop");
    let script = bare_commands(&lab, &source);
    let begun = Instant::now();
    lab.host.run("ada", &script).expect_code(0);
    let elapsed = begun.elapsed().as_secs_f64();
    assert_eq!(lab.state(&source), DataSourceState::Connected);
    elapsed
}

/// What an administrator would type who knows it all beforehand.
fn bare_commands(lab: &HostLab, source: &DataSource) -> String {
    let (api, token) = (
        format!("{}/api/v1/enrollment", lab.server.url),
        token_of(source),
    );
    let target = format!("{}:{}", source.host, source.port);
    format!(
        r#"set -e
        export DEBIAN_FRONTEND=noninteractive
        sudo apt-get -q update
        sudo apt-get -q install -y --no-install-recommends curl autossh openssh-client
        mkdir -m 0700 bare
        ssh-keygen -q -t ed25519 -N '' -f bare/id
        answer=$(curl -fsS --cacert {AUTHORITY} -X PUT {api}/public-key -H 'Authorization: Bearer {token}' \
            -H 'Content-Type: application/json' \
            -d "{{\"public_key\": \"$(cat bare/id.pub)\", \"hostname\": \"b\", \"os\": \"b\", \"user\": \"ada\"}}")
        word() {{ printf '%s' "$answer" | sed -n "s/.*\"$1\":\"\{{0,1\}}\([^\",}}]*\).*/\1/p"; }}
        ssh -f -M -S bare/socket -NT -i bare/id -o StrictHostKeyChecking=no -o UserKnownHostsFile=bare/known \
            -o ExitOnForwardFailure=yes -E bare/log -p "$(word port)" \
            -R "127.0.0.1:$(word remote_port):{target}" "tunnel@$(word host)"
        curl -fsS --cacert {AUTHORITY} -X POST {api}/tunnel-up -H 'Authorization: Bearer {token}'
        "#
    )
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// The whole of setup by ada, to a query through the service's tunnel.
#[track_caller]
fn setup_works(lab: &HostLab, arguments: &str) -> DataSource {
    let source = lab.data_source("Shop");
    let setup = lab.start_setup("ada", &source, &format!("--key-type ed25519 {arguments}"));
    lab.wait_until_connected(&source, &setup);
    lab.save_and_finish(&source, setup);
    lab.wait_until_rows_come(&source, SERVICE_LIMIT);
    source
}

/// Setup by ada that rolls back: the disk and the data source are as before.
#[track_caller]
fn setup_fails_without_a_trace(lab: &HostLab) -> Finished {
    setup_fails(lab, "", |_| false)
}

/// The same where RPM's database, a binary file, may hold the same packages in another order.
#[track_caller]
fn setup_fails_on_rpm_without_a_trace(lab: &HostLab, arguments: &str) -> Finished {
    let packages = rpm_packages(&lab.host);
    let finished = setup_fails(lab, arguments, |path| path.starts_with("/var/lib/rpm/"));
    assert_eq!(rpm_packages(&lab.host), packages);
    finished
}

#[track_caller]
fn setup_fails(lab: &HostLab, arguments: &str, may_change: fn(&str) -> bool) -> Finished {
    let disk = Disk::of(&lab.host);
    let source = lab.data_source("Shop");
    let finished = lab
        .run_setup("ada", &source, &format!("--key-type ed25519 {arguments}"))
        .expect_code(ROLLED_BACK);
    disk.assert_same(&Disk::of(&lab.host), may_change);
    assert_eq!(lab.state(&source), DataSourceState::Draft);
    finished
}

fn comes_back(lab: &HostLab, source: &DataSource, after: &str, since: Instant) {
    lab.wait_until_rows_come(source, RETURN_LIMIT);
    println!(
        "after {after}: rows in {:.1} s",
        since.elapsed().as_secs_f64()
    );
}

/// The packages that dpkg has installed.
fn packages(host: &Host) -> BTreeSet<String> {
    lines(host, "dpkg-query --show --showformat '${Package}\\n'")
}

/// The packages in RPM's database.
fn rpm_packages(host: &Host) -> BTreeSet<String> {
    lines(host, "rpm --query --all --queryformat '%{NAME}\\n'")
}

fn added(before: &BTreeSet<String>, after: BTreeSet<String>) -> Vec<String> {
    after.difference(before).cloned().collect()
}

/// What the receipt says that setup installed.
fn packages_in_receipt(host: &Host) -> BTreeSet<String> {
    let receipt = host.read("/home/ada/.holistics/receipt.json");
    let receipt: serde_json::Value = serde_json::from_str(&receipt).expect("JSON");
    let steps = receipt["steps"].as_array().expect("a list of steps");
    steps
        .iter()
        .flat_map(|step| step["changes"].as_array().expect("a list of changes"))
        .filter(|change| change["change"] == "packages_installed")
        .flat_map(|change| change["packages"].as_array().expect("a list of packages"))
        .map(|package| package.as_str().expect("a name").to_owned())
        .collect()
}

/// Every path that installing these packages makes or changes.
fn files_of_packages(host: &Host, packages: &BTreeSet<String>) -> BTreeSet<String> {
    let names: Vec<_> = packages.iter().map(String::as_str).collect();
    lines(
        host,
        &format!(
            "dpkg-query --listfiles {}; find /var/lib/dpkg /etc/alternatives; echo /etc/ld.so.cache",
            names.join(" ")
        ),
    )
}

/// openssh-client makes a group, which Debian's packages never take back; and dpkg remembers that
/// packages were there.
fn is_left_by_purged_packages(path: &str) -> bool {
    const GROUPS: [&str; 4] = ["/etc/group", "/etc/group-", "/etc/gshadow", "/etc/gshadow-"];
    GROUPS.contains(&path) || path.starts_with("/var/lib/dpkg/status")
}

/// Takes the locks of apt and dpkg for some seconds, as another apt does.
fn hold_apt_s_locks(host: &Host, seconds: u32) -> Running {
    // A lock of fcntl, all of the file, from its start.
    const HOLD: &str = r#"
        use Fcntl qw(:DEFAULT :seek);
        for my $file (@ARGV) {
            my $lock = pack("s! s! l! l! i", F_WRLCK, SEEK_SET, 0, 0, 0);
            open($held{$file}, ">", $file) and fcntl($held{$file}, F_SETLK, $lock) or die $file;
        }
        $| = 1;
        print "held\n";
        sleep "#;
    let program = format!("{HOLD}{seconds}");
    let program = shell_words::quote(&program);
    let holder = host.start(
        "root",
        &format!(
            "exec perl -e {program} /var/lib/apt/lists/lock /var/lib/dpkg/lock-frontend \
             /var/lib/dpkg/lock"
        ),
    );
    holder.wait_for_output("held", SERVICE_LIMIT);
    holder
}

fn lines(host: &Host, line: &str) -> BTreeSet<String> {
    let output = host.run("root", line).expect_code(0).stdout;
    output.lines().map(str::to_owned).collect()
}

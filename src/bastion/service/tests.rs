//! Several users of one host, on a host in memory.

use std::path::{Path, PathBuf};

use super::tunnel_file::example;
use super::*;
use crate::bastion::control_plane::Given;
use crate::bastion::host::scripted::ScriptedHost;
use crate::bastion::receipt::{Scope, StepName};
use crate::bastion::run::Run;

const UMBRELLA: &str = "/etc/systemd/system/h_autossh.service";
const INSTANCES: &str = "/etc/systemd/system/h_autossh@.service";
const SCRIPT: &str = "/etc/init.d/h_autossh";

const START_ALONE: &str = "sudo systemctl start --job-mode ignore-dependencies h_autossh.service";
const ENABLED: [&str; 2] = ["sudo systemctl enable h_autossh.service", START_ALONE];
const RELOAD: &str = "sudo systemctl daemon-reload";

fn host() -> ScriptedHost {
    let host = ScriptedHost::new();
    for dir in [
        "/etc",
        "/etc/init.d",
        "/etc/systemd",
        "/etc/systemd/system",
        "/run",
        "/var",
        "/var/run",
    ] {
        put_dir(&host, dir);
    }
    host
}

fn put_dir(host: &ScriptedHost, dir: &str) {
    host.create_dir(Path::new(dir), 0o755, Authority::User)
        .unwrap();
}

fn put(host: &ScriptedHost, path: &str, content: &str) {
    host.write(Path::new(path), content.as_bytes(), 0o644, Authority::User)
        .unwrap();
}

fn content(host: &ScriptedHost, path: &str) -> Option<String> {
    let content = host.read_if_present(Path::new(path)).unwrap()?;
    Some(String::from_utf8(content).unwrap())
}

fn name(text: &str) -> TunnelName {
    text.parse().unwrap()
}

fn tunnel(host: &ScriptedHost, slug: &str) -> ServiceTunnel {
    let user = host.user();
    let layout = Layout::new(host, Path::new("/"));
    ServiceTunnel {
        id: name(slug),
        user: user.name.clone(),
        log: layout.tunnel_log(name(slug)),
        ..example(&user.home.to_string_lossy())
    }
}

/// A run of the user who is logged in; the receipt as it is then.
fn run<T>(host: &ScriptedHost, act: impl FnOnce(&mut StepContext) -> T) -> (T, Vec<Change>) {
    let layout = Layout::new(host, Path::new("/"));
    let ui = Ui::new(false, true, true);
    let mut run = Run::begin(host, &ui, layout, Given::default()).unwrap();
    let done = act(&mut run.context(Scope::Host, StepName::Service));
    let changes = run.changes_of(Scope::Host, StepName::Service);
    // What the run itself has left is not what these tests look at.
    host.remove_file(&run.layout.receipt(), Authority::User)
        .unwrap();
    // Where a test has put something there, the folder stays.
    let _ = host.remove_dir(&run.layout.user_dir(), Authority::User);
    (done, changes)
}

/// What systemd is told to start a tunnel, now and at boot.
fn expect_start(host: &ScriptedHost, slug: &str) {
    let unit = format!("h_autossh@{slug}.service");
    expect_start_after(
        host,
        &format!("sudo systemctl enable h_autossh.service {unit}"),
        slug,
    );
}

fn expect_start_after(host: &ScriptedHost, read_anew: &str, slug: &str) {
    let restart = format!("sudo systemctl restart h_autossh@{slug}.service");
    host.expect_all(&[read_anew, START_ALONE, &restart]);
}

/// What a first setup under systemd runs.
fn set_up_under_systemd(host: &ScriptedHost, slug: &str, is_first: bool) {
    if !is_first {
        host.expect_all(&ENABLED);
    }
    expect_start(host, slug);
    let tunnel = tunnel(host, slug);
    run(host, |work| {
        assert_eq!(systemd::Systemd.install(work, None).unwrap(), is_first);
        systemd::Systemd
            .add(work, &tunnel, AtBoot::Enabled)
            .unwrap();
    });
    assert!(host.is_finished());
}

fn set_up_under_sysv(host: &ScriptedHost, slug: &str) -> Vec<Change> {
    let restart = format!("sudo /etc/init.d/h_autossh restart {slug}");
    host.expect_all(&["sudo update-rc.d h_autossh defaults", &restart]);
    let tunnel = tunnel(host, slug);
    let (_, changes) = run(host, |work| {
        sysv::Sysv.install(work, None).unwrap();
        sysv::Sysv.add(work, &tunnel, AtBoot::Enabled).unwrap();
    });
    assert!(host.is_finished());
    changes
}

/// Removes a tunnel of the user who is logged in, and what is shared with the last one.
fn remove(host: &ScriptedHost, manager: &dyn ServiceManager, slug: &str) {
    let layout = Layout::new(host, Path::new("/"));
    let ui = Ui::new(false, true, true);
    undo_tunnel_started(manager, host, &layout, name(slug)).unwrap();
    remove_tunnel(manager, host, &ui, &layout, name(slug)).unwrap();
    undo_installed(manager, host, &ui, &layout).unwrap();
    assert!(host.is_finished());
}

fn paths_below(host: &ScriptedHost, dirs: &[&str]) -> Vec<String> {
    let mut paths = host.paths();
    paths.retain(|path| dirs.iter().any(|dir| path.contains(dir)));
    paths
}

#[test]
fn a_second_user_changes_nothing_of_the_first_one_s_and_no_shared_file_names_a_user() {
    let mut host = host();
    set_up_under_systemd(&host, "bi.example.com-7", true);
    let shared = [content(&host, UMBRELLA), content(&host, INSTANCES)];
    for unit in &shared {
        let unit = unit.as_ref().unwrap();
        assert!(!unit.contains("ada") && !unit.contains("/home"), "{unit}");
    }
    let own = "/etc/systemd/system/h_autossh@bi.example.com-7.service.d/tunnel.conf";
    let first = content(&host, own).unwrap();
    assert!(first.contains("\nUser=ada\n"), "{first}");
    let logs = "\nReadWritePaths=/home/ada/.holistics/logs\n";
    assert!(first.contains(logs), "{first}");

    host.log_in("bob");
    set_up_under_systemd(&host, "bi.example.com-8", false);
    assert_eq!(content(&host, own).unwrap(), first);
    assert_eq!(
        [content(&host, UMBRELLA), content(&host, INSTANCES)],
        shared
    );
    let second = "/etc/systemd/system/h_autossh@bi.example.com-8.service.d/tunnel.conf";
    assert!(content(&host, second).unwrap().contains("\nUser=bob\n"));
    assert_eq!(host.changed_unlocked(), [] as [PathBuf; 0]);
}

#[test]
fn the_shared_units_go_with_the_last_tunnel_of_anybody() {
    let mut host = host();
    let before = host.paths();
    set_up_under_systemd(&host, "bi.example.com-7", true);
    host.log_in("bob");
    set_up_under_systemd(&host, "bi.example.com-8", false);

    let ended = |slug: &str| {
        ["stop", "disable", "reset-failed"]
            .map(|action| format!("sudo systemctl {action} h_autossh@{slug}.service"))
    };
    let ended = |host: &ScriptedHost, slug: &str| {
        host.expect_all(&ended(slug).each_ref().map(String::as_str));
    };
    ended(&host, "bi.example.com-8");
    remove(&host, &systemd::Systemd, "bi.example.com-8");
    assert!(content(&host, UMBRELLA).is_some() && content(&host, INSTANCES).is_some());
    assert_eq!(paths_below(&host, &["-8"]), [] as [String; 0]);

    host.log_in("ada");
    ended(&host, "bi.example.com-7");
    let umbrella =
        ["stop", "disable"].map(|action| format!("sudo systemctl {action} h_autossh.service"));
    host.expect_all(&umbrella.each_ref().map(String::as_str));
    host.expect_all(&[RELOAD]);
    remove(&host, &systemd::Systemd, "bi.example.com-7");
    let mut left = host.paths();
    left.retain(|path| !path.ends_with("/home/bob/"));
    assert_eq!(left, before);
    assert_eq!(host.changed_unlocked(), [] as [PathBuf; 0]);
}

#[test]
fn the_init_script_goes_with_the_last_tunnel_of_anybody() {
    let mut host = host();
    host.install("update-rc.d");
    let before = host.paths();
    set_up_under_sysv(&host, "bi.example.com-7");
    let script = content(&host, SCRIPT).unwrap();
    host.log_in("bob");
    let changes = set_up_under_sysv(&host, "bi.example.com-8");
    // Bob's may be the last one.
    assert!(changes.contains(&Change::ServiceInstalled), "{changes:?}");
    assert_eq!(content(&host, SCRIPT).unwrap(), script);

    host.expect_all(&["sudo /etc/init.d/h_autossh stop bi.example.com-8"]);
    remove(&host, &sysv::Sysv, "bi.example.com-8");
    assert_eq!(content(&host, SCRIPT).unwrap(), script);

    host.log_in("ada");
    host.expect_all(&["sudo /etc/init.d/h_autossh stop bi.example.com-7"]);
    host.expect_all(&["sudo update-rc.d -f h_autossh remove"]);
    remove(&host, &sysv::Sysv, "bi.example.com-7");
    let mut left = host.paths();
    left.retain(|path| !path.ends_with("/home/bob/"));
    assert_eq!(left, before);
    assert_eq!(host.changed_unlocked(), [] as [PathBuf; 0]);
}

#[test]
fn what_is_somebody_else_s_under_our_names_is_refused_and_not_touched() {
    for path in [UMBRELLA, INSTANCES] {
        let host = host();
        put(&host, path, "[Service]\nExecStart=/opt/theirs\n");
        let before = host.paths();
        let layout = Layout::new(&host, Path::new("/"));
        let refused = systemd::Systemd.check(&host, &layout).unwrap_err();
        assert!(refused.to_string().contains(path), "{refused}");
        let (installed, changes) = run(&host, |work| systemd::Systemd.install(work, None));
        assert!(installed.unwrap_err().to_string().contains(path));
        assert_eq!(changes, []);
        // Nor by a removal that finds it there.
        let ui = Ui::new(false, true, true);
        host.expect_all(&[RELOAD]);
        undo_installed(&systemd::Systemd, &host, &ui, &layout).unwrap();
        assert_eq!(host.paths(), before);
        assert_eq!(
            content(&host, path).unwrap(),
            "[Service]\nExecStart=/opt/theirs\n"
        );
    }
}

#[test]
fn an_upgrade_gives_everybody_s_tunnel_its_own_user_before_the_shared_unit_goes() {
    let mut host = host();
    put_dir(&host, "/etc/h_autossh");
    for (user, number) in [("ada", "7"), ("bob", "8")] {
        host.log_in(user);
        let former = tunnel(&host, number).render().unwrap();
        put(&host, &format!("/etc/h_autossh/{number}.env"), &former);
    }
    put(&host, "/etc/h_autossh/9.env", "H_AUTOSSH_USER=root\n");
    let former = format!("# {MARKER}. Each tunnel is one file\n[Service]\nUser=bob\n");
    put(&host, INSTANCES, &former);
    put(&host, UMBRELLA, &format!("# {MARKER}\n"));

    host.log_in("carol");
    // When systemd reads the units again, everything is there. Nothing is restarted.
    host.expect_all(&ENABLED[..1]);
    host.doing(|host| {
        for (user, number) in [("ada", "7"), ("bob", "8")] {
            let path = format!("/etc/systemd/system/h_autossh@{number}.service.d/tunnel.conf");
            let drop_in = content(host, &path).unwrap();
            assert!(drop_in.contains(&format!("\nUser={user}\n")), "{drop_in}");
            let logs = format!("\nReadWritePaths=/home/{user}/.holistics/logs\n");
            assert!(drop_in.contains(&logs), "{drop_in}");
        }
    });
    host.expect_all(&ENABLED[1..]);
    run(&host, |work| systemd::Systemd.install(work, None).unwrap());
    assert!(host.is_finished());
    assert!(!content(&host, INSTANCES).unwrap().contains("bob"));
    assert_eq!(paths_below(&host, &["h_autossh@9"]), [] as [String; 0]);
    assert_eq!(host.changed_unlocked(), [] as [PathBuf; 0]);
}

#[test]
fn a_former_tunnel_passes_to_its_new_name_and_is_down_for_one_start() {
    let host = host();
    put_dir(&host, "/etc/h_autossh");
    put_dir(&host, "/home/ada/.holistics");
    put_dir(&host, "/home/ada/.holistics/logs");
    put(&host, "/home/ada/.holistics/logs/tunnel-7.log", "former");
    let former = tunnel(&host, "7").render().unwrap();
    put(&host, "/etc/h_autossh/7.env", &former);
    put(
        &host,
        INSTANCES,
        &format!("# {MARKER}\n[Service]\nUser=ada\n"),
    );
    put(&host, UMBRELLA, &format!("# {MARKER}\n"));
    host.expect_all(&[
        "sudo systemctl stop h_autossh@7.service",
        "sudo systemctl disable h_autossh@7.service",
        "sudo systemctl reset-failed h_autossh@7.service",
        "mv -n -- /home/ada/.holistics/logs/tunnel-7.log /home/ada/.holistics/logs/tunnel-bi.example.com-7.log",
    ]);
    // Whether the service itself starts at boot stays as it is.
    let enable = "sudo systemctl enable h_autossh@bi.example.com-7.service";
    expect_start_after(&host, enable, "bi.example.com-7");
    let named = tunnel(&host, "bi.example.com-7");
    let (_, changes) = run(&host, |work| {
        systemd::Systemd.rename(work, name("7"), &named).unwrap();
    });
    assert!(host.is_finished());
    // They are for the way back.
    assert!(content(&host, "/etc/h_autossh/7.env").is_some());
    let new = PathBuf::from("/etc/h_autossh/bi.example.com-7.env");
    assert!(host.exists(&new));
    assert!(changes.contains(&Change::FileCreated {
        path: new,
        authority: Authority::Root
    }));
    assert_eq!(host.changed_unlocked(), [] as [PathBuf; 0]);
}

#[test]
fn a_user_who_is_not_root_governs_no_tunnel_of_another_s() {
    let mut host = host();
    host.install("update-rc.d");
    set_up_under_systemd(&host, "bi.example.com-7", true);
    let layout = Layout::new(&host, Path::new("/"));
    let own = [name("bi.example.com-7")];
    host.expect_all(&["sudo systemctl stop h_autossh.service"]);
    systemd::Systemd
        .control(&host, &layout, &own, Action::Stop)
        .unwrap();

    host.log_in("bob");
    let layout = Layout::new(&host, Path::new("/"));
    let own = [name("bi.example.com-8")];
    host.expect_all(&[
        "sudo systemctl stop h_autossh@bi.example.com-8.service",
        "sudo /etc/init.d/h_autossh restart bi.example.com-8",
    ]);
    systemd::Systemd
        .control(&host, &layout, &own, Action::Stop)
        .unwrap();
    sysv::Sysv
        .control(&host, &layout, &own, Action::Restart)
        .unwrap();
    assert!(host.is_finished());
}

#[test]
fn one_tunnel_is_restarted_and_its_siblings_are_not() {
    let host = host();
    let layout = Layout::new(&host, Path::new("/"));
    host.expect_all(&[
        "sudo systemctl restart h_autossh@bi.example.com-7.service",
        "sudo /etc/init.d/h_autossh restart bi.example.com-7",
    ]);
    let managers: [&dyn ServiceManager; 2] = [&systemd::Systemd, &sysv::Sysv];
    for manager in managers {
        let tunnel = name("bi.example.com-7");
        manager.restart_one(&host, &layout, tunnel).unwrap();
    }
    assert!(host.is_finished());
}

#[test]
fn a_change_of_a_tunnel_leaves_the_start_at_boot_as_it_is_but_for_what_was_gone() {
    const SLUG: &str = "bi.example.com-7";
    let host = host();
    set_up_under_systemd(&host, SLUG, true);
    let tunnel = tunnel(&host, SLUG);
    let change = |gone: &[&str], read_anew: &str| {
        for file in gone {
            host.remove_file(Path::new(file), Authority::User).unwrap();
        }
        expect_start_after(&host, read_anew, SLUG);
        let as_it_is = AtBoot::AsItIs;
        run(&host, |work| {
            systemd::Systemd.add(work, &tunnel, as_it_is).unwrap();
        });
        assert!(host.is_finished());
        for file in gone {
            assert!(content(&host, file).is_some(), "{file}");
        }
    };
    change(&[], RELOAD);
    let instance = "h_autossh@bi.example.com-7.service";
    change(
        &["/etc/h_autossh/bi.example.com-7.env"],
        &format!("sudo systemctl enable {instance}"),
    );
    // Such as by another user's last removal.
    change(
        &[UMBRELLA, INSTANCES],
        &format!("sudo systemctl enable h_autossh.service {instance}"),
    );
}

#[test]
fn a_script_that_was_moved_aside_comes_back_with_the_last_tunnel_of_anybody() {
    let mut host = host();
    host.install("update-rc.d");
    put(&host, SCRIPT, "#!/bin/sh\n# theirs\n");
    let layout = Layout::new(&host, Path::new("/"));
    let found = foreign::find(&host, &layout).unwrap().unwrap();
    let moved = |from: &'static str, to: &'static str| {
        move |host: &ScriptedHost| {
            let theirs = content(host, from).unwrap();
            put(host, to, &theirs);
            host.remove_file(Path::new(from), Authority::User).unwrap();
        }
    };
    const KEPT: &str = "/etc/h_autossh.replaced";
    host.expect_all(&["sudo /etc/init.d/h_autossh stop"]);
    host.expect_all(&["sudo mv -n -- /etc/init.d/h_autossh /etc/h_autossh.replaced"]);
    host.doing(moved(SCRIPT, KEPT));
    host.expect_all(&[
        "sudo update-rc.d -f h_autossh remove",
        "sudo update-rc.d h_autossh defaults",
    ]);
    let (_, changes) = run(&host, |work| {
        sysv::Sysv.install(work, Some(&found)).unwrap()
    });
    let replaced = &changes[0];
    assert!(
        matches!(replaced, Change::ServiceReplaced { .. }),
        "{changes:?}"
    );

    host.log_in("bob");
    set_up_under_sysv(&host, "bi.example.com-8");
    // Ada, who had moved it, leaves first.
    let ui = Ui::new(false, true, true);
    undo_installed(&sysv::Sysv, &host, &ui, &layout).unwrap();
    assert!(!undo_replaced(&sysv::Sysv, &host, &ui, &layout, replaced).unwrap());
    assert!(content(&host, KEPT).is_some());

    host.expect_all(&["sudo /etc/init.d/h_autossh stop bi.example.com-8"]);
    host.expect_all(&["sudo update-rc.d -f h_autossh remove"]);
    host.expect_all(&["sudo mv -n -- /etc/h_autossh.replaced /etc/init.d/h_autossh"]);
    host.doing(moved(KEPT, SCRIPT));
    remove(&host, &sysv::Sysv, "bi.example.com-8");
    assert_eq!(content(&host, SCRIPT).unwrap(), "#!/bin/sh\n# theirs\n");
    assert_eq!(paths_below(&host, &["/etc/h_autossh"]), [] as [String; 0]);
}

//! The change of the key pair that all tunnels of this user share.
//!
//! The new pair is made beside the present one and announced for every tunnel, so that both open
//! it. Then the new key takes the present one's place by one rename, and the tunnels are restarted
//! one after another. Only when each has come up with the new key is the old one ended, on the
//! tunnel server and here. Wherever a run dies, the key that stands on this host opens every
//! tunnel, and the next run goes on from there. What a run asks and says stands in
//! `commands::rotate_key`.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::changes::Change;
use super::control_plane::{ApiError, ControlPlane, is_gone};
use super::failure::Failure;
use super::host::{Authority, CommandError, Host, HostExt as _};
use super::receipt::{Phase, Receipt, Rotation, Scope, StepName, StepState};
use super::restart::{self, Seen, UP_TIMEOUT, insist, not_seen, wait_until_up};
use super::service::ServiceManager;
use super::session::Session;
use super::ssh::keys;
use super::steps::service_tunnel;
use crate::bastion::tunnel_name::TunnelName;
use crate::protocol::Tunnel;

/// How long a control plane that is away may hold up a single call.
const CALL_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A tunnel whose key is changed, with the control plane that knows it.
pub struct Member {
    /// The tunnel.
    pub id: TunnelName,
    /// Its control plane.
    pub client: ControlPlane,
}

/// Why a change stopped.
pub enum Stop {
    /// It cannot go on, and the present key has to be put back.
    Refused(anyhow::Error),
    /// It can go on later.
    Later(anyhow::Error),
}

/// Refuses what would meet a change of the key pair half-way.
///
/// # Errors
/// One is under way.
pub fn refuse_unfinished(receipt: &Receipt) -> anyhow::Result<()> {
    anyhow::ensure!(
        receipt.rotation.is_none(),
        Failure::new(
            "a change of the key pair is not finished",
            "finish it with `holistics-tunnel rotate-key`, then run the same command again",
        )
    );
    Ok(())
}

/// Makes the new pair beside the present one, unless an earlier run has.
///
/// # Errors
/// ssh-keygen fails, or the receipt cannot be written.
pub fn make_pair(session: &mut Session, rotation: Rotation, comment: &str) -> anyhow::Result<()> {
    let next = session.layout.next_key();
    session.receipt.rotation = Some(rotation);
    record_files(session, &with_public(next.clone()))?;
    let host = session.host;
    let is_made = || host.exists(&next) && keys::public_key(host, &next).is_ok();
    if is_made() {
        return Ok(());
    }
    // What a run that died in ssh-keygen has left is no key, and was announced to nobody.
    for file in with_public(next.clone()) {
        host.remove_file(&file, Authority::User)?;
    }
    match host.expect(&keys::keygen(rotation.to, &next, comment)) {
        // The ssh-keygen of a run that was killed goes on alone, and was quicker.
        Err(CommandError::Status { .. }) if is_made() => Ok(()),
        made => made.map(drop).map_err(Into::into),
    }
}

/// Has both keys open every tunnel. Returns those that are still there at their control planes.
///
/// # Errors
/// A control plane refuses or does not answer; the present key is good for all tunnels.
pub fn announce(session: &Session, members: &[Member]) -> anyhow::Result<Vec<TunnelName>> {
    let host = session.host;
    let public_key = keys::public_key(host, &session.layout.next_key())?;
    let mut there = Vec::new();
    for member in members {
        let call = || {
            member
                .client
                .announce_key(host, member.id.number(), &public_key)
        };
        match insist(host, CALL_LIMIT, call) {
            Ok(_) => there.push(member.id),
            Err(error) if is_gone(&error) => session.ui.note(&format!(
                "Tunnel {} was deleted in the browser, and is left out.",
                member.id
            )),
            Err(error) => return Err(error.advised()),
        }
    }
    Ok(there)
}

/// Puts the new key in the present one's place, which is kept beside it. Returns how far the change
/// is now.
///
/// # Errors
/// A file or the receipt cannot be written.
pub fn switch(session: &mut Session, rotation: Rotation) -> anyhow::Result<Rotation> {
    let (host, layout) = (session.host, session.layout.clone());
    let (present, place) = (
        layout.private_key(rotation.from),
        layout.private_key(rotation.to),
    );
    if rotation.phase == Phase::Announcing {
        let mut files = vec![layout.former_key()];
        files.extend(with_public(place.clone()));
        record_files(session, &files)?;
        let key = host.read(&present).context("cannot read the present key")?;
        host.write(&layout.former_key(), &key, 0o600, Authority::User)?;
        // From here on what stands in the present key's place may be the new one already.
        set_phase(session, rotation, Phase::Switched)?;
    }
    let next = layout.next_key();
    let key = host.read(&next).context("cannot read the new key")?;
    put_in_place(host, &place, &key)?;
    session.receipt.key_type = Some(rotation.to);
    session.save()?;
    Ok(Rotation {
        phase: Phase::Switched,
        ..rotation
    })
}

/// Restarts every tunnel that does not run with the new key, one after another.
///
/// # Errors
/// See [`Stop`].
pub fn restart_all(
    session: &mut Session,
    manager: &dyn ServiceManager,
    rotation: Rotation,
    members: &[Member],
) -> Result<(), Stop> {
    let place = session.layout.private_key(rotation.to);
    let public_key = keys::public_key(session.host, &place).map_err(Stop::Refused)?;
    for member in members {
        session
            .ui
            .progress(&format!("Tunnel {}: restarting", member.id));
        let seen = restart_one(session, manager, member, &public_key).map_err(Stop::of)?;
        match seen {
            Seen::Up => {}
            Seen::Down => {
                let failure = not_seen(session.host, &session.layout, member.id, Seen::Down);
                return Err(Stop::Refused(failure.into()));
            }
            seen => {
                let failure = not_seen(session.host, &session.layout, member.id, seen);
                return Err(Stop::Later(failure.into()));
            }
        }
    }
    Ok(())
}

impl Stop {
    /// An interruption is no reason to go back.
    fn of(error: anyhow::Error) -> Self {
        match super::failure::is_interruption(&error) {
            true => Stop::Later(error),
            false => Stop::Refused(error),
        }
    }
}

fn restart_one(
    session: &mut Session,
    manager: &dyn ServiceManager,
    member: &Member,
    public_key: &str,
) -> anyhow::Result<Seen> {
    let (host, id) = (session.host, member.id);
    let key = without_comment(public_key);
    let has_key = |known: &Tunnel| {
        let session = known.session.as_ref();
        session.is_some_and(|session| session.public_key == key)
    };
    match insist(host, CALL_LIMIT, || member.client.tunnel(host, id.number())) {
        Ok(known) if has_key(&known) => return Ok(Seen::Up),
        // Nothing is restarted that cannot be seen to come up.
        Err(error) if error.is_passing() => return Ok(Seen::Unanswered(error)),
        Err(ApiError::Interrupted(error)) => return Err(error.into()),
        _ => {}
    }
    let tunnel = service_tunnel::describe(session, id, None)?;
    let mut work = session.work(Scope::Tunnel(id), StepName::ServiceTunnel);
    restart::restart(&mut work, manager, &tunnel)?;
    wait_until_up(host, &member.client, id, UP_TIMEOUT, has_key)
}

/// Ends the old key's time on the tunnel server, and removes it from this host.
///
/// # Errors
/// A control plane does not answer, or a file cannot be removed: the next run goes on.
pub fn retire(session: &mut Session, rotation: Rotation, members: &[Member]) -> anyhow::Result<()> {
    set_phase(session, rotation, Phase::Proved)?;
    let (host, layout) = (session.host, session.layout.clone());
    let public_key = keys::public_key(host, &layout.private_key(rotation.to))?;
    for member in members {
        let call = || {
            member
                .client
                .confirm_key(host, member.id.number(), &public_key)
        };
        match insist(host, CALL_LIMIT, call) {
            Ok(_) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.advised()),
        }
    }
    let mut old = vec![layout.former_key()];
    old.extend(with_public(layout.next_key()));
    if rotation.from != rotation.to {
        old.extend(with_public(layout.private_key(rotation.from)));
    }
    finish(session, &old)
}

/// Puts the old key back in its place, for all tunnels, and forgets the new one.
///
/// # Errors
/// A file cannot be written, or a tunnel cannot be restarted: the next run goes on with it.
pub fn go_back(
    session: &mut Session,
    manager: &dyn ServiceManager,
    rotation: Rotation,
    members: &[Member],
) -> anyhow::Result<()> {
    let (host, layout) = (session.host, session.layout.clone());
    let place = layout.private_key(rotation.from);
    let is_switched = rotation.phase != Phase::Announcing;
    if is_switched {
        set_phase(session, rotation, Phase::GoingBack)?;
        // Without it, an earlier run has put it back and was cleaning up.
        let key = host
            .read_if_present(&layout.former_key())
            .context("cannot read the old key")?;
        if let Some(key) = key {
            put_in_place(host, &place, &key)?;
        }
        session.receipt.key_type = Some(rotation.from);
        session.save()?;
    }
    let public_key = keys::public_key(host, &place)?;
    for member in members {
        if is_switched {
            match restart_one(session, manager, member, &public_key)? {
                Seen::Up => {}
                seen => return Err(not_seen(host, &layout, member.id, seen).into()),
            }
        }
        let call = || {
            member
                .client
                .announce_key(host, member.id.number(), &public_key)
        };
        match insist(host, CALL_LIMIT, call) {
            // A key that was never used does no harm: it is removed here, and the next announcement
            // takes its place.
            Err(error) if !is_switched => {
                session.ui.note(&format!("tunnel {}: {error}", member.id));
            }
            Err(error) if !is_gone(&error) => return Err(error.advised()),
            _ => {}
        }
    }
    let mut new = vec![layout.former_key()];
    new.extend(with_public(layout.next_key()));
    if rotation.from != rotation.to {
        new.extend(with_public(layout.private_key(rotation.to)));
    }
    finish(session, &new)
}

/// Writes a private key and its public half. ssh refuses a private key beside another one's public
/// half, and needs none: so wherever this dies, ssh can use what stands there.
fn put_in_place(host: &dyn Host, place: &Path, key: &[u8]) -> anyhow::Result<()> {
    let file = place.with_extension("pub");
    host.remove_file(&file, Authority::User)?;
    host.write(place, key, 0o600, Authority::User)?;
    let public_key = format!("{}\n", keys::public_key(host, place)?);
    host.write(&file, public_key.as_bytes(), 0o644, Authority::User)
}

/// Removes what is not needed any more, and the record of the change with it.
fn finish(session: &mut Session, obsolete: &[PathBuf]) -> anyhow::Result<()> {
    for file in obsolete {
        session.host.remove_file(file, Authority::User)?;
    }
    let gone: Vec<Change> = obsolete.iter().map(|file| created(file)).collect();
    session.receipt.rotation = None;
    session.forget(Scope::Host, StepName::KeyPair, &gone)?;
    session.note(Scope::Host, StepName::KeyPair, StepState::Done)
}

fn set_phase(session: &mut Session, rotation: Rotation, phase: Phase) -> anyhow::Result<()> {
    session.receipt.rotation = Some(Rotation { phase, ..rotation });
    session.save()
}

fn record_files(session: &mut Session, files: &[PathBuf]) -> anyhow::Result<()> {
    for file in files {
        let mut work = session.work(Scope::Host, StepName::KeyPair);
        work.record(created(file))?;
    }
    Ok(())
}

fn created(path: &Path) -> Change {
    Change::FileCreated {
        path: path.to_owned(),
        authority: Authority::User,
    }
}

/// A private key and its public half.
fn with_public(private_key: PathBuf) -> [PathBuf; 2] {
    let public_key = private_key.with_extension("pub");
    [private_key, public_key]
}

/// The form in which the control plane names keys.
fn without_comment(public_key: &str) -> String {
    let words: Vec<&str> = public_key.split_whitespace().take(2).collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bastion::facts::Init;
    use crate::bastion::host::scripted::ScriptedHost;
    use crate::bastion::layout::Layout;
    use crate::bastion::service;
    use crate::bastion::ssh::KeyType;
    use crate::bastion::ui::Ui;

    const FROM_RSA_TO_RSA: Rotation = Rotation {
        from: KeyType::Rsa,
        to: KeyType::Rsa,
        phase: Phase::Announcing,
    };

    /// A host with a present key, and a new one beside it.
    fn host() -> ScriptedHost {
        let host = ScriptedHost::new();
        let layout = Layout::new(&host, Path::new("/"));
        host.create_dir(&layout.user_dir(), 0o700, Authority::User)
            .unwrap();
        for (file, content) in [
            (layout.private_key(KeyType::Rsa), "old"),
            (layout.next_key(), "new"),
        ] {
            host.write(&file, content.as_bytes(), 0o600, Authority::User)
                .unwrap();
        }
        host
    }

    fn run<T>(host: &ScriptedHost, act: impl FnOnce(&mut Session) -> anyhow::Result<T>) -> T {
        let layout = Layout::new(host, Path::new("/"));
        let ui = Ui::new(false, true, true);
        let mut receipt = Receipt::load(host, &layout.receipt())
            .unwrap()
            .unwrap_or_else(|| Receipt::new(Path::new("/")));
        receipt.init = Some(Init::Sysv);
        let nobody = url::Url::parse("http://127.0.0.1:1").unwrap();
        let client = ControlPlane::new(&nobody, "", None).unwrap();
        act(&mut Session::new(host, &ui, layout, receipt, client)).unwrap()
    }

    fn content(host: &ScriptedHost, path: &Path) -> Option<String> {
        let content = host.read_if_present(path).unwrap()?;
        Some(String::from_utf8(content).unwrap())
    }

    fn keygen_prints(host: &ScriptedHost, key: &str) {
        host.expect("ssh-keygen -y", 0, key, "");
    }

    #[test]
    fn a_switch_that_died_and_is_repeated_never_loses_the_old_key() {
        let host = host();
        let layout = Layout::new(&host, Path::new("/"));
        let place = layout.private_key(KeyType::Rsa);
        keygen_prints(&host, "ssh-rsa NEW");
        let switched = run(&host, |session| switch(session, FROM_RSA_TO_RSA));
        assert_eq!(switched.phase, Phase::Switched);
        // Whether it died before or after the new key was in its place.
        for in_place in ["old", "new"] {
            host.write(&place, in_place.as_bytes(), 0o600, Authority::User)
                .unwrap();
            keygen_prints(&host, "ssh-rsa NEW");
            run(&host, |session| switch(session, switched));
            assert_eq!(content(&host, &place).as_deref(), Some("new"));
            assert_eq!(content(&host, &layout.former_key()).as_deref(), Some("old"));
        }
        assert!(host.is_finished());
    }

    #[test]
    fn the_way_back_puts_the_old_key_in_its_place_and_may_be_repeated() {
        let host = host();
        let layout = Layout::new(&host, Path::new("/"));
        let place = layout.private_key(KeyType::Rsa);
        keygen_prints(&host, "ssh-rsa NEW");
        let switched = run(&host, |session| switch(session, FROM_RSA_TO_RSA));
        let manager = service::manager(Init::Sysv).unwrap();
        for prints in [2, 1] {
            // The second time, nothing is to be put back.
            for _ in 0..prints {
                keygen_prints(&host, "ssh-rsa OLD");
            }
            run(&host, |session| {
                go_back(session, manager.as_ref(), switched, &[])
            });
            assert_eq!(content(&host, &place).as_deref(), Some("old"));
            let file = place.with_extension("pub");
            assert_eq!(content(&host, &file).as_deref(), Some("ssh-rsa OLD\n"));
            for gone in [layout.former_key(), layout.next_key()] {
                assert_eq!(content(&host, &gone), None);
            }
            run(&host, |session| {
                assert_eq!(session.receipt.rotation, None);
                assert_eq!(session.receipt.key_type, Some(KeyType::Rsa));
                Ok(())
            });
        }
        assert!(host.is_finished());
    }

    #[test]
    fn what_ssh_keygen_left_half_made_is_made_anew() {
        let host = host();
        let layout = Layout::new(&host, Path::new("/"));
        host.expect("ssh-keygen -y", 255, "", "invalid format");
        host.expect("ssh-keygen -q -t rsa", 0, "", "");
        run(&host, |session| {
            make_pair(session, FROM_RSA_TO_RSA, "ada@bastion")
        });
        assert!(host.is_finished());
        assert_eq!(content(&host, &layout.next_key()), None, "it was kept");
    }
}

//! The host keys that all tunnel servers of a region share: sealed in the database, and a copy of them in each one's
//! folder, from which a server starts also while the database cannot be asked.
//!
//! The first tunnel server of a region brings its own, so that bastions that know them go on. A folder with keys that
//! are neither a copy nor the region's is left alone, and told: bastions would refuse whoever shows them.

use anyhow::{Context, ensure};

use super::data_dir::DataDir;
use super::domain::crypto;
use super::domain::secret::SecretKey;
use super::scratch::Scratch;
use super::store::{SealedHostKey, Store};
use super::tunnel_server::{Generation, HostKey, KeyFolder};

/// A region's keys, with what opens them.
pub struct RegionKeys<'a> {
    store: &'a Store,
    secret: &'a SecretKey,
    region: &'a str,
}

impl<'a> RegionKeys<'a> {
    pub fn new(store: &'a Store, secret: &'a SecretKey, region: &'a str) -> Self {
        RegionKeys {
            store,
            secret,
            region,
        }
    }

    /// Makes a tunnel server's folder a copy of them; where there are none yet, the folder's become the region's.
    pub async fn copy_to(&self, folder: &KeyFolder) -> anyhow::Result<()> {
        let mut keys = self.store.region_host_keys(self.region).await?;
        if keys.is_empty() {
            keys = self.found(folder).await?;
        }
        let mark = self.mark();
        // What a copy holds is written anew where it cannot be read.
        let is_copy = folder.copy_of()?.is_some_and(|of| self.is_ours(&of));
        ensure!(
            is_copy || are_all_among(&folder.load(Generation::Current)?, &keys)?,
            "the host keys in {} are other ones than those of the region {:?}, which its bastions know, so they would \
             refuse this server. Move that folder away and start again: this server gets the region's. If it is to be \
             of another region, name that with --region",
            folder.place(Generation::Current).display(),
            self.region
        );
        self.write(folder, &keys)?;
        if folder.copy_of()?.as_ref() != Some(&mark) {
            folder.mark_copy(&mark)?;
        }
        Ok(())
    }

    /// The keys of a folder become those of a region that has none. Another server may have been quicker.
    async fn found(&self, folder: &KeyFolder) -> anyhow::Result<Vec<SealedHostKey>> {
        let (mark, is_empty) = (self.mark(), folder.load(Generation::Current)?.is_empty());
        let is_copy = folder.copy_of()?.is_some_and(|of| of != mark);
        ensure!(
            is_empty || !is_copy,
            "the host keys in {} are those of another region or installation, and the region {:?} has none yet. Move \
             that folder away and start again: this server makes new ones",
            folder.place(Generation::Current).display(),
            self.region
        );
        if is_empty {
            // Nobody knows what is made now, so where another server is quicker, its keys take the place of these.
            folder.mark_copy(&mark)?;
        }
        folder.load_or_create()?;
        let sealed = self.seal_all(folder)?;
        let mut tx = self.store.write().await?;
        let present = tx.region_host_keys(self.region).await?;
        if !present.is_empty() {
            return Ok(present);
        }
        tx.replace_region_host_keys(self.region, &sealed).await?;
        tx.commit().await?;
        tracing::info!(
            region = self.region,
            "the host keys of this server are those of its region from now on"
        );
        Ok(sealed)
    }

    /// Brings all generations of a folder's keys to be these, as far as they are not.
    fn write(&self, folder: &KeyFolder, keys: &[SealedHostKey]) -> anyhow::Result<()> {
        for generation in [Generation::Former, Generation::Next, Generation::Current] {
            let wanted = self.open(keys, generation)?;
            // One that cannot be read is written anew.
            if folder.load(generation).ok().as_ref() != Some(&wanted) {
                folder.put(generation, &wanted)?;
            }
        }
        Ok(())
    }

    fn open(&self, keys: &[SealedHostKey], generation: Generation) -> anyhow::Result<Vec<HostKey>> {
        let of_generation = keys
            .iter()
            .filter(|key| key.generation == generation.into_str());
        let open = |key: &SealedHostKey| {
            let text = crypto::open_host_key(self.secret, self.region, &key.kind, &key.sealed);
            let text = text.with_context(|| {
                format!(
                    "the host keys of the region {:?} cannot be opened: secret.key is not the one that they were \
                     sealed with, or the database was tampered with",
                    self.region
                )
            })?;
            let opened = HostKey::parse(&text, key.since)?;
            anyhow::Ok((key.kind.clone(), opened))
        };
        let mut opened = of_generation.map(open).collect::<Result<Vec<_>, _>>()?;
        // As a folder lists them.
        opened.sort_by(|one, other| other.0.cmp(&one.0));
        Ok(opened.into_iter().map(|(_, key)| key).collect())
    }

    fn seal_all(&self, folder: &KeyFolder) -> anyhow::Result<Vec<SealedHostKey>> {
        let mut all = Vec::new();
        for generation in Generation::ALL {
            for key in folder.load(generation)? {
                let kind = key.file_name()?;
                let text = key.private_text()?;
                all.push(SealedHostKey {
                    generation: generation.into_str().to_owned(),
                    kind: kind.to_owned(),
                    public_key: key.public()?,
                    sealed: crypto::seal_host_key(self.secret, self.region, kind, &text)?,
                    since: key.since,
                });
            }
        }
        Ok(all)
    }

    /// A folder of its own with these keys, for a command that changes them.
    pub async fn take_out(&self, data_dir: &DataDir) -> anyhow::Result<TakenOut> {
        let keys = self.store.region_host_keys(self.region).await?;
        ensure!(
            !keys.is_empty(),
            "the region {:?} has no host keys yet: its first `serve` makes them, the next ones included",
            self.region
        );
        let dir = Scratch::new_in(data_dir.path(), ".host-keys-")
            .with_context(|| format!("cannot make a folder in {}", data_dir.path().display()))?;
        let folder = KeyFolder::new(dir.path().join("keys"));
        self.write(&folder, &keys)?;
        Ok(TakenOut {
            folder,
            keys,
            _dir: dir,
        })
    }

    /// What a command has made of them becomes the region's.
    ///
    /// # Errors
    /// Another command has changed them meanwhile, or the database failed: nothing is changed then.
    pub async fn bring_back(&self, taken: &TakenOut) -> anyhow::Result<()> {
        let new = self.seal_all(&taken.folder)?;
        let mut tx = self.store.write().await?;
        ensure!(
            tx.region_host_keys(self.region).await? == taken.keys,
            "another `host-key` command has changed the keys of the region {:?}; nothing was changed. Run this one \
             again",
            self.region
        );
        tx.replace_region_host_keys(self.region, &new).await?;
        Ok(tx.commit().await?)
    }

    /// What a folder says that is a copy of these.
    fn mark(&self) -> String {
        format!("{} {}", self.secret.installation(), self.region)
    }

    /// Whether a folder's mark is one of this installation, whose nodes may change their region.
    fn is_ours(&self, mark: &str) -> bool {
        let installation = self.secret.installation();
        mark.split(' ').next() == Some(&installation)
    }
}

/// A region's keys in a folder of their own.
pub struct TakenOut {
    pub folder: KeyFolder,
    keys: Vec<SealedHostKey>,
    _dir: Scratch,
}

/// Whether each of these is one of the region's, of any generation: a copy that somebody has made may be an older one.
fn are_all_among(own: &[HostKey], keys: &[SealedHostKey]) -> anyhow::Result<bool> {
    for key in own {
        let public = key.public()?;
        if !keys.iter().any(|known| known.public_key == public) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn public(folder: &KeyFolder, generation: Generation) -> Vec<String> {
        let keys = folder.load(generation).unwrap();
        keys.iter().map(|key| key.public().unwrap()).collect()
    }

    fn secret() -> SecretKey {
        let dir = tempfile::tempdir().unwrap();
        SecretKey::load_or_create(&dir.path().join("secret.key")).unwrap()
    }

    #[test]
    fn keys_of_before_are_a_folder_s_own_or_an_older_copy() {
        let dir = tempfile::tempdir().unwrap();
        let folder = KeyFolder::new(dir.path().join("ssh"));
        let own = folder.load_or_create().unwrap();
        let sealed: Vec<_> = own
            .iter()
            .map(|key| SealedHostKey {
                generation: "former".to_owned(),
                kind: key.file_name().unwrap().to_owned(),
                public_key: key.public().unwrap(),
                sealed: Vec::new(),
                since: key.since,
            })
            .collect();
        assert!(are_all_among(&own, &sealed).unwrap());
        assert!(!are_all_among(&own, &sealed[1..]).unwrap());
        assert!(are_all_among(&[], &sealed).unwrap());
    }

    #[tokio::test]
    async fn of_two_first_servers_at_once_one_brings_the_keys_and_the_other_gets_them() {
        let Some(kept) = crate::server::store::TestStore::on_postgres().await else {
            return;
        };
        let (secret, dir) = (secret(), tempfile::tempdir().unwrap());
        let folder = |name: &str| KeyFolder::new(dir.path().join(name));
        let (first, second) = (folder("1"), folder("2"));
        let keys = RegionKeys::new(&kept.store, &secret, "eu");
        keys.copy_to(&first).await.unwrap();
        // It has seen none before the first one brought its own; then it may have been killed.
        keys.found(&second).await.unwrap();
        keys.copy_to(&second).await.unwrap();
        assert_eq!(
            public(&second, Generation::Current),
            public(&first, Generation::Current)
        );
    }

    #[tokio::test]
    async fn a_damaged_key_of_a_copy_is_written_anew() {
        let Some(kept) = crate::server::store::TestStore::on_postgres().await else {
            return;
        };
        let (secret, dir) = (secret(), tempfile::tempdir().unwrap());
        let folder = KeyFolder::new(dir.path().join("ssh"));
        let keys = RegionKeys::new(&kept.store, &secret, "eu");
        keys.copy_to(&folder).await.unwrap();
        let whole = public(&folder, Generation::Current);
        let path = folder
            .place(Generation::Current)
            .join("ssh_host_ed25519_key");
        std::fs::write(path, "not a key").unwrap();
        keys.copy_to(&folder).await.unwrap();
        assert_eq!(public(&folder, Generation::Current), whole);
    }

    /// The store keeps them on PostgreSQL alone.
    #[tokio::test]
    async fn the_first_server_s_keys_are_the_region_s_and_the_others_get_them() {
        let kept = crate::server::store::TestStore::new().await;
        if kept.store.engine() == crate::server::store::Engine::Sqlite {
            return;
        }
        let (secret, dir) = (secret(), tempfile::tempdir().unwrap());
        let folder = |name: &str| KeyFolder::new(dir.path().join(name));
        let (first, second, copied, foreign) = (folder("1"), folder("2"), folder("3"), folder("4"));
        let keys = RegionKeys::new(&kept.store, &secret, "eu");

        let own = first.load_or_create().unwrap();
        keys.copy_to(&first).await.unwrap();
        assert_eq!(first.load(Generation::Current).unwrap(), own);
        keys.copy_to(&second).await.unwrap();
        for generation in [Generation::Current, Generation::Next] {
            assert_eq!(public(&first, generation), public(&second, generation));
        }
        let announced = kept.store.announced_host_keys().await.unwrap();
        let [current, next] =
            [Generation::Current, Generation::Next].map(|which| public(&first, which));
        assert_eq!(announced["eu"], [current.clone(), next.clone()].concat());

        // As it was copied by hand, and as somebody else's is.
        copied.put(Generation::Current, &own).unwrap();
        foreign.load_or_create().unwrap();
        let before = public(&foreign, Generation::Current);
        let why = keys.copy_to(&foreign).await.unwrap_err().to_string();
        assert!(
            why.contains("other ones than those of the region \"eu\""),
            "{why}"
        );
        assert_eq!(public(&foreign, Generation::Current), before);

        // A command at one machine; each node follows, whatever it has missed.
        let data_dir = DataDir::open_or_create(&dir.path().join("data")).unwrap();
        let taken = keys.take_out(&data_dir).await.unwrap();
        let late = keys.take_out(&data_dir).await.unwrap();
        for taken in [&taken, &late] {
            let lock = taken.folder.lock().unwrap();
            taken.folder.promote(&lock).unwrap();
        }
        keys.bring_back(&taken).await.unwrap();
        let why = keys.bring_back(&late).await.unwrap_err().to_string();
        assert!(why.contains("another `host-key` command"), "{why}");
        for folder in [&first, &second, &copied] {
            keys.copy_to(folder).await.unwrap();
            assert_eq!(public(folder, Generation::Current), next);
            assert_eq!(public(folder, Generation::Former), current);
        }

        // With another secret.key, nothing is opened, and nothing written.
        let other = self::secret();
        let others = RegionKeys::new(&kept.store, &other, "eu");
        let why = others.copy_to(&folder("5")).await.unwrap_err().to_string();
        assert!(why.contains("cannot be opened"), "{why}");
    }
}

//! What steps of builds gave: a digest of all that a step depends on → its layer.
//!
//! A record says nothing of a layer that is gone: whoever finds one carries the step out again. Who carries a step out
//! holds a lock, so that a second build waits and takes what the first one made.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::image::digest::Digest;
use crate::image::store::{Store, make_dirs, read_json};
use crate::image::{Error, store_error};

/// What a step gave.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StepRecord {
    /// Its layer; `None` if it changed nothing.
    pub(crate) layer: Option<Digest>,
    /// Time of what is newest in it, in seconds since the epoch; `None` if it has none.
    pub(crate) newest: Option<i64>,
    /// The step, for people; unknown in records of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) made_by: Option<String>,
    /// The layers that its key names: when they go, nobody finds it any more.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) upon: Vec<Digest>,
}

impl StepRecord {
    /// Returns the record of a layer, or of none.
    pub(crate) fn of(layer: Option<Digest>, newest: Option<i64>, made_by: Option<String>) -> Self {
        Self { layer, newest, made_by, upon: Vec::new() }
    }
}

/// A step that is being carried out here and nowhere else, as long as this lives.
#[derive(Debug)]
pub(crate) struct StepLock {
    _file: File,
}

impl Store {
    pub(super) fn steps(&self) -> PathBuf {
        self.root().join("build/steps")
    }

    /// Returns what a step gave, if that is still here.
    ///
    /// # Errors
    /// When the store is damaged.
    pub(crate) fn step(&self, key: &Digest) -> Result<Option<StepRecord>, Error> {
        let path = self.steps().join(key.hex());
        // One that cannot be read is as good as none.
        let Ok(Some(record)) = read_json::<StepRecord>(&path) else { return Ok(None) };
        if let Some(layer) = &record.layer
            && self.layer(layer)?.is_none()
        {
            return Ok(None);
        }
        note_use(&path);
        Ok(Some(record))
    }

    /// Writes down what a step gave.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn write_step(&self, key: &Digest, record: &StepRecord) -> Result<(), Error> {
        let text = serde_json::to_vec(record).expect("digests serialise");
        self.replace(&self.steps(), key.hex(), &text, false)
    }

    /// Locks a step; `None` when somebody carries it out, or one that shares its lock.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn lock_step(&self, key: &Digest) -> Result<Option<StepLock>, Error> {
        self.lock(self.root().join("build/locks"), &key.hex()[..2])
    }

    /// Locks the cache of that name, which has a lock of its own: who has it holds the lock of a step already, and must never
    /// wait for himself. `None` when somebody else has it.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn lock_cache(&self, id: &str) -> Result<Option<StepLock>, Error> {
        self.lock(self.root().join("build/mounts"), &format!("{}.lock", Digest::of(id.as_bytes()).hex()))
    }

    fn lock(&self, dir: PathBuf, name: &str) -> Result<Option<StepLock>, Error> {
        make_dirs(&dir)?;
        let path = dir.join(name);
        let file = File::create(&path).map_err(store_error("create", &path))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(StepLock { _file: file })),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(store_error("lock", path)(e.into())),
        }
    }

    fn cache_dir(&self, id: &str) -> PathBuf {
        self.root().join("build/mounts").join(Digest::of(id.as_bytes()).hex())
    }

    /// Returns whether there is a cache of that name.
    pub(crate) fn has_cache(&self, id: &str) -> bool {
        self.cache_dir(id).join("fs").is_dir()
    }

    /// Returns the directory of a cache of that name. A new one is made with this mode and owner; it is empty, or the directory
    /// `begin`, which is moved there.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(crate) fn cache_mount(
        &self,
        id: &str,
        mode: u32,
        (uid, gid): (u32, u32),
        begin: Option<PathBuf>,
    ) -> Result<PathBuf, Error> {
        let dir = self.cache_dir(id);
        let fs_dir = dir.join("fs");
        if fs_dir.is_dir() {
            note_use(&dir.join("meta.json"));
            return Ok(fs_dir);
        }
        make_dirs(&dir)?;
        let scratch = self.scratch()?;
        let made = match begin {
            Some(begin) => begin,
            None => scratch.layer("cache")?.join("fs"),
        };
        let failed = |e: io::Error| store_error("create", &fs_dir)(e);
        std::os::unix::fs::chown(&made, Some(uid), Some(gid)).map_err(failed)?;
        rustix::fs::chmod(&made, rustix::fs::Mode::from_raw_mode(mode)).map_err(|e| failed(e.into()))?;
        let meta = serde_json::to_vec(&serde_json::json!({ "id": id })).expect("text serialises");
        self.replace(&dir, "meta.json", &meta, false)?;
        match fs::rename(&made, &fs_dir) {
            // Another build was faster.
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
            other => other.map_err(failed),
        }?;
        Ok(fs_dir)
    }
}

/// Notes in the time of a file that what it speaks of is of use now: what was used longest ago goes first.
fn note_use(path: &Path) {
    if let Ok(file) = File::options().append(true).open(path) {
        let _ = file.set_modified(std::time::SystemTime::now()); // it only goes earlier then
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tarball::tests::TarBuilder;
    use crate::image::tests::fixture;

    #[test]
    fn a_step_is_known_as_long_as_its_layer_is_there() {
        if !crate::testing::is_root() {
            return;
        }
        let fixture = fixture();
        let image = fixture.image(&[TarBuilder::default().dir("./").end()]);
        let layer = image.config.rootfs.diff_ids[0].clone();
        let (key, other) = (Digest::of(b"key"), Digest::of(b"other"));
        let record = StepRecord::of(Some(layer.clone()), Some(7), None);
        fixture.store.write_step(&key, &record).expect("written");
        assert_eq!(fixture.store.step(&key).expect("readable"), Some(record));
        assert_eq!(fixture.store.step(&other).expect("readable"), None);
        let nothing = StepRecord::of(None, None, None);
        fixture.store.write_step(&other, &nothing).expect("written");
        assert_eq!(fixture.store.step(&other).expect("readable"), Some(nothing));
        fs::remove_dir_all(fixture.store.layer_dir(&layer)).expect("there");
        assert_eq!(fixture.store.step(&key).expect("readable"), None);
    }

    #[test]
    fn a_step_is_carried_out_once_at_a_time() {
        let fixture = fixture();
        let key = Digest::of(b"key");
        let lock = fixture.store.lock_step(&key).expect("writable").expect("free");
        assert!(fixture.store.lock_step(&key).expect("writable").is_none());
        drop(lock);
        let _all: Vec<StepLock> = (0..=u8::MAX)
            .map(|byte| {
                let key = Digest::from_hex(&format!("{byte:02x}").repeat(32)).expect("digits");
                fixture.store.lock_step(&key).expect("writable").expect("free")
            })
            .collect();
        let cache = fixture.store.lock_cache("a").expect("writable").expect("no step's lock is in its way");
        assert!(fixture.store.lock_cache("a").expect("writable").is_none());
        assert!(fixture.store.lock_cache("b").expect("writable").is_some());
        drop(cache);
    }
}

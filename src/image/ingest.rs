//! One blob on its way into the store, shared by all processes that want it.
//!
//! A blob is unpacked as it comes, into a directory named by its digest beside a lock file of that name, in the place
//! for unfinished things: what a crash leaves is swept like any other. Who fetches holds the lock for himself and notes
//! in the file how far he is, for those who wait; when the layer is whole and checked, `meta.json` is in the directory
//! and the lock is shared by all who are going to use it. The last one who lets go removes what nobody took.
//!
//! To go on with an earlier process' half would need the state of both hashes as well; the directory and the number
//! in the lock file are where they would go.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, flock};

use crate::fault;
use crate::image::digest::Digest;
use crate::image::store::{self, LAYER_FORMAT, Store};
use crate::image::unpack::{LayerMeta, Unpacked};
use crate::image::{Error, store_error};

/// What was found at a blob's place.
#[derive(Debug)]
pub(crate) enum Claim {
    /// Nobody has it: fetch it into this directory.
    Ours(Ingest),
    /// It is there, whole and checked.
    Ready(Ingest, LayerMeta),
    /// Another process fetches it and has come so far, in bytes.
    Busy(u64),
}

/// A blob's directory and our hold on it.
#[derive(Debug)]
pub(crate) struct Ingest {
    dir: PathBuf,
    lock_path: PathBuf,
    lock: File,
}

impl Store {
    /// Claims a blob. Does not wait.
    pub(crate) fn claim(&self, blob: &Digest) -> Result<Claim, Error> {
        let tmp = self.tmp();
        store::make_dirs(&tmp)?;
        let lock_path = tmp.join(format!("{}.lock", blob.hex()));
        loop {
            let open =
                OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
            let lock = open.map_err(store_error("create", &lock_path))?;
            let ingest = Ingest { dir: tmp.join(blob.hex()), lock_path: lock_path.clone(), lock };
            if flock(&ingest.lock, FlockOperation::NonBlockingLockExclusive).is_ok() {
                // A sweep may have removed it since it was opened.
                if !ingest.is_current() {
                    continue;
                }
                if let Some(meta) = ingest.meta() {
                    if ingest.share()? {
                        return Ok(Claim::Ready(ingest, meta));
                    }
                    continue;
                }
                fault::point("ingest.locked");
                ingest.begin(&tmp)?;
                fault::point("ingest.begun");
                return Ok(Claim::Ours(ingest));
            }
            if flock(&ingest.lock, FlockOperation::NonBlockingLockShared).is_ok() {
                if ingest.is_current()
                    && let Some(meta) = ingest.meta()
                {
                    return Ok(Claim::Ready(ingest, meta));
                }
                // Whoever fetched it gave up at this moment.
                continue;
            }
            return Ok(Claim::Busy(ingest.progress()));
        }
    }
}

impl Ingest {
    /// Returns the layer's directory, with `fs` in it.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Notes how many bytes have come.
    pub(crate) fn note(&self, bytes: u64) {
        // It is only for show.
        if let Err(error) = self.lock.write_all_at(format!("{bytes:020}\n").as_bytes(), 0) {
            tracing::debug!(%error, "progress is not shared");
        }
    }

    /// Lets others use the layer, which is whole and checked.
    pub(crate) fn finish(&self, diff_id: &Digest, unpacked: &Unpacked) -> Result<(), Error> {
        store::write_meta(&self.dir, diff_id, unpacked)?;
        fault::point("ingest.described");
        if self.share()? { Ok(()) } else { Err(store_error("keep", &self.dir)(io::ErrorKind::NotFound.into())) }
    }

    /// Shares the lock. That lets go of it for a moment (flock(2)), so it says whether all is still there.
    fn share(&self) -> Result<bool, Error> {
        flock(&self.lock, FlockOperation::LockShared).map_err(|e| store_error("lock", &self.lock_path)(e.into()))?;
        Ok(self.is_current() && self.meta().is_some())
    }

    fn is_current(&self) -> bool {
        let (Ok(ours), Ok(there)) = (self.lock.metadata(), fs::metadata(&self.lock_path)) else { return false };
        (ours.dev(), ours.ino()) == (there.dev(), there.ino())
    }

    /// Returns what is known about the layer, if it is whole. What another boot has left may be half on disk.
    fn meta(&self) -> Option<LayerMeta> {
        let meta: LayerMeta = store::read_json(&self.dir.join("meta.json")).ok().flatten()?;
        (meta.format == LAYER_FORMAT && meta.boot_id == store::boot_id()).then_some(meta)
    }

    fn begin(&self, tmp: &Path) -> Result<(), Error> {
        store::remove_dir(tmp, &self.dir)?;
        self.note(0);
        let fs_dir = self.dir.join("fs");
        store::make_dirs(&fs_dir)?;
        rustix::fs::chmod(&fs_dir, Mode::from_raw_mode(0o755)).map_err(|e| store_error("create", fs_dir)(e.into()))
    }

    fn progress(&self) -> u64 {
        let mut text = String::new();
        // It may be empty yet.
        if let Err(error) = (&self.lock).take(32).read_to_string(&mut text) {
            tracing::debug!(%error, "progress is not known");
        }
        text.trim().parse().unwrap_or(0)
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        // Others who share it have the same to do after us.
        if flock(&self.lock, FlockOperation::NonBlockingLockExclusive).is_err() || !self.is_current() {
            return;
        }
        let tmp = self.dir.parent().unwrap_or(&self.dir).to_owned();
        let removed = store::remove_dir(&tmp, &self.dir).and_then(|()| {
            fault::point("ingest.emptied");
            fs::remove_file(&self.lock_path).map_err(store_error("remove", &self.lock_path))
        });
        if let Err(error) = removed {
            tracing::debug!(%error, "left for the next sweep"); // nothing depends on it being gone now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::tests::fixture;

    fn ours(store: &Store, blob: &Digest) -> Ingest {
        match store.claim(blob).expect("claimed") {
            Claim::Ours(ingest) => ingest,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_blob_is_fetched_by_one_and_used_by_all() {
        let fixture = fixture();
        let store = &fixture.store;
        let (blob, diff) = (Digest::of(b"blob"), Digest::of(b"diff"));
        let first = ours(store, &blob);
        first.note(17);
        assert!(matches!(store.claim(&blob).expect("claimed"), Claim::Busy(17)));
        store.sweep().expect("swept");
        assert!(first.dir().join("fs").is_dir(), "what is being written is not swept");
        first.finish(&diff, &Unpacked::default()).expect("finished");
        let Claim::Ready(second, meta) = store.claim(&blob).expect("claimed") else { panic!("it is ready") };
        assert_eq!(meta.diff_id, diff);
        drop(first);
        store.sweep().expect("swept");
        assert!(second.dir().join("meta.json").is_file(), "the second one still has it");
        drop(second);
        assert_eq!(fs::read_dir(store.tmp()).expect("there").count(), 0, "nobody took it");
    }

    #[test]
    fn what_was_given_up_is_fetched_anew() {
        let fixture = fixture();
        let store = &fixture.store;
        let blob = Digest::of(b"blob");
        let first = ours(store, &blob);
        fs::write(first.dir().join("fs/half"), "x").expect("written");
        // As after a kill: the lock goes, the files stay.
        let dir = first.dir().to_owned();
        flock(&first.lock, FlockOperation::Unlock).expect("unlocked");
        let second = ours(store, &blob);
        assert!(dir.join("fs").is_dir() && !dir.join("fs/half").exists());
        drop(first);
        assert!(dir.is_dir(), "it is the second one's now");
        drop(second);
        assert_eq!(fs::read_dir(store.tmp()).expect("there").count(), 0);
        let _left = std::mem::ManuallyDrop::new(ours(store, &blob));
        flock(&_left.lock, FlockOperation::Unlock).expect("unlocked");
        store.sweep().expect("swept");
        assert_eq!(fs::read_dir(store.tmp()).expect("there").count(), 0, "a crash leaves nothing for long");
    }
}

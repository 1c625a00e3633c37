//! A cache in a directory, which is an OCI image layout: `oci-layout`, `index.json` and `blobs/sha256/<hex>`.
//!
//! Blobs are written beside those that are there, each by rename, and `index.json` last: who is killed leaves the old cache
//! whole. What the new one does not have goes then. One writer at a time holds the directory's lock; who reads takes none, and
//! a blob that has gone meanwhile is not there.
//!
//! No link in the directory is followed, and nothing in it but plain files is opened.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Seek as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde_json::{Value, json};

use super::{BUILDKIT, Blob, Found, OF_BUILDKIT, RECORDS, RECORDS_MAX, Records, manifest};
use crate::fault;
use crate::image::config::{Descriptor, INDEX_TYPES, MANIFEST_TYPES, Manifest};
use crate::image::digest::{Digest, HashingReader};
use crate::image::push::{self, Until};
use crate::image::store::{Store, random_name};
use crate::image::{Error, pull};

/// Largest index or manifest, in bytes.
const DOCUMENT_MAX: u64 = 4 << 20;
const INDEX: &str = "index.json";
/// What is told of another layout.
const NO_CACHE: &str = "it is no cache of hoist's";
/// How often it is asked whether another writer is done.
const ASK_AGAIN: Duration = Duration::from_millis(20);
const BLOBS: &str = "blobs/sha256";
/// How names of files begin that are being written.
const UNFINISHED: &str = ".hoist-";

/// A directory that holds a cache.
#[derive(Debug)]
pub(crate) struct Layout {
    root: OwnedFd,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Cache { action, path, source }
}

impl Layout {
    fn open(path: &Path) -> io::Result<Self> {
        let root = rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { root })
    }

    fn at(&self, name: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        Ok(rustix::fs::openat2(&self.root, name, flags, Mode::empty(), how)?)
    }

    /// Opens a plain file.
    fn file(&self, name: &str) -> io::Result<File> {
        let file = File::from(self.at(name, OFlags::RDONLY)?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
    }

    /// Reads a small file.
    fn document(&self, name: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file(name)?.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Reads a small blob, whose digest is checked.
    fn blob(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, String> {
        let name = blob_name(digest);
        let bytes = self.document(&name, limit).map_err(|e| format!("cannot read `{name}`: {e}"))?;
        if Digest::of(&bytes) != *digest {
            return Err(format!("`{name}` has another digest than its name"));
        }
        Ok(bytes)
    }

    /// Returns whether a blob is there and whole.
    fn is_whole(&self, blob: &Blob) -> bool {
        let Ok(file) = self.file(&blob_name(&blob.digest)) else { return false };
        if file.metadata().map_or(u64::MAX, |meta| meta.len()) != blob.size {
            return false;
        }
        let mut hashing = HashingReader::new(file);
        io::copy(&mut hashing, &mut io::sink()).is_ok() && hashing.finish() == blob.digest
    }

    /// Reads index, manifest and records.
    fn records(&self) -> Result<Found<Manifest>, String> {
        let index = match self.document(INDEX, DOCUMENT_MAX) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
            Err(e) => return Err(format!("cannot read `{INDEX}`: {e}")),
        };
        let index: Value = serde_json::from_slice(&index).map_err(|e| format!("`{INDEX}` is no JSON: {e}"))?;
        let Some(digest) = index.pointer("/manifests/0/digest").and_then(Value::as_str) else {
            return Ok(Found::Other(NO_CACHE));
        };
        let bytes = self.blob(&Digest::parse(digest).map_err(|e| e.to_string())?, DOCUMENT_MAX)?;
        if String::from_utf8_lossy(&bytes).contains(BUILDKIT) {
            return Ok(Found::Other(OF_BUILDKIT));
        }
        let Ok(manifest) = serde_json::from_slice::<Manifest>(&bytes) else { return Ok(Found::Other(NO_CACHE)) };
        if manifest.config.media_type != RECORDS {
            return Ok(Found::Other(NO_CACHE));
        }
        let document = self.blob(&manifest.config.digest, RECORDS_MAX)?;
        Ok(Found::Cache(Records::parse(&document)?, manifest))
    }

    /// Unpacks a layer into the store.
    ///
    /// # Errors
    /// In words, when it is not there, damaged or hostile, or `over` is set.
    pub(crate) fn unpack(
        &self,
        store: &Store,
        diff: &Digest,
        blob: &Blob,
        over: Arc<AtomicBool>,
    ) -> Result<(), String> {
        let name = blob_name(&blob.digest);
        let file = self.file(&name).map_err(|e| format!("cannot read `{name}`: {e}"))?;
        let scratch = store.scratch().map_err(|e| words(&e))?;
        let dir = scratch.layer("cached").map_err(|e| words(&e))?;
        let (unpacked, found) = pull::unpack_blob(Until { inner: file, over }, &blob.descriptor(), &dir.join("fs"))?;
        if found != *diff {
            return Err(format!("`{name}` holds the layer {found}, not {diff}"));
        }
        fault::point("cache.unpacked");
        store.adopt_layer(&dir, diff, &unpacked).map_err(|e| words(&e))
    }
}

/// Returns what an error and its causes say.
fn words(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    text
}

fn blob_name(digest: &Digest) -> String {
    format!("{BLOBS}/{}", digest.hex())
}

/// Reads the records of the cache in a directory.
///
/// # Errors
/// In words, when it is damaged.
pub(crate) fn read(path: &Path) -> Result<Found<Layout>, String> {
    let layout = match Layout::open(path) {
        Ok(layout) => layout,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        Err(e) => return Err(e.to_string()),
    };
    Ok(layout.records()?.map(|_| layout))
}

/// Writes a cache into a directory, in the place of one that is there; returns sentences for the user. Blocks while another
/// one writes.
///
/// # Errors
/// When the directory cannot be written, or holds something that is no cache of ours, or `over` is set.
pub(crate) fn write(
    store: &Store,
    path: &Path,
    mut records: Records,
    over: &Arc<AtomicBool>,
) -> Result<Vec<String>, Error> {
    fs::create_dir_all(path).map_err(failed("create", path))?;
    let layout = Layout::open(path).map_err(failed("open", path))?;
    loop {
        match rustix::fs::flock(&layout.root, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(Errno::WOULDBLOCK) if !over.load(Ordering::Relaxed) => std::thread::sleep(ASK_AGAIN),
            Err(e) => return Err(failed("lock", path)(e.into())),
        }
    }
    let (old, old_manifest) = match layout.records() {
        Ok(Found::Cache(records, manifest)) => (records, Some(manifest)),
        // One that is damaged is written anew.
        Ok(Found::Absent) | Err(_) => (Records::default(), None),
        Ok(Found::Other(_)) => return Err(Error::NoCache(path.to_owned())),
    };
    let blobs = layout.make_blobs().map_err(failed("create", &path.join(BLOBS)))?;
    let scratch = store.scratch()?;
    let (mut warnings, mut descriptors) = (Vec::new(), Vec::new());
    for diff in records.wanted().into_iter().cloned().collect::<Vec<Digest>>() {
        let kept = old.layers.get(&diff).and_then(|blob| {
            let all = old_manifest.iter().flat_map(|manifest| &manifest.layers);
            let descriptor = all.into_iter().find(|layer| layer.digest == blob.digest)?.clone();
            layout.is_whole(blob).then_some(descriptor)
        });
        let descriptor = match kept {
            Some(descriptor) => descriptor,
            None => match push::pack(&store.layer_dir(&diff), &scratch.path(diff.hex()), &diff, Arc::clone(over)) {
                Ok((descriptor, mut file)) => {
                    file.rewind().map_err(failed("read", path))?;
                    place(&blobs, descriptor.digest.hex(), file).map_err(failed("write", path))?;
                    fault::point("cache.layer");
                    descriptor
                }
                Err(error @ Error::Remake { .. }) if !over.load(Ordering::Relaxed) => {
                    warnings.push(format!("a layer is left out of the cache: {error}"));
                    records.without(&diff);
                    continue;
                }
                Err(error) => return Err(error),
            },
        };
        let Descriptor { digest, size, .. } = descriptor.clone();
        records.layers.insert(diff, Blob { digest, size });
        descriptors.push(descriptor);
    }
    let document = records.document();
    let manifest = manifest(&document, &descriptors);
    let mut all: BTreeSet<String> = descriptors.iter().map(|layer| layer.digest.hex().to_owned()).collect();
    for bytes in [&document, &manifest] {
        let digest = Digest::of(bytes);
        place(&blobs, digest.hex(), &bytes[..]).map_err(failed("write", path))?;
        all.insert(digest.hex().to_owned());
    }
    let index = json!({
        "schemaVersion": 2,
        "mediaType": INDEX_TYPES[0],
        "manifests": [{"mediaType": MANIFEST_TYPES[0], "digest": Digest::of(&manifest), "size": manifest.len()}],
    });
    let version = json!({"imageLayoutVersion": "1.0.0"}).to_string();
    place(&layout.root, "oci-layout", version.as_bytes()).map_err(failed("write", path))?;
    fault::point("cache.placed");
    place(&layout.root, INDEX, index.to_string().as_bytes()).map_err(failed("write", path))?;
    fault::point("cache.named");
    clean(&blobs, |name| all.contains(name)).map_err(failed("clean", path))?;
    clean(&layout.root, |name| !name.starts_with(UNFINISHED)).map_err(failed("clean", path))?;
    Ok(warnings)
}

impl Layout {
    fn make_blobs(&self) -> io::Result<OwnedFd> {
        let mut at = rustix::io::fcntl_dupfd_cloexec(&self.root, 0)?;
        for name in BLOBS.split('/') {
            match rustix::fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(e) => return Err(e.into()),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            at = rustix::fs::openat(&at, name, flags, Mode::empty())?;
        }
        Ok(at)
    }
}

/// Puts a file into a directory, by rename.
fn place(dir: &OwnedFd, name: &str, mut from: impl Read) -> io::Result<()> {
    let unfinished = format!("{UNFINISHED}{}", random_name());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut write = || -> io::Result<()> {
        let mut file = File::from(rustix::fs::openat(dir, &unfinished, flags, Mode::from_raw_mode(0o644))?);
        io::copy(&mut from, &mut file)?;
        Ok(rustix::fs::renameat(dir, &unfinished, dir, name)?)
    };
    write().inspect_err(|_| {
        if let Err(error) = rustix::fs::unlinkat(dir, &unfinished, AtFlags::empty()) {
            tracing::debug!(%error, "left for the next writer"); // the first error is the one to report
        }
    })
}

/// Removes the files of a directory that nobody wants; directories stay.
fn clean(dir: &OwnedFd, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy();
        if entry.file_type() != rustix::fs::FileType::Directory && !is_wanted(&name) {
            rustix::fs::unlinkat(dir, entry.file_name(), AtFlags::empty())?;
        }
    }
    Ok(())
}

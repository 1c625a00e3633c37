//! The image store on disk: blobs, unpacked layers, fix-ups and references, without a database.
//!
//! ```text
//! blobs/sha256/ab/<hex>            configurations and manifests, never changed
//! layers/<diff id>/{fs/,meta.json} unpacked layers; `durable` beside them once they were synced, and `frame` (see there)
//! layers/tmp/<n>, <n>.lock         being written; whoever gets the lock of a left-over removes it
//! layers/tmp/.small-<pid>-<n>      a small file being written, left over when there is no such process
//! layers/blobs/<hex>               one line: the diff id inside a compressed blob, to skip work
//! fixups/<chain id>/fs/            what a layer needs on top of it in one particular chain
//! build/steps/<hex>                which layer a step of a build gave, by the digest of all that it depends on
//! build/locks/<xx>                 locked by who carries out a step whose digest begins so
//! build/mounts/<hex>/{fs/,meta.json} a cache of `RUN --mount=type=cache`; `<hex>.lock` is locked by who has it alone
//! build/grown                      how much builds have made since it was last looked how much is kept (`reclaim.rs`)
//! build/places/<hex>               what the steps of the last build of a place were made of, only to be told
//! refs/<host>/<path>/_tags/<tag>   names an image; written last, replaced atomically
//! refs/<host>/<path>/_digests/<hex> the same for what was pulled by its digest
//! refs/_images/<hex>               every image, also without a name
//! ```
//!
//! A layer appears by rename and is synced before the first name that leads to it, so that a crash at any point leaves
//! either no name or a name whose layers are whole. Readers take no lock; who counts on a layer that no image has yet holds the
//! store ([`Store::hold`]), so that it is not removed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::fault;
use crate::image::config::{ImageConfig, Manifest};
use crate::image::digest::{Digest, chain_ids};
use crate::image::fixup::{self, Placed};
use crate::image::reference::Reference;
use crate::image::unpack::{LayerMeta, Unpacked};
use crate::image::{Error, store_error};
use crate::name::hex;
use crate::sys;

/// Number of the form of `meta.json`.
pub(crate) const LAYER_FORMAT: u32 = 1;

/// An image store. Cheap to open; directories are made when something is written.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// An image whose layers are all there.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Digest of the configuration.
    pub id: Digest,
    /// The configuration.
    pub config: ImageConfig,
    /// Directories for overlayfs, base first; fix-ups included.
    pub layers: Vec<PathBuf>,
    /// Bytes of file content in all layers.
    pub size: u64,
    /// When it was made, RFC 3339, if it says so.
    pub created: Option<String>,
}

/// One line of the list of images.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// Its name; `None` is an image without one.
    pub reference: Option<Reference>,
    /// Digest of the configuration.
    pub id: Digest,
    /// Bytes of file content in all layers.
    pub size: u64,
    /// When it was made, RFC 3339, if it says so.
    pub created: Option<String>,
}

/// What a name file holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct RefRecord {
    image: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
    /// What the registry's name leads to: an index or the manifest itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolved: Option<Digest>,
    /// When that was last so, in seconds since the epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pulled: Option<i64>,
}

/// Where an image of the store came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Digest of the configuration.
    pub id: Digest,
    /// What the registry's name led to: an index or the manifest itself.
    pub digest: Digest,
    /// When that was last so, in seconds since the epoch.
    pub pulled: i64,
}

/// An image's manifest, as a registry has it.
#[derive(Debug)]
pub(crate) struct Known {
    /// One of the image's names.
    pub(crate) reference: Reference,
    /// It is the registry of that name.
    pub(crate) pulled: bool,
    pub(crate) bytes: Vec<u8>,
    pub(crate) manifest: Manifest,
    /// The layers' diff ids, base first, as many as the manifest has.
    pub(crate) diffs: Vec<Digest>,
}

/// An image that was pulled and is to be named.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub(crate) reference: Reference,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) index: Option<Vec<u8>>,
    /// Unpacked layers by diff id.
    pub(crate) fresh: BTreeMap<Digest, (PathBuf, Unpacked)>,
    /// Blob digest → diff id.
    pub(crate) blobs: BTreeMap<Digest, Digest>,
    pub(crate) now: i64,
}

impl Store {
    /// Opens the store at `root`, which need not exist yet.
    ///
    /// # Errors
    /// When `root` exists and is no directory.
    pub fn open(root: &Path) -> Result<Self, Error> {
        match fs::metadata(root) {
            Ok(meta) if !meta.is_dir() => Err(store_error("open", root)(io::Error::from(io::ErrorKind::NotADirectory))),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(store_error("open", root)(e)),
            _ => Ok(Self { root: root.to_owned() }),
        }
    }

    /// Returns where it is.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the image that `text` names: a reference, `sha256:` and an id, or the first digits of one.
    ///
    /// # Errors
    /// When `text` is neither, fits several images, or the store is damaged.
    pub fn resolve(&self, text: &str) -> Result<Option<Image>, Error> {
        if let Ok(id) = Digest::parse(text).or_else(|_| Digest::from_hex(text)) {
            return match self.image(&id) {
                // It was removed, and layers of it by now.
                Err(Error::Incomplete { .. }) if !self.wanted_ids()?.contains(&id) => Ok(None),
                found => found,
            };
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let is_id = (1..64).contains(&prefix.len()) && prefix.bytes().all(|b| b.is_ascii_hexdigit());
        match Reference::parse(text) {
            Ok(reference) => {
                if let Some(found) = self.find(&reference)? {
                    let missing = || Error::Incomplete { what: "the configuration".into(), image: found.to_string() };
                    return self.image(&found)?.ok_or_else(missing).map(Some);
                }
            }
            Err(_) if is_id => {}
            Err(e) => return Err(e.into()),
        }
        if !is_id {
            return Ok(None);
        }
        let mut fitting = self.all_ids()?.into_iter().filter(|id| id.hex().starts_with(prefix));
        match (fitting.next(), fitting.next()) {
            (Some(id), None) => self.image(&id),
            (Some(_), Some(_)) => Err(Error::Ambiguous(text.to_owned())),
            (None, _) => Ok(None),
        }
    }

    /// Returns the image with this id, if it is in the store.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn image(&self, id: &Digest) -> Result<Option<Image>, Error> {
        let Some(bytes) = read(&self.blob(id))? else { return Ok(None) };
        let config: ImageConfig =
            serde_json::from_slice(&bytes).map_err(|source| Error::Damaged { path: self.blob(id), source })?;
        let mut layers = Vec::new();
        let mut size = 0_u64;
        for (diff, chain) in config.rootfs.diff_ids.iter().zip(chain_ids(&config.rootfs.diff_ids)) {
            let Some(meta) = self.layer(diff)? else {
                return Err(Error::Incomplete { what: format!("layer {diff}"), image: id.to_string() });
            };
            size = size.saturating_add(meta.bytes);
            if meta.opaque_root {
                layers.clear();
            }
            layers.push(self.layer_fs(diff));
            let fixup = self.fixup_fs(&chain);
            if (!meta.implied.is_empty() || !meta.lower_links.is_empty()) && fixup.is_dir() {
                layers.push(fixup);
            }
        }
        Ok(Some(Image { id: id.clone(), created: config.created.clone(), config, layers, size }))
    }

    /// Returns all images: one line for each name, and one for each image without a name; sorted by name.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn list(&self) -> Result<Vec<Listed>, Error> {
        let mut names = BTreeMap::new();
        self.collect_refs(&self.root.join("refs"), &mut Vec::new(), &mut names)?;
        let mut unnamed: BTreeSet<Digest> = self.all_ids()?.into_iter().collect();
        let mut all = Vec::new();
        let mut line = |reference: Option<Reference>, id: &Digest| -> Result<(), Error> {
            if let Some(image) = self.image(id)? {
                all.push(Listed { reference, id: id.clone(), size: image.size, created: image.created });
            }
            Ok(())
        };
        // An image that has a tag in a repository is not shown once more for the digest that it was pulled by.
        let is_tagged = |reference: &Reference, image: &Digest| {
            let mut others = names.iter().filter(|(r, record)| r.digest().is_none() && record.image == *image);
            others.any(|(r, _)| r.familiar_name() == reference.familiar_name())
        };
        for (reference, record) in &names {
            unnamed.remove(&record.image);
            if reference.digest().is_none() || !is_tagged(reference, &record.image) {
                line(Some(reference.clone()), &record.image)?;
            }
        }
        for id in unnamed {
            line(None, &id)?;
        }
        Ok(all)
    }

    /// Gives an image a name, taking it from the image that had it.
    ///
    /// # Errors
    /// When the reference has no tag, the image is not in the store, or the store cannot be written.
    pub fn tag(&self, reference: &Reference, id: &Digest) -> Result<(), Error> {
        if self.image(id)?.is_none() {
            return Err(Error::Incomplete { what: "the configuration".into(), image: id.to_string() });
        }
        self.write_tag(reference, &RefRecord { image: id.clone(), manifest: None, resolved: None, pulled: None })
    }

    /// Takes a name away; an image that has no other is not listed any more. Its layers stay, as others may have them.
    ///
    /// # Errors
    /// When the store is damaged or cannot be written.
    pub fn untag(&self, reference: &Reference) -> Result<(), Error> {
        let path = self.name_path(reference);
        let Some(RefRecord { image, .. }) = read_json::<RefRecord>(&path)? else { return Ok(()) };
        let mut names = BTreeMap::new();
        self.collect_refs(&self.root.join("refs"), &mut Vec::new(), &mut names)?;
        // The name goes last, so that who is killed before can be asked again.
        if names.values().filter(|record| record.image == image).count() == 1 {
            remove_file(&self.root.join("refs/_images").join(image.hex()))?;
            fault::point("image.unlisted");
        }
        remove_file(&path)
    }

    /// Returns the images without a name that have this label with this value.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn dangling(&self, label: &str, value: &str) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        for Listed { id, .. } in self.list()?.into_iter().filter(|listed| listed.reference.is_none()) {
            let image = self.image(&id)?;
            if image.is_some_and(|image| image.config.config.labels.get(label).is_some_and(|own| own == value)) {
                found.push(id);
            }
        }
        Ok(found)
    }

    /// Takes an image without a name off the list. Its layers stay, as others may have them.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn unlist(&self, id: &Digest) -> Result<(), Error> {
        remove_file(&self.root.join("refs/_images").join(id.hex()))
    }

    pub(crate) fn tag_manifest(&self, reference: &Reference, id: &Digest, manifest: Digest) -> Result<(), Error> {
        let manifest = Some(manifest);
        self.write_tag(reference, &RefRecord { image: id.clone(), manifest, resolved: None, pulled: None })
    }

    /// Puts a pulled image in place and names it, after all of it was checked. Blocks while another process does so.
    pub(crate) fn settle_pull(&self, arrived: &Arrived) -> Result<Digest, Error> {
        make_dirs(&self.root)?;
        let ids = {
            let _lock = self.lock_settling()?;
            fault::point("image.settle-locked");
            let scratch = self.scratch()?;
            self.add_images(&scratch, std::slice::from_ref(&arrived.config), &arrived.fresh)?
        };
        fault::point("image.added");
        let manifest = self.put_blob(&arrived.manifest)?;
        let resolved = match &arrived.index {
            Some(index) => self.put_blob(index)?,
            None => manifest.clone(),
        };
        self.sync(&ids)?;
        for (blob, diff) in &arrived.blobs {
            self.remember_blob(blob, diff)?;
        }
        let id = ids.into_iter().next().expect("one for one");
        let record = RefRecord {
            image: id.clone(),
            manifest: Some(manifest),
            resolved: Some(resolved),
            pulled: Some(arrived.now),
        };
        self.write_tag(&arrived.reference, &record)?;
        Ok(id)
    }

    /// Another pull may have the same layers at hand, in the same directories.
    fn lock_settling(&self) -> Result<File, Error> {
        let path = self.root.join("settle.lock");
        let lock = File::create(&path).map_err(store_error("create", &path))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(|e| store_error("lock", path)(e.into()))?;
        Ok(lock)
    }

    /// Puts a layer in place that was fetched alone.
    pub(crate) fn settle_layer(&self, from: &Path, diff_id: &Digest, unpacked: &Unpacked) -> Result<(), Error> {
        let _lock = self.lock_settling()?;
        self.adopt_layer(from, diff_id, unpacked)
    }

    /// Returns where the image of that name was pulled from; `None` when it was not, or is not here.
    ///
    /// # Errors
    /// When the store is damaged.
    pub fn origin(&self, reference: &Reference) -> Result<Option<Origin>, Error> {
        let record = read_json::<RefRecord>(&self.name_path(reference))?;
        let Some(RefRecord { image: id, resolved: Some(digest), pulled: Some(pulled), .. }) = record else {
            return Ok(None);
        };
        Ok(Some(Origin { id, digest, pulled }))
    }

    /// Returns the manifests that are known of named images.
    pub(crate) fn known(&self) -> Result<Vec<Known>, Error> {
        let mut names = BTreeMap::new();
        self.collect_refs(&self.root.join("refs"), &mut Vec::new(), &mut names)?;
        let mut known = Vec::new();
        for (reference, record) in names {
            let Some(digest) = record.manifest else { continue };
            let (Some(bytes), Some(config)) = (self.document(&digest)?, self.document(&record.image)?) else {
                continue;
            };
            let manifest: Result<Manifest, _> = serde_json::from_slice(&bytes);
            let config: Result<ImageConfig, _> = serde_json::from_slice(&config);
            // They were checked when they came.
            let (Ok(manifest), Ok(config)) = (manifest, config) else { continue };
            let diffs = config.rootfs.diff_ids;
            if diffs.len() == manifest.layers.len() {
                known.push(Known { reference, pulled: record.pulled.is_some(), bytes, manifest, diffs });
            }
        }
        Ok(known)
    }

    /// Writes down that a registry has an image under this name, if the name is still that image's.
    pub(crate) fn note_pushed(
        &self,
        reference: &Reference,
        id: &Digest,
        manifest: &[u8],
        now: i64,
    ) -> Result<(), Error> {
        if self.find(reference)?.as_ref() != Some(id) {
            return Ok(());
        }
        let digest = self.put_blob(manifest)?;
        let (manifest, resolved) = (Some(digest.clone()), Some(digest));
        self.write_tag(reference, &RefRecord { image: id.clone(), manifest, resolved, pulled: Some(now) })
    }

    /// Returns when an image was given this name, in seconds since the epoch.
    #[must_use]
    pub fn named_at(&self, reference: &Reference) -> Option<i64> {
        fs::metadata(self.name_path(reference)).ok().map(|found| std::os::unix::fs::MetadataExt::mtime(&found))
    }

    /// Writes down that a name still leads to what is here.
    pub(crate) fn confirm(&self, reference: &Reference, now: i64) -> Result<(), Error> {
        match read_json::<RefRecord>(&self.name_path(reference))? {
            Some(record) => self.write_tag(reference, &RefRecord { pulled: Some(now), ..record }),
            None => Ok(()),
        }
    }

    /// Returns a document of the store by its digest, if it is there and whole.
    pub(crate) fn document(&self, digest: &Digest) -> Result<Option<Vec<u8>>, Error> {
        Ok(read(&self.blob(digest))?.filter(|bytes| Digest::of(bytes) == *digest))
    }

    /// Returns how many bytes are free where the store is.
    pub(crate) fn free(&self) -> Result<u64, Error> {
        make_dirs(&self.root)?;
        let stat = rustix::fs::statvfs(&self.root).map_err(|e| store_error("measure", &self.root)(e.into()))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn write_tag(&self, reference: &Reference, record: &RefRecord) -> Result<(), Error> {
        let path = self.name_path(reference);
        let text = serde_json::to_vec(record).expect("digests serialise");
        if read(&path)?.is_some_and(|old| old == text) {
            return Ok(());
        }
        let (dir, name) = (path.parent().expect("below the root"), path.file_name().expect("a name"));
        self.replace(dir, &name.to_string_lossy(), &text, true)
    }

    /// Returns the file that names an image: a digest says more than a tag beside it.
    fn name_path(&self, reference: &Reference) -> PathBuf {
        let repository = self.repository(reference);
        match (reference.digest().and_then(|d| Digest::parse(d).ok()), reference.tag()) {
            (Some(digest), _) => repository.join("_digests").join(digest.hex()),
            (None, tag) => repository.join("_tags").join(tag.unwrap_or("latest")),
        }
    }

    fn repository(&self, reference: &Reference) -> PathBuf {
        self.root.join("refs").join(reference.domain()).join(reference.path())
    }

    /// Returns the id that a reference leads to. With a digest, that must be the image's or its manifest's.
    fn find(&self, reference: &Reference) -> Result<Option<Digest>, Error> {
        let tags = self.repository(reference).join("_tags");
        let Some(digest) = reference.digest() else {
            let path = tags.join(reference.tag().unwrap_or("latest"));
            return Ok(read_json::<RefRecord>(&path)?.map(|record| record.image));
        };
        if let Some(record) = read_json::<RefRecord>(&self.name_path(reference))? {
            return Ok(Some(record.image));
        }
        for name in list_dir(&tags)? {
            if let Some(record) = read_json::<RefRecord>(&tags.join(name))?
                && [Some(&record.image), record.manifest.as_ref(), record.resolved.as_ref()]
                    .into_iter()
                    .flatten()
                    .any(|known| known.to_string() == digest)
            {
                return Ok(Some(record.image));
            }
        }
        Ok(None)
    }

    fn collect_refs(
        &self,
        dir: &Path,
        parts: &mut Vec<String>,
        all: &mut BTreeMap<Reference, RefRecord>,
    ) -> Result<(), Error> {
        for name in list_dir(dir)? {
            if name == "_images" || name.starts_with('.') {
                continue;
            }
            let path = dir.join(&name);
            let mark = match name.as_str() {
                "_tags" => ":",
                "_digests" => "@sha256:",
                _ => {
                    parts.push(name);
                    self.collect_refs(&path, parts, all)?;
                    parts.pop();
                    continue;
                }
            };
            for tag in list_dir(&path)? {
                let Ok(reference) = Reference::parse(&format!("{}{mark}{tag}", parts.join("/"))) else { continue };
                if let Some(record) = read_json(&path.join(&tag))? {
                    all.insert(reference, record);
                }
            }
        }
        Ok(())
    }

    /// Returns the ids of all images that are on the list or have a name.
    pub(super) fn wanted_ids(&self) -> Result<BTreeSet<Digest>, Error> {
        let mut names = BTreeMap::new();
        self.collect_refs(&self.root.join("refs"), &mut Vec::new(), &mut names)?;
        Ok(self.all_ids()?.into_iter().chain(names.into_values().map(|record| record.image)).collect())
    }

    fn all_ids(&self) -> Result<Vec<Digest>, Error> {
        let names = list_dir(&self.root.join("refs/_images"))?;
        Ok(names.iter().filter_map(|name| Digest::from_hex(name).ok()).collect())
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(&digest.hex()[..2]).join(digest.hex())
    }

    pub(crate) fn layer_dir(&self, diff_id: &Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    pub(crate) fn layer_fs(&self, diff_id: &Digest) -> PathBuf {
        self.layer_dir(diff_id).join("fs")
    }

    pub(crate) fn fixup_fs(&self, chain_id: &Digest) -> PathBuf {
        self.root.join("fixups").join(chain_id.hex()).join("fs")
    }

    /// Returns what is written down about a layer, if it is there and whole.
    pub(crate) fn layer(&self, diff_id: &Digest) -> Result<Option<LayerMeta>, Error> {
        let dir = self.layer_dir(diff_id);
        let Some(meta) = read_json::<LayerMeta>(&dir.join("meta.json"))? else { return Ok(None) };
        // A layer that was never synced may be half on disk after a power cut; no name leads to it.
        let whole = meta.format == LAYER_FORMAT && (dir.join("durable").exists() || meta.boot_id == boot_id());
        Ok(whole.then_some(meta))
    }

    /// Returns the diff id known to be inside a compressed blob.
    pub(crate) fn diff_of_blob(&self, blob: &Digest) -> Option<Digest> {
        let text = fs::read_to_string(self.root.join("layers/blobs").join(blob.hex())).ok()?;
        Digest::parse(text.trim()).ok()
    }

    pub(crate) fn remember_blob(&self, blob: &Digest, diff_id: &Digest) -> Result<(), Error> {
        self.replace(&self.root.join("layers/blobs"), blob.hex(), diff_id.to_string().as_bytes(), false)
    }

    /// Writes a document and returns its digest.
    pub(crate) fn put_blob(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let path = self.blob(&digest);
        if read(&path)?.is_none_or(|old| old != bytes) {
            let dir = path.parent().expect("a blob lies in a directory");
            self.replace(dir, digest.hex(), bytes, false)?;
        }
        Ok(digest)
    }

    /// The directory of what is being written.
    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("layers/tmp")
    }

    /// Makes a directory for unfinished things, removed when the result is dropped or after a crash.
    pub(crate) fn scratch(&self) -> Result<Scratch, Error> {
        let tmp = self.root.join("layers/tmp");
        make_dirs(&tmp)?;
        loop {
            let id = random_name();
            let lock_path = tmp.join(format!("{id}.lock"));
            let lock = File::create_new(&lock_path).map_err(store_error("create", &lock_path))?;
            // A sweep may have come between: then the lock is taken, or the file is gone, and we start again.
            if rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() || !lock_path.exists() {
                continue;
            }
            fault::point("image.scratch-locked");
            let dir = tmp.join(id);
            make_dirs(&dir)?;
            fault::point("image.scratch");
            return Ok(Scratch { dir, lock_path, _lock: lock });
        }
    }

    /// Removes what crashed writers left.
    pub(crate) fn sweep(&self) -> Result<(), Error> {
        let tmp = self.tmp();
        for name in list_dir(&tmp)? {
            if let Some(writer) = name.strip_prefix(SMALL).and_then(|rest| rest.split('-').next()) {
                let path = tmp.join(&name);
                match Path::new("/proc").join(writer).exists() {
                    true => Ok(()), // it is being written
                    false => fs::remove_file(&path),
                }
                .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })
                .map_err(store_error("remove", &path))?;
                continue;
            }
            let lock_path = match name.strip_suffix(".lock") {
                Some(_) => tmp.join(&name),
                None => tmp.join(format!("{name}.lock")),
            };
            let lock = match File::open(&lock_path) {
                Ok(lock) => Some(lock),
                Err(e) if e.kind() == io::ErrorKind::NotFound => None,
                Err(e) => return Err(store_error("open", lock_path)(e)),
            };
            if let Some(lock) = &lock
                && rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive).is_err()
            {
                continue;
            }
            let dir = lock_path.with_extension("");
            remove_dir(&tmp, &dir)?;
            fault::point("image.swept");
            match fs::remove_file(&lock_path) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(store_error("remove", lock_path)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// Moves an unpacked layer from `scratch` into its place. One that is there already wins.
    pub(crate) fn adopt_layer(&self, from: &Path, diff_id: &Digest, unpacked: &Unpacked) -> Result<(), Error> {
        if self.layer(diff_id)?.is_some() {
            return Ok(());
        }
        write_meta(from, diff_id, unpacked)?;
        fault::point("image.layer-described");
        let to = self.layer_dir(diff_id);
        if to.exists() && self.layer(diff_id)?.is_none() {
            // Left unsynced by another boot, or of a form that we do not read.
            let scratch = self.scratch()?;
            match fs::rename(&to, scratch.dir.join("stale")) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(store_error("replace", to)(e)),
                _ => {}
            }
        }
        self.settle(from, &to)
    }

    /// Renames a finished directory into place; losing a race against an equal one is fine.
    pub(crate) fn settle(&self, from: &Path, to: &Path) -> Result<(), Error> {
        make_dirs(to.parent().expect("below the root"))?;
        match fs::rename(from, to) {
            Err(e) if matches!(e.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists) => Ok(()),
            other => other.map_err(store_error("create", to)),
        }?;
        fault::point("image.settled");
        Ok(())
    }

    /// Adds an image whose layers are in the store or in `fresh`, which maps a diff id to an unpacked layer in
    /// `scratch`. All that can be refused is refused before anything is put in place.
    pub(crate) fn add_images(
        &self,
        scratch: &Scratch,
        configs: &[Vec<u8>],
        fresh: &BTreeMap<Digest, (PathBuf, Unpacked)>,
    ) -> Result<Vec<Digest>, Error> {
        let mut fixups = Vec::new();
        for bytes in configs {
            let config: ImageConfig = serde_json::from_slice(bytes)
                .map_err(|e| Error::Document { name: "image configuration".into(), reason: e.to_string() })?;
            let mut metas = Vec::new();
            for diff in &config.rootfs.diff_ids {
                metas.push((diff, self.layer(diff)?));
            }
            let mut layers = Vec::new();
            for (diff, meta) in &metas {
                layers.push(match (meta, fresh.get(diff)) {
                    (Some(meta), _) => Placed {
                        implied: &meta.implied,
                        lower_links: &meta.lower_links,
                        opaque_root: meta.opaque_root,
                        fs: self.layer_fs(diff),
                    },
                    (None, Some((dir, unpacked))) => Placed {
                        implied: &unpacked.implied,
                        lower_links: &unpacked.lower_links,
                        opaque_root: unpacked.opaque_root,
                        fs: dir.join("fs"),
                    },
                    (None, None) => {
                        let image = Digest::of(bytes).to_string();
                        return Err(Error::Incomplete { what: format!("layer {diff}"), image });
                    }
                });
            }
            fixups.extend(fixup::prepare(self, scratch, &config.rootfs.diff_ids, &layers)?);
        }
        fault::point("image.fixups-prepared");
        for (diff, (dir, unpacked)) in fresh {
            self.adopt_layer(dir, diff, unpacked)?;
        }
        for (dir, chain) in fixups {
            let to = self.fixup_fs(&chain);
            self.settle(&dir, to.parent().expect("below the root"))?;
        }
        configs.iter().map(|bytes| self.put_blob(bytes)).collect()
    }

    /// Makes layers durable and the images findable: one `syncfs` for all of them.
    pub(crate) fn sync(&self, images: &[Digest]) -> Result<(), Error> {
        let mut volatile = Vec::new();
        for id in images {
            let Some(image) = self.image(id)? else {
                return Err(Error::Incomplete { what: "the configuration".into(), image: id.to_string() });
            };
            let dirs = image.config.rootfs.diff_ids.iter().map(|d| self.layer_dir(d));
            volatile.extend(dirs.filter(|d| !d.join("durable").exists()));
            let record = self.root.join("refs/_images").join(id.hex());
            if !record.exists() {
                volatile.push(record);
            }
        }
        if volatile.is_empty() {
            return Ok(());
        }
        let root = File::open(&self.root).map_err(store_error("open", &self.root))?;
        rustix::fs::syncfs(&root).map_err(|e| store_error("sync", &self.root)(e.into()))?;
        fault::point("image.synced");
        for path in volatile.iter().filter(|p| p.is_dir()) {
            let mark = path.join("durable");
            File::create(&mark).map_err(store_error("create", &mark))?;
            fault::point("image.durable");
        }
        for id in images {
            self.replace(&self.root.join("refs/_images"), id.hex(), b"{}", false)?;
        }
        Ok(())
    }

    /// Writes a small file by rename, so that a reader sees the old one or the new one. It is written where unfinished things
    /// are, so that a sweep finds what a crash leaves, whatever place it was for.
    pub(super) fn replace(&self, dir: &Path, name: &str, bytes: &[u8], durable: bool) -> Result<(), Error> {
        make_dirs(dir)?;
        make_dirs(&self.tmp())?;
        let tmp = self.tmp().join(format!("{SMALL}{}-{}", std::process::id(), random_name()));
        let path = dir.join(name);
        let write = || -> io::Result<()> {
            let mut file = File::create_new(&tmp)?;
            file.write_all(bytes)?;
            if durable {
                file.sync_all()?;
            }
            fault::point("image.file-written");
            fs::rename(&tmp, &path)?;
            fault::point("image.file-placed");
            if durable {
                File::open(dir)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|e| {
            if let Err(second) = fs::remove_file(&tmp) {
                tracing::debug!(%second, "cannot remove {}", tmp.display()); // the first error is the one to report
            }
            store_error("write", &path)(e)
        })
    }
}

/// How names of small files begin that are being written; the pid of their writer follows.
const SMALL: &str = ".small-";

/// A directory for unfinished things.
#[derive(Debug)]
pub(crate) struct Scratch {
    dir: PathBuf,
    lock_path: PathBuf,
    _lock: File,
}

impl Scratch {
    /// Returns the place of something unfinished.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes an empty layer directory with `fs` in it and returns it.
    pub(crate) fn layer(&self, name: &str) -> Result<PathBuf, Error> {
        let dir = self.dir.join(name);
        let fs_dir = dir.join("fs");
        fs::create_dir_all(&fs_dir).map_err(store_error("create", &fs_dir))?;
        rustix::fs::chmod(&fs_dir, Mode::from_raw_mode(0o755)).map_err(|e| store_error("create", fs_dir)(e.into()))?;
        Ok(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let tmp = self.dir.parent().unwrap_or(&self.dir).to_owned();
        let removed = remove_dir(&tmp, &self.dir).and_then(|()| {
            fault::point("image.scratch-emptied");
            fs::remove_file(&self.lock_path).map_err(store_error("remove", &self.lock_path))
        });
        if let Err(error) = removed {
            tracing::debug!(%error, "left for the next sweep"); // nothing depends on it being gone now
        }
    }
}

/// Writes down what is known about an unpacked layer, beside its directory.
pub(crate) fn write_meta(dir: &Path, diff_id: &Digest, unpacked: &Unpacked) -> Result<(), Error> {
    let meta = LayerMeta {
        format: LAYER_FORMAT,
        diff_id: diff_id.clone(),
        entries: unpacked.entries,
        bytes: unpacked.bytes,
        implied: unpacked.implied.clone(),
        lower_links: unpacked.lower_links.clone(),
        opaque_root: unpacked.opaque_root,
        boot_id: boot_id(),
    };
    let text = serde_json::to_vec(&meta).expect("a layer's facts serialise");
    let path = dir.join("meta.json");
    fs::write(&path, text).map_err(store_error("write", &path))
}

pub(crate) fn remove_dir(parent: &Path, dir: &Path) -> Result<(), Error> {
    let remove = || -> io::Result<()> {
        let fd = rustix::fs::open(parent, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let name = dir.file_name().ok_or(io::ErrorKind::InvalidInput)?;
        sys::tree::remove(fd.as_fd(), name.as_encoded_bytes())
    };
    remove().map_err(store_error("remove", dir))
}

pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(store_error("remove", path)(e)),
        _ => Ok(()),
    }
}

pub(crate) fn make_dirs(dir: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(store_error("create", dir))
}

pub(crate) fn random_name() -> String {
    let mut bytes = [0_u8; 12];
    // Up to 256 bytes come whole or not at all once the pool is ready (getrandom(2)).
    if rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty()).is_err() {
        bytes[..4].copy_from_slice(&std::process::id().to_ne_bytes());
    }
    hex(&bytes)
}

pub(crate) fn boot_id() -> String {
    // Without /proc there is no id, and no unsynced layer of an earlier run is trusted.
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| random_name(), |t| t.trim().to_owned())
}

pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(store_error("read", path)(e)),
    }
}

pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|source| Error::Damaged { path: path.to_owned(), source })
}

/// Returns the names in a directory that are text, sorted; a missing directory has none.
pub(super) fn list_dir(dir: &Path) -> Result<Vec<String>, Error> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(store_error("list", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(store_error("list", dir))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

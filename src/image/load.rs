//! Loads images out of archives: Docker's (`docker save`) and OCI layouts in a tar, plain or compressed.
//!
//! One pass over a stream that need not be seekable: a blob that is a tar is unpacked as it comes, into scratch, while
//! another thread decompresses; whether it is a layer of an image is known only when the manifests have been read.
//! Nothing is put in place before everything was checked. Names in the archive are keys of a map and never paths.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use serde::de::DeserializeOwned;

use crate::event::{Event, Sink};
use crate::image::compression::{Compression, decompress, sniff, unread};
use crate::image::config::{
    ArchiveManifest, Descriptor, INDEX_TYPES, ImageConfig, Index, MANIFEST_TYPES, Manifest, host_architecture,
};
use crate::image::digest::{Digest, HashingReader};
use crate::image::frame::FRAME;
use crate::image::reference::Reference;
use crate::image::store::{Scratch, Store};
use crate::image::tarball::{self, Kind, TarError, show};
use crate::image::unpack::{Limits, Unpacked, unpack_framed};
use crate::image::{Error, is_full, platform};

/// Largest document kept in memory, and largest sum of them (CVE-2020-1702).
const DOCUMENT_MAX: u64 = 8 << 20;
const DOCUMENTS_MAX: u64 = 64 << 20;
/// Most entries of an archive that are not in a layer.
const NAMES_MAX: usize = 100_000;
/// How many times larger than its compressed form a large layer may be.
const BOMB_RATIO: u64 = 1000;
const CHUNK: usize = 1 << 20;

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedImage {
    /// Its id.
    pub id: Digest,
    /// The names that the archive gave it.
    pub references: Vec<Reference>,
}

impl Store {
    /// Loads all images of an archive. Only names that the archive gives are set; loading again changes nothing.
    ///
    /// # Errors
    /// When the archive is damaged, hostile or incomplete, or the store cannot be written: then no name, layer or
    /// temporary file of it is left behind.
    pub fn load(&self, archive: impl Read, sink: &dyn Sink) -> Result<Vec<LoadedImage>, Error> {
        self.load_all(archive, sink).map_err(|error| self.explain_full(error))
    }

    /// Says where there is no room and how much there is, once what was unpacked is gone again.
    pub(crate) fn explain_full(&self, error: Error) -> Error {
        let what = match &error {
            Error::Write { name, source } if is_full(source) => format!("`{name}`"),
            Error::Store { path, source, .. } if is_full(source) => format!("`{}`", path.display()),
            Error::NoRoom { what, .. } => what.clone(),
            _ => return error,
        };
        let (path, found) = (self.root().to_owned(), rustix::fs::statvfs(self.root()));
        let (kib, inodes) = found.map_or((0, 0), |f| (f.f_bavail.saturating_mul(f.f_frsize) >> 10, f.f_favail));
        Error::NoRoom { what, path, kib, inodes }
    }

    fn load_all(&self, archive: impl Read, sink: &dyn Sink) -> Result<Vec<LoadedImage>, Error> {
        self.sweep()?;
        // A layer that is found here is counted on until the image is listed.
        let _hold = self.hold()?;
        let scratch = self.scratch()?;
        let mut load = Load { store: self, scratch: &scratch, sink, contents: Contents::default() };
        let mut source = BufReader::with_capacity(CHUNK, archive);
        let head = source.fill_buf().map_err(Error::Read)?;
        if let Some(method) = unread(head) {
            return Err(Error::Compression { what: "the image archive".into(), method });
        }
        let compression = sniff(head);
        let mut tar = tarball::Reader::new(decompress(source, compression));
        while let Some(entry) = tar.next().map_err(archive_error)? {
            load.entry(&entry, &mut tar)?;
        }
        // Let a writer at the other end of a pipe finish.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(|e| archive_error(e.into()))?;
        let images = load.contents.images(sink)?;
        let wanted: BTreeSet<&Digest> = images.iter().flat_map(|i| &i.config.rootfs.diff_ids).collect();
        let fresh = std::mem::take(&mut load.contents.fresh);
        let fresh = fresh.into_iter().filter(|(diff, _)| wanted.contains(diff)).collect();
        let bytes: Vec<Vec<u8>> = images.iter().map(|i| i.bytes.clone()).collect();
        let ids = self.add_images(&scratch, &bytes, &fresh)?;
        for image in &images {
            if let Some(manifest) = &image.manifest {
                self.put_blob(manifest)?;
            }
        }
        self.sync(&ids)?;
        for (blob, diff) in &load.contents.blobs {
            if wanted.contains(diff) && blob != diff {
                self.remember_blob(blob, diff)?;
            }
        }
        let mut loaded: Vec<LoadedImage> = Vec::new();
        for (image, id) in images.into_iter().zip(ids) {
            for reference in &image.references {
                match &image.manifest {
                    Some(manifest) => self.tag_manifest(reference, &id, Digest::of(manifest))?,
                    None => self.tag(reference, &id)?,
                }
            }
            loaded.push(LoadedImage { id, references: image.references });
        }
        Ok(loaded)
    }
}

fn archive_error(error: TarError) -> Error {
    match error {
        TarError::Io(e) if matches!(e.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => {
            Error::Archive(e.to_string())
        }
        TarError::Io(e) => Error::Read(e),
        TarError::Bad(reason) => Error::Archive(reason),
    }
}

/// A layer that was seen.
#[derive(Debug, Clone)]
struct Layer {
    diff_id: Digest,
}

/// Why an entry of an archive was not kept.
#[derive(Debug, Clone, Copy)]
enum LeftOut {
    /// It is no layer, and too large for a document.
    TooLarge,
    /// It is compressed in a way that we do not read.
    Compressed(&'static str),
}

/// What an archive holds.
#[derive(Default)]
struct Contents {
    documents: HashMap<String, Vec<u8>>,
    document_bytes: u64,
    layers: HashMap<String, Layer>,
    /// Old archives name a repeated layer by a link.
    aliases: HashMap<String, String>,
    /// Blob digest → diff id.
    blobs: BTreeMap<Digest, Digest>,
    /// What was not kept, and why: it matters only when an image needs it.
    left_out: HashMap<String, LeftOut>,
    /// Unpacked layers, by diff id.
    fresh: BTreeMap<Digest, (PathBuf, Unpacked)>,
}

/// An image as the archive describes it.
struct Described {
    bytes: Vec<u8>,
    config: ImageConfig,
    references: Vec<Reference>,
    manifest: Option<Vec<u8>>,
}

struct Load<'a> {
    store: &'a Store,
    scratch: &'a Scratch,
    sink: &'a dyn Sink,
    contents: Contents,
}

/// Makes a map key of a name: no leading `./`, and `..` resolved against the directory `base`.
fn key(base: &str, name: &str) -> String {
    let mut parts: Vec<&str> = if name.starts_with('/') { Vec::new() } else { base.split('/').collect() };
    for part in name.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            _ => parts.push(part),
        }
    }
    parts.retain(|p| !p.is_empty());
    parts.join("/")
}

impl Load<'_> {
    fn entry(&mut self, entry: &tarball::Entry, data: &mut tarball::Reader<impl Read>) -> Result<(), Error> {
        let Ok(name) = std::str::from_utf8(&entry.name).map(|n| key("", n)) else {
            return Err(Error::Archive(format!("it has an entry named `{}`", show(&entry.name))));
        };
        let contents = &mut self.contents;
        let known = contents.documents.len() + contents.layers.len() + contents.aliases.len() + contents.left_out.len();
        if known > NAMES_MAX {
            return Err(Error::Limit { what: "the image archive".into(), limit: format!("{NAMES_MAX} entries") });
        }
        match entry.kind {
            Kind::File => {}
            Kind::Directory => return Ok(()),
            Kind::Symlink | Kind::Hardlink => {
                let base = match entry.kind {
                    Kind::Symlink => name.rsplit_once('/').map_or("", |(dir, _)| dir),
                    _ => "",
                };
                let target = key(base, &String::from_utf8_lossy(&entry.link));
                contents.aliases.insert(name, target);
                return Ok(());
            }
            Kind::Char | Kind::Block | Kind::Fifo => {
                return Err(Error::Archive(format!("its entry `{}` is a device", show(&entry.name))));
            }
        }
        if contents.documents.contains_key(&name)
            || contents.layers.contains_key(&name)
            || contents.left_out.contains_key(&name)
        {
            return Err(Error::Archive(format!("it contains `{}` twice", show(&entry.name))));
        }
        // In an OCI layout a blob's name is its digest.
        let promised = name.strip_prefix("blobs/sha256/").and_then(|hex| Digest::from_hex(hex).ok());
        let mut raw = BufReader::with_capacity(CHUNK, HashingReader::new(data));
        let head = raw.fill_buf().map_err(|e| archive_error(e.into()))?;
        let compression = sniff(head);
        let unread = unread(head);
        let is_layer = compression != Compression::None || looks_like_tar(head, entry.size);
        let mut layer = None;
        if is_layer {
            layer = self.layer(&name, &mut raw, entry.size, compression, promised.as_ref())?;
        } else if let Some(method) = unread {
            self.contents.left_out.insert(name.clone(), LeftOut::Compressed(method));
        } else if entry.size > DOCUMENT_MAX {
            self.contents.left_out.insert(name.clone(), LeftOut::TooLarge);
        } else {
            let contents = &mut self.contents;
            contents.document_bytes += entry.size;
            if contents.document_bytes > DOCUMENTS_MAX {
                return Err(Error::Limit { what: "the documents of the image archive".into(), limit: "64 MiB".into() });
            }
            let mut bytes = Vec::new();
            raw.read_to_end(&mut bytes).map_err(|e| archive_error(e.into()))?;
            contents.documents.insert(name.clone(), bytes);
        }
        io::copy(&mut raw, &mut io::sink()).map_err(|e| archive_error(e.into()))?;
        let found = raw.into_inner().finish();
        if let Some(promised) = promised
            && promised != found
        {
            let what = format!("`{name}` in the image archive");
            return Err(Error::Digest { what, expected: promised.to_string(), found: found.to_string() });
        }
        if let Some(diff_id) = layer {
            // A plain tar's diff id is its own digest.
            let diff_id = diff_id.unwrap_or_else(|| found.clone());
            self.contents.blobs.insert(found, diff_id.clone());
            self.contents.layers.insert(name, Layer { diff_id });
        }
        Ok(())
    }

    /// Unpacks a layer, unless it is in the store. The outer `None`: it is no layer at all. The inner `None`: its
    /// diff id is the digest of the blob, which the caller has when it has read to the end.
    fn layer(
        &mut self,
        name: &str,
        raw: &mut BufReader<impl Read>,
        size: u64,
        compression: Compression,
        promised: Option<&Digest>,
    ) -> Result<Option<Option<Digest>>, Error> {
        if let Some(promised) = promised {
            // The promise is checked by the caller; if it is broken, nothing is loaded.
            if compression == Compression::None && self.store.layer(promised)?.is_some() {
                return Ok(Some(None));
            }
            if let Some(diff) = self.store.diff_of_blob(promised)
                && self.store.layer(&diff)?.is_some()
            {
                return Ok(Some(Some(diff)));
            }
        }
        let dir = self.scratch.layer(&format!("layer-{}", self.contents.layers.len()))?;
        let (unpacked, diff_id) = unpack_stream(decompress(raw, compression), name, size, &dir.join("fs"))?;
        for warning in &unpacked.warnings {
            self.sink.send(Event::Warning(warning.clone()));
        }
        self.contents.fresh.entry(diff_id.clone()).or_insert((dir, unpacked));
        Ok(Some(Some(diff_id)))
    }
}

/// Decompresses on this thread, hashes and unpacks on another; what else is needed to make the tar again is written beside
/// the directory.
pub(crate) fn unpack_stream(source: impl Read, name: &str, size: u64, fs: &Path) -> Result<(Unpacked, Digest), Error> {
    unpack_stream_within(source, name, size, fs, Limits::default(), Some(&fs.with_file_name(FRAME)))
}

/// As [`unpack_stream`], with limits.
pub(crate) fn unpack_stream_within(
    mut source: impl Read,
    name: &str,
    size: u64,
    fs: &Path,
    limits: Limits,
    frame: Option<&Path>,
) -> Result<(Unpacked, Digest), Error> {
    let (sender, receiver): (SyncSender<io::Result<Vec<u8>>>, _) = sync_channel(4);
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Archive(format!("it is cut short in `{name}`")),
        _ => Error::LayerTar { layer: name.to_owned(), reason: error.to_string() },
    };
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let mut source = HashingReader::new(ChunkReader { receiver, chunk: Vec::new(), at: 0 });
            let unpacked = unpack_framed(&mut source, name, fs, limits, frame)?;
            Ok((unpacked, source.finish()))
        });
        let mut total = 0_u64;
        let mut own_error = None;
        loop {
            let mut chunk = vec![0; CHUNK];
            let sent = match source.read(&mut chunk) {
                Ok(0) => break,
                Ok(n) => {
                    total += n as u64;
                    chunk.truncate(n);
                    if total > limits.expansion_floor && total / BOMB_RATIO > size {
                        let limit = format!("{BOMB_RATIO} times its compressed size");
                        own_error = Some(Error::Limit { what: format!("layer `{name}`"), limit });
                        sender.send(Err(io::ErrorKind::InvalidData.into()))
                    } else {
                        sender.send(Ok(chunk))
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => {
                    own_error = Some(failed(e));
                    sender.send(Err(io::ErrorKind::InvalidData.into()))
                }
            };
            // The worker has given up; its error says why.
            if sent.is_err() || own_error.is_some() {
                break;
            }
        }
        drop(sender);
        let result = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        own_error.map_or(result, Err)
    })
}

/// The reading end of a channel of chunks.
struct ChunkReader {
    receiver: Receiver<io::Result<Vec<u8>>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Read for ChunkReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.at == self.chunk.len() {
            let Ok(chunk) = self.receiver.recv() else { return Ok(0) };
            (self.chunk, self.at) = (chunk?, 0);
        }
        let n = buf.len().min(self.chunk.len() - self.at);
        buf[..n].copy_from_slice(&self.chunk[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}

/// Tells a tar by its first header's checksum; an empty tar is blocks of zeros.
fn looks_like_tar(head: &[u8], size: u64) -> bool {
    let Some(block) = head.get(..512) else { return false };
    if block.iter().all(|b| *b == 0) {
        return size.is_multiple_of(512);
    }
    !matches!(tarball::Reader::new(block).next(), Err(TarError::Bad(reason)) if reason.contains("checksum"))
}

/// Returns whether what begins so is an archive, or compressed: no text begins so.
pub(crate) fn is_archive(head: &[u8]) -> bool {
    sniff(head) != Compression::None || unread(head).is_some() || looks_like_tar(head, head.len() as u64)
}

/// Returns the tar that a file is, decompressed; `None` when it is none.
///
/// # Errors
/// A sentence, when it cannot be read, or is compressed in a way that we do not read.
pub(crate) fn archive(file: std::fs::File, size: u64) -> Result<Option<Box<dyn Read>>, String> {
    let mut source = io::BufReader::with_capacity(CHUNK, file);
    let head = source.fill_buf().map_err(|e| e.to_string())?;
    if let Some(name) = unread(head) {
        return Err(format!("it is compressed with {name}, which is not supported yet"));
    }
    let compression = sniff(head);
    let mut tar = decompress(source, compression);
    let mut head = Vec::new();
    // What cannot be decompressed is no archive.
    if tar.by_ref().take(512).read_to_end(&mut head).is_err() {
        return Ok(None);
    }
    let size = if compression == Compression::None { size } else { head.len() as u64 };
    // Of a file of zeros nobody can tell that it is an empty archive.
    let is_tar = head.iter().any(|b| *b != 0) && looks_like_tar(&head, size);
    Ok(is_tar.then(|| -> Box<dyn Read> { Box::new(io::Cursor::new(head).chain(tar)) }))
}

impl Contents {
    fn images(&self, sink: &dyn Sink) -> Result<Vec<Described>, Error> {
        let images = if let Some(bytes) = self.documents.get("manifest.json") {
            self.docker_images(bytes)?
        } else if let Some(bytes) = self.documents.get("index.json") {
            self.oci_images(bytes)?
        } else if self.left_out.contains_key("manifest.json") {
            return Err(self.missing("manifest.json"));
        } else if self.left_out.contains_key("index.json") {
            return Err(self.missing("index.json"));
        } else {
            return Err(Error::NotAnImage);
        };
        for image in &images {
            let (arch, os) = (&image.config.architecture, &image.config.os);
            if arch != host_architecture() || os != "linux" {
                let name = image.references.first().map_or_else(|| "an image".to_owned(), |r| r.familiar());
                let host = host_architecture();
                sink.send(Event::Warning(format!("{name} is for {os}/{arch}, but this machine is linux/{host}")));
            }
        }
        Ok(images)
    }

    /// Follows links between names of the archive.
    fn alias(&self, name: &str) -> String {
        let mut name = key("", name);
        for _ in 0..8 {
            match self.aliases.get(&name) {
                Some(target) => name.clone_from(target),
                None => break,
            }
        }
        name
    }

    fn document(&self, name: &str) -> Result<&Vec<u8>, Error> {
        self.documents.get(&self.alias(name)).ok_or_else(|| self.missing(name))
    }

    /// Says why something that an image needs is not there.
    fn missing(&self, name: &str) -> Error {
        let what = || format!("`{}` in the image archive", show(name.as_bytes()));
        match self.left_out.get(&self.alias(name)) {
            Some(LeftOut::TooLarge) => Error::Limit { what: what(), limit: "8 MiB for a document".into() },
            Some(LeftOut::Compressed(method)) => Error::Compression { what: what(), method },
            None => Error::Missing(name.to_owned()),
        }
    }

    fn docker_images(&self, manifest: &[u8]) -> Result<Vec<Described>, Error> {
        let entries: Vec<ArchiveManifest> = parse("manifest.json", manifest)?;
        let mut images = Vec::new();
        for entry in entries {
            let bytes = self.document(&entry.config)?;
            let config: ImageConfig = parse(&entry.config, bytes)?;
            let references = entry.repo_tags.iter().map(|t| Reference::parse(t)).collect::<Result<_, _>>()?;
            self.check_layers(&entry.config, &config, &entry.layers)?;
            images.push(Described { bytes: bytes.clone(), config, references, manifest: None });
        }
        Ok(images)
    }

    /// Checks that a configuration's diff ids are those of the layers that were read.
    fn check_layers(&self, name: &str, config: &ImageConfig, layers: &[String]) -> Result<(), Error> {
        let invalid = |reason: String| Err(Error::Document { name: name.to_owned(), reason });
        if config.rootfs.kind != "layers" {
            return invalid("its `rootfs` is not of type `layers`".into());
        }
        let promised = &config.rootfs.diff_ids;
        if promised.is_empty() {
            return invalid("it has no layers".into());
        }
        if promised.len() != layers.len() {
            return invalid(format!("it promises {} layers, the manifest has {}", promised.len(), layers.len()));
        }
        for (layer, promised) in layers.iter().zip(promised) {
            let found = self.layers.get(&self.alias(layer)).ok_or_else(|| self.missing(layer))?;
            if found.diff_id != *promised {
                return Err(Error::Digest {
                    what: format!("layer `{layer}`"),
                    expected: promised.to_string(),
                    found: found.diff_id.to_string(),
                });
            }
        }
        Ok(())
    }

    fn oci_images(&self, index: &[u8]) -> Result<Vec<Described>, Error> {
        let mut images = Vec::new();
        for descriptor in index_entries("index.json", index)? {
            let annotations = &descriptor.annotations;
            let name = annotations
                .get("io.containerd.image.name")
                // Without a repository, this is a tag alone and names nothing.
                .or_else(|| annotations.get("org.opencontainers.image.ref.name").filter(|n| n.contains([':', '/'])));
            let references = match name {
                Some(name) => vec![Reference::parse(name)?],
                None => Vec::new(),
            };
            if let Some(image) = self.oci_image(&descriptor, references, 0)? {
                images.push(image);
            }
        }
        Ok(images)
    }

    fn oci_image(
        &self,
        descriptor: &Descriptor,
        references: Vec<Reference>,
        depth: usize,
    ) -> Result<Option<Described>, Error> {
        let name = blob_name(&descriptor.digest);
        if platform::is_attestation(descriptor) {
            return Ok(None);
        }
        let bytes = self.blob(descriptor)?;
        if INDEX_TYPES.contains(&descriptor.media_type.as_str()) {
            if depth > 0 {
                return Err(Error::Document { name, reason: "an index lies in an index in an index".into() });
            }
            let (entries, wanted) = (index_entries(&name, bytes)?, platform::host());
            let Some(chosen) = platform::choose(&entries, &wanted) else {
                let reason = format!("it offers {}, not {}", platform::offered(&entries), platform::show(&wanted));
                return Err(Error::Document { name, reason });
            };
            return self.oci_image(chosen, references, depth + 1);
        }
        if !MANIFEST_TYPES.contains(&descriptor.media_type.as_str()) {
            let reason = format!("its media type `{}` is not supported", show(descriptor.media_type.as_bytes()));
            return Err(Error::Document { name, reason });
        }
        let manifest: Manifest = parse(&name, bytes)?;
        if manifest.schema_version != 2 || manifest.manifests.is_some() {
            return Err(Error::Document { name, reason: "it is no image manifest of schema version 2".into() });
        }
        if manifest.media_type.as_ref().is_some_and(|t| *t != descriptor.media_type) {
            return Err(Error::Document { name, reason: "its media type is not the one its index gives".into() });
        }
        let config_bytes = self.blob(&manifest.config)?;
        let config: ImageConfig = parse(&blob_name(&manifest.config.digest), config_bytes)?;
        let layers: Vec<String> = manifest.layers.iter().map(|d| blob_name(&d.digest)).collect();
        self.check_layers(&blob_name(&manifest.config.digest), &config, &layers)?;
        Ok(Some(Described { bytes: config_bytes.clone(), config, references, manifest: Some(bytes.clone()) }))
    }

    /// Returns a document by its descriptor; its digest was checked when it was read.
    fn blob(&self, descriptor: &Descriptor) -> Result<&Vec<u8>, Error> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.documents.get(&name).ok_or_else(|| self.missing(&name))?;
        if bytes.len() as u64 != descriptor.size {
            let reason = format!("it has {} bytes, not {} as promised", bytes.len(), descriptor.size);
            return Err(Error::Document { name, reason });
        }
        Ok(bytes)
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn index_entries(name: &str, bytes: &[u8]) -> Result<Vec<Descriptor>, Error> {
    let index: Index = parse(name, bytes)?;
    let typed = index.media_type.as_ref().is_none_or(|t| INDEX_TYPES.contains(&t.as_str()));
    if index.schema_version != 2 || index.layers.is_some() || index.config.is_some() || !typed {
        return Err(Error::Document { name: name.to_owned(), reason: "it is no image index".into() });
    }
    Ok(index.manifests)
}

fn parse<T: DeserializeOwned>(name: &str, bytes: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(bytes).map_err(|e| Error::Document { name: show(name.as_bytes()), reason: e.to_string() })
}

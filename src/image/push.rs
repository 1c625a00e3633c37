//! Gives images of the store to registries.
//!
//! What a registry has is not sent again: it is asked for each layer, by the digests under which registries are known to have it,
//! and has it taken from another repository of its own where that is possible. A layer that is left is packed: its tar is made
//! again from its files (see `frame`) and compressed, always in the same way. Layers of all images go side by side, each once
//! for a repository; then the configuration, and the manifest last. An image that has come from a registry with the very same
//! blobs keeps its manifest, and with it its digest.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::{join_all, try_join_all};
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};

use crate::event::{Event, Progress, Sink, Subject};
use crate::image::cache::{self, Blob, Records};
use crate::image::config::{Descriptor, MANIFEST_TYPES};
use crate::image::digest::{Digest, HashingWriter};
use crate::image::reference::Reference;
use crate::image::registry::Client;
use crate::image::registry::upload::{Target, Upload};
use crate::image::store::{Image, Known, Scratch, Store};
use crate::image::{Error, frame, store_error};

/// Layers that are packed at once, and layers that are sent.
const PACKED_AT_ONCE: usize = 2;
const SENT_AT_ONCE: usize = 4;
/// Digests by which a registry is asked for one layer, and other repositories that it may take layers from, at most.
const GUESSES: usize = 4;
const SOURCES: usize = 8;
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);
/// Media types of what we make.
const MANIFEST: &str = MANIFEST_TYPES[0];
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image that a registry shall have.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name as the user wrote it.
    pub name: String,
    /// The same, complete.
    pub reference: Reference,
    /// It is an error when it cannot be given, not a warning.
    pub required: bool,
}

/// A manifest that a registry has now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: usize,
}

/// How far one layer of an image is.
#[derive(Debug, Default)]
struct Part {
    done: Cell<u64>,
    total: Cell<u64>,
}

impl Part {
    fn is_there(&self, size: u64) {
        self.total.set(size);
        self.done.set(size);
    }
}

/// By repository and diff id, what it has; held by who sees to it.
type Turns = HashMap<(String, Digest), Rc<Mutex<Option<Descriptor>>>>;

struct Session<'a> {
    client: &'a Client,
    store: &'a Store,
    scratch: Rc<Scratch>,
    events: &'a dyn Sink,
    now: i64,
    known: Vec<Known>,
    turns: RefCell<Turns>,
    /// By registry and blob, a repository that has it.
    placed: RefCell<HashMap<(String, Digest), String>>,
    packing: Semaphore,
    /// How many layers were packed: two repositories may want the same one at once.
    packed: Cell<u32>,
    sending: Semaphore,
    /// What is being packed is not wanted any more.
    over: Arc<AtomicBool>,
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Writes or reads until it is over.
pub(crate) struct Until<T> {
    pub(crate) inner: T,
    pub(crate) over: Arc<AtomicBool>,
}

impl<R: Read> Read for Until<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.over.load(Ordering::Relaxed) {
            Err(io::Error::other("it was given up"))
        } else {
            self.inner.read(buffer)
        }
    }
}

impl<W: Write> Write for Until<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.over.load(Ordering::Relaxed) {
            Err(io::Error::other("it was given up"))
        } else {
            self.inner.write(buffer)
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Pushes images, all at once, and tells of each. `now` is seconds since the epoch.
///
/// # Errors
/// When the store cannot be used at all; what goes wrong with one image is its outcome.
pub async fn push(
    client: &Client,
    store: &Store,
    wanted: &[Wanted],
    now: i64,
    events: &dyn Sink,
) -> Result<Vec<Result<Pushed, Error>>, Error> {
    store.sweep()?;
    let session = Session::begin(client, store, now, events)?;
    let outcomes = join_all(wanted.iter().map(async |wanted| {
        let begun = Instant::now();
        let tell = |progress| {
            let (subject, elapsed) = (Subject::Image(wanted.name.clone()), begun.elapsed());
            events.send(Event::Progress { subject, progress, elapsed, detail: None });
        };
        tell(Progress::Working("Pushing"));
        let pushed = session.image(wanted).await;
        for warning in client.warnings() {
            events.send(Event::Warning(warning));
        }
        tell(match &pushed {
            Ok(_) => Progress::Done("Pushed"),
            Err(_) if wanted.required => Progress::Failed,
            Err(_) => Progress::Done("Warning"),
        });
        pushed.map_err(|error| store.explain_full(error))
    }));
    Ok(outcomes.await)
}

/// Gives a cache of builds to a registry; returns sentences for the user.
///
/// # Errors
/// When the store or the registry refuses.
pub(crate) async fn push_cache(
    client: &Client,
    store: &Store,
    reference: &Reference,
    mut records: Records,
    events: &dyn Sink,
) -> Result<Vec<String>, Error> {
    let session = Session::begin(client, store, 0, events)?;
    if reference.digest().is_some() {
        return Err(Error::PushDigest(reference.familiar()));
    }
    let diffs: Vec<Digest> = records.wanted().into_iter().cloned().collect();
    let wanted: BTreeSet<&Digest> = diffs.iter().collect();
    let target = client.target(reference, session.sources(reference, &wanted));
    let part = Part::default();
    let placed = join_all(diffs.iter().map(|diff| session.layer(&target, diff, &part, &|| {}))).await;
    let (mut warnings, mut layers) = (Vec::new(), Vec::new());
    for (diff, placed) in diffs.iter().zip(placed) {
        match placed {
            Ok(mut layer) => {
                records.layers.insert(diff.clone(), Blob { digest: layer.digest.clone(), size: layer.size });
                layer.media_type = media_type(&layer);
                layers.push(layer);
            }
            Err(error @ Error::Remake { .. }) => {
                warnings.push(format!("a layer is left out of the cache: {error}"));
                records.without(diff);
            }
            Err(error) => return Err(error),
        }
    }
    let document = records.document();
    let (digest, what) = (Digest::of(&document), format!("the records of `{}`", reference.familiar()));
    if !client.has_blob(&target, &digest, &what).await? {
        client.upload_document(&target, &digest, &document, &what).await?;
    }
    client.put_manifest(&target, &cache::manifest(&document, &layers), MANIFEST).await?;
    warnings.extend(client.warnings());
    Ok(warnings)
}

impl<'a> Session<'a> {
    fn begin(client: &'a Client, store: &'a Store, now: i64, events: &'a dyn Sink) -> Result<Self, Error> {
        Ok(Self {
            client,
            store,
            scratch: Rc::new(store.scratch()?),
            events,
            now,
            known: store.known()?,
            turns: RefCell::default(),
            placed: RefCell::default(),
            packing: Semaphore::new(PACKED_AT_ONCE),
            packed: Cell::new(0),
            sending: Semaphore::new(SENT_AT_ONCE),
            over: Arc::default(),
        })
    }
}

impl Session<'_> {
    async fn image(&self, wanted: &Wanted) -> Result<Pushed, Error> {
        let reference = &wanted.reference;
        let name = reference.familiar();
        if reference.digest().is_some() {
            return Err(Error::PushDigest(name));
        }
        let image = self.store.resolve(&reference.to_string())?.ok_or_else(|| Error::NotHere(name.clone()))?;
        let incomplete = || Error::Incomplete { what: "the configuration".into(), image: image.id.to_string() };
        let config = self.store.document(&image.id)?.ok_or_else(incomplete)?;
        let target =
            self.client.target(reference, self.sources(reference, &image.config.rootfs.diff_ids.iter().collect()));
        let mut diffs = image.config.rootfs.diff_ids.clone();
        diffs.sort();
        diffs.dedup();
        let mut parts = Vec::new();
        for diff in &diffs {
            let part = Part::default();
            // Until it is packed, what it unpacks to is all that is known.
            part.total.set(self.store.layer(diff)?.map_or(0, |meta| meta.bytes));
            parts.push(part);
        }
        let told = Cell::new(None::<Instant>);
        let tell = || {
            if told.get().is_none_or(|at: Instant| at.elapsed() >= TELL) {
                told.set(Some(Instant::now()));
                let sum = |of: fn(&Part) -> u64| parts.iter().map(of).fold(0, u64::saturating_add);
                let (done, total) = (sum(|part| part.done.get()), sum(|part| part.total.get()));
                self.events.send(Event::Transfer { subject: Subject::Image(wanted.name.clone()), done, total });
            }
        };
        let layers = diffs.iter().zip(&parts).map(|(diff, part)| self.layer(&target, diff, part, &tell));
        let placed: HashMap<&Digest, Descriptor> = diffs.iter().zip(try_join_all(layers).await?).collect();
        let what = format!("the configuration of `{name}`");
        if !self.client.has_blob(&target, &image.id, &what).await? {
            self.client.upload_document(&target, &image.id, &config, &what).await?;
        }
        let layers: Vec<&Descriptor> =
            image.config.rootfs.diff_ids.iter().filter_map(|diff| placed.get(diff)).collect();
        let (bytes, media_type) = self.manifest(&image, config.len(), &layers);
        self.client.put_manifest(&target, &bytes, &media_type).await?;
        self.store.note_pushed(reference, &image.id, &bytes, self.now)?;
        Ok(Pushed { digest: Digest::of(&bytes), size: bytes.len() })
    }

    /// Returns other repositories of the registry that have some of these layers.
    fn sources(&self, reference: &Reference, diffs: &BTreeSet<&Digest>) -> Vec<String> {
        let near = self.known.iter().filter(|known| known.pulled && known.reference.domain() == reference.domain());
        let with = near.filter(|known| known.diffs.iter().any(|diff| diffs.contains(diff)));
        let others: BTreeSet<String> = with.map(|known| known.reference.path().to_owned()).collect();
        others.into_iter().filter(|other| other != reference.path()).take(SOURCES).collect()
    }

    /// Returns the manifest that the image came with if it is about these blobs, else a new one; and its media type.
    fn manifest(&self, image: &Image, config: usize, layers: &[&Descriptor]) -> (Vec<u8>, String) {
        let same = self.known.iter().find(|known| {
            let theirs = known.manifest.layers.iter().map(|layer| &layer.digest);
            known.manifest.config.digest == image.id && theirs.eq(layers.iter().map(|layer| &layer.digest))
        });
        if let Some(known) = same {
            let own = known.manifest.media_type.clone();
            return (known.bytes.clone(), own.unwrap_or_else(|| MANIFEST.to_owned()));
        }
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| json!({"mediaType": media_type(layer), "digest": layer.digest, "size": layer.size}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": image.id, "size": config},
            "layers": layers,
        });
        (manifest.to_string().into_bytes(), MANIFEST.to_owned())
    }

    /// Sees to it that the repository has a layer; returns the blob that it is there.
    async fn layer(
        &self,
        target: &Target<'_>,
        diff: &Digest,
        part: &Part,
        tell: &dyn Fn(),
    ) -> Result<Descriptor, Error> {
        let repository = format!("{}/{}", target.reference.domain(), target.reference.path());
        let key = (repository, diff.clone());
        let turn = Rc::clone(self.turns.borrow_mut().entry(key).or_default());
        // Another image of this command may be sending it.
        let mut turn = turn.lock().await;
        let blob = match turn.take() {
            Some(blob) => blob,
            None => self.place(target, diff, part, tell).await?,
        };
        part.is_there(blob.size);
        tell();
        self.placed
            .borrow_mut()
            .entry((target.reference.domain().to_owned(), blob.digest.clone()))
            .or_insert_with(|| target.reference.path().to_owned());
        *turn = Some(blob.clone());
        Ok(blob)
    }

    async fn place(
        &self,
        target: &Target<'_>,
        diff: &Digest,
        part: &Part,
        tell: &dyn Fn(),
    ) -> Result<Descriptor, Error> {
        let what = format!("layer {} of `{}`", &diff.hex()[..12], target.image);
        for guess in self.guesses(target.reference, diff) {
            if self.has(target, &guess.digest, &what).await? {
                return Ok(guess);
            }
        }
        let (blob, file) = self.pack(diff).await?;
        part.total.set(blob.size);
        if self.has(target, &blob.digest, &what).await? {
            return Ok(blob);
        }
        // It is never closed.
        let _turn = self.sending.acquire().await;
        let upload = Upload { file: Arc::new(file), size: blob.size, sent: Arc::new(AtomicU64::new(0)) };
        {
            let mut sending = std::pin::pin!(self.client.upload(target, &blob, &upload, &what));
            loop {
                tokio::select! {
                    result = &mut sending => break result?,
                    () = tokio::time::sleep(TELL) => {
                        part.done.set(upload.sent.load(Ordering::Relaxed));
                        tell();
                    }
                }
            }
        }
        Ok(blob)
    }

    /// Returns the blobs that registries are known to have for a layer, those of this repository and of this registry first.
    fn guesses(&self, reference: &Reference, diff: &Digest) -> Vec<Descriptor> {
        let far = |known: &Known| match (known.reference.domain() == reference.domain(), known.reference.path()) {
            (true, path) if path == reference.path() => 0,
            (true, _) => 1,
            (false, _) => 2,
        };
        let mut known: Vec<&Known> = self.known.iter().filter(|known| known.diffs.contains(diff)).collect();
        known.sort_by_key(|known| far(known));
        let mut guesses: Vec<Descriptor> = Vec::new();
        for known in known {
            for (layer, _) in known.manifest.layers.iter().zip(&known.diffs).filter(|(_, its)| *its == diff) {
                let is_free = !["foreign", "nondistributable"].iter().any(|word| layer.media_type.contains(word));
                if is_free && guesses.iter().all(|guess| guess.digest != layer.digest) {
                    guesses.push(layer.clone());
                }
            }
        }
        guesses.truncate(GUESSES);
        guesses
    }

    /// Asks whether the repository has a blob, or can take it from another one of its registry.
    async fn has(&self, target: &Target<'_>, digest: &Digest, what: &str) -> Result<bool, Error> {
        if self.client.has_blob(target, digest, what).await? {
            return Ok(true);
        }
        let reference = target.reference;
        let sent = self.placed.borrow().get(&(reference.domain().to_owned(), digest.clone())).cloned();
        let holds = |known: &&Known| {
            known.pulled
                && known.reference.domain() == reference.domain()
                && known.reference.path() != reference.path()
                && known.manifest.layers.iter().any(|layer| layer.digest == *digest)
        };
        let came = self.known.iter().find(holds).map(|known| known.reference.path().to_owned());
        match sent.filter(|from| from != reference.path()).or(came) {
            Some(from) => Ok(self.client.mount(target, digest, &from).await?),
            None => Ok(false),
        }
    }

    /// Makes a layer's blob.
    async fn pack(&self, diff: &Digest) -> Result<(Descriptor, File), Error> {
        // It is never closed.
        let _turn = self.packing.acquire().await;
        self.packed.set(self.packed.get() + 1);
        let path = self.scratch.path(&format!("{}-{}", diff.hex(), self.packed.get()));
        let layer = self.store.layer_dir(diff);
        let (diff, over) = (diff.clone(), Arc::clone(&self.over));
        let packed = tokio::task::spawn_blocking(move || pack(&layer, &path, &diff, over));
        packed.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }
}

/// Returns the media type that a layer has in a manifest of ours.
fn media_type(layer: &Descriptor) -> String {
    match layer.media_type.as_str() {
        kind if kind.ends_with("gzip") => format!("{LAYER}+gzip"),
        kind if kind.ends_with("zstd") => format!("{LAYER}+zstd"),
        _ => LAYER.to_owned(),
    }
}

/// Makes a layer's tar again and compresses it into a file, of which only the descriptor is left.
pub(crate) fn pack(
    layer: &Path,
    path: &Path,
    diff: &Digest,
    over: Arc<AtomicBool>,
) -> Result<(Descriptor, File), Error> {
    let remake = |reason: String| Error::Remake { layer: diff.hex()[..12].to_owned(), reason };
    let file = File::options().read(true).write(true).create_new(true).open(path);
    let file = file.map_err(store_error("create", path))?;
    std::fs::remove_file(path).map_err(store_error("remove", path))?;
    let full = |e: io::Error| match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => store_error("write", path)(e),
        io::ErrorKind::NotFound if !layer.join(frame::FRAME).exists() => remake("its tar was not written down".into()),
        _ => remake(e.to_string()),
    };
    let out = BufWriter::with_capacity(256 << 10, file);
    // No name and no time in it: the same layer is always the same blob.
    let gzip = GzEncoder::new(HashingWriter::new(Until { inner: out, over }), Compression::default());
    let mut tar = HashingWriter::new(gzip);
    frame::write(layer, &mut tar).map_err(full)?;
    let (found, gzip) = tar.finish();
    if found != *diff {
        return Err(remake(format!("it has the digest {found} then")));
    }
    let mut blob = gzip.finish().map_err(full)?;
    blob.flush().map_err(full)?;
    let size = blob.count;
    let (digest, out) = blob.finish();
    let file = out.inner.into_inner().map_err(|e| full(e.into_error()))?;
    let descriptor = Descriptor {
        media_type: format!("{LAYER}+gzip"),
        digest,
        size,
        platform: None,
        annotations: indexmap::IndexMap::new(),
    };
    Ok((descriptor, file))
}

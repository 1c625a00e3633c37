//! Brings images from registries into the store.
//!
//! First all manifests and configurations, which are small and say what may be wrong; then the layers of all images
//! side by side, each unpacked while it comes, by digest once for all who want it; then each image is put in place
//! and named. What was begun and not finished is removed, also when the future is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufRead as _, BufReader, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Mutex, Semaphore, mpsc, oneshot};

use crate::event::{Event, Progress, Sink, Subject};
use crate::fault;
use crate::image::config::{Descriptor, INDEX_TYPES, ImageConfig, Index, MANIFEST_TYPES, Manifest, Platform};
use crate::image::digest::{Digest, HashingReader};
use crate::image::ingest::{Claim, Ingest};
use crate::image::reference::Reference;
use crate::image::registry::error::Error as RegistryError;
use crate::image::registry::{CONFIG_MAX, Client, Fetched};
use crate::image::store::{Arrived, Store};
use crate::image::tarball::show;
use crate::image::unpack::Unpacked;
use crate::image::{Error, compression, load, platform};

/// Layers that are fetched at once, and images whose manifests are.
const LAYERS_AT_ONCE: usize = 4;
const IMAGES_AT_ONCE: usize = 8;
/// Pieces of a layer that wait to be unpacked.
const QUEUE: usize = 16;
/// How often is looked how far another process is, and how often progress is told.
const LOOK: Duration = Duration::from_millis(100);
const TELL: Duration = Duration::from_millis(100);
/// Most layers of an image; the kernel takes 500 of them in one mount.
const LAYERS_MAX: usize = 500;

/// An image that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Its name as the user wrote it.
    pub name: String,
    /// The same, complete.
    pub reference: Reference,
    /// For which machine; `None` is this one, or what the user has set for all.
    pub platform: Option<Platform>,
    /// When it cannot be had, nothing else is fetched either.
    pub required: bool,
}

/// An image that is in the store now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pulled {
    /// Its id.
    pub id: Digest,
    /// What its name leads to on the registry.
    pub digest: Digest,
    /// It was not here before.
    pub is_new: bool,
}

/// What became of a wanted image.
#[derive(Debug)]
pub enum Outcome {
    /// It is here.
    Pulled(Pulled),
    /// It could not be had.
    Failed(Error),
    /// It was left, since a required one could not be had.
    Left,
}

/// What is known of an image before its layers are fetched.
struct Plan {
    fetched: Option<Described>,
    pulled: Option<Pulled>,
}

/// An image's documents, checked.
struct Described {
    place: usize,
    digest: Digest,
    config: Vec<u8>,
    manifest: Vec<u8>,
    index: Option<Vec<u8>>,
    /// Layers that the store does not have, with their diff ids.
    missing: Vec<(Descriptor, Digest)>,
    /// Blob digest → diff id, of all layers.
    blobs: BTreeMap<Digest, Digest>,
}

/// One blob, shared by the images of one command.
#[derive(Default)]
struct Blob {
    /// Held by who fetches it.
    turn: Mutex<()>,
    come: Cell<u64>,
}

struct Session<'a> {
    client: &'a Client,
    store: &'a Store,
    events: &'a dyn Sink,
    now: i64,
    blobs: RefCell<HashMap<Digest, Rc<Blob>>>,
    layers: Semaphore,
    images: Semaphore,
}

/// Pulls images, all at once, and tells of each. `now` is seconds since the epoch.
///
/// # Errors
/// When the store cannot be written at all; what goes wrong with one image is its outcome.
pub async fn pull(
    client: &Client,
    store: &Store,
    wanted: &[Wanted],
    now: i64,
    events: &dyn Sink,
) -> Result<Vec<Outcome>, Error> {
    store.sweep()?;
    fault::point("pull.swept");
    // A layer that is found here is counted on until the image is settled.
    let _hold = store.hold()?;
    let session = Session {
        client,
        store,
        events,
        now,
        blobs: RefCell::default(),
        layers: Semaphore::new(LAYERS_AT_ONCE),
        images: Semaphore::new(IMAGES_AT_ONCE),
    };
    let begun = Instant::now();
    let tell = |wanted: &Wanted, progress, detail: Option<String>| {
        let subject = Subject::Image(wanted.name.clone());
        events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail });
    };
    let plans = join_all(wanted.iter().map(async |wanted| {
        tell(wanted, Progress::Working("Pulling"), None);
        let plan = session.plan(wanted).await;
        for warning in client.warnings() {
            events.send(Event::Warning(warning));
        }
        match &plan {
            Ok(plan) if plan.fetched.is_none() => tell(wanted, Progress::Done("Pulled"), None),
            Ok(_) => {}
            Err(_) if wanted.required => tell(wanted, Progress::Failed, None),
            Err(_) => tell(wanted, Progress::Done("Warning"), None),
        }
        plan
    }))
    .await;
    let stop = Cell::new(plans.iter().zip(wanted).any(|(plan, wanted)| plan.is_err() && wanted.required));
    let stopped = tokio::sync::Notify::new();
    let fetch = async |wanted: &Wanted, plan: Plan| {
        let Plan { fetched: Some(described), .. } = plan else {
            return plan.pulled.map_or(Outcome::Left, Outcome::Pulled);
        };
        let work = session.fetch(wanted, described);
        let ended = if stop.get() {
            None
        } else {
            tokio::select! {
                ended = work => Some(ended),
                () = stopped.notified() => None,
            }
        };
        match ended {
            Some(Ok(pulled)) => {
                tell(wanted, Progress::Done("Pulled"), None);
                Outcome::Pulled(pulled)
            }
            Some(Err(error)) => {
                tell(wanted, if wanted.required { Progress::Failed } else { Progress::Done("Warning") }, None);
                if wanted.required {
                    stop.set(true);
                    stopped.notify_waiters();
                }
                Outcome::Failed(store.explain_full(error))
            }
            None => {
                tell(wanted, Progress::Done("Interrupted"), None);
                Outcome::Left
            }
        }
    };
    let outcomes = plans.into_iter().zip(wanted).map(async |(plan, wanted)| match plan {
        Ok(plan) => fetch(wanted, plan).await,
        Err(error) => Outcome::Failed(error),
    });
    Ok(join_all(outcomes).await)
}

/// Fetches one layer, checks it, and puts it in place. `place` is the number of the place that has it.
///
/// # Errors
/// When the registry or the store fails, or the layer is not what it should be.
pub(crate) async fn layer(
    client: &Client,
    store: &Store,
    reference: &Reference,
    place: usize,
    blob: &Descriptor,
    diff: &Digest,
    events: &dyn Sink,
) -> Result<(), Error> {
    let session = Session {
        client,
        store,
        events,
        now: 0,
        blobs: RefCell::default(),
        layers: Semaphore::new(1),
        images: Semaphore::new(1),
    };
    let wanted = Wanted { name: reference.familiar(), reference: reference.clone(), platform: None, required: false };
    match session.layer(&wanted, place, blob, diff, &Blob::default(), &|| {}).await? {
        Some((ingest, unpacked)) => store.settle_layer(ingest.dir(), diff, &unpacked),
        None => Ok(()),
    }
}

impl Session<'_> {
    /// Finds out what has to be fetched.
    async fn plan(&self, wanted: &Wanted) -> Result<Plan, Error> {
        // It is never closed.
        let _turn = self.images.acquire().await;
        let platform = self.platform(wanted)?;
        let explicit = wanted.platform.is_some() || self.client.default_platform().is_some();
        if let Some(pulled) = self.is_up_to_date(wanted, &platform).await? {
            self.store.confirm(&wanted.reference, self.now)?;
            fault::point("pull.confirmed");
            return Ok(Plan { fetched: None, pulled: Some(pulled) });
        }
        let described = self.describe(wanted, &platform, explicit).await?;
        fault::point("pull.described");
        Ok(Plan { fetched: Some(described), pulled: None })
    }

    fn platform(&self, wanted: &Wanted) -> Result<Platform, Error> {
        match (&wanted.platform, self.client.default_platform()) {
            (Some(platform), _) => Ok(platform.clone()),
            (None, Some(text)) => platform::parse(text).map_err(|form| {
                let (name, value) = ("DOCKER_DEFAULT_PLATFORM", text.to_owned());
                RegistryError::Setting { name, value, form }.into()
            }),
            (None, None) => Ok(platform::host()),
        }
    }

    /// Returns the image when it is here and what the registry has is the same.
    async fn is_up_to_date(&self, wanted: &Wanted, platform: &Platform) -> Result<Option<Pulled>, Error> {
        let Some(origin) = self.store.origin(&wanted.reference)? else { return Ok(None) };
        let image = match self.store.image(&origin.id) {
            Ok(Some(image)) => image,
            Ok(None) | Err(Error::Incomplete { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let config = &image.config;
        let its = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        if platform::rank(&its, platform).is_none() {
            return Ok(None);
        }
        // What a digest names never changes.
        if wanted.reference.digest().is_none()
            && self.client.head(&wanted.reference).await?.as_ref() != Some(&origin.digest)
        {
            return Ok(None);
        }
        Ok(Some(Pulled { id: origin.id, digest: origin.digest, is_new: false }))
    }

    /// Fetches manifest and configuration and checks them.
    async fn describe(&self, wanted: &Wanted, platform: &Platform, explicit: bool) -> Result<Described, Error> {
        let (reference, image) = (&wanted.reference, wanted.reference.familiar());
        let (target, expected) = match reference.digest() {
            None => (reference.tag().unwrap_or("latest").to_owned(), None),
            Some(text) => {
                let digest = Digest::parse(text).map_err(|_| {
                    let rule = "only sha256 digests are supported";
                    Error::Reference(crate::image::reference::InvalidReference { text: image.clone(), rule })
                })?;
                (digest.to_string(), Some(digest))
            }
        };
        let top = self.client.manifest(reference, &target, 0, expected.as_ref()).await?;
        let registry = self.client.places(reference)[top.place].name.clone();
        let (place, digest) = (top.place, top.digest.clone());
        let (manifest, index) = match read(&registry, &image, &top)? {
            Document::Manifest(manifest) => ((manifest, top.bytes), None),
            Document::Index(entries) => {
                let Some(chosen) = platform::choose(&entries, platform) else {
                    return Err(RegistryError::Platform {
                        registry,
                        image,
                        wanted: platform::show(platform),
                        offered: platform::offered(&entries),
                    }
                    .into());
                };
                let bytes = self.store.document(&chosen.digest)?;
                let fetched = match bytes {
                    Some(bytes) => {
                        let (digest, media_type) = (chosen.digest.clone(), chosen.media_type.clone());
                        Fetched { bytes, digest, media_type, place }
                    }
                    None => {
                        let digest = chosen.digest.to_string();
                        self.client.manifest(reference, &digest, place, Some(&chosen.digest)).await?
                    }
                };
                let invalid = |reason: &str| document(&registry, &image, reason);
                if fetched.bytes.len() as u64 != chosen.size {
                    return Err(RegistryError::Size {
                        registry,
                        what: format!("the manifest of `{image}`"),
                        expected: chosen.size,
                        found: format!("has {} bytes", fetched.bytes.len()),
                    }
                    .into());
                }
                match read(&registry, &image, &fetched)? {
                    Document::Manifest(manifest) => ((manifest, fetched.bytes), Some(top.bytes)),
                    Document::Index(_) => return Err(invalid("it is an index in an index")),
                }
            }
        };
        let (manifest, manifest_bytes) = manifest;
        let what = format!("the configuration of `{image}`");
        let config = match self.store.document(&manifest.config.digest)? {
            Some(bytes) => bytes,
            None => self.client.document(reference, place, &manifest.config, &what, CONFIG_MAX).await?,
        };
        let parsed: ImageConfig = serde_json::from_slice(&config).map_err(|e| RegistryError::Document {
            registry: registry.clone(),
            what,
            reason: show(e.to_string().as_bytes()),
        })?;
        self.check_platform(&registry, &image, &parsed, platform, explicit)?;
        let (missing, blobs) = self.layers(&registry, &image, &manifest, &parsed)?;
        Ok(Described { place, digest, config, manifest: manifest_bytes, index, missing, blobs })
    }

    fn check_platform(
        &self,
        registry: &str,
        image: &str,
        config: &ImageConfig,
        wanted: &Platform,
        explicit: bool,
    ) -> Result<(), Error> {
        let its = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
        };
        let is_other = platform::rank(&its, wanted).is_none();
        if is_other && explicit {
            return Err(RegistryError::Platform {
                registry: registry.to_owned(),
                image: image.to_owned(),
                wanted: platform::show(wanted),
                offered: format!("{} alone", show(platform::show(&its).as_bytes())),
            }
            .into());
        }
        let here = platform::host();
        if platform::rank(&its, &here).is_none() {
            let (its, here) = (show(platform::show(&its).as_bytes()), platform::show(&here));
            self.events.send(Event::Warning(format!("`{image}` is for {its}, but this machine is {here}")));
        }
        Ok(())
    }

    /// Checks that configuration and manifest are about the same layers; returns those that the store does not have,
    /// and the diff id of every blob.
    #[expect(clippy::type_complexity, reason = "two lists of the same layers, taken apart at once")]
    fn layers(
        &self,
        registry: &str,
        image: &str,
        manifest: &Manifest,
        config: &ImageConfig,
    ) -> Result<(Vec<(Descriptor, Digest)>, BTreeMap<Digest, Digest>), Error> {
        let invalid = |reason: String| document(registry, image, &reason);
        let diffs = &config.rootfs.diff_ids;
        if config.rootfs.kind != "layers" || diffs.is_empty() {
            return Err(invalid("its configuration names no layers".into()));
        }
        if diffs.len() != manifest.layers.len() {
            let (found, promised) = (manifest.layers.len(), diffs.len());
            return Err(invalid(format!("it has {found} layers, its configuration {promised}")));
        }
        if diffs.len() > LAYERS_MAX {
            return Err(Error::Limit { what: format!("`{image}`"), limit: format!("{LAYERS_MAX} layers") });
        }
        let mut blobs = BTreeMap::new();
        let (mut missing, mut seen) = (Vec::new(), BTreeSet::new());
        for (layer, diff) in manifest.layers.iter().zip(diffs) {
            if layer.media_type.ends_with("+encrypted") {
                return Err(invalid("its layers are encrypted".into()));
            }
            if blobs.insert(layer.digest.clone(), diff.clone()).is_some_and(|other| other != *diff) {
                return Err(invalid(format!("{} would be two different layers", layer.digest)));
            }
            if seen.insert(diff.clone()) && self.store.layer(diff)?.is_none() {
                missing.push((layer.clone(), diff.clone()));
            }
        }
        Ok((missing, blobs))
    }

    /// Fetches what is missing and puts the image in place.
    async fn fetch(&self, wanted: &Wanted, described: Described) -> Result<Pulled, Error> {
        let Described { place, digest, config, manifest, index, missing, blobs } = described;
        let total = missing.iter().fold(0_u64, |sum, (layer, _)| sum.saturating_add(layer.size));
        let free = self.store.free()?;
        if total > free {
            let (image, mega) = (wanted.reference.familiar(), 1_000_000);
            return Err(Error::Space { image, needed: total.div_ceil(mega), free: free / mega });
        }
        let shares: Vec<Rc<Blob>> = missing
            .iter()
            .map(|(layer, _)| Rc::clone(self.blobs.borrow_mut().entry(layer.digest.clone()).or_default()))
            .collect();
        let told = Cell::new(None::<Instant>);
        let tell = || {
            if told.get().is_none_or(|at: Instant| at.elapsed() >= TELL) {
                told.set(Some(Instant::now()));
                let done = shares.iter().map(|blob| blob.come.get()).sum();
                self.events.send(Event::Transfer { subject: Subject::Image(wanted.name.clone()), done, total });
            }
        };
        let all = missing
            .iter()
            .zip(&shares)
            .map(|((layer, diff), blob)| self.layer(wanted, place, layer, diff, blob, &tell));
        let arrived = try_join_all(all).await?;
        fault::point("pull.arrived");
        let (mut holds, mut fresh) = (Vec::new(), BTreeMap::new());
        for ((_, diff), arrival) in missing.iter().zip(arrived) {
            if let Some((ingest, unpacked)) = arrival {
                fresh.insert(diff.clone(), (ingest.dir().to_owned(), unpacked));
                holds.push(ingest);
            }
        }
        let store = self.store.clone();
        let (reference, now) = (wanted.reference.clone(), self.now);
        let arrived = Arrived { reference, config, manifest, index, fresh, blobs, now };
        // It syncs, which may take its time; the others go on.
        let settled = tokio::task::spawn_blocking(move || {
            let id = store.settle_pull(&arrived);
            fault::point("pull.placed");
            drop(holds);
            fault::point("pull.let-go");
            id
        });
        let id = settled.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        Ok(Pulled { id, digest, is_new: true })
    }

    /// Has one layer unpacked beside the store; `None` when the store has got it in the meantime.
    async fn layer(
        &self,
        wanted: &Wanted,
        place: usize,
        layer: &Descriptor,
        diff: &Digest,
        blob: &Blob,
        tell: &dyn Fn(),
    ) -> Result<Option<(Arc<Ingest>, Unpacked)>, Error> {
        // Another image of this command may be fetching it; so may another process.
        let _turn = blob.turn.lock().await;
        let ingest = loop {
            if self.store.layer(diff)?.is_some() {
                blob.come.set(layer.size);
                return Ok(None);
            }
            match self.store.claim(&layer.digest)? {
                Claim::Ours(ingest) => break ingest,
                Claim::Ready(ingest, meta) => {
                    if meta.diff_id != *diff {
                        return Err(self.wrong_content(wanted, place, layer, diff, &meta.diff_id));
                    }
                    blob.come.set(layer.size);
                    return Ok(Some((Arc::new(ingest), Unpacked::from(meta))));
                }
                Claim::Busy(come) => {
                    blob.come.set(come.min(layer.size));
                    tell();
                    tokio::time::sleep(LOOK).await;
                }
            }
        };
        // It is never closed.
        let _turn = self.layers.acquire().await;
        let short = &layer.digest.hex()[..12];
        let what = format!("layer {short} of `{}`", wanted.reference.familiar());
        let mut unpacking = Unpacking::start(ingest, layer)?;
        fault::point("pull.unpacking");
        blob.come.set(0);
        let noted = Cell::new(Instant::now());
        let (sender, held) = (unpacking.sender.clone(), Arc::clone(&unpacking.ingest));
        let take = async |piece: Bytes| {
            blob.come.set(blob.come.get() + piece.len() as u64);
            tell();
            if noted.get().elapsed() >= TELL {
                noted.set(Instant::now());
                held.note(blob.come.get());
            }
            // When nobody takes it, the thread has ended and says why.
            let taken = sender.send(Piece::Bytes(piece)).await.is_ok();
            fault::point("pull.piece");
            taken
        };
        let fetched = self.client.blob(&wanted.reference, place, layer, &what, take).await;
        if fetched.is_ok() {
            drop(sender.send(Piece::End).await); // as above
        }
        drop((sender, held));
        fetched?;
        let done = unpacking.finish().await;
        let (unpacked, found) = done.map_err(|failure| self.layer_error(wanted, place, layer, failure))?;
        if found != *diff {
            return Err(self.wrong_content(wanted, place, layer, diff, &found));
        }
        for warning in &unpacked.warnings {
            self.events.send(Event::Warning(warning.clone()));
        }
        fault::point("pull.unpacked");
        unpacking.ingest.finish(diff, &unpacked)?;
        fault::point("pull.shared");
        Ok(Some((Arc::clone(&unpacking.ingest), unpacked)))
    }

    fn registry(&self, wanted: &Wanted, place: usize) -> String {
        self.client.places(&wanted.reference)[place].name.clone()
    }

    fn layer_error(&self, wanted: &Wanted, place: usize, layer: &Descriptor, failure: Failure) -> Error {
        let registry = self.registry(wanted, place);
        let short = &layer.digest.hex()[..12];
        match failure {
            Failure::Digest(found) => RegistryError::Digest {
                registry,
                what: format!("layer {short} of `{}`", wanted.reference.familiar()),
                expected: layer.digest.to_string(),
                found: found.to_string(),
            }
            .into(),
            // Those speak of archives.
            Failure::Content(Error::Archive(reason)) => Error::LayerTar { layer: short.to_owned(), reason },
            Failure::Content(Error::Read(e)) => Error::LayerTar { layer: short.to_owned(), reason: e.to_string() },
            Failure::Content(error) => error,
        }
    }

    fn wrong_content(
        &self,
        wanted: &Wanted,
        place: usize,
        layer: &Descriptor,
        expected: &Digest,
        found: &Digest,
    ) -> Error {
        RegistryError::Digest {
            registry: self.registry(wanted, place),
            what: format!("the content of layer {} of `{}`", &layer.digest.hex()[..12], wanted.reference.familiar()),
            expected: expected.to_string(),
            found: found.to_string(),
        }
        .into()
    }
}

/// What was fetched.
enum Document {
    Manifest(Box<Manifest>),
    Index(Vec<Descriptor>),
}

fn document(registry: &str, image: &str, reason: &str) -> Error {
    let (registry, what) = (registry.to_owned(), format!("the manifest of `{image}`"));
    RegistryError::Document { registry, what, reason: reason.to_owned() }.into()
}

/// Reads a manifest or an index: one of them, and the one that it claims to be (CVE-2021-41190).
fn read(registry: &str, image: &str, fetched: &Fetched) -> Result<Document, Error> {
    let invalid = |reason: &str| document(registry, image, reason);
    let value: serde_json::Value =
        serde_json::from_slice(&fetched.bytes).map_err(|e| invalid(&format!("it is no JSON: {e}")))?;
    let text = |key: &str| value.get(key).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
    let schema1 = |t: &str| t.starts_with("application/vnd.docker.distribution.manifest.v1");
    if schema1(&fetched.media_type) || value.get("schemaVersion") == Some(&serde_json::json!(1)) {
        return Err(RegistryError::Schema1 { registry: registry.to_owned(), image: image.to_owned() }.into());
    }
    let has = |key| value.get(key).is_some_and(|v| !v.is_null());
    let (index, manifest) = (has("manifests"), has("layers") || has("config"));
    if index == manifest {
        return Err(invalid(if index { "it is an index and a manifest at once" } else { "it is neither" }));
    }
    let own = text("mediaType");
    let known = |t: &str| INDEX_TYPES.contains(&t) || MANIFEST_TYPES.contains(&t);
    let sent = fetched.media_type.as_str();
    for claimed in [own.as_str(), sent].into_iter().filter(|t| known(t)) {
        if INDEX_TYPES.contains(&claimed) != index {
            return Err(invalid(&format!("it claims to be `{claimed}` and is not")));
        }
    }
    if known(sent) && !own.is_empty() && own != sent {
        return Err(invalid(&format!("it was sent as `{sent}` and calls itself `{}`", show(own.as_bytes()))));
    }
    if !own.is_empty() && !known(&own) {
        return Err(invalid(&format!("its media type `{}` is not supported", show(own.as_bytes()))));
    }
    let wrong = |e: serde_json::Error| invalid(&show(e.to_string().as_bytes()));
    if index {
        let index: Index = serde_json::from_value(value).map_err(wrong)?;
        return Ok(Document::Index(index.manifests));
    }
    let manifest: Manifest = serde_json::from_value(value).map_err(wrong)?;
    let kind = manifest.config.media_type.as_str();
    // Charts, signatures and the like use the same form.
    if !kind.is_empty()
        && !kind.ends_with("image.config.v1+json")
        && kind != "application/vnd.docker.container.image.v1+json"
    {
        let kind = format!("`{}`", show(kind.as_bytes()));
        return Err(RegistryError::NotAnImage { registry: registry.to_owned(), image: image.to_owned(), kind }.into());
    }
    Ok(Document::Manifest(Box::new(manifest)))
}

/// What goes to the thread that unpacks.
enum Piece {
    Bytes(Bytes),
    End,
}

/// Why a layer could not be unpacked.
enum Failure {
    /// It is not what it should be.
    Digest(Digest),
    Content(Error),
}

type Unfolded = Result<(Unpacked, Digest), Failure>;

/// A layer that is being unpacked on a thread of its own. Dropped, it waits until that has stopped, so that what was
/// written can be removed.
struct Unpacking {
    sender: mpsc::Sender<Piece>,
    ingest: Arc<Ingest>,
    result: oneshot::Receiver<Unfolded>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Unpacking {
    fn start(ingest: Ingest, layer: &Descriptor) -> Result<Self, Error> {
        let ingest = Arc::new(ingest);
        let (sender, receiver) = mpsc::channel(QUEUE);
        let (tell, result) = oneshot::channel();
        let (fs, layer) = (ingest.dir().join("fs"), layer.clone());
        let source = PieceReader { receiver, piece: Bytes::new(), ended: false };
        let run = move || drop(tell.send(unfold(source, &layer, &fs))); // nobody waits for it any more
        let thread = std::thread::Builder::new().name("unpack".into()).spawn(run);
        let thread = thread.map_err(|e| Error::Store {
            action: "start a thread that writes",
            path: ingest.dir().to_owned(),
            source: e,
        })?;
        Ok(Self { sender, ingest, result, thread: Some(thread) })
    }

    /// Waits until all that was sent has been unpacked; returns the diff id that came out.
    async fn finish(&mut self) -> Unfolded {
        match (&mut self.result).await {
            Ok(result) => result,
            Err(_) => match self.thread.take().map(std::thread::JoinHandle::join) {
                Some(Err(panic)) => std::panic::resume_unwind(panic),
                _ => Err(Failure::Content(Error::Read(io::ErrorKind::BrokenPipe.into()))),
            },
        }
    }
}

impl Drop for Unpacking {
    fn drop(&mut self) {
        // The thread ends when nothing can come any more.
        let (closed, _) = mpsc::channel(1);
        self.sender = closed;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::debug!("a thread that unpacked has panicked"); // it was reported where it happened
        }
    }
}

/// Unpacks a blob that is at hand; returns the diff id that came out.
///
/// # Errors
/// In words, when it is not what its digest promises, damaged or hostile, or the store cannot be written.
pub(crate) fn unpack_blob(blob: impl Read, layer: &Descriptor, fs: &Path) -> Result<(Unpacked, Digest), String> {
    // One byte more than promised is enough to have another digest.
    unfold(blob.take(layer.size.saturating_add(1)), layer, fs).map_err(|failure| match failure {
        Failure::Digest(found) => format!("{} has the digest {found}", layer.digest),
        Failure::Content(error) => format!("{}: {error}", layer.digest),
    })
}

/// Decompresses, hashes and unpacks a blob. When its content makes no sense, its digest says whether it is the wrong one.
fn unfold(source: impl Read, layer: &Descriptor, fs: &Path) -> Unfolded {
    let mut raw = BufReader::with_capacity(1 << 20, HashingReader::new(source));
    let unpacked = raw.fill_buf().map_err(Error::Read).map(compression::sniff).and_then(|form| {
        let name = &layer.digest.hex()[..12];
        load::unpack_stream(compression::decompress(&mut raw, form), name, layer.size, fs)
    });
    if let Err(error @ (Error::Write { .. } | Error::Store { .. } | Error::Limit { .. } | Error::NoRoom { .. })) =
        unpacked
    {
        return Err(Failure::Content(error));
    }
    // What stands behind the end counts for the digest.
    io::copy(&mut raw, &mut io::sink()).map_err(|e| Failure::Content(Error::Read(e)))?;
    let found = raw.into_inner().finish();
    if found != layer.digest {
        return Err(Failure::Digest(found));
    }
    unpacked.map_err(Failure::Content)
}

/// Reads what comes in pieces. Without the mark of its end it is cut off, which is an error.
struct PieceReader {
    receiver: mpsc::Receiver<Piece>,
    piece: Bytes,
    ended: bool,
}

impl Read for PieceReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.receiver.blocking_recv() {
                Some(Piece::Bytes(piece)) => self.piece = piece,
                Some(Piece::End) => self.ended = true,
                None => return Err(io::ErrorKind::ConnectionAborted.into()),
            }
        }
        let n = buf.len().min(self.piece.len());
        buf[..n].copy_from_slice(&self.piece.split_to(n));
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn judge(sent: &str, document: &Value) -> String {
        let bytes = document.to_string().into_bytes();
        let digest = Digest::of(&bytes);
        match read("r.example", "a:1", &Fetched { bytes, digest, media_type: sent.into(), place: 0 }) {
            Ok(Document::Manifest(_)) => "manifest".into(),
            Ok(Document::Index(entries)) => format!("index of {}", entries.len()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_document_is_what_it_claims_to_be_or_refused() {
        let [oci_index, docker_list] = INDEX_TYPES;
        let [oci, docker] = MANIFEST_TYPES;
        let descriptor = json!({"digest": Digest::of(b"x"), "size": 1});
        let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": [descriptor]});
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        let with = |base: &Value, key: &str, value: Value| {
            let mut changed = base.clone();
            changed[key] = value;
            changed
        };
        let invalid = "the manifest of `a:1` from r.example is not valid: ";
        for (sent, document, wanted) in [
            (oci, manifest.clone(), "manifest".to_owned()),
            (docker, with(&manifest, "mediaType", json!(docker)), "manifest".into()),
            ("", with(&manifest, "mediaType", json!(docker)), "manifest".into()),
            ("application/json", manifest.clone(), "manifest".into()),
            ("", manifest.clone(), "manifest".into()),
            (oci_index, index.clone(), "index of 1".into()),
            (docker_list, with(&index, "mediaType", json!(docker_list)), "index of 1".into()),
            (
                oci,
                with(&manifest, "manifests", json!([descriptor])),
                format!("{invalid}it is an index and a manifest at once"),
            ),
            (oci_index, with(&index, "layers", json!([])), format!("{invalid}it is an index and a manifest at once")),
            (
                oci_index,
                with(&index, "config", descriptor.clone()),
                format!("{invalid}it is an index and a manifest at once"),
            ),
            (oci, json!({"schemaVersion": 2}), format!("{invalid}it is neither")),
            (oci, index.clone(), format!("{invalid}it claims to be `{oci}` and is not")),
            (oci_index, manifest.clone(), format!("{invalid}it claims to be `{oci_index}` and is not")),
            (
                "",
                with(&manifest, "mediaType", json!(oci_index)),
                format!("{invalid}it claims to be `{oci_index}` and is not"),
            ),
            (
                oci,
                with(&manifest, "mediaType", json!(docker)),
                format!("{invalid}it was sent as `{oci}` and calls itself `{docker}`"),
            ),
            ("", with(&manifest, "mediaType", json!("x/y")), format!("{invalid}its media type `x/y` is not supported")),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                json!({"schemaVersion": 1, "fsLayers": []}),
                "`a:1` is stored on r.example in the old manifest form, schema 1, which is not supported".into(),
            ),
            (
                oci,
                with(
                    &manifest,
                    "config",
                    json!({"digest": Digest::of(b"x"), "size": 1, "mediaType": "application/vnd.cncf.helm.config.v1+json"}),
                ),
                "`a:1` on r.example is not a container image but `application/vnd.cncf.helm.config.v1+json`".into(),
            ),
        ] {
            assert_eq!(judge(sent, &document), wanted, "{sent} {document}");
        }
        let path = judge(oci, &with(&manifest, "layers", json!([{"digest": "sha256:../../etc", "size": 1}])));
        assert!(path.contains("is not a sha256 digest"), "{path}");
    }
}

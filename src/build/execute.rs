//! Carries a Dockerfile out: its stages at the same time, each as far as what it needs is there.
//!
//! A stage is a configuration and a list of layers (`stage.rs`). What makes a layer has a key (`steps.rs`): the digest of all
//! that it depends on; a key that is known gives its layer at once. `COPY` and `ADD` have the digest of what they copy, without
//! times, so that a file which was only touched changes nothing; a `RUN` whose layer turns out to be one that is known, but
//! for times, is taken for that one, and what follows it is not done again.
//!
//! The image is named last. A build that is killed leaves what the next sweep removes, and the layers that were finished.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::try_join_all;
use rustix::fs::{CWD, Mode, OFlags};
use tokio::sync::OnceCell;

use crate::build::adding::failed_at;
use crate::build::configure::{Failure, fail};
use crate::build::context::{Context, Ignore, clean};
use crate::build::dockerfile::{self, Around, Dockerfile};
use crate::build::exchange::{CacheFrom, CacheTo, Exchange};
use crate::build::explain::Notes;
use crate::build::remote::{Failed, Fetcher};
use crate::build::run::{Runner, Surroundings};
use crate::build::stage::Stage;
use crate::build::stages::{Origin, Stages};
use crate::build::trees::{self, Here, Tree};
use crate::diag::{Diagnostic, Quote, Report, Sources, Span, nearest};
use crate::event::{Event, Progress, Sink, Subject};
use crate::fault;
use crate::image::digest::Key;
use crate::image::mount::of_layers;
use crate::image::reference::Reference;
use crate::image::store::{Image, Scratch, Store};

/// Where a Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipe {
    /// In a file.
    File(PathBuf),
    /// In the build context, at this path.
    InContext(PathBuf),
    /// It is this text: `dockerfile_inline`.
    Text(String),
    /// It is this text, which has come in.
    Input(String),
}

/// A tree of files that has a name in `FROM` and `--from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedContext {
    /// A directory of the host, or files that are elsewhere.
    Files(Tree),
    /// An image, by its reference.
    Image(String),
}

/// Where the content of a secret comes from.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// A file of the host.
    File(PathBuf),
    /// This value.
    Value(Vec<u8>),
}

impl std::fmt::Debug for Secret {
    /// Says nothing of a value.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Value(_) => f.write_str("Value"),
        }
    }
}

/// An image that is to be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildSpec {
    /// What progress calls it.
    pub title: String,
    /// What `COPY` copies from.
    pub context: Tree,
    /// The Dockerfile.
    pub dockerfile: Recipe,
    /// Names to give to the image.
    pub tags: Vec<Reference>,
    /// Labels to add to those of the Dockerfile.
    pub labels: BTreeMap<String, String>,
    /// Values of `ARG`s; `None` says nothing.
    pub args: BTreeMap<String, Option<String>>,
    /// The stage to build; `None` is the last one.
    pub target: Option<String>,
    /// Further contexts by name.
    pub contexts: BTreeMap<String, NamedContext>,
    /// Secrets by id.
    pub secrets: BTreeMap<String, Secret>,
    /// Sockets of SSH agents by id.
    pub ssh: BTreeMap<String, PathBuf>,
    /// Carry out every step.
    pub no_cache: bool,
    /// Stages of which every step is carried out.
    pub no_cache_filter: Vec<String>,
    /// What is around every `RUN`; the network is that of those that do not say one.
    pub around: Surroundings,
    /// No time in the image is later: `SOURCE_DATE_EPOCH`, in seconds since the epoch.
    pub epoch: Option<i64>,
    /// Caches that steps are taken from which are not known here.
    pub cache_from: Vec<CacheFrom>,
    /// Caches that are written.
    pub cache_to: Vec<CacheTo>,
    /// The engine's key: what may be secret is written down as a hash under it, and without it not at all.
    pub seal: Option<Key>,
}

impl BuildSpec {
    /// Returns what is to be built of a context with a Dockerfile, and nothing else said.
    #[must_use]
    pub fn new(title: impl Into<String>, context: impl Into<Tree>, dockerfile: Recipe) -> Self {
        Self {
            title: title.into(),
            context: context.into(),
            dockerfile,
            tags: Vec::new(),
            labels: BTreeMap::new(),
            args: BTreeMap::new(),
            target: None,
            contexts: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ssh: BTreeMap::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            around: Surroundings::default(),
            epoch: None,
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            seal: None,
        }
    }
}

/// An image that was built.
#[derive(Debug)]
pub struct Built {
    /// The image.
    pub image: Image,
    /// What is odd but allowed, with the text it is about.
    pub warnings: Report,
}

/// Returns the images that a build needs to have here, each with the place that says so; none when that cannot be told, which
/// the build will say.
///
/// # Errors
/// When the Dockerfile is elsewhere and cannot be fetched.
pub async fn images_needed(
    spec: &BuildSpec,
    store: &Store,
    fetcher: &Fetcher,
    events: &dyn Sink,
) -> Result<Vec<(String, String)>, Report> {
    let mut sources = Sources::default();
    let here = Here { store, fetcher, events };
    if matches!((&spec.dockerfile, &spec.context), (Recipe::InContext(_), Tree::Archive(_) | Tree::Remote(_))) {
        spec.fetch(&spec.context, here).await.map_err(trees::report)?;
    }
    let Ok(file) = spec.parse(&mut sources, here).await else { return Ok(Vec::new()) };
    Ok(images_of(spec, &file, &sources))
}

fn images_of(spec: &BuildSpec, file: &Dockerfile, sources: &Sources) -> Vec<(String, String)> {
    let names = spec.contexts.keys().map(String::as_str).collect();
    let Ok(stages) = Stages::of(file, &spec.args, names, spec.target.as_deref()) else { return Vec::new() };
    let mut found: Vec<(String, String)> = Vec::new();
    for (origin, span) in stages.needed.iter().filter_map(|number| stages.needs(*number).ok()).flatten() {
        let image = match origin {
            Origin::Image(name) => name,
            Origin::Context(name) => match spec.contexts.get(&name) {
                Some(NamedContext::Image(image)) => image.clone(),
                Some(NamedContext::Files(_)) | None => continue,
            },
            Origin::Scratch | Origin::Stage(_) => continue,
        };
        if found.iter().all(|(name, _)| *name != image) {
            found.push((image, sources.place(span)));
        }
    }
    found
}

/// Returns what is wrong with a Dockerfile, or could be written better; nothing is built.
#[must_use]
pub fn check(spec: &BuildSpec) -> Report {
    let mut sources = Sources::default();
    let file = match spec.parse_here(&mut sources) {
        Ok(file) => file,
        Err(report) => return report,
    };
    let mut diagnostics = findings(spec, &file);
    let names = spec.contexts.keys().map(String::as_str).collect();
    if let Err(errors) = Stages::of(&file, &spec.args, names, spec.target.as_deref()) {
        diagnostics.extend(errors);
    }
    Report { diagnostics, sources, ..Report::default() }
}

/// Returns what the checks find. A `.dockerignore` that cannot be read is told by who reads the context.
fn findings(spec: &BuildSpec, file: &Dockerfile) -> Vec<Diagnostic> {
    let ignore = match (spec.context.directory(), &spec.dockerfile) {
        (Some(dir), Recipe::File(path)) => Ignore::load(dir, Some(path)),
        (Some(dir), _) => Ignore::load(dir, None),
        (None, _) => Ok(Ignore::default()), // it is not here to be read
    };
    let ignore = ignore.unwrap_or_default();
    let hides = |path: &str| ignore.hides(&clean(path.as_bytes()));
    dockerfile::check_with(file, &Around { env_of: &|_| None, hides: &hides })
}

/// Builds an image and names it.
///
/// # Errors
/// All mistakes of the Dockerfile with their places, or the first thing that fails while it is carried out.
pub async fn build<R: Runner>(
    spec: &BuildSpec,
    store: &Store,
    runner: &R,
    fetcher: &Fetcher,
    events: &dyn Sink,
) -> Result<Built, Report> {
    let mut sources = Sources::default();
    let file = spec.parse(&mut sources, Here { store, fetcher, events }).await?;
    let report = |diagnostics, sources| Report { diagnostics, sources, ..Report::default() };
    let names = spec.contexts.keys().map(String::as_str).collect();
    let stages = match Stages::of(&file, &spec.args, names, spec.target.as_deref()) {
        Ok(stages) => stages,
        Err(diagnostics) => return Err(report(diagnostics, sources)),
    };
    if file.options.error {
        let diagnostics = findings(spec, &file);
        if !diagnostics.is_empty() {
            return Err(report(diagnostics, sources));
        }
    }
    store.sweep()?;
    // What is found known is in an image only at the end.
    let _hold = store.hold()?;
    let scratch = store.scratch()?;
    let build = Build {
        spec,
        file: &file,
        stages: &stages,
        store,
        runner,
        fetcher,
        events,
        scratch: &scratch,
        context: OnceCell::new(),
        cells: file.stages.iter().map(|_| OnceCell::new()).collect(),
        sources: RefCell::new(sources),
        quotes: RefCell::default(),
        consumed: RefCell::default(),
        names: Cell::new(0),
        notes: Notes::begin(spec, store),
        exchange: Exchange::new(spec, store, events),
        is_hushed: Cell::new(false),
    };
    let made = build.image().await;
    let finished = runner.finish().await;
    let Build { sources, quotes, consumed, notes, .. } = build;
    events.send(Event::Explained { title: spec.title.clone(), steps: notes.finish(store, made.is_ok()) });
    let (sources, quotes) = (sources.into_inner(), quotes.into_inner());
    let mut warnings = file.warnings.clone();
    for name in spec.args.keys().filter(|name| !consumed.borrow().contains(*name) && !is_special(name)) {
        let message = format!("build argument `{name}` is not used: no stage that is built has `ARG {name}`");
        warnings.push(Diagnostic::warning(None, message));
    }
    match made {
        Ok(image) => {
            if let Err(error) = finished {
                tracing::warn!("{}", error.render(false)); // the image is there; the next build tries again
            }
            Ok(Built { image, warnings: report(warnings, sources) })
        }
        Err(failure) => Err(Report { quotes, ..report(vec![*failure], sources) }),
    }
}

/// Variables that every `RUN` has when they are given, though no `ARG` names them.
pub(super) const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Returns whether an argument need not be declared.
fn is_special(name: &str) -> bool {
    PROXIES.contains(&name) || name.starts_with("BUILDKIT_") || name == "SOURCE_DATE_EPOCH"
}

/// A build under way.
pub(super) struct Build<'a, R> {
    pub(super) spec: &'a BuildSpec,
    pub(super) file: &'a Dockerfile,
    pub(super) stages: &'a Stages<'a>,
    pub(super) store: &'a Store,
    pub(super) runner: &'a R,
    pub(super) fetcher: &'a Fetcher,
    pub(super) events: &'a dyn Sink,
    pub(super) scratch: &'a Scratch,
    context: OnceCell<Arc<Context>>,
    cells: Vec<OnceCell<Arc<Stage>>>,
    pub(super) sources: RefCell<Sources>,
    /// What was said by what failed.
    pub(super) quotes: RefCell<Vec<Quote>>,
    /// Names of the arguments that some `ARG` has.
    pub(super) consumed: RefCell<BTreeSet<String>>,
    /// How many names were given to directories in the scratch.
    names: Cell<u32>,
    /// What the steps were made of, now and the last time.
    pub(super) notes: Notes,
    /// Caches beside the store.
    pub(super) exchange: Exchange<'a>,
    /// The user looks around in what failed: nothing more is told.
    pub(super) is_hushed: Cell<bool>,
}

impl<R: Runner> Build<'_, R> {
    /// Returns a name for a directory in the scratch.
    pub(super) fn name(&self) -> String {
        self.names.set(self.names.get() + 1);
        format!("step-{}", self.names.get())
    }

    /// Builds all stages that are needed and makes the image of the target.
    async fn image(&self) -> Result<Image, Failure> {
        try_join_all(self.stages.needed.iter().map(|number| self.stage(*number))).await?;
        let stage = self.stage(self.stages.target).await?;
        let from = &self.file.stages[self.stages.target].from;
        let mut config = stage.config.clone();
        if config.rootfs.diff_ids.is_empty() {
            return Err(Box::new(fail(from.span, "the image would have no files").help("add a COPY")));
        }
        for (key, value) in &self.spec.labels {
            config.config.labels.insert(key.clone(), value.clone());
        }
        // Times come from the files, so that the same input gives the same image.
        let newest = self.spec.epoch.or(stage.newest);
        if let Some(created) = newest.and_then(|s| jiff::Timestamp::from_second(s).ok()) {
            config.created = Some(created.to_string());
        }
        for step in config.history.iter_mut().skip(stage.inherited) {
            step.created.clone_from(&config.created);
        }
        let upon = self.stages.upon(self.stages.target);
        self.exchange.inline(&mut config.other, &config.rootfs.diff_ids, &upon);
        let bytes = serde_json::to_vec(&config).map_err(|e| fail(from.span, e.to_string()))?;
        let finish = || {
            let ids = self.store.add_images(self.scratch, std::slice::from_ref(&bytes), &BTreeMap::new())?;
            fault::point("build.added");
            self.store.sync(&ids)?;
            fault::point("build.synced");
            for tag in &self.spec.tags {
                self.store.tag(tag, &ids[0])?;
                fault::point("build.named");
            }
            self.store.image(&ids[0])
        };
        let image = match finish() {
            Ok(Some(image)) => image,
            Ok(None) => return Err(fail(from.span, "the image was removed while it was built")),
            Err(e) => return Err(Box::new(Diagnostic::from_error(&e))),
        };
        self.exchange.export(&upon).await?;
        Ok(image)
    }

    /// Returns a stage when it is built; whoever asks first builds it.
    pub(super) fn stage(&self, number: usize) -> Pin<Box<dyn Future<Output = Result<Arc<Stage>, Failure>> + '_>> {
        Box::pin(async move {
            let made = self.cells[number].get_or_try_init(|| async { self.build_stage(number).await.map(Arc::new) });
            made.await.cloned()
        })
    }

    async fn build_stage(&self, number: usize) -> Result<Stage, Failure> {
        let from = &self.file.stages[number].from;
        let mut stage = match &self.stages.bases[number] {
            Origin::Scratch => Stage::scratch(),
            Origin::Stage(base) => Stage::upon(&*self.stage(*base).await?),
            Origin::Image(name) => Stage::of_image(self.found(name, from.span)?, name),
            Origin::Context(name) => match self.spec.contexts.get(name) {
                Some(NamedContext::Image(image)) => Stage::of_image(self.found(image, from.span)?, image),
                Some(NamedContext::Files(_)) | None => {
                    let message = format!("`{name}` is a directory: a stage is built upon an image");
                    let help = format!("copy from it, with `COPY --from={name}`");
                    return Err(Box::new(fail(from.span, message).help(help)));
                }
            },
        };
        stage.number = number;
        self.carry_out(&mut stage).await?;
        Ok(stage)
    }

    /// Returns an image of the store.
    fn found(&self, name: &str, span: Span) -> Result<Image, Failure> {
        let of_store = super::copying::of_store(span);
        match self.store.resolve(name) {
            Ok(Some(image)) => Ok(image),
            Ok(None) => {
                let listed = self.store.list().map_err(of_store)?;
                let names: Vec<String> =
                    listed.iter().filter_map(|l| l.reference.as_ref()).map(Reference::familiar).collect();
                let near = nearest(name, names.iter().map(String::as_str));
                let help =
                    near.map_or("fetch it first, with `hoist image pull`".into(), |n| format!("did you mean `{n}`?"));
                Err(Box::new(fail(span, format!("the image `{name}` is not here")).help(help)))
            }
            Err(e) => Err(of_store(e)),
        }
    }

    fn here(&self) -> Here<'_> {
        Here { store: self.store, fetcher: self.fetcher, events: self.events }
    }

    /// Returns the build context, which is opened when it is needed first.
    pub(super) async fn context(&self) -> Result<Arc<Context>, Failure> {
        let open = || async {
            let opened = self.spec.open_context(self.here()).await;
            opened
                .map(Arc::new)
                .map_err(|Failed { message, help }| Box::new(Diagnostic { help, ..Diagnostic::error(None, message) }))
        };
        self.context.get_or_try_init(open).await.cloned()
    }

    /// Returns the files of what a name leads to, and the layers that they are.
    pub(super) async fn files(&self, origin: &Origin, span: Span) -> Result<Files, Failure> {
        match origin {
            Origin::Scratch => self.mounted(Vec::new(), Vec::new(), "`scratch`".into(), span),
            Origin::Stage(number) => {
                let stage = self.stage(*number).await?;
                let title = format!("stage `{}`", self.stage_title(*number));
                self.mounted(stage.layers.clone(), stage.diff_ids(), title, span)
            }
            Origin::Image(name) => self.files_of_image(name, span),
            Origin::Context(name) => match self.spec.contexts.get(name) {
                Some(NamedContext::Image(image)) => self.files_of_image(image, span),
                Some(NamedContext::Files(tree)) => {
                    let failed = |e| fail(span, format!("cannot read context `{name}`, `{tree}`: {e}"));
                    let title = format!("context `{name}`");
                    let mut root = match tree.directory() {
                        Some(path) => Context::open(path, Some(&path.join("Dockerfile"))).map_err(failed)?,
                        None => {
                            let fetched = self.spec.fetch(tree, self.here()).await.map_err(failed_at(span))?;
                            Context::of_tree(&fetched.dir, None, title.clone()).map_err(failed)?
                        }
                    };
                    root.title = title;
                    Ok(Files { root: Arc::new(root), layers: None })
                }
                None => Err(fail(span, format!("there is no context `{name}`"))),
            },
        }
    }

    fn files_of_image(&self, name: &str, span: Span) -> Result<Files, Failure> {
        let image = self.found(name, span)?;
        let diff_ids = image.config.rootfs.diff_ids.iter().map(ToString::to_string).collect();
        self.mounted(image.layers, diff_ids, format!("image `{name}`"), span)
    }

    fn mounted(&self, layers: Vec<PathBuf>, ids: Vec<String>, title: String, span: Span) -> Result<Files, Failure> {
        let root = if layers.is_empty() {
            let dir = self.scratch.layer(&self.name()).map_err(super::copying::of_store(span))?.join("fs");
            rustix::fs::openat(CWD, &dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(std::io::Error::from)
        } else {
            of_layers(&layers)
        };
        let root = root.map_err(|e| fail(span, format!("cannot read the files of {title}: {e}")))?;
        Ok(Files { root: Arc::new(Context::of_image(root, title)), layers: Some((layers, ids)) })
    }

    /// Returns what messages and progress call a stage.
    pub(super) fn stage_title(&self, number: usize) -> String {
        let name = self.file.stages[number].name.as_ref();
        name.map_or_else(|| format!("stage-{number}"), |name| name.raw.to_lowercase())
    }

    /// Tells how far a step is.
    pub(super) fn tell(&self, step: &str, progress: Progress, since: Instant) {
        if self.is_hushed.get() {
            return;
        }
        let subject = Subject::Step(step.to_owned());
        self.events.send(Event::Progress { subject, progress, elapsed: since.elapsed(), detail: None });
    }
}

/// Files to copy from or to mount.
pub(super) struct Files {
    pub(super) root: Arc<Context>,
    /// The layers that they are, base first, and their digests; `None` is a directory of the host.
    pub(super) layers: Option<(Vec<PathBuf>, Vec<String>)>,
}

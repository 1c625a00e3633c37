//! One stage of a build: its instructions from first to last, and what each of them adds.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::build::checkout;
use crate::build::chmod::Chmod;
use crate::build::configure::{self, Failure, fail};
use crate::build::context::{Context, Ignore};
use crate::build::copying::{self, Copying, Pieces, Source, of_store, pieces};
use crate::build::dockerfile::{self, Copy, Instruction, Op, Text};
use crate::build::execute::Build;
use crate::build::explain::{Came, Made};
use crate::build::run::Runner;
use crate::build::stages::Args;
use crate::diag::Span;
use crate::event::{Event, Progress};
use crate::fault;
use crate::image::cache::forget_inline;
use crate::image::config::{ContainerConfig, History, ImageConfig, RootFs, host_architecture};
use crate::image::digest::Digest;
use crate::image::fixup::View;
use crate::image::mount::of_layers;
use crate::image::piped::unpack_written;
use crate::image::steps::StepRecord;
use crate::image::store::Image;
use crate::image::{Error, load, store_error};
use crate::runtime::DEFAULT_PATH;

/// How often it is asked whether a step that another build carries out is done.
pub(super) const ASK_AGAIN: Duration = Duration::from_millis(20);

/// What a stage has come to.
#[derive(Debug, Clone)]
pub(super) struct Stage {
    pub(super) number: usize,
    pub(super) config: ImageConfig,
    /// Directories of its layers, base first.
    pub(super) layers: Vec<PathBuf>,
    /// Values of its `ARG`s.
    pub(super) args: Args,
    /// Time of what is newest in it, in seconds since the epoch.
    pub(super) newest: Option<i64>,
    /// Which step or image each of its layers is of, as that is told.
    pub(super) origins: Vec<String>,
    /// How many entries of the history are the base's.
    pub(super) inherited: usize,
    cmd_is_ours: bool,
    /// `ONBUILD`s of the base, to be done first.
    triggers: Vec<String>,
}

impl Stage {
    /// Returns a stage without a file.
    pub(super) fn scratch() -> Self {
        let config = ImageConfig {
            architecture: host_architecture().into(),
            variant: None,
            os: "linux".into(),
            created: None,
            // As BuildKit begins.
            config: ContainerConfig {
                env: vec![format!("PATH={DEFAULT_PATH}")],
                working_dir: "/".into(),
                ..ContainerConfig::default()
            },
            rootfs: RootFs { kind: "layers".into(), diff_ids: Vec::new() },
            history: Vec::new(),
            other: Map::new(),
        };
        Self::begin(config, Vec::new(), "")
    }

    fn begin(mut config: ImageConfig, layers: Vec<PathBuf>, name: &str) -> Self {
        let triggers = std::mem::take(&mut config.config.on_build);
        forget_inline(&mut config.other);
        let inherited = config.history.len();
        let origins = vec![format!("the base image `{name}`"); config.rootfs.diff_ids.len()];
        let (args, newest, cmd_is_ours) = (Args::new(), None, false);
        Self { number: 0, config, layers, args, newest, origins, inherited, cmd_is_ours, triggers }
    }

    /// Returns a stage that begins as an image.
    pub(super) fn of_image(image: Image, name: &str) -> Self {
        Self::begin(image.config, image.layers, name)
    }

    /// Returns a stage that goes on from another one.
    pub(super) fn upon(base: &Self) -> Self {
        let mut stage = Self { cmd_is_ours: false, ..base.clone() };
        stage.triggers = std::mem::take(&mut stage.config.config.on_build);
        stage
    }

    /// Returns the digests of its layers as texts.
    pub(super) fn diff_ids(&self) -> Vec<String> {
        self.config.rootfs.diff_ids.iter().map(ToString::to_string).collect()
    }
}

/// Returns the digest of a step's inputs.
pub(super) fn key(inputs: &Value) -> Digest {
    Digest::of(inputs.to_string().as_bytes())
}

impl<R: Runner> Build<'_, R> {
    /// Carries out the instructions of a stage.
    pub(super) async fn carry_out(&self, stage: &mut Stage) -> Result<(), Failure> {
        let instructions = &self.file.stages[stage.number].instructions;
        for trigger in std::mem::take(&mut stage.triggers) {
            let file = self.sources.borrow_mut().add("ONBUILD", trigger.as_str());
            let (instruction, _) = dockerfile::parse_trigger(&trigger, file).map_err(|mut errors| {
                let mut first = errors.swap_remove(0);
                first.notes.push((self.file.stages[stage.number].from.span, "the base image asks for this".into()));
                Box::new(first)
            })?;
            self.instruction(stage, &instruction, "ONBUILD").await?;
        }
        for (number, instruction) in instructions.iter().enumerate() {
            self.instruction(stage, instruction, &format!("{}/{}", number + 1, instructions.len())).await?;
            fault::point("build.instruction");
        }
        Ok(())
    }

    async fn instruction(&self, stage: &mut Stage, instruction: &Instruction, place: &str) -> Result<(), Failure> {
        let title = || {
            let line: String = instruction.line.lines().next().unwrap_or_default().chars().take(80).collect();
            format!("{} [{} {place}] {line}", self.spec.title, self.stage_title(stage.number))
        };
        let made = match &instruction.op {
            Op::Copy(copy) => {
                let title = title();
                Some(self.copy(stage, "COPY", copy, instruction.span, &title).await?)
            }
            Op::Add(copy) => {
                let title = title();
                Some(self.copy(stage, "ADD", copy, instruction.span, &title).await?)
            }
            Op::Run(run) => {
                let title = title();
                Some(self.run(stage, run, instruction.span, &title).await?)
            }
            Op::Arg(pairs) => {
                for (name, default) in pairs {
                    self.declare(stage, name, default.as_ref())?;
                }
                None
            }
            Op::Workdir(path) => {
                let Stage { config, args, cmd_is_ours, .. } = stage;
                configure::apply(&mut config.config, args, self.file.escape, cmd_is_ours, &instruction.op)?;
                self.make_workdir(stage, path.span).await?
            }
            op => {
                let Stage { config, args, cmd_is_ours, .. } = stage;
                configure::apply(&mut config.config, args, self.file.escape, cmd_is_ours, op)?;
                if let Op::Maintainer(name) = op {
                    config.other.insert("author".into(), name.raw.clone().into());
                }
                None
            }
        };
        let stage_title = self.stage_title(stage.number);
        let record = made.map(|made| {
            let fresh = made.came == Came::Made && self.is_fresh(stage.number);
            self.notes.add(stage, (&stage_title, place), &instruction.line, &made, fresh);
            made.record
        });
        let layer = record.as_ref().and_then(|record| record.layer.clone());
        let history = History {
            created_by: Some(instruction.line.clone()),
            comment: Some("hoist build".into()),
            empty_layer: layer.is_none(),
            ..History::default()
        };
        stage.config.history.push(history);
        if let Some(layer) = layer {
            stage.layers.push(self.store.layer_fs(&layer));
            stage.config.rootfs.diff_ids.push(layer);
            stage.origins.push(format!("[{stage_title} {place}]"));
        }
        stage.newest = stage.newest.max(record.and_then(|record| record.newest));
        Ok(())
    }

    pub(super) fn text(&self, stage: &Stage, text: &Text) -> Result<String, Failure> {
        configure::text(&stage.config.config, &stage.args, self.file.escape, text)
    }

    /// Gives an `ARG` its value: what the build was given, its default, or that of the same name before the first `FROM`.
    fn declare(&self, stage: &mut Stage, name: &Text, default: Option<&Text>) -> Result<(), Failure> {
        let name = self.text(stage, name)?;
        self.consumed.borrow_mut().insert(name.clone());
        let value = match (self.spec.args.get(&name).cloned().flatten(), default) {
            (Some(value), _) => Some(value),
            (None, Some(default)) => Some(self.text(stage, default)?),
            (None, None) => self.stages.globals.get(&name).cloned().flatten(),
        };
        stage.args.insert(name, value);
        Ok(())
    }

    /// Returns whether steps of a stage are carried out though they are known.
    pub(super) fn is_fresh(&self, stage: usize) -> bool {
        self.spec.no_cache || self.spec.no_cache_filter.iter().any(|name| *name == self.stage_title(stage))
    }

    /// Carries out a step, unless what it gives is known here or in a cache.
    pub(super) async fn step(
        &self,
        stage: usize,
        key: &Digest,
        span: Span,
        make: impl AsyncFnOnce() -> Result<StepRecord, Failure>,
    ) -> Result<(StepRecord, Came), Failure> {
        let known = || {
            let known = self.store.step(key).map_err(of_store(span))?;
            known.iter().for_each(|record| self.exchange.note(stage, key, record));
            Ok::<_, Failure>(known)
        };
        let is_fresh = self.is_fresh(stage);
        if !is_fresh && let Some(record) = known()? {
            return Ok((record, Came::Known));
        }
        let mut waited = false;
        let _lock = loop {
            match self.store.lock_step(key).map_err(of_store(span))? {
                Some(lock) => break lock,
                None => tokio::time::sleep(ASK_AGAIN).await,
            }
            waited = true;
        };
        if waited
            && !is_fresh
            && let Some(record) = known()?
        {
            return Ok((record, Came::Known));
        }
        let elsewhere = if is_fresh { None } else { self.exchange.find(key).await };
        let (record, came) = match elsewhere {
            Some((record, cache)) => (record, Came::From(cache)),
            None => (make().await?, Came::Made),
        };
        self.store.note_growth(&record).map_err(of_store(span))?;
        self.store.write_step(key, &record).map_err(of_store(span))?;
        self.exchange.note(stage, key, &record);
        fault::point("build.step-known");
        Ok((record, came))
    }

    /// Puts a layer into the store, unless one that differs in times alone is there: then it is taken for that one.
    pub(super) fn keep(
        &self,
        content: &Digest,
        unpacked: impl FnOnce() -> Result<StepRecord, Error>,
        fresh: bool,
    ) -> Result<StepRecord, Error> {
        let key = self.content_key(content);
        if !fresh && let Some(record) = self.store.step(&key)? {
            return Ok(record);
        }
        let record = unpacked()?;
        self.store.write_step(&key, &record)?;
        Ok(record)
    }

    fn content_key(&self, content: &Digest) -> Digest {
        key(&serde_json::json!({"form": "layer/2", "content": content.to_string(), "epoch": self.spec.epoch}))
    }

    /// Makes a layer of entries, or finds the one that is made of the same.
    pub(super) async fn layer(
        &self,
        stage: usize,
        pieces: &Pieces,
        span: Span,
        title: Option<(&str, Instant)>,
    ) -> Result<Made, Failure> {
        let unreadable = |e: io::Error| fail(span, format!("cannot read what is copied: {e}"));
        let (content, digests) = pieces.write(io::sink(), None).map_err(unreadable)?;
        let key = self.content_key(&content);
        // Where they come to nothing, this saves their time.
        let inputs = (title.is_none() || !self.notes.knows(&key)).then(|| pieces.inputs(&content, &digests));
        let made = self.step(stage, &key, span, async || {
            if let Some((title, begun)) = title {
                self.tell(title, Progress::Working("Building"), begun);
            }
            let dir = self.scratch.layer(&self.name()).map_err(of_store(span))?;
            fault::point("build.layer-begun");
            let latest = self.commit_time(pieces, span).await?;
            let write =
                |out: &mut _| pieces.write(out, latest).map_err(|source| Error::Layer { path: String::new(), source });
            let written = unpack_written("COPY", Path::new(&self.spec.context.to_string()), &dir.join("fs"), write);
            let ((again, _), unpacked, diff_id) = written.map_err(of_store(span))?;
            if again != content {
                return Err(fail(span, "what is copied changed while it was read"));
            }
            fault::point("build.layer-unpacked");
            self.store.adopt_layer(&dir, &diff_id, &unpacked).map_err(of_store(span))?;
            let made_by = title.map(|(title, _)| title.to_owned());
            Ok(StepRecord::of(Some(diff_id), pieces.newest(latest), made_by))
        });
        let (record, came) = made.await?;
        if let Some((title, begun)) = title {
            self.tell(title, Progress::Done(came.word()), begun);
        }
        Ok(Made { record, came, key, inputs })
    }

    /// Returns the time that files of a clean checkout get at the latest; a time that the user says goes before.
    async fn commit_time(&self, pieces: &Pieces, span: Span) -> Result<Option<i64>, Failure> {
        let root = pieces.host.as_ref().filter(|_| self.spec.epoch.is_none());
        let Some((root, dir)) = root.and_then(|root| Some((root, root.dir.clone()?))) else { return Ok(None) };
        let ask = || async {
            let own = self.scratch.layer(&self.name()).map_err(of_store(span))?.join("fs");
            let asked = tokio::task::spawn_blocking(move || checkout::commit_time(&dir, &own)).await;
            Ok::<_, Failure>(asked.unwrap_or_default())
        };
        root.commit_time.get_or_try_init(ask).await.copied()
    }

    /// Makes the directory of a `WORKDIR`, if it is missing; it belongs to the user of this place.
    async fn make_workdir(&self, stage: &Stage, span: Span) -> Result<Option<Made>, Failure> {
        let path = stage.config.config.working_dir.clone();
        let view = View::of(&stage.layers).map_err(of_store(span))?;
        let target = view.resolve(path.as_bytes(), true).map_err(of_store(span))?;
        match view.lookup(&target).map_err(of_store(span))?.map(|node| node.file_type()) {
            Some(rustix::fs::FileType::Directory) => return Ok(None),
            Some(_) => return Err(fail(span, format!("`{path}` in the image is not a directory"))),
            None => {}
        }
        let user = &stage.config.config.user;
        let owner = if user.is_empty() { None } else { Some(copying::owner(user, &view, span)?) };
        let copying = Copying {
            keyword: "WORKDIR",
            sources: Vec::new(),
            dest: "/",
            path: &path,
            dest_span: span,
            owner,
            chmod: None,
            parents: false,
            exclude: Ignore::default(),
        };
        let pieces = pieces(&copying, &view, span, self.spec.epoch)?;
        Ok(Some(self.layer(stage.number, &pieces, span, None).await?))
    }

    async fn copy(
        &self,
        stage: &Stage,
        keyword: &'static str,
        copy: &Copy,
        span: Span,
        title: &str,
    ) -> Result<Made, Failure> {
        let dest = self.text(stage, &copy.dest)?;
        if dest.is_empty() {
            return Err(fail(copy.dest.span, format!("the destination of {keyword} is empty")));
        }
        // A linked copy looks at nothing below it.
        let layers: &[PathBuf] = if copy.link { &[] } else { &stage.layers };
        let view = View::of(layers).map_err(of_store(span))?;
        let owner = match &copy.chown {
            None => None,
            Some(chown) => {
                let below = View::of(&stage.layers).map_err(of_store(span))?;
                Some(copying::owner(&self.text(stage, chown)?, &below, chown.span)?)
            }
        };
        let chmod = match &copy.chmod {
            None => None,
            Some(chmod) => {
                let text = self.text(stage, chmod)?;
                let message = || format!("`{text}` is not a mode such as 0755 or u=rwX,go=rX");
                Some(Chmod::parse(&text).ok_or_else(|| fail(chmod.span, message()))?)
            }
        };
        let mut exclude = Vec::new();
        for pattern in &copy.exclude {
            exclude.push(self.text(stage, pattern)?);
        }
        let sources = self.sources_of(stage, keyword, copy).await?;
        let begun = Instant::now(); // the time until a stage is built is that stage's
        if sources.is_empty() {
            self.events.send(Event::Warning(format!("{title}: nothing is copied, as no file fits")));
            // It depends on the pattern alone, which its instruction says.
            let (record, key) = (StepRecord::of(None, None, None), Digest::of(b""));
            return Ok(Made { record, came: Came::Known, key, inputs: None });
        }
        let path = configure::in_workdir(&stage.config.config, &dest);
        let copying = Copying {
            keyword,
            sources,
            dest: &dest,
            path: &path,
            dest_span: copy.dest.span,
            owner,
            chmod,
            parents: copy.parents,
            exclude: Ignore::of(exclude.iter().map(String::as_str)),
        };
        let pieces = pieces(&copying, &view, span, self.spec.epoch)?;
        self.layer(stage.number, &pieces, span, Some((title, begun))).await
    }

    /// Returns what a `COPY` or `ADD` copies, with its variables replaced.
    async fn sources_of(&self, stage: &Stage, keyword: &'static str, copy: &Copy) -> Result<Vec<Source>, Failure> {
        let mut all = Vec::new();
        let mut root: Option<Arc<Context>> = None;
        if keyword == "ADD" {
            self.check_flags(stage, copy)?;
        }
        for source in &copy.sources {
            match source {
                dockerfile::Source::Heredoc(heredoc) => {
                    let content = match heredoc.expand {
                        true => configure::body(&stage.config.config, &stage.args, heredoc)?,
                        false => heredoc.content.clone(),
                    };
                    let content = content.into_bytes();
                    all.push(Source::Text { name: heredoc.name.clone(), content });
                }
                dockerfile::Source::Path(path) => {
                    let (text, span) = (self.text(stage, path)?, path.span);
                    if text.is_empty() {
                        let message = format!("the source `{}` is empty when its variables are replaced", path.raw);
                        let help = "write `.` for all of the build context";
                        return Err(Box::new(fail(span, message).help(help)));
                    }
                    if keyword == "ADD"
                        && let Some(remote) = self.remote(&text, span)?
                    {
                        all.push(self.added(stage, &remote, copy, span).await?);
                        continue;
                    }
                    let root = match (&root, &copy.from) {
                        (Some(root), _) => root.clone(),
                        (None, None) => root.insert(self.context().await?).clone(),
                        (None, Some(from)) => {
                            let origin = self.stages.origin(&from.raw, from.span, stage.number)?;
                            root.insert(self.files(&origin, from.span).await?.root).clone()
                        }
                    };
                    let unreadable = |e: io::Error| fail(span, e.to_string());
                    if root.fits_nothing(text.as_bytes()).map_err(unreadable)? {
                        continue;
                    }
                    if keyword == "COPY" || copy.unpack == Some(false) {
                        all.push(Source::Path { text, root, span });
                        continue;
                    }
                    // Each file that fits may be an archive.
                    let all_found = root.glob(text.as_bytes()).map_err(unreadable)?;
                    if all_found.is_empty() {
                        return Err(fail(span, format!("nothing in {} fits `{text}`", root.title)));
                    }
                    for found in all_found {
                        match self.unpacked(&root, &found, span)? {
                            Some(root) => all.push(Source::Unpacked { root, span }),
                            None => {
                                let (text, root) = (text.clone(), root.clone());
                                all.push(Source::Exact { path: found, is_named: true, text, root, span });
                            }
                        }
                    }
                }
            }
        }
        Ok(all)
    }

    /// Unpacks a source that is an archive, into the scratch; `None` when it is none.
    pub(super) fn unpacked(
        &self,
        root: &Arc<Context>,
        path: &[u8],
        span: Span,
    ) -> Result<Option<Arc<Context>>, Failure> {
        let text = String::from_utf8_lossy(path);
        let is_file = |found: &super::context::Found| found.kind() == rustix::fs::FileType::RegularFile;
        if root.ignore.hides(path).is_some() || !root.find(path).is_ok_and(|found| is_file(&found)) {
            return Ok(None);
        }
        let unreadable = |e: io::Error| fail(span, format!("cannot read `{text}`: {e}"));
        let file = root.read(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let refused = |why| {
            let help = "compress it with gzip, zstd, bzip2 or xz, or copy it as it is, with COPY";
            Box::new(fail(span, format!("cannot unpack `{text}`: {why}")).help(help))
        };
        let Some(tar) = load::archive(file, size).map_err(refused)? else { return Ok(None) };
        let dir = self.scratch.layer(&self.name()).map_err(of_store(span))?.join("fs");
        load::unpack_stream(tar, &text, size, &dir).map_err(of_store(span))?;
        let opened = of_layers(std::slice::from_ref(&dir));
        let opened = opened.map_err(|e| of_store(span)(store_error("open", &dir)(e)))?;
        Ok(Some(Arc::new(Context::of_image(opened, format!("archive `{text}`")))))
    }
}

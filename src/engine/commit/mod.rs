//! `commit`: an image of a container. Its layers are those of the container's image and what the container has changed.
//!
//! The phases: choose the container, under the project's lock, so that nobody removes it meanwhile; make the new
//! configuration and refuse what is wrong with it; hold the container's processes while its writable directory is read
//! ([`Layer::read`]); let them go on; put the image into the store and name it.
//!
//! **They go on whatever happens**: they are held no longer than our connection to the supervisor is there, so also when this
//! process is killed, and a supervisor that dies meanwhile lets them go on when it is back. Then they were not held to the
//! end, and a warning says so.
//!
//! What is mounted is no part of the container's writable directory: neither volumes nor binds, nor configs and secrets,
//! which are files in memory.

mod config;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::Engine;
use super::actual::{ActualContainer, pre_start};
use super::backend::Backend;
use super::commands::Target;
use super::container;
use super::step::ContainerRef;
use crate::build::changes::Changes;
use crate::diag::{Diagnostic, Report};
use crate::event::{Event, Progress, Sink, Subject};
use crate::fault;
use crate::image;
use crate::image::commit::Layer;
use crate::image::config::{History, ImageConfig};
use crate::image::diff::Upper;
use crate::image::digest::Digest;
use crate::image::reference::Reference;
use crate::state::record::State;

/// Docker makes no image of more layers, and neither do most others take one.
const LAYERS_MAX: usize = 125;

/// What `commit` is asked for.
#[derive(Debug)]
pub struct Commit<'a> {
    /// Number of the replica; `None` is the first.
    pub index: Option<u32>,
    /// Name of the image.
    pub reference: Option<Reference>,
    /// Hold the container's processes while it is read.
    pub pause: bool,
    /// Who makes it.
    pub author: &'a str,
    /// What it is.
    pub message: &'a str,
    /// What its configuration says otherwise.
    pub changes: &'a Changes,
}

/// A commit that can be done, and the lock under which the container stays.
#[derive(Debug)]
pub struct PreparedCommit<L> {
    container: ActualContainer,
    upper: Upper,
    config: ImageConfig,
    step: History,
    reference: Option<Reference>,
    pause: bool,
    _lock: Option<L>,
}

impl<L> PreparedCommit<L> {
    /// Returns the container's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.container.record.name.as_str()
    }
}

impl<B: Backend> Engine<B> {
    /// Chooses the container and makes the image's configuration. Changes nothing.
    ///
    /// # Errors
    /// When there is no such container, its image is gone, or a change does not make sense.
    pub async fn prepare_commit(
        &self,
        target: &Target<'_>,
        commit: Commit<'_>,
    ) -> Result<PreparedCommit<B::Lock>, Report> {
        self.adopt(target.project).await?;
        let lock = self.lock(target.project, false).await?;
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        let container = chosen(&actual.containers, target, commit.index)?.clone();
        let record = &container.record;
        let spec = super::copy::spec(&container)?;
        let id = Digest::parse(&record.image_id).ok();
        let image = id.map(|id| self.backend.images().image(&id)).transpose()?.flatten();
        let Some(image) = image else {
            let message = format!("image `{}`, which container `{}` was made of, is gone", record.image, record.name);
            let help = format!("fetch or build it again and make the container anew: hoist up -d {}", record.service);
            return Err(Diagnostic::error(None, message).help(help).into());
        };
        if image.config.rootfs.diff_ids.len() >= LAYERS_MAX {
            let message = format!("max depth exceeded: image `{}` has {LAYERS_MAX} layers", record.image);
            let help = "an image of it would have more than most engines take: build it anew from a Dockerfile";
            return Err(Diagnostic::error(None, message).help(help).into());
        }
        let mut config = config::of(record, &spec, &image.config);
        let made_by = config::made_by(&config.config);
        commit.changes.apply(&mut config.config)?;
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let mut step = History { created_by: made_by, comment: text(commit.message), ..History::default() };
        if let Some(author) = text(commit.author) {
            config.other.insert("author".to_owned(), author.clone().into());
            step.other.insert("author".to_owned(), author.into());
        }
        let places = container::places(&spec);
        let upper = Upper { places, path: spec.rootfs.upper, layers: spec.rootfs.layers, epoch: None };
        let Commit { reference, pause, .. } = commit;
        Ok(PreparedCommit { container, upper, config, step, reference, pause, _lock: lock })
    }

    /// Makes the image; returns its id, or nothing when `stop` came first.
    ///
    /// # Errors
    /// What keeps it from being made; then the container goes on and the store is as it was.
    pub async fn commit(
        &self,
        prepared: PreparedCommit<B::Lock>,
        events: &dyn Sink,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Digest>, Report> {
        let (subject, begun) = (Subject::Container(prepared.name().to_owned()), Instant::now());
        let tell = |progress, detail| {
            let subject = subject.clone();
            events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail });
        };
        events.send(Event::Begin { verb: "commit", total: 1 });
        tell(Progress::Working("Committing"), None);
        let made = self.made(prepared, events, stop).await;
        match &made {
            Ok(Some(id)) => tell(Progress::Done("Committed"), Some(id.to_string())),
            Ok(None) | Err(_) => tell(Progress::Failed, None),
        }
        events.send(Event::End);
        made
    }

    async fn made(
        &self,
        prepared: PreparedCommit<B::Lock>,
        events: &dyn Sink,
        stop: impl Future<Output = ()>,
    ) -> Result<Option<Digest>, Report> {
        let mut stop = std::pin::pin!(stop);
        let container = ContainerRef::from(&prepared.container.record);
        // One that is paused stays so, and one that does not run has nobody to hold.
        let status = &prepared.container.status;
        let hold = prepared.pause && status.state == State::Running && !status.paused;
        if hold {
            tokio::select! {
                held = self.backend.borrow(&container) => {
                    let help = "to read it while it runs, add: --pause=false".to_owned();
                    held.map_err(refused("pause", &container, help))?;
                }
                () = &mut stop => return Ok(None), // our connection ends, and with it whatever was held by then
            }
            fault::point("commit.held");
        }
        let told = Arc::new(AtomicBool::new(false));
        let reading = tokio::task::spawn_blocking({
            let (store, upper, told) = (self.backend.images().clone(), prepared.upper.clone(), Arc::clone(&told));
            move || Layer::read(&store, &upper, &told)
        });
        let mut reading = std::pin::pin!(reading);
        let read = tokio::select! {
            read = &mut reading => read,
            () = &mut stop => {
                told.store(true, Ordering::Relaxed);
                reading.await
            }
        };
        let stayed = if hold {
            let help = format!("see hoist ps, and let it go on with: hoist unpause {}", container.service);
            self.backend.give_back(&container).await.map_err(refused("unpause", &container, help))?
        } else {
            true
        };
        if told.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let layer =
            read.map_err(|e| Report::message(format!("the thread that reads the container has ended: {e}")))??;
        if !stayed {
            let name = &container.name;
            let sentence =
                format!("container `{name}` went on, or ended, while it was read: its files may not fit each other");
            events.send(Event::Warning(sentence));
        }
        layer.warnings().iter().for_each(|sentence| events.send(Event::Warning(sentence.clone())));
        let (mut config, mut step) = (prepared.config, prepared.step);
        config.created = Some(jiff::Timestamp::now().to_string());
        step.created.clone_from(&config.created);
        let reference = prepared.reference;
        let finishing = tokio::task::spawn_blocking(move || layer.finish(config, step, reference.as_ref()));
        let finished: Result<Digest, image::Error> =
            finishing.await.map_err(|e| Report::message(format!("the thread that makes the image has ended: {e}")))?;
        Ok(Some(finished?))
    }
}

/// Returns the container that is meant: with the lowest number, one that runs first, and those of `run` last, as in Compose.
fn chosen<'a>(
    all: &'a [ActualContainer],
    target: &Target<'_>,
    index: Option<u32>,
) -> Result<&'a ActualContainer, Report> {
    let fits = |c: &&ActualContainer| {
        let numbered = index.is_none_or(|index| c.record.number == index && !c.is_one_off());
        target.has(&c.record.service) && numbered && pre_start(&c.record).is_none()
    };
    let first = all.iter().filter(fits).min_by_key(|c| (!c.is_up(), c.is_one_off(), c.record.number));
    let container = first.ok_or_else(|| {
        let service = target.services.join(" ");
        let message = match index {
            Some(index) => format!("service \"{service}\" is not running container #{index}"),
            None => format!("no container found for service \"{service}\""),
        };
        Report::from(Diagnostic::error(None, message).help(format!("make it with: hoist up -d {service}")))
    })?;
    match container.status.state {
        State::Created | State::Running | State::Restarting | State::Exited => Ok(container),
        State::Starting => {
            let message = format!("container `{}` is just being started", container.record.name);
            Err(Diagnostic::error(None, message).help("wait until it runs, and run the command again").into())
        }
    }
}

/// Says that something could not be asked of the supervisor.
fn refused(what: &str, container: &ContainerRef, help: String) -> impl FnOnce(Report) -> Report {
    let what = format!("cannot {what} container `{}`", container.name);
    move |mut report| {
        if let Some(first) = report.diagnostics.first_mut() {
            first.message = format!("{what}: {}", first.message);
            first.help = Some(help);
        }
        report
    }
}

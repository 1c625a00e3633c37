//! Step → driver call: one match, one function a step.
//!
//! A step writes down what it makes before it makes it, and a step that is done already is fine, so that a run that was
//! killed anywhere is finished by the next. A step that fails undoes its own half.

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use super::execute::Host;
use super::hooks::Moment;
use super::local::Local;
use super::step::{
    Attachment, ContainerRef, Creation, FileSpec, NetworkChange, Population, Step, StepError, Until, Wait,
};
use super::supervisors::Error as LinkError;
use crate::diag::Explain;
use crate::event::Sink;
use crate::fault;
use crate::image::reference::Reference;
use crate::network;
use crate::runtime::{MountSource, UpperSpec};
use crate::state;
use crate::state::events::{self, Action, Happened};
use crate::state::record::{ContainerRecord, ContainerStatus, Health, State as Life, VolumeRecord};
use crate::supervisor::protocol::Request;
use crate::sys;
use crate::volume;

pub(super) type Done = Result<(), StepError>;

impl Host for Local {
    async fn perform(&self, step: &Step, events: &dyn Sink) -> Done {
        self.do_step(step, events).await.map_err(|error| self.explain_full(error))
    }

    fn note(&self, step: &Step) -> Option<String> {
        let Step::Stop { container, grace, .. } = step else { return None };
        if grace.is_zero() {
            return None;
        }
        // It tells a status before it answers, so this is that of the end.
        let link = self.supervisors.link_if_there(&self.state, &container.project).ok()??;
        let statuses = link.statuses();
        let unheard = statuses.borrow().as_ref().and_then(|all| all.get(&container.id)).is_some_and(|s| s.unheard);
        unheard.then(|| "killed at once: its first process has no handler for the stop signal".to_owned())
    }
}

impl Local {
    async fn do_step(&self, step: &Step, events: &dyn Sink) -> Done {
        match step {
            Step::CreateNetwork(change) => self.create_network(change),
            Step::RemoveNetwork(change) => self.remove_network(change),
            Step::CreateVolume(record) => self.create_volume(record),
            Step::PopulateVolume(population) => self.populate_volume(population),
            Step::RemoveVolume(name) => {
                let root = self.state.paths().volumes();
                volume::remove(&root, name).map(drop).map_err(|e| failed(format!("remove volume `{name}`"), e))
            }
            Step::RemoveImage(reference) => self.remove_image(reference),
            Step::CreateContainer(creation) => self.create_container(creation),
            Step::Attach(attachment) => self.attach(attachment),
            Step::Detach(attachment) => self.detach(attachment),
            Step::Start(container) => {
                self.start(container).await?;
                self.run_hooks(container, Moment::Started, events).await
            }
            Step::Wait(wait) => self.wait(wait).await,
            Step::Stop { container, grace, strict, restart } => {
                self.run_hooks(container, Moment::Stopping, events).await?;
                self.stop(container, *grace, *strict, *restart).await
            }
            Step::Kill { container, signal } => {
                let request = Request::Kill { container: container.id.clone(), signal: *signal };
                self.ask(container, request, "kill").await
            }
            Step::Pause(container) => {
                let request = Request::Pause { container: container.id.clone(), borrowed: false };
                self.ask(container, request, "pause").await
            }
            Step::Unpause(container) => {
                let request = Request::Unpause { container: container.id.clone(), borrowed: false };
                self.ask(container, request, "unpause").await
            }
            Step::RemoveContainer(container) => self.remove_container(container).await,
            Step::Update(record) => self.update(record).await,
            Step::SetAside { container, name, serving: _ } => self.rename(container, |record| {
                if record.aside.is_none() {
                    record.aside = Some(std::mem::replace(&mut record.name, name.clone()));
                }
            }),
            Step::Restore(container) => self.rename(container, |record| {
                if let Some(name) = record.aside.take() {
                    record.name = name;
                }
            }),
            Step::TakeOver { successor, predecessor } => self.take_over(successor, predecessor).await,
            Step::GiveBack { successor, predecessor } => self.give_back(successor, predecessor).await,
            Step::Delay { time, .. } => {
                tokio::time::sleep(*time).await;
                Ok(())
            }
            Step::Drain { container, grace, strict } => self.drain(container, *grace, *strict, events).await,
            Step::Decide(project) => {
                self.state.decide_before(project).map_err(|e| failed(format!("finish with project `{project}`"), e))
            }
            Step::Commit(project) => {
                self.state.forget_before(project).map_err(|e| failed(format!("finish with project `{project}`"), e))
            }
        }
    }
}

/// Wraps a driver's error, keeping its next step.
pub(super) fn failed(what: String, source: impl Explain + Send + Sync + 'static) -> StepError {
    let help = source.help();
    StepError::Failed { what: format!("cannot {what}"), source: Box::new(source), help }
}

/// Wraps an error of the system.
pub(super) fn failed_io(what: String, source: io::Error) -> StepError {
    StepError::Failed { what: format!("cannot {what}"), source: Box::new(source), help: None }
}

impl Local {
    /// When there was no room, the next step is to make some.
    fn explain_full(&self, error: StepError) -> StepError {
        let StepError::Failed { what, source, help } = error else { return error };
        let first: &(dyn std::error::Error + 'static) = source.as_ref();
        let causes: Vec<_> = std::iter::successors(Some(first), |e| e.source()).collect();
        // What a supervisor says comes as text.
        let no_room = io::Error::from(rustix::io::Errno::NOSPC).to_string();
        let is_full = |e: &(dyn std::error::Error + 'static)| match e.downcast_ref::<io::Error>() {
            Some(e) => state::is_full(e),
            None => e.to_string().contains(&no_room),
        };
        let run = self.state.paths().run();
        let volatile = causes.iter().any(|e| e.to_string().contains(&*run.to_string_lossy()));
        let place = if volatile { run } else { self.state.paths().root() };
        if causes.iter().any(|e| is_full(*e)) {
            return StepError::NoRoom { what, source, help: state::full(place) };
        }
        StepError::Failed { what, source, help }
    }

    fn create_network(&self, change: &NetworkChange) -> Done {
        let what = || format!("create network `{}`", change.record.name);
        let _lock = self.state.lock_engine().map_err(|e| failed(what(), e))?;
        self.state.write_network(&change.record).map_err(|e| failed(what(), e))?;
        fault::point("network.recorded");
        state::make_dir(&self.state.paths().run_network(&change.record.id)).map_err(|e| failed(what(), e))?;
        fault::point("network.volatile");
        network::create(&self.network_host(), &change.spec).map_err(|e| {
            let _ = self.state.remove_network(&change.record.id); // the next `up` or `down` finds the record otherwise
            failed(what(), e)
        })?;
        state::mark(&self.state.paths().network_complete(&change.record.id)).map_err(|e| failed(what(), e))
    }

    fn remove_network(&self, change: &NetworkChange) -> Done {
        let what = || format!("remove network `{}`", change.record.name);
        let _lock = self.state.lock_engine().map_err(|e| failed(what(), e))?;
        let records = self.state.containers(None).map_err(|e| failed(what(), e))?;
        if records.iter().flat_map(|r| &r.endpoints).any(|e| e.network == change.record.id) {
            return Err(StepError::InUse);
        }
        // A run that ends below leaves a network that is not complete, and the next `up` makes it so again.
        state::remove_file(&self.state.paths().network_complete(&change.record.id)).map_err(|e| failed(what(), e))?;
        if let Some(error) = network::remove(&self.network_host(), &change.spec).into_iter().next() {
            return Err(failed(what(), error));
        }
        fault::point("network.gone");
        self.state.remove_network(&change.record.id).map_err(|e| failed(what(), e))
    }

    fn create_volume(&self, record: &VolumeRecord) -> Done {
        let what = || format!("create volume `{}`", record.name);
        let spec = volume::VolumeSpec { name: record.name.clone(), labels: record.labels.clone() };
        let place = self.state.paths().volume(&record.name);
        if place.join("volume.json").exists() {
            return Ok(());
        }
        // Aside, then by a rename: a crash leaves no volume that no record, or half a record, speaks for.
        let aside = self.state.volumes_in_the_making(record.project.as_ref());
        volume::create(&aside, &spec).map_err(|e| failed(what(), e))?;
        let made = aside.join(record.name.as_str());
        state::write_json(&made.join("volume.json"), record).map_err(|e| failed(what(), e))?;
        fault::point("volume.made");
        fs::rename(&made, &place).map_err(|e| failed_io(what(), e))?;
        fault::point("volume.named");
        state::remove_tree(&aside).map_err(|e| failed(what(), e))
    }

    fn populate_volume(&self, population: &Population) -> Done {
        let what = || format!("fill volume `{}` from `{}`", population.volume, population.path);
        let root = sys::mount::overlay(&population.layers, None).map_err(|e| failed_io(what(), e))?;
        let data = self.state.paths().volume(&population.volume).join("_data");
        volume::copy_up(&data, root.as_fd(), &population.path).map_err(|e| failed(what(), e))
    }

    /// A container keeps its image, whoever's it is and whether it runs or not.
    fn remove_image(&self, reference: &str) -> Done {
        let what = || format!("remove image `{reference}`");
        let _lock = self.state.lock_engine().map_err(|e| failed(what(), e))?;
        let Some(image) = self.images.resolve(reference).map_err(|e| failed(what(), e))? else { return Ok(()) };
        let id = image.id.to_string();
        let records = self.state.containers(None).map_err(|e| failed(what(), e))?;
        if records.iter().any(|record| record.image_id == id) {
            return Err(StepError::InUse);
        }
        let name = Reference::parse(reference).map_err(|e| failed(what(), e))?;
        self.images.untag(&name).map_err(|e| failed(what(), e))
    }

    fn create_container(&self, creation: &Creation) -> Done {
        let record = &creation.record;
        let what = || format!("create container `{}`", record.name);
        for directory in creation.directories.iter().filter(|d| !d.exists()) {
            fs::create_dir_all(directory).map_err(|e| failed_io(format!("make `{}`", directory.display()), e))?;
        }
        let write = || -> Result<(), state::Error> {
            fault::point("container.sources");
            self.state.write_container(record)?;
            fault::point("container.recorded");
            state::make_dir(&self.state.paths().run_container(&record.project, &record.id))?;
            for FileSpec { path, content, mode, uid, gid } in &creation.files {
                state::write_owned(path, &content.0, *mode, *uid, *gid)?;
            }
            Ok(())
        };
        let write = || write().map_err(|e| failed(what(), e)).and_then(|()| make_uppers(creation));
        let known = self.state.paths().container_config(&record.id).exists();
        write().inspect_err(|_| {
            let _ = self.state.remove_container(&record.id); // what is left is found by its record
        })?;
        // A command that was killed here has told it, or has not come so far.
        let told = |all: Vec<Happened>| all.iter().any(|e| e.id == record.id && e.action == Action::Create);
        if !known || !events::all(self.state.paths()).is_ok_and(told) {
            events::tell(self.state.paths(), &Happened::new(record, record.created, Action::Create));
        }
        Ok(())
    }

    /// Changes the name in a container's record, which its supervisor need not know before it starts the container, or whose
    /// place it has.
    pub(super) fn rename(&self, container: &ContainerRef, change: impl FnOnce(&mut ContainerRecord)) -> Done {
        let what = || format!("change the record of container `{}`", container.name);
        let record = self.state.container(&container.id).map_err(|e| failed(what(), e))?;
        let Some(mut record) = record else {
            return Err(failed_io(what(), io::Error::other("its record is gone")));
        };
        change(&mut record);
        self.state.write_container(&record).map_err(|e| failed(what(), e))
    }

    fn attach(&self, attachment: &Attachment) -> Done {
        let what = || format!("connect container `{}`", attachment.container.name);
        let _lock = self.state.lock_engine().map_err(|e| failed(what(), e))?;
        network::create_namespace(&attachment.netns).map_err(|e| failed(what(), e))?;
        for endpoint in &attachment.endpoints {
            if let Err(error) = network::attach(endpoint) {
                let _ = network::remove_namespace(&attachment.netns); // and with it the links
                return Err(failed(what(), error));
            }
            fault::point("endpoint.attached");
        }
        let ContainerRef { project, id, .. } = &attachment.container;
        state::mark(&self.state.paths().container_attached(project, id)).map_err(|e| failed(what(), e))
    }

    fn detach(&self, attachment: &Attachment) -> Done {
        let what = || format!("disconnect container `{}`", attachment.container.name);
        let ContainerRef { project, id, .. } = &attachment.container;
        state::remove_file(&self.state.paths().container_attached(project, id)).map_err(|e| failed(what(), e))?;
        fault::point("endpoint.unmarked");
        // Deleting the pairs one by one takes 20 ms each; the supervisor has unpublished the ports at the container's end.
        network::remove_namespace(&attachment.netns).map_err(|e| failed(what(), e))
    }

    /// Asks for a container's end and waits for it.
    pub(super) async fn stop(&self, container: &ContainerRef, grace: Duration, strict: bool, restart: bool) -> Done {
        let grace_ms = Some(u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        let request = Request::Stop { container: container.id.clone(), grace_ms, strict, restart };
        self.ask(container, request, "stop").await
    }

    async fn start(&self, container: &ContainerRef) -> Done {
        let asked = i64::try_from(jiff::Timestamp::now().as_nanosecond()).ok();
        self.ask(container, Request::Start { container: container.id.clone(), asked }, "start").await
    }

    /// Asks the container's supervisor for something and waits for it.
    pub(super) async fn ask(&self, container: &ContainerRef, request: Request, verb: &str) -> Done {
        let what = || format!("cannot {verb} container `{}`", container.name);
        let refused = |e: LinkError| {
            let help = match &e {
                // It never ran, so that there is no output to look at.
                LinkError::Refused { code: 126 | 127, .. } => {
                    Some(format!("see `command` and `entrypoint` of service `{}`", container.service))
                }
                LinkError::Refused { .. } | LinkError::Reach(_) | LinkError::Gone => None,
            };
            StepError::Failed { what: what(), source: Box::new(e), help }
        };
        let link = self.supervisors.link(&self.state, &container.project).map_err(refused)?;
        link.ask(request, Vec::new()).await.map_err(refused)
    }

    async fn wait(&self, wait: &Wait) -> Done {
        let error = |e: LinkError| StepError::Failed {
            what: format!("cannot wait for container `{}`", wait.on.name),
            source: Box::new(e),
            help: None,
        };
        let begun = Instant::now();
        let link = self.supervisors.link(&self.state, &wait.on.project).map_err(error)?;
        let mut statuses = link.statuses();
        // Since when it is as it should be.
        let mut steady: Option<Instant> = None;
        loop {
            let status = statuses.borrow_and_update().as_ref().and_then(|all| all.get(&wait.on.id)).cloned();
            let mut left = wait.at_most.saturating_sub(begun.elapsed());
            match (status.and_then(|s| decide(wait, &s)), wait.until) {
                (Some(Ok(())), Until::Steady(time)) => {
                    let since = *steady.get_or_insert_with(Instant::now);
                    match time.checked_sub(since.elapsed()).filter(|rest| !rest.is_zero()) {
                        Some(rest) => left = left.min(rest),
                        None => return Ok(()),
                    }
                }
                (Some(decided), _) => return decided,
                (None, _) => steady = None,
            }
            match tokio::time::timeout(left, statuses.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Err(error(LinkError::Gone)),
                Err(_) if begun.elapsed() < wait.at_most => {}
                Err(_) => {
                    return Err(StepError::TimedOut {
                        container: wait.on.name.clone(),
                        until: wait.until,
                        at_most: wait.at_most,
                    });
                }
            }
        }
    }

    async fn remove_container(&self, container: &ContainerRef) -> Done {
        let what = || format!("remove container `{}`", container.name);
        let forget = || Request::Forget { container: container.id.clone() };
        if let Err(e) = self.ask(container, forget(), "remove").await {
            // A start that a killed command had asked for may have come after we looked.
            tracing::debug!("stopping {} first: {e}", container.name);
            let id = container.id.clone();
            let stop = Request::Stop { container: id, grace_ms: None, strict: false, restart: false };
            self.ask(container, stop, "stop").await?;
            self.ask(container, forget(), "remove").await?;
        }
        fault::point("container.forgotten");
        // A run that was killed while it disconnected the container has unmounted the pin, and no more.
        network::remove_namespace(&self.state.paths().netns(&container.id)).map_err(|e| failed(what(), e))?;
        let record = self.state.container(&container.id).map_err(|e| failed(what(), e))?;
        self.state.remove_container(&container.id).map_err(|e| failed(what(), e))?;
        if let Some(record) = record {
            let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            events::tell(self.state.paths(), &Happened::new(&record, now, Action::Destroy));
        }
        Ok(())
    }
}

/// Makes the directories that take what a container writes in layers that it mounts. The upper one is the mount's root, so it
/// has owner and mode of what it covers.
fn make_uppers(creation: &Creation) -> Done {
    for mount in &creation.spec.mounts {
        let MountSource::Layers { layers, upper: Some(UpperSpec { upper, work }), .. } = &mount.source else {
            continue;
        };
        let what = || format!("make `{}`", upper.display());
        for directory in [upper, work] {
            state::make_dir(directory).map_err(|e| failed(what(), e))?;
        }
        let Some(top) = layers.last() else { continue };
        let as_top = || -> io::Result<()> {
            let meta = fs::metadata(top)?;
            std::os::unix::fs::chown(upper, Some(meta.uid()), Some(meta.gid()))?;
            fs::set_permissions(upper, meta.permissions())
        };
        as_top().map_err(|e| failed_io(what(), e))?;
    }
    Ok(())
}

/// Returns whether a status satisfies or defeats a wait; `None` is neither yet.
fn decide(wait: &Wait, status: &ContainerStatus) -> Option<Done> {
    let ended = matches!(status.state, Life::Exited);
    if let (true, Some(code), Some(oom)) = (ended, status.exit_code.filter(|code| *code != 0), status.out_of_memory) {
        return Some(Err(StepError::OutOfMemory { container: wait.on.clone(), code, limit: oom.limit }));
    }
    match wait.until {
        // One that is started again has ended, whether that helps or not.
        Until::Steady(_) if status.state == Life::Restarting || status.restarts > 0 => {
            Some(Err(match status.exit_code {
                Some(code) => StepError::Exited { container: wait.on.clone(), code },
                None => StepError::UnknownExit(wait.on.name.clone()),
            }))
        }
        Until::Steady(_) if status.health.is_none() && !ended => (status.state == Life::Running).then_some(Ok(())),
        Until::Healthy | Until::Steady(_) => match status.health {
            _ if ended => Some(Err(match status.exit_code {
                Some(code) => StepError::Exited { container: wait.on.clone(), code },
                None => StepError::UnknownExit(wait.on.name.clone()),
            })),
            Some(Health::Healthy) if status.state == Life::Running => Some(Ok(())),
            Some(Health::Unhealthy) => Some(Err(StepError::Unhealthy(wait.on.clone()))),
            Some(Health::Starting | Health::Healthy) | None => None,
        },
        Until::Completed if ended => Some(match status.exit_code {
            Some(0) => Ok(()),
            Some(code) if let Some(number) = wait.on.pre_start => {
                Err(StepError::NotPrepared { container: wait.on.clone(), number, code })
            }
            Some(code) => Err(StepError::NotCompleted { service: wait.on.service.clone(), code }),
            None => Err(StepError::UnknownExit(wait.on.name.clone())),
        }),
        Until::Completed => None,
    }
}

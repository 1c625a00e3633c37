//! The backend of this host: its records, its kernel, its images and its supervisors.
//!
//! What each step does is in `host.rs`, how a snapshot is taken in `observe.rs`, what can be chosen from in
//! `choices.rs`, execs and attached clients in `sessions.rs`. Here is what a command needs besides: locks, images, ports.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::actual::Actual;
use super::backend::{Backend, Building, ExecRequest, Fetch, Fetched, Give, Presence};
use super::building::Building as Programs;
use super::builds;
use super::choices::LocalChoices;
use super::console::{Console, Front, Left};
use super::container::ImageFacts;
use super::desired::{Choices, HostFacts};
use super::inventory::ImageDetails;
use super::reclaim::{self, Budget};
use super::step::ContainerRef;
use super::supervisors::{Error as LinkError, Supervisors};
use crate::build::execute::{self as build, BuildSpec};
use crate::build::remote::Fetcher;
use crate::compose::model::{Healthcheck, Project, Service};
use crate::diag::{Diagnostic, Report, Span};
use crate::event::{Event, Progress, Sink, Subject};
use crate::fault;
use crate::image::digest::Key;
use crate::image::store::{Image, Store};
use crate::name::{EngineId, ProjectName};
use crate::network::ports::Conflict;
use crate::network::{self, NetworkSpec, PublishedPort, Transport};
use crate::paths::Paths;
use crate::runtime::cgroup::{Error as CgroupError, Hierarchy};
use crate::runtime::processes::{self, Process};
use crate::runtime::usage::{self, Usage};
use crate::state::before::Before;
use crate::state::record::{ContainerRecord, ContainerStatus, NetworkRecord, PortRecord, State as Life};
use crate::state::{self, ProjectLock, State};
use crate::supervisor::client;
use crate::supervisor::protocol::Request;
use crate::sys::{later, process};

/// How often statuses are looked at when no supervisor is there to tell of changes.
const LOOK: Duration = Duration::from_millis(200);
/// How often a supervisor that dies while we come is replaced, and how long one may take to say what it has taken up.
const ADOPTIONS: u32 = 3;
const ADOPTION: Duration = Duration::from_secs(5);
/// How often a port is looked at again that is in use by no process or by one of ours that leaves, and the time between: on a
/// busy host such a one takes longer than a few looks.
const LOOKS: u32 = 100;
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// Which project an image was built for.
const PROJECT_LABEL: &str = "com.docker.compose.project";

/// This host.
#[derive(Debug)]
pub struct Local {
    pub(super) state: State,
    pub(super) images: Store,
    pub(super) supervisors: Supervisors,
    /// There are bridges or tables of ours that no record speaks for, as far as a look without a lock can tell.
    pub(super) unclaimed: Cell<bool>,
    /// Who looks around in what a failed step of a build left.
    pub(super) debugger: OnceCell<Box<dyn Front>>,
    /// What builds of this command read from elsewhere.
    pub(super) fetcher: Fetcher,
}

/// What this process left for later is done at the latest now.
impl Drop for Local {
    fn drop(&mut self) {
        later::take().perform();
    }
}

impl Local {
    /// Opens the engine of this host.
    ///
    /// # Errors
    /// When its files cannot be read or made.
    pub fn open(paths: &Paths) -> Result<Self, Report> {
        Self::of(State::open(paths.clone())?)
    }

    /// Opens the engine of this host to look at it: nothing is made, for which [`Engine::looking`](super::Engine) is.
    ///
    /// # Errors
    /// When its files cannot be read.
    pub fn look(paths: &Paths) -> Result<Self, Report> {
        Self::of(State::look(paths.clone())?)
    }

    fn of(state: State) -> Result<Self, Report> {
        let images = Store::open(&state.paths().images())?;
        later::begin();
        Ok(Self {
            state,
            images,
            supervisors: Supervisors::default(),
            unclaimed: Cell::new(false),
            debugger: OnceCell::new(),
            fetcher: Fetcher::new(|name| std::env::var(name).ok(), process::end_with_parent),
        })
    }

    /// Takes a project's lock unless another command has it.
    pub(super) fn lock_if_free(&self, project: &ProjectName) -> Result<Option<ProjectLock>, Report> {
        let lock = self.state.try_lock_project(project)?;
        if lock.is_some() {
            self.settle(project)?;
        }
        Ok(lock)
    }

    /// What commands before us have asked for is done, and what they left half made goes.
    fn settle(&self, project: &ProjectName) -> Result<(), Report> {
        client::settle(&self.state, project).map_err(|e| refused(&LinkError::from(e)))?;
        Ok(self.state.empty_trash(project)?)
    }

    /// Returns what the network driver needs to know of us.
    pub(super) fn network_host(&self) -> network::Host {
        network::Host {
            engine: self.state.engine().clone(),
            forwarding_marker: self.state.paths().run().join("ip_forward"),
        }
    }

    /// Removes bridges and tables of ours that no record speaks for: a command was killed when it had forgotten a network,
    /// and before what it had left for later was done.
    fn remove_unclaimed(&self) -> Result<(), Report> {
        if !self.unclaimed.take() {
            return Ok(());
        }
        let _lock = self.state.lock_engine()?;
        let specs = self.state.networks()?.into_iter().map(|record| network_spec(&record));
        let claimed: Vec<NetworkSpec> = specs.collect::<Result<_, _>>()?;
        for error in network::remove_unclaimed(&self.network_host(), &claimed.iter().collect::<Vec<_>>()) {
            tracing::warn!("{error}"); // they are in nobody's way, and the next command tries again
        }
        Ok(())
    }

    /// Returns whose a port is, in any project: a container's that runs, or will again by itself.
    fn owner(&self, conflict: &Conflict) -> Option<ContainerRecord> {
        let port = &conflict.port;
        let records = self.state.containers(None).ok()?;
        records.into_iter().find(|record| {
            let meets = |p: &PortRecord| {
                let hosts = p.host_ip == port.host_ip || p.host_ip.is_unspecified() || port.host_ip.is_unspecified();
                hosts && p.host_port == port.host_port && p.protocol == port.protocol.to_string()
            };
            self.is_up(record) && record.endpoints.iter().flat_map(|e| &e.ports).any(meets)
        })
    }

    fn is_up(&self, record: &ContainerRecord) -> bool {
        let status = self.state.status(&record.project, &record.id).ok().flatten();
        status.is_some_and(|s| s.process.is_some() || s.state == Life::Restarting)
    }

    /// Returns whether it is the project's own supervisor that has the port.
    fn keeps(&self, project: &ProjectName, conflict: &Conflict) -> bool {
        let Some(holder) = &conflict.holder else { return false };
        let supervisor = self.state.supervisor(project).ok().flatten();
        supervisor.is_some_and(|s| [s.holder_pid, s.worker_pid].iter().any(|pid| u32::try_from(*pid) == Ok(holder.pid)))
    }

    /// Returns whether a port is in use only for a moment: by nobody, which is a message between two processes; by a
    /// supervisor of the project that is leaving; or by another project's that is giving it back.
    fn is_passing(&self, project: &ProjectName, conflict: &Conflict) -> bool {
        let Some(holder) = &conflict.holder else { return conflict.in_flight() };
        let records = || self.state.containers(None).unwrap_or_default();
        let projects = || records().into_iter().map(|r| r.project).collect::<BTreeSet<_>>();
        !self.keeps(project, conflict)
            && (client::is_supervisor(&self.state, project, holder.pid)
                || (self.owner(conflict).is_none() && projects().iter().any(|p| self.keeps(p, conflict))))
    }

    /// Says who has a port: one of our projects, or a process.
    fn refusal(&self, conflict: &Conflict) -> Diagnostic {
        let Some(ContainerRecord { project, service, .. }) = self.owner(conflict) else {
            return Diagnostic::from_error(conflict);
        };
        let message = format!("port {} is in use by service `{service}` of project `{project}`", conflict.port);
        // In a folder with another file that project's services count as orphans.
        let help = format!("publish another host port, or take it down with: hoist -p {project} down --remove-orphans");
        Diagnostic::error(None, message).help(help)
    }

    /// Builds an image and tells of it by that name.
    async fn build(&self, mut spec: BuildSpec, name: &str, events: &dyn Sink) -> Result<Image, Report> {
        let (subject, begun) = (Subject::Image(name.to_owned()), Instant::now());
        let tell = |progress| {
            let subject = subject.clone();
            events.send(Event::Progress { subject, progress, elapsed: begun.elapsed(), detail: None });
        };
        events.send(Event::Begin { verb: "build", total: 1 });
        tell(Progress::Working("Building"));
        spec.seal = self.state.key()?.map(Key);
        spec.epoch = builds::epoch(&spec, std::env::var("SOURCE_DATE_EPOCH").ok())?;
        let budget = Budget::of(std::env::var(reclaim::VARIABLE).ok().as_deref())?;
        let result = build::build(&spec, &self.images, &Programs::new(self), &self.fetcher, events).await;
        if let Err(report) = self.keep_to(budget) {
            tracing::warn!("{}", report.render(false)); // the image is there; the next build tries again
        }
        tell(if result.is_ok() { Progress::Done("Built") } else { Progress::Failed });
        events.send(Event::End);
        let built = result?;
        if !built.warnings.diagnostics.is_empty() {
            events.send(Event::Warning(built.warnings.render(false)));
        }
        Ok(built.image)
    }

    fn facts(reference: &str, image: Image) -> ImageFacts {
        let config = image.config.config;
        let positive = |ns: i64| u64::try_from(ns).ok().filter(|n| *n > 0).map(Duration::from_nanos);
        ImageFacts {
            reference: reference.to_owned(),
            id: image.id.to_string(),
            layers: image.layers,
            env: config.env,
            entrypoint: config.entrypoint.unwrap_or_default(),
            cmd: config.cmd.unwrap_or_default(),
            user: config.user,
            working_dir: config.working_dir,
            stop_signal: config.stop_signal,
            volumes: config.volumes.into_keys().collect(),
            exposed_ports: config.exposed_ports.into_keys().collect(),
            healthcheck: config.healthcheck.map(|h| Healthcheck {
                test: Some(h.test).filter(|t| !t.is_empty()),
                interval: positive(h.interval),
                timeout: positive(h.timeout),
                retries: u32::try_from(h.retries).ok().filter(|n| *n > 0),
                start_period: positive(h.start_period),
                start_interval: positive(h.start_interval),
            }),
            labels: config.labels.into_iter().collect(),
        }
    }
}

/// Returns the specification in a network's record.
pub(super) fn network_spec(record: &NetworkRecord) -> Result<NetworkSpec, Report> {
    serde_json::from_value(record.spec.clone())
        .map_err(|e| Report::message(format!("the record of network `{}` is damaged: {e}", record.name)))
}

/// Returns a supervisor's answer as a report.
pub(super) fn refused(error: &LinkError) -> Report {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        message.push_str(&format!(": {inner}"));
        cause = inner.source();
    }
    Report::message(message)
}

impl Backend for Local {
    type Lock = ProjectLock;

    fn paths(&self) -> &Paths {
        self.state.paths()
    }

    fn engine_id(&self) -> &EngineId {
        self.state.engine()
    }

    fn busy(&self, project: &ProjectName) -> Option<String> {
        self.state.project_is_locked(project)
    }

    fn lock(&self, project: &ProjectName) -> Result<ProjectLock, Report> {
        let lock = self.state.lock_project(project)?;
        fault::point("project.locked");
        self.settle(project)?;
        Ok(lock)
    }

    fn observe(&self, project: &ProjectName) -> Result<Actual, Report> {
        super::observe::observe(self, project)
    }

    fn presence(&self, reference: &str, platform: Option<&str>) -> Result<Presence, Report> {
        super::fetch::presence(&self.images, reference, platform)
    }

    fn images(&self) -> &Store {
        &self.images
    }

    async fn borrow(&self, container: &ContainerRef) -> Result<(), Report> {
        let link = self.supervisors.link(&self.state, &container.project).map_err(|e| refused(&e))?;
        let request = Request::Pause { container: container.id.clone(), borrowed: true };
        link.ask(request, Vec::new()).await.map_err(|e| refused(&e))
    }

    async fn give_back(&self, container: &ContainerRef) -> Result<bool, Report> {
        let link = self.supervisors.link(&self.state, &container.project).map_err(|e| refused(&e))?;
        let request = Request::Unpause { container: container.id.clone(), borrowed: true };
        match link.ask(request, Vec::new()).await {
            Ok(()) => Ok(true),
            Err(LinkError::Refused { .. }) => Ok(false),
            Err(e) => Err(refused(&e)),
        }
    }

    async fn base_images(
        &self,
        project: &Project,
        service: &Service,
        events: &dyn Sink,
    ) -> Result<Vec<(String, String)>, Report> {
        // What is wrong with it the build will say.
        let Ok(Some(spec)) = builds::spec(project, service) else { return Ok(Vec::new()) };
        let mut needed = self.bases_of(&spec, events).await?;
        needed.retain(|(image, _)| !builds::is_of_service(project, service, image));
        Ok(needed)
    }

    async fn bases_of(&self, spec: &BuildSpec, events: &dyn Sink) -> Result<Vec<(String, String)>, Report> {
        build::images_needed(spec, &self.images, &self.fetcher, events).await
    }

    fn now(&self) -> i64 {
        super::fetch::now()
    }

    async fn fetch(&self, wanted: &[Fetch], events: &dyn Sink) -> Result<Vec<Fetched>, Report> {
        super::fetch::fetch(&self.images, wanted, events).await
    }

    async fn push(&self, wanted: &[Give], events: &dyn Sink) -> Result<Vec<Option<Diagnostic>>, Report> {
        super::fetch::push(&self.images, wanted, events).await
    }

    fn prune_builds(&self, project: &ProjectName) -> Result<(), Report> {
        let _lock = self.state.lock_engine()?;
        let records = self.state.containers(None)?;
        for id in self.images.dangling(PROJECT_LABEL, project.as_str())? {
            if !records.iter().any(|record| record.image_id == id.to_string()) {
                self.images.unlist(&id)?;
                fault::point("image.pruned");
            }
        }
        Ok(())
    }

    fn debug_builds(&self, front: Box<dyn Front>) {
        let _ = self.debugger.set(front); // there is one already
    }

    async fn build_image(&self, spec: &BuildSpec, events: &dyn Sink) -> Result<Image, Report> {
        let name = spec.title.clone();
        Self::build(self, spec.clone(), &name, events).await
    }

    async fn image(
        &self,
        project: &Project,
        service: &Service,
        building: Building,
        events: &dyn Sink,
    ) -> Result<ImageFacts, Report> {
        let reference = builds::reference(&project.name, service);
        let reference = reference.as_str();
        let found = self.images.resolve(reference)?;
        match (&service.build, building, found) {
            (None, _, Some(image)) | (Some(_), Building::Missing | Building::Never, Some(image)) => {
                Ok(Self::facts(reference, image))
            }
            (Some(_), Building::Missing | Building::Always, _) => {
                let spec = builds::spec(project, service)?.ok_or_else(|| Report::message("it is not to be built"))?;
                Ok(Self::facts(reference, self.build(spec, reference, events).await?))
            }
            (Some(build), Building::Never, None) => Err(Diagnostic::error(
                Some(build.span),
                format!("image `{reference}` of service `{}` is not built yet", service.name),
            )
            .help("build it with: hoist up --build")
            .into()),
            (None, _, None) => Err(Diagnostic::error(
                service.image.as_ref().map(|i| i.span),
                format!("image `{reference}` of service `{}` is not in the store", service.name),
            )
            .help("fetch it with `hoist pull`, or load it from an archive with `hoist image load -i FILE` (hoist image ls shows what is there)")
            .into()),
        }
    }

    fn host_facts(&self) -> Result<HostFacts, Report> {
        let resolv_conf = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default(); // a host without DNS is fine
        let now = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        Ok(HostFacts { now, netns: state::host_netns()?, resolv_conf, key: self.state.key()?.map(Key) })
    }

    fn choices(&self) -> Result<impl Choices, Report> {
        Ok(LocalChoices::new())
    }

    async fn supervise(&self, project: &ProjectName) -> Result<(), Report> {
        self.supervisors.link(&self.state, project).map(drop).map_err(|e| refused(&e))
    }

    async fn adopt(&self, project: &ProjectName) -> Result<(), Report> {
        let mut needed = false;
        for record in self.state.containers(Some(project))? {
            let status = self.state.status(project, &record.id)?;
            needed |= status.is_some_and(|s| match s.state {
                Life::Starting | Life::Running | Life::Restarting => true,
                Life::Created | Life::Exited => false,
            });
        }
        if !needed {
            return Ok(());
        }
        // One that can be spoken to may be dying all the same: that it answers is what counts.
        for _ in 0..ADOPTIONS {
            let link = self.supervisors.link(&self.state, project).map_err(|e| refused(&e))?;
            let mut statuses = link.statuses();
            match tokio::time::timeout(ADOPTION, statuses.wait_for(Option::is_some)).await {
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(_)) => {} // it has just died, and this time a new one is started
                Err(_) => break,
            }
        }
        tracing::warn!("the supervisor of project `{project}` does not answer"); // what is on record is known without it
        Ok(())
    }

    async fn leave(&self, project: &ProjectName) -> Result<(), Report> {
        // Also when there is nothing else to do: a command that was killed at its very end left no record.
        self.remove_unclaimed()?;
        if !self.state.containers(Some(project))?.is_empty() {
            return Ok(());
        }
        // One that an earlier command left is told as well; what cannot be reached ends by itself.
        if let Err(e) = self.supervisors.link_if_there(&self.state, project) {
            tracing::debug!("supervisor of {project}: {e}");
        }
        self.supervisors.leave(project).await;
        fault::point("supervisor.told");
        // One that was killed left its cgroup.
        if let Err(e) = client::remove_leftovers(&self.state, project) {
            tracing::debug!("cgroups of project {project}: {e}");
        }
        Ok(state::remove_tree(&self.state.paths().run_project(project))?)
    }

    async fn reserve(
        &self,
        project: &ProjectName,
        taken: &[PublishedPort],
        released: &[PublishedPort],
        place: &dyn Fn(&PublishedPort) -> Option<Span>,
    ) -> Result<(), Report> {
        let mut wanted: Vec<PublishedPort> = taken.iter().filter(|p| !released.contains(p)).copied().collect();
        let mut found = network::ports::reserve(&wanted);
        // The supervisor of this project may keep ports for the command that was before us, or for a start that it has
        // been asked for: those are ours already, unless a container has them.
        let ours = |c: &Conflict| self.keeps(project, c) && self.owner(c).is_none();
        for _ in 0..LOOKS {
            match &found {
                Err(conflicts) if conflicts.iter().any(|c| self.is_passing(project, c)) => {
                    tokio::time::sleep(BETWEEN_LOOKS).await;
                    found = network::ports::reserve(&wanted);
                }
                Ok(_) | Err(_) => break,
            }
        }
        if let Err(conflicts) = &found
            && conflicts.iter().any(&ours)
        {
            wanted.retain(|port| !conflicts.iter().any(|c| c.port == *port && ours(c)));
            found = network::ports::reserve(&wanted);
        }
        let reserved = found.map_err(|conflicts| {
            let diagnostics =
                conflicts.iter().map(|c| Diagnostic { span: place(&c.port), ..self.refusal(c) }).collect();
            Report { diagnostics, ..Report::default() }
        })?;
        if reserved.is_empty() {
            return Ok(());
        }
        let (ports, fds): (Vec<PortRecord>, Vec<OwnedFd>) =
            reserved.into_iter().map(|r| (port_record(&r.port), r.socket)).unzip();
        fault::point("ports.bound");
        let link = self.supervisors.link(&self.state, project).map_err(|e| refused(&e))?;
        let mut fds = fds.into_iter();
        for ports in ports.chunks(crate::supervisor::channel::MAX_FDS) {
            let fds = fds.by_ref().take(ports.len()).collect();
            // Nobody waits for the answer: requests are served in order, so the sockets are kept before a container starts,
            // and one that could not be kept is bound again by the supervisor itself.
            drop(link.begin(Request::Hold { ports: ports.to_vec() }, fds).map_err(|e| refused(&e))?);
        }
        Ok(())
    }

    async fn changed(&self, project: &ProjectName, known: &[ContainerStatus]) -> Result<Vec<ContainerStatus>, Report> {
        loop {
            let now: Vec<ContainerStatus> = self.observe_statuses(project)?;
            if now != known {
                return Ok(now);
            }
            match self.supervisors.link_if_there(&self.state, project).map_err(|e| refused(&e))? {
                Some(link) => {
                    // A supervisor writes a status before it tells of it, so what is told next is worth a look.
                    let mut statuses = link.statuses();
                    statuses.borrow_and_update();
                    if self.observe_statuses(project)? == known {
                        tokio::select! {
                            _ = statuses.changed() => {}
                            () = tokio::time::sleep(Duration::from_secs(1)) => {} // it may have died
                        }
                    }
                }
                None => tokio::time::sleep(LOOK).await,
            }
        }
    }

    async fn exec(&self, request: &ExecRequest, console: Option<Console>) -> Result<Left, Report> {
        self.run_exec(request, console).await
    }

    async fn attach(&self, container: &ContainerRef, console: Console, wait: bool) -> Result<Left, Report> {
        self.run_attach(container, console, wait).await
    }

    fn containers(&self) -> Result<Vec<(ContainerRecord, ContainerStatus)>, Report> {
        let with_status = |record: ContainerRecord| {
            let status = self.status_of(&record)?;
            Ok((record, status))
        };
        self.state.containers(None)?.into_iter().map(with_status).collect()
    }

    fn image_details(&self, id: &str, name: &str) -> Result<Option<ImageDetails>, Report> {
        super::fetch::details(&self.images, id, name)
    }

    fn processes(&self, container: &ContainerRecord) -> Result<Vec<Process>, Report> {
        let relative = cgroup_of(container)?;
        let found = Hierarchy::find().and_then(|h| h.open(relative)).and_then(|c| processes::processes(&c, relative));
        Ok(unless_gone(found)?.unwrap_or_default())
    }

    fn usage(&self, container: &ContainerRecord, pid: i32) -> Result<Option<Usage>, Report> {
        let relative = cgroup_of(container)?;
        Ok(unless_gone(Hierarchy::find().and_then(|h| usage::usage(&h, relative, pid)))?)
    }

    fn begin(&self, project: &ProjectName, before: &Before) -> Result<(), Report> {
        let earlier = self.state.before(project)?.filter(|earlier| !earlier.done);
        let earlier = earlier.map(|earlier| before.clone().since(earlier));
        Ok(self.state.write_before(project, earlier.as_ref().unwrap_or(before))?)
    }

    fn unfinished(&self, project: &ProjectName) -> Result<Option<Before>, Report> {
        Ok(self.state.before(project)?)
    }

    fn sync(&self) -> Result<(), Report> {
        Ok(self.state.sync_soon()?)
    }

    fn missing(&self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let mut seen = BTreeSet::new();
        paths.iter().filter(|p| seen.insert(*p) && !p.exists()).cloned().collect()
    }
}

fn cgroup_of(container: &ContainerRecord) -> Result<&str, Report> {
    let damaged = || Report::message(format!("the record of container `{}` is damaged", container.name));
    container.spec.get("cgroup").and_then(serde_json::Value::as_str).ok_or_else(damaged)
}

/// A cgroup that is gone has nothing to tell.
fn unless_gone<T>(found: Result<T, CgroupError>) -> Result<Option<T>, CgroupError> {
    match found {
        Err(CgroupError::Act { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

/// Returns a port as it is written down.
pub(super) fn port_record(port: &PublishedPort) -> PortRecord {
    let PublishedPort { host_ip, host_port, target, protocol } = *port;
    let protocol = match protocol {
        Transport::Tcp => "tcp",
        Transport::Udp => "udp",
    };
    PortRecord { host_ip, host_port, target, protocol: protocol.to_owned() }
}

//! `watch`: files of the host change, and the containers follow, by the rules of `develop.watch`.
//!
//! A thread has the files (`tree`): it hears of changes, waits for the end of a burst (`pace`), and tells what has changed
//! (`manifest`). The one that tells and acts is here: `rules` say what a batch comes to, and that is done in docker
//! compose's order: rebuild, copy, restart, run commands. What is to be copied into a container is remembered until it was,
//! so that one that is just being started or replaced gets it a little later; a container that is new gets all that was
//! copied into its predecessors since the watch began.
//!
//! Nothing that goes wrong with a batch ends the watch.

mod manifest;
mod pace;
mod rules;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::Errno;
use tokio::sync::{mpsc, oneshot};

use self::manifest::Change;
use self::pace::Pace;
use self::rules::{Rules, Work};
use self::tree::{Settled, Tree};
use super::Engine;
use super::actual::{Actual, ActualContainer};
use super::backend::{Backend, Building, ExecRequest};
use super::commands::Target;
use super::console::{Console, Left};
use super::copy::sync::{Items, report, sync};
use super::graph::Graph;
use super::plan::{Orphans, Reach};
use super::step::ContainerRef;
use super::up::{Replace, Up};
use super::{Finish, Grace, Prepared};
use crate::build::context::Ignore;
use crate::compose::model::{Build, Project, Service};
use crate::diag::{Diagnostic, Report};
use crate::event::Sink;
use crate::name::{ContainerId, ServiceName};
use crate::runtime::launch::resolve_user;
use crate::runtime::{ContainerSpec, ProcessSpec};
use crate::state::record::State;

/// From how many changes on a batch is a large one, as in docker compose.
const LARGE: usize = 1000;

/// How long after an error all is read again.
const AGAIN: Duration = Duration::from_secs(5);

/// How often it is looked whether a container can be reached that could not.
const RETRY: Duration = Duration::from_millis(500);

/// What `watch` is asked for.
pub struct Watch<'a> {
    /// The model.
    pub project: &'a Project,
    /// Each service's hash.
    pub hashes: &'a BTreeMap<ServiceName, String>,
    /// How containers are stopped.
    pub grace: Grace,
    /// Who hears of what is fetched and built, if not who hears of all the rest.
    pub build_events: Option<&'a dyn Sink>,
    /// Images that a rebuild has left without a name are removed.
    pub prune: bool,
    /// All is going to be stopped after it, so that what is being replaced or restarted at its end need not be finished.
    pub stops: bool,
}

/// What a watch has to say.
#[derive(Debug)]
pub enum Told {
    /// From now on changes are acted upon.
    Enabled,
    /// It has ended.
    Disabled,
    /// It was told to end, and what was begun is finished first.
    Finishing,
    /// There are so many changes in one batch.
    Large(usize),
    /// So many changes are copied into a service's containers.
    Syncing(ServiceName, usize),
    /// So many files are copied into a container that is new, or was there when the watch began.
    Catching(String, usize),
    /// A container is just being started or stopped, or another command changes it: the copy is made later.
    Later(String),
    /// The command with this process id is changing the project, and is waited for.
    Waiting(String),
    /// There is no container that could follow.
    Missing(ServiceName),
    /// No container runs in which a command could.
    Idle(ServiceName),
    /// Images are built.
    Rebuilding(Vec<ServiceName>),
    /// Images could not be built: the containers stay.
    BuildFailed(Report),
    /// Images were built.
    Built(Vec<ServiceName>),
    /// Containers were replaced, or could not be.
    Rebuilt(Vec<ServiceName>),
    /// Containers are restarted.
    Restarting(Vec<ServiceName>),
    /// Containers were restarted.
    Restarted(Vec<ServiceName>),
    /// A command runs in a container.
    Running(String, Vec<String>),
    /// A command has failed.
    Exited(String, Option<i32>),
    /// Something went wrong.
    Failed(Report),
}

/// Files that are watched; what changes is kept until [`Engine::watch`] acts upon it.
pub struct Watcher {
    rules: Arc<Rules>,
    batches: mpsc::UnboundedReceiver<Settled>,
    /// Written to when the thread shall end.
    end: Arc<OwnedFd>,
    /// Warnings with their places in the file.
    pub warnings: Vec<Diagnostic>,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        if let Err(error) = rustix::io::write(&*self.end, &1_u64.to_ne_bytes()) {
            tracing::debug!(%error, "the watcher ends with the process");
        }
    }
}

impl Watcher {
    /// Begins to watch the files of the named services, or of all, and of those that they depend on.
    ///
    /// # Errors
    /// What cannot be watched; also when no service has a rule.
    pub fn begin(project: &Project, services: &[String]) -> Result<Self, Report> {
        let graph = Graph::of_project(project)?.select(services)?;
        let chosen = || graph.order().filter_map(|name| project.services.get(name));
        let ignored = |build: &Build| {
            Ignore::load(&build.context, Some(&build.dockerfile)).map_err(|e| {
                let context = build.context.display();
                Report::from(Diagnostic::error(Some(build.span), format!("cannot read `{context}/.dockerignore`: {e}")))
            })
        };
        let (rules, warnings) = Rules::of(project, chosen(), real, ignored)?;
        let rules = Arc::new(rules);
        let end = Arc::new(eventfd(0, EventfdFlags::CLOEXEC).map_err(|e| cannot_watch(&e.into()))?);
        let tree = Tree::new(Arc::clone(&rules)).map_err(|e| cannot_watch(&e))?;
        let (tell, batches) = mpsc::unbounded_channel();
        let told = Arc::clone(&end);
        let thread = std::thread::Builder::new().name("watch".into());
        thread.spawn(move || follow(tree, &told, &tell)).map_err(|e| cannot_watch(&e))?;
        Ok(Self { rules, batches, end, warnings })
    }

    /// Waits for the next changes, and takes all that there are.
    async fn next(&mut self) -> Settled {
        let Some(mut all) = self.batches.recv().await else { return std::future::pending().await };
        while let Ok(more) = self.batches.try_recv() {
            all.changes.extend(more.changes);
            all.error = more.error.or(all.error);
        }
        all
    }
}

/// Follows the links of a path as far as it is there.
fn real(path: &Path) -> PathBuf {
    let there = path.ancestors().find_map(|above| Some((above, std::fs::canonicalize(above).ok()?)));
    match there {
        Some((above, real)) => {
            path.strip_prefix(above).map_or(real.clone(), |rest| real.join(rest)).components().collect()
        }
        None => path.to_owned(),
    }
}

fn cannot_watch(error: &io::Error) -> Report {
    let (message, help) = match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSPC) => (
            "there are more directories than this user may watch".to_owned(),
            "leave directories out with `ignore` or a .dockerignore, or raise the limit: sysctl fs.inotify.max_user_watches=524288",
        ),
        Some(Errno::MFILE) => (
            "this user watches files with as many programs as it may".to_owned(),
            "end another one, or raise the limit: sysctl fs.inotify.max_user_instances=512",
        ),
        _ => return Report::message(format!("cannot watch files: {error}")),
    };
    Diagnostic::error(None, message).help(help).into()
}

/// Hears of changes and tells them in batches, until it is told to end or nobody listens.
fn follow(mut tree: Tree, end: &OwnedFd, tell: &mpsc::UnboundedSender<Settled>) {
    let mut pace = Pace::default();
    // After an error everything is read again, and the same error is not told again.
    let mut again: Option<Instant> = None;
    loop {
        let now = Instant::now();
        let until = |at: Instant| at.saturating_duration_since(now);
        let wait = pace.wait(now).into_iter().chain(again.map(until)).min();
        if wait == Some(Duration::ZERO) {
            pace.done();
            let mut settled = tree.settle();
            let failed = settled.error.is_some();
            settled.error = settled.error.filter(|_| again.is_none());
            again = failed.then(|| now + AGAIN);
            let is_worth = !settled.changes.is_empty() || settled.error.is_some();
            if is_worth && tell.send(settled).is_err() {
                return;
            }
            continue;
        }
        let wait = wait.map(|wait| Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(wait.subsec_nanos()),
        });
        let Some(ear) = tree.ear() else { return };
        let mut fds = [PollFd::from_borrowed_fd(ear, PollFlags::IN), PollFd::new(end, PollFlags::IN)];
        let polled = poll(&mut fds, wait.as_ref());
        let [heard, ended] = fds.map(|fd| fd.revents().contains(PollFlags::IN));
        let result = match polled {
            Ok(_) if ended => return,
            Ok(_) if heard => tree.hear(),
            Ok(_) | Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(true) => pace.hear(Instant::now()),
            Ok(false) => {}
            Err(error) => {
                let _ = tell.send(Settled { changes: Vec::new(), error: Some(error) }); // nobody may listen
                return;
            }
        }
    }
}

/// The wish to stop, which is waited for at several places.
struct Stop<'f, F> {
    future: Pin<&'f mut F>,
    wished: bool,
}

impl<F: Future<Output = ()>> Stop<'_, F> {
    async fn wished(&mut self) {
        if !self.wished {
            self.future.as_mut().await;
            self.wished = true;
        }
    }
}

/// What is still to be copied, and into what.
#[derive(Debug, Default)]
struct Behind {
    /// For each container that is known.
    containers: BTreeMap<ContainerId, Items>,
    /// Those of which it was said that it will be later.
    told: BTreeSet<ContainerId>,
    /// All that was copied since the watch began, for containers that are new.
    since: BTreeMap<ServiceName, Items>,
}

impl Behind {
    fn is_some(&self) -> bool {
        self.containers.values().any(|items| !items.is_empty())
    }
}

/// What a session works with.
struct Session<'a, 'f, F> {
    request: &'a Watch<'a>,
    rules: Arc<Rules>,
    events: &'a dyn Sink,
    tell: &'a dyn Fn(Told),
    stop: Stop<'f, F>,
    behind: Behind,
}

impl<B: Backend> Engine<B> {
    /// Acts upon changes until `stop` is ready. `tell` hears what is done and what went wrong.
    ///
    /// # Errors
    /// When the project cannot be looked at when it begins.
    pub async fn watch(
        &self,
        mut watcher: Watcher,
        request: &Watch<'_>,
        events: &dyn Sink,
        tell: &dyn Fn(Told),
        stop: impl Future<Output = ()>,
    ) -> Result<(), Report> {
        let project = &request.project.name;
        let stop = Stop { future: std::pin::pin!(stop), wished: false };
        let rules = Arc::clone(&watcher.rules);
        let mut session = Session { request, rules, events, tell, stop, behind: Behind::default() };
        self.adopt(project).await?;
        let actual = self.backend.observe(project)?;
        let mut known: Vec<_> = actual.containers.iter().map(|c| c.status.clone()).collect();
        known.sort_by(|a, b| a.id.cmp(&b.id));
        tell(Told::Enabled);
        self.catch_up(&mut session).await;
        while !session.stop.wished {
            let is_behind = session.behind.is_some();
            tokio::select! {
                biased;
                () = session.stop.wished() => {}
                Settled { changes, error } = watcher.next() => {
                    if let Some(error) = error {
                        tell(Told::Failed(cannot_watch(&error)));
                    }
                    self.act(&mut session, &changes).await;
                }
                changed = self.backend.changed(project, &known) => {
                    match changed {
                        Ok(changed) => known = changed,
                        Err(report) => {
                            tell(Told::Failed(report));
                            session.pause(RETRY).await;
                        }
                    }
                    self.catch_up(&mut session).await;
                }
                () = tokio::time::sleep(RETRY), if is_behind => drop(self.catch_up(&mut session).await),
            }
        }
        tell(Told::Disabled);
        Ok(())
    }

    /// Does what changes come to.
    async fn act<F: Future<Output = ()>>(&self, session: &mut Session<'_, '_, F>, changes: &[Change]) {
        let work = session.rules.sort(changes);
        if work.is_empty() {
            return;
        }
        if changes.len() > LARGE {
            (session.tell)(Told::Large(changes.len()));
        }
        let Work { rebuild, sync, mut restart, exec } = work;
        if !rebuild.is_empty() && self.rebuild(session, &rebuild).await {
            // They have just been started with what has changed, unless it is copied into them only now.
            restart.retain(|service| !rebuild.contains(service) || sync.contains_key(service));
        }
        let mut failed = BTreeSet::new();
        for (service, items) in sync {
            (session.tell)(Told::Syncing(service.clone(), items.len()));
            merge(session.behind.since.entry(service.clone()).or_default(), &items);
            match self.backend.observe(&session.request.project.name) {
                Ok(actual) => {
                    if actual.replicas(&service).next().is_none() {
                        (session.tell)(Told::Missing(service.clone()));
                    }
                    for container in actual.replicas(&service) {
                        // One that is not known yet gets all that was copied so far.
                        if let Some(behind) = session.behind.containers.get_mut(&container.record.id) {
                            merge(behind, &items);
                        }
                    }
                }
                Err(report) => {
                    (session.tell)(Told::Failed(report));
                    failed.insert(service);
                }
            }
        }
        failed.extend(self.catch_up(session).await);
        restart.retain(|service| !failed.contains(service));
        if !restart.is_empty() && session.turn(&self.backend).await {
            self.restart_after(session, restart).await;
        }
        for (service, numbers) in exec {
            for number in numbers {
                if !failed.contains(&service) && !session.stop.wished {
                    self.run_after(session, &service, number).await;
                }
            }
        }
    }

    /// Builds images and replaces the containers; returns whether they were.
    async fn rebuild<F: Future<Output = ()>>(
        &self,
        session: &mut Session<'_, '_, F>,
        services: &BTreeSet<ServiceName>,
    ) -> bool {
        let Watch { project, hashes, grace, build_events, .. } = *session.request;
        let (tell, events) = (session.tell, session.events);
        let named: Vec<ServiceName> = services.iter().cloned().collect();
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        tell(Told::Rebuilding(named.clone()));
        if !session.turn(&self.backend).await {
            return false;
        }
        let scale = match self.backend.observe(&project.name) {
            Ok(actual) => scale(&actual, services),
            Err(report) => {
                tell(Told::Failed(report));
                return false;
            }
        };
        let request = Up {
            project,
            hashes,
            services: &names,
            alone: true,
            recreate: Replace { never: false, named: true, dependencies: false },
            renew: false,
            scale: &scale,
            one_off: None,
            grace,
            orphans: Orphans::Ignored,
            reach: Reach::Started,
            keep_failed: false,
            building: Building::Always,
            pulling: None,
            pull_events: build_events,
            build_events,
        };
        let prepared = tokio::select! {
            biased;
            () = session.stop.wished() => return false,
            prepared = self.prepare_up(&request, events) => prepared,
        };
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(report) => {
                tell(Told::BuildFailed(report));
                return false;
            }
        };
        tell(Told::Built(named.clone()));
        let done = self.carry_out(session, prepared).await;
        tell(Told::Rebuilt(named));
        if !done {
            return false;
        }
        // Only now nothing has the image before it any more; one that some container still has stays.
        if session.request.prune
            && let Err(report) = self.backend.prune_builds(&project.name)
        {
            tell(Told::Failed(report));
        }
        let followers = followers(project, services);
        if followers.is_empty() || !session.turn(&self.backend).await {
            return true;
        }
        self.restart_after(session, followers).await;
        true
    }

    async fn restart_after<F: Future<Output = ()>>(
        &self,
        session: &mut Session<'_, '_, F>,
        services: BTreeSet<ServiceName>,
    ) {
        let Watch { project, grace, .. } = *session.request;
        let there = match self.backend.observe(&project.name) {
            Ok(actual) => actual,
            Err(report) => return (session.tell)(Told::Failed(report)),
        };
        let (services, missing): (Vec<ServiceName>, Vec<ServiceName>) =
            services.into_iter().partition(|service| there.replicas(service).next().is_some());
        missing.into_iter().for_each(|service| (session.tell)(Told::Missing(service)));
        if services.is_empty() {
            return;
        }
        (session.tell)(Told::Restarting(services.clone()));
        let names: Vec<String> = services.iter().map(ToString::to_string).collect();
        let lacks = |c: &ActualContainer| session.behind.containers.get(&c.record.id).is_some_and(|i| !i.is_empty());
        if services.iter().flat_map(|service| there.replicas(service)).any(lacks) {
            // What ends and is started all the time cannot be reached; what is to be started anew is stopped first.
            let target = Target { project: &project.name, defined: None, services: &names };
            match self.prepare_stop(&target, grace).await {
                Ok(prepared) => drop(self.carry_out(session, prepared).await),
                Err(report) => (session.tell)(Told::Failed(report)),
            }
            self.catch_up(session).await;
        }
        match self.prepare_restart(&project.name, &names, false, grace).await {
            Ok(prepared) => {
                if self.carry_out(session, prepared).await {
                    (session.tell)(Told::Restarted(services));
                }
            }
            Err(report) => (session.tell)(Told::Failed(report)),
        }
    }

    /// Applies a plan to its end, unless all is going to be stopped anyway; returns whether it was.
    async fn carry_out<F: Future<Output = ()>>(
        &self,
        session: &mut Session<'_, '_, F>,
        prepared: Prepared<B::Lock>,
    ) -> bool {
        let Session { request, events, tell, stop, .. } = session;
        let result = if request.stops {
            self.apply(prepared, *events, stop.wished()).await
        } else {
            let mut applied = std::pin::pin!(self.apply(prepared, *events, std::future::pending()));
            tokio::select! {
                biased;
                result = &mut applied => result,
                () = stop.wished(), if !stop.wished => {
                    tell(Told::Finishing);
                    applied.await
                }
            }
        };
        match result {
            Ok(Finish::Done) => true,
            Ok(Finish::Interrupted | Finish::TakenBack) => false,
            Err(report) => {
                tell(Told::Failed(report));
                false
            }
        }
    }

    /// Runs a rule's command in all containers of its service that run, at once.
    async fn run_after<F: Future<Output = ()>>(
        &self,
        session: &mut Session<'_, '_, F>,
        service: &ServiceName,
        number: usize,
    ) {
        let tell = session.tell;
        let Some(hook) = session.rules.get(number).and_then(|rule| rule.exec.clone()) else { return };
        let actual = match self.backend.observe(&session.request.project.name) {
            Ok(actual) => actual,
            Err(report) => return tell(Told::Failed(report)),
        };
        let running: Vec<&ActualContainer> =
            actual.replicas(service).filter(|c| c.status.state == State::Running && !c.status.paused).collect();
        if running.is_empty() {
            return tell(Told::Idle(service.clone()));
        }
        let runs = running.into_iter().map(|container| {
            let request = ExecRequest {
                container: ContainerRef::from(&container.record),
                argv: hook.argv.clone(),
                env: hook.environment.clone(),
                user: hook.user.clone(),
                cwd: hook.working_dir.clone(),
                terminal: false,
                privileged: hook.privileged,
            };
            async move {
                let name = request.container.name.to_string();
                tell(Told::Running(name.clone(), request.argv.clone()));
                let console = Console::own(false).map_err(|e| Report::message(format!("cannot use our streams: {e}")));
                let left = match console {
                    Ok(console) => self.backend.exec(&request, Some(console)).await,
                    Err(report) => Err(report),
                };
                match left {
                    Ok(Left::Ended(Some(0)) | Left::Detached) => {}
                    Ok(Left::Ended(code)) => tell(Told::Exited(name, code)),
                    Err(report) => tell(Told::Failed(report)),
                }
            }
        });
        let all = futures_util::future::join_all(runs);
        tokio::select! {
            biased;
            () = session.stop.wished() => {}
            _ = all => {}
        }
    }

    /// Copies into every container what it lacks, as far as it can be reached; returns the services where that failed.
    async fn catch_up<F: Future<Output = ()>>(&self, session: &mut Session<'_, '_, F>) -> BTreeSet<ServiceName> {
        let mut failed = BTreeSet::new();
        let project = &session.request.project.name;
        let actual = match self.backend.observe(project) {
            Ok(actual) => actual,
            Err(report) => {
                (session.tell)(Told::Failed(report));
                return failed;
            }
        };
        let there: BTreeSet<&ContainerId> = actual.containers.iter().map(|c| &c.record.id).collect();
        session.behind.containers.retain(|id, _| there.contains(id));
        session.behind.told.retain(|id| there.contains(id));
        for container in actual.containers.iter().filter(|c| !c.is_one_off()) {
            let (id, service) = (&container.record.id, &container.record.service);
            if !session.rules.services().contains(service) || session.stop.wished {
                continue;
            }
            if !session.behind.containers.contains_key(id) {
                let mut items = session.initial(service).await;
                items.extend(session.behind.since.get(service).cloned().unwrap_or_default());
                if !items.is_empty() {
                    (session.tell)(Told::Catching(container.record.name.to_string(), items.len()));
                }
                session.behind.containers.insert(id.clone(), items);
            }
            if session.behind.containers.get(id).is_none_or(Items::is_empty) {
                continue;
            }
            match self.copy_into(session, container).await {
                Ok(true) => drop(session.behind.told.remove(id)),
                Ok(false) => {
                    if session.behind.told.insert(id.clone()) {
                        (session.tell)(Told::Later(container.record.name.to_string()));
                    }
                }
                Err(report) => {
                    (session.tell)(Told::Failed(report));
                    failed.insert(service.clone());
                }
            }
        }
        failed
    }

    /// Copies into one container what it lacks. Returns false when it cannot be reached just now.
    async fn copy_into<F>(
        &self,
        session: &mut Session<'_, '_, F>,
        container: &ActualContainer,
    ) -> Result<bool, Report> {
        let (id, project) = (&container.record.id, &session.request.project.name);
        let mut lock = None;
        if container.status.state != State::Running {
            // It must not be started meanwhile, and who changes the project is not waited for.
            if self.backend.busy(project).is_some() {
                return Ok(false);
            }
            lock = self.lock(project, false).await?;
        }
        let now = self.backend.observe(project)?;
        let Some(container) = now.container(id) else { return Ok(true) };
        let reachable = match container.status.state {
            State::Running => container.status.process.is_some(),
            State::Created | State::Exited => {
                container.status.process.is_none() && container.complete && lock.is_some()
            }
            State::Starting | State::Restarting => false,
        };
        if !reachable {
            return Ok(false);
        }
        let root = match self.root(container) {
            Ok(root) => root,
            // It has just ended: its new state is told.
            Err(_) if container.status.state == State::Running => return Ok(false),
            Err(report) => return Err(report),
        };
        let spec: ContainerSpec = super::copy::spec(container)?;
        let items = session.behind.containers.get_mut(id).map(std::mem::take).unwrap_or_default();
        let (tell, told) = oneshot::channel();
        let work = move || {
            let outcome = sync(root.as_fd(), &items, owner(root.as_fd(), &spec.process));
            let _ = tell.send(outcome); // nobody may wait
        };
        std::thread::Builder::new()
            .name("sync".into())
            .spawn(work)
            .map_err(|e| Report::message(format!("cannot copy files: {e}")))?;
        let outcome = told.await.map_err(|_| Report::message("the thread that copies has panicked"))?;
        drop(lock);
        report(outcome, container.record.name.as_str()).map_or(Ok(true), Err)
    }
}

impl<F: Future<Output = ()>> Session<'_, '_, F> {
    /// Returns what a new container of the service gets besides what has changed.
    async fn initial(&self, service: &ServiceName) -> Items {
        if !self.rules.is_initial(service) {
            return Items::new();
        }
        let (rules, service) = (Arc::clone(&self.rules), service.clone());
        let (tell, told) = oneshot::channel();
        let work = move || {
            let all = Tree::seen(Arc::clone(&rules)).map(|tree| rules.initial(&service, tree.manifest().iter()));
            let _ = tell.send(all); // nobody may wait
        };
        let started = std::thread::Builder::new().name("initial".into()).spawn(work);
        let all = match started {
            Ok(_) => told.await.unwrap_or_else(|_| Err(io::Error::other("the thread that reads them has panicked"))),
            Err(error) => Err(error),
        };
        all.unwrap_or_else(|error| {
            (self.tell)(Told::Failed(cannot_watch(&error)));
            Items::new()
        })
    }

    /// Waits until no other command changes the project; returns false when it was told to stop.
    async fn turn<B: Backend>(&mut self, backend: &B) -> bool {
        let mut told = false;
        while !self.stop.wished {
            let Some(pid) = backend.busy(&self.request.project.name) else { return true };
            if !told {
                (self.tell)(Told::Waiting(pid));
                told = true;
            }
            self.pause(RETRY / 5).await;
        }
        false
    }

    async fn pause(&mut self, time: Duration) {
        tokio::select! {
            biased;
            () = self.stop.wished() => {}
            () = tokio::time::sleep(time) => {}
        }
    }
}

/// Adds to what is still to be copied.
fn merge(behind: &mut Items, items: &Items) {
    for (target, item) in items {
        let replace = item.replace || behind.get(target).is_some_and(|before| before.replace);
        let mut item = item.clone();
        item.replace = replace;
        behind.insert(target.clone(), item);
    }
}

/// Returns whose files are that are made in a container: its user's, as in Docker.
fn owner(root: std::os::fd::BorrowedFd<'_>, process: &ProcessSpec) -> (u32, u32) {
    match resolve_user(root, process) {
        Ok(user) => (user.uid, user.gid),
        Err(error) => {
            tracing::debug!(%error, "its user is not known: files are root's");
            (0, 0)
        }
    }
}

/// Returns how many containers services have now.
fn scale(actual: &Actual, services: &BTreeSet<ServiceName>) -> BTreeMap<ServiceName, u32> {
    let count = |service: &ServiceName| u32::try_from(actual.replicas(service).count()).unwrap_or(u32::MAX);
    services.iter().map(|service| (service.clone(), count(service))).filter(|(_, count)| *count > 0).collect()
}

/// Returns the services that asked to be restarted when one of these is replaced.
fn followers(project: &Project, services: &BTreeSet<ServiceName>) -> BTreeSet<ServiceName> {
    let follows = |name: &ServiceName, service: &Service| {
        !services.contains(name) && service.depends_on.iter().any(|(on, how)| how.restart && services.contains(on))
    };
    project.services.iter().filter(|(name, service)| follows(name, service)).map(|(name, _)| name.clone()).collect()
}

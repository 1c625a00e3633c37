//! The heart: down, ps, exec here; up, logs and the commands about containers that are there in files of their own. The
//! phases in order; every one has its own file.
//!
//! [`graph`] orders services, [`desired`] chooses, [`plan`](mod@plan) compares with [`actual`], [`existing`] plans what
//! needs no file, [`execute`](mod@execute) obeys. [`backend`] is the seam to the host.
#![deny(clippy::wildcard_enum_match_arm)]

pub mod actual;
pub mod backend;
pub mod building;
pub mod builds;
mod choices;
pub mod commands;
pub mod commit;
pub mod console;
pub mod container;
pub mod copy;
pub mod desired;
pub mod detach;
pub mod differences;
pub mod drawing;
pub mod events;
pub mod execute;
pub mod existing;
mod fetch;
mod grants;
pub mod graph;
mod hooks;
mod host;
pub mod images;
pub mod inventory;
pub mod isolation;
mod last_words;
pub mod limits;
pub mod local;
pub mod logs;
mod looking;
#[cfg(test)]
mod matrix;
mod observe;
pub mod plan;
pub mod ps;
pub mod reclaim;
mod replicas;
pub mod rollback;
pub mod run;
mod sessions;
pub mod stats;
pub mod step;
mod succession;
pub mod summary;
mod supervisors;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_of_rolling;
#[cfg(test)]
mod tests_of_up;
pub mod up;
pub mod update;
pub mod wait;
pub mod watch;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::compose::model::Project;
use crate::diag::{Diagnostic, Report, Span};
use crate::engine::actual::{Actual, ActualContainer};
use crate::engine::backend::{Backend, ExecRequest, Presence};
use crate::engine::console::{Console, Left};
use crate::engine::execute::OnFailure;
use crate::engine::plan::{Options, Orphans};
use crate::engine::step::{ContainerRef, Plan, Step, StepError};
use crate::engine::summary::Change;
use crate::event::{Event, Silent, Sink, Subject};
use crate::fault;
use crate::image::reclaim::Hold;
use crate::name::{ProjectName, ServiceName};
use crate::network::PublishedPort;
use crate::state::before::Before;
use crate::state::record::{OutOfMemory, State};

/// The engine on one host.
#[derive(Debug)]
pub struct Engine<B> {
    backend: B,
    /// Plans are only looked at: no lock is taken, nothing is fetched, built or started.
    looking: bool,
    /// What people should know of what was done before a plan was made.
    notes: RefCell<Vec<String>>,
}

/// A container that ended, other than well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Which.
    pub container: ContainerRef,
    /// Its exit code.
    pub code: i32,
    /// What is known if it was killed for want of memory.
    pub out_of_memory: Option<OutOfMemory>,
}

/// How containers are stopped.
#[derive(Debug, Clone, Copy, Default)]
pub struct Grace {
    /// Time from stop signal to kill, instead of each container's own.
    pub timeout: Option<Duration>,
    /// Wait for that time even when the signal cannot reach a container's first process, as Docker does.
    pub strict: bool,
}

/// What `down` is asked for.
#[derive(Debug)]
pub struct DownRequest<'a> {
    /// The project.
    pub project: &'a ProjectName,
    /// Services of the file, to tell orphans; `None` without a file.
    pub defined: Option<BTreeSet<ServiceName>>,
    /// The services named; none is the whole project. Their dependents go too.
    pub services: &'a [String],
    /// Remove volumes.
    pub volumes: bool,
    /// Remove images, and the model that names them, if there is a file.
    pub images: Option<(Images, Option<&'a Project>)>,
    /// What happens to containers of services that the file does not have.
    pub orphans: Orphans,
    /// How its containers are stopped.
    pub grace: Grace,
}

/// Which images `down` removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Images {
    /// Those that were built here and have no name but ours.
    Local,
    /// Every service's.
    All,
}

/// A plan and the lock under which it is true.
#[derive(Debug)]
pub struct Prepared<L> {
    /// The steps.
    pub plan: Plan,
    /// Warnings with their places in the file.
    pub warnings: Vec<Diagnostic>,
    /// Where the file publishes the ports.
    places: Vec<(PublishedPort, Span)>,
    project: ProjectName,
    verb: &'static str,
    on_failure: OnFailure,
    /// What the command cannot do, told when the rest is done.
    refused: Vec<Diagnostic>,
    /// None for a command that only asks supervisors: it must not wait for one that does. None also for one that looks.
    lock: Option<L>,
    /// What the project is, if the plan replaces containers: that can be gone back to.
    before: Option<Before>,
    /// What a person would say that the plan of an `up` comes to; only of one that is looked at.
    pub changes: Vec<Change>,
    /// The images of containers that are not made yet stay.
    _hold: Option<Hold>,
}

/// How a run ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All is done.
    Done,
    /// It was told to stop, and did.
    Interrupted,
    /// It was told to stop while it replaced containers, and the project is what it was.
    TakenBack,
}

impl<B: Backend> Engine<B> {
    /// Returns the engine on that host.
    pub fn new(backend: B) -> Self {
        Self { backend, looking: false, notes: RefCell::default() }
    }

    /// Returns an engine that plans and changes nothing at all. Another command may change what it has seen.
    pub fn looking(backend: B) -> Self {
        Self { backend, looking: true, notes: RefCell::default() }
    }

    /// Returns whether plans are only looked at.
    pub fn is_looking(&self) -> bool {
        self.looking
    }

    /// Takes back a replacement that was cut short, and starts a supervisor where containers need one, unless plans are only
    /// looked at.
    async fn adopt(&self, project: &ProjectName) -> Result<(), Report> {
        if self.looking {
            return Ok(());
        }
        let is_cut_short = self.backend.unfinished(project)?.is_some_and(|before| !before.kept);
        if is_cut_short && self.backend.busy(project).is_none() {
            drop(self.lock(project, false).await?);
        }
        self.backend.adopt(project).await
    }

    /// Returns the host.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// Returns the containers that ended, other than well, since a time (nanoseconds since the
    /// epoch): those that a command started and that did not stay up.
    ///
    /// # Errors
    /// When what exists cannot be read.
    pub fn failed_since(&self, project: &ProjectName, since: i64) -> Result<Vec<Failed>, Report> {
        let actual = self.backend.observe(project)?;
        // One that runs without a restart of its policy's did not fail: its start was repeated, as that of a killed worker.
        let ended = actual.containers.iter().filter(|c| !c.is_up() || c.status.restarts > 0);
        let ended = ended.filter(|c| c.status.finished.is_some_and(|at| at >= since));
        let failed = ended.map(|c| Failed {
            container: ContainerRef::from(&c.record),
            code: c.status.exit_code.unwrap_or(0),
            out_of_memory: c.status.out_of_memory,
        });
        Ok(failed.filter(|f| f.code != 0).collect())
    }

    /// Returns the exit code of a service's last run: of the container with the lowest number whose is known.
    ///
    /// # Errors
    /// When what exists cannot be read.
    pub fn exit_code(&self, project: &ProjectName, service: &str) -> Result<Option<i32>, Report> {
        let actual = self.backend.observe(project)?;
        let mut there: Vec<&ActualContainer> =
            actual.containers.iter().filter(|c| c.record.service.as_str() == service && !c.is_one_off()).collect();
        there.sort_by_key(|c| c.record.number);
        Ok(there.iter().find_map(|c| c.status.exit_code.filter(|_| !c.is_up())))
    }

    fn options(&self, grace: Grace, orphans: Orphans) -> Options<'_> {
        let Grace { timeout, strict } = grace;
        Options { timeout, strict, orphans, ..Options::new(self.backend.paths()) }
    }

    /// Plans the removal of a project or of some of its services.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub async fn prepare_down(&self, request: &DownRequest<'_>) -> Result<Prepared<B::Lock>, Report> {
        let lock = match request.services {
            [] => self.lock_as_it_is(request.project)?, // it all goes, whatever it is
            _ => self.lock(request.project, true).await?,
        };
        let actual = self.backend.observe(request.project)?;
        self.refuse_other_namespace(request.project, &actual)?;
        let services = match request.services {
            [] => None,
            named => {
                let graph = plan::graph_of(&actual);
                let defined = request.defined.as_ref();
                let known = |name: &&String| {
                    graph.order().any(|s| s.as_str() == name.as_str())
                        || !defined.is_some_and(|d| d.iter().any(|s| s.as_str() == name.as_str()))
                };
                let there: Vec<String> = named.iter().filter(known).cloned().collect();
                // All are defined and none has a container: nothing to do, which is not "all of them".
                let mut going: BTreeSet<ServiceName> = BTreeSet::new();
                if !there.is_empty() {
                    going.extend(graph.select_alone(&there)?.order().cloned());
                }
                for service in graph.order() {
                    if graph.dependencies(service).iter().any(|e| going.contains(&e.on)) {
                        going.insert(service.clone());
                    }
                }
                Some(going)
            }
        };
        let images = self.images_that_go(request, &actual, services.as_ref())?;
        let down = plan::Down { services, defined: request.defined.clone(), volumes: request.volumes, images };
        let options = self.options(request.grace, request.orphans);
        let mut plan = plan::down(request.project, &actual, &down, &options);
        if plan.is_empty() && plan.warnings.is_empty() {
            plan.warnings.push(format!("No resource found to remove for project \"{}\".", request.project));
        }
        Ok(self.prepared(plan, request.project, "down", OnFailure::Continue, lock))
    }

    /// Returns the names of the images that `down` removes: those of the file's services, else of the containers'.
    fn images_that_go(
        &self,
        request: &DownRequest<'_>,
        actual: &Actual,
        services: Option<&BTreeSet<ServiceName>>,
    ) -> Result<Vec<String>, Report> {
        let Some((which, project)) = request.images else { return Ok(Vec::new()) };
        let built = |service: &ServiceName| format!("{}-{service}", request.project);
        let of_file = project.into_iter().flat_map(|p| p.services.values()).map(|service| {
            let written = service.image.as_ref().map(|image| image.value.clone());
            (&service.name, written.unwrap_or_else(|| built(&service.name)))
        });
        let records = actual.containers.iter().map(|c| &c.record).filter(|_| project.is_none());
        let of_containers = records.map(|record| (&record.service, record.image.clone()));
        let mut names: BTreeSet<String> = BTreeSet::new();
        for (service, name) in of_file.chain(of_containers) {
            let chosen = services.is_none_or(|services| services.contains(service));
            let wanted = which == Images::All || name == built(service);
            if chosen && wanted && matches!(self.backend.presence(&name, None)?, Presence::Here { .. }) {
                names.insert(name);
            }
        }
        Ok(names.into_iter().collect())
    }

    fn prepared(
        &self,
        plan: Plan,
        project: &ProjectName,
        verb: &'static str,
        on_failure: OnFailure,
        lock: Option<B::Lock>,
    ) -> Prepared<B::Lock> {
        Prepared {
            plan,
            warnings: Vec::new(),
            places: Vec::new(),
            project: project.clone(),
            verb,
            on_failure,
            refused: Vec::new(),
            lock,
            before: None,
            changes: Vec::new(),
            _hold: None,
        }
    }

    /// What was made from another network namespace cannot be reached from this one.
    fn refuse_other_namespace(&self, project: &ProjectName, actual: &Actual) -> Result<(), Report> {
        let here = self.backend.host_facts()?.netns;
        if actual.containers.iter().all(|c| c.record.host_netns == here) {
            return Ok(());
        }
        Err(Diagnostic::error(None, format!("project `{project}` was started from another network namespace"))
            .help("run the command in that namespace")
            .into())
    }

    /// Executes a plan. When `stop` is ready, no further step starts.
    ///
    /// # Errors
    /// Ports that are in use, before anything is changed; then every step that failed.
    pub async fn apply(
        &self,
        mut prepared: Prepared<B::Lock>,
        events: &dyn Sink,
        stop: impl Future<Output = ()>,
    ) -> Result<Finish, Report> {
        let diagnostics = std::mem::take(&mut prepared.refused);
        let plan = &prepared.plan;
        for warning in self.notes.take().iter().chain(&plan.warnings) {
            events.send(Event::Warning(warning.clone()));
        }
        let told = plan.steps.iter().map(|planned| &planned.step).filter(|step| !step.is_formal());
        let mut subjects: BTreeSet<Subject> = told.map(Step::subject).collect();
        subjects.extend(plan.running.iter().map(|name| Subject::Container(name.to_string())));
        events.send(Event::Begin { verb: prepared.verb, total: subjects.len() });
        for name in &plan.running {
            events.send(Event::Progress {
                subject: Subject::Container(name.to_string()),
                progress: crate::event::Progress::Done("Running"),
                elapsed: Duration::ZERO,
                detail: None,
            });
        }
        let result = self.perform(&prepared, events, stop).await;
        events.send(Event::End);
        match result {
            Ok(Finish::Done) if !diagnostics.is_empty() => Err(Report { diagnostics, ..Report::default() }),
            result => result,
        }
    }

    async fn perform(
        &self,
        prepared: &Prepared<B::Lock>,
        events: &dyn Sink,
        stop: impl Future<Output = ()>,
    ) -> Result<Finish, Report> {
        let Prepared { plan, project, verb, on_failure, lock, .. } = prepared;
        if plan.is_empty() {
            if lock.is_some() {
                self.adopt(project).await?; // what runs as it should may have nobody who looks after it
                self.backend.leave(project).await?; // an `up` that was killed may have left a supervisor, and nothing else
            }
            return Ok(Finish::Done);
        }
        fault::point("plan.made");
        // Before anything else, so that a conflict finds nothing to undo.
        let (taken, released) = plan::ports(plan);
        if !taken.is_empty() {
            let place = |port: &PublishedPort| prepared.places.iter().find(|(p, _)| p == port).map(|(_, span)| *span);
            self.backend.reserve(project, &taken, &released, &place).await?;
        }
        fault::point("ports.reserved");
        self.backend.supervise(project).await?;
        fault::point("supervisor.there");
        if let Some(before) = &prepared.before {
            self.backend.begin(project, before)?;
            fault::point("before.written");
        }
        let began = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let outcome = execute::execute(plan, &self.backend, events, *on_failure, stop).await;
        fault::point("plan.executed");
        // Before anything is taken back: what a container said goes with it.
        let quotes = match outcome.failed.is_empty() {
            true => Vec::new(),
            false => self.quotes_of(project, plan, &outcome, began),
        };
        let begun = match &prepared.before {
            Some(_) if !outcome.is_complete() => self.backend.unfinished(project)?.filter(|before| !before.done),
            _ => None,
        };
        let begun = match begun {
            Some(before) if !before.kept && outcome.pauses(plan) => {
                let kept = Before { kept: true, ..before };
                self.backend.begin(project, &kept)?;
                Some(kept)
            }
            begun => begun,
        };
        let taken_back = match &begun {
            Some(before) if !before.kept => Some(self.take_back(project, before, events).await),
            _ => None,
        };
        if lock.is_some() {
            self.backend.leave(project).await?;
            fault::point("supervisor.left");
            self.backend.sync()?;
        }
        let fate = match (&taken_back, begun) {
            (Some(_), _) if plan.steps.iter().any(|p| matches!(p.step, Step::SetAside { .. })) => {
                "The containers that were to be replaced are back.".to_owned()
            }
            (Some(_), _) => "All is as it was.".to_owned(),
            (None, Some(_)) => {
                "All is left as it is, for a look; the next `hoist up` goes back to what was before, then on."
                    .to_owned()
            }
            (None, None) => format!("What was done stays; run `hoist {verb}` again to go on"),
        };
        let mut report = outcome.report(plan, &fate);
        report.quotes = quotes;
        match taken_back {
            Some(Err(failed)) => {
                let quotes = report.quotes;
                report = outcome.report(plan, "Not all of what was before is back.");
                report.quotes = quotes;
                report.diagnostics.extend(failed.diagnostics);
                return Err(report);
            }
            Some(Ok(())) if report.diagnostics.is_empty() => return Ok(Finish::TakenBack),
            _ if !report.diagnostics.is_empty() => return Err(report),
            _ => {}
        }
        // Also when everything was done by then: whoever asked to stop must not be left waiting.
        Ok(if outcome.interrupted { Finish::Interrupted } else { Finish::Done })
    }

    /// Kills the project's running containers at once, while another command of ours may hold its lock.
    ///
    /// # Errors
    /// When a container cannot be killed.
    pub async fn kill(
        &self,
        project: &ProjectName,
        services: Option<&BTreeSet<ServiceName>>,
        events: &dyn Sink,
    ) -> Result<(), Report> {
        let actual = self.backend.observe(project)?;
        let grace = Grace { timeout: Some(Duration::ZERO), strict: false };
        let plan = existing::stop(&actual, services, &self.options(grace, Orphans::Named));
        let outcome = execute::execute(&plan, &self.backend, events, OnFailure::Continue, std::future::pending()).await;
        if outcome.failed.is_empty() {
            Ok(())
        } else {
            Err(outcome.report(&plan, "What was done stays; run the command again"))
        }
    }

    /// Returns the containers that a filter lets through, sorted by name.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub async fn ps(
        &self,
        project: &ProjectName,
        defined: &[ServiceName],
        filter: &ps::Filter<'_>,
    ) -> Result<Vec<ps::Row>, Report> {
        self.adopt(project).await?;
        let actual = self.backend.observe(project)?;
        check_names(&actual, defined, filter.services)?;
        let is_shown =
            |row: &ps::Row| filter.has(row) && (!filter.defined_only || defined.contains(&row.record.service));
        Ok(ps::rows(&actual, self.backend.paths()).into_iter().filter(is_shown).collect())
    }

    /// Runs a command in a running container of a service, and returns its exit code when it has ended. Without a console
    /// it is only started.
    ///
    /// # Errors
    /// When the service is not running, or the supervisor refuses.
    pub async fn exec(&self, project: &ProjectName, exec: &Exec<'_>, console: Option<Console>) -> Result<Left, Report> {
        let container = self.running(project, exec.service, exec.defined, exec.index).await?;
        if container.status.paused {
            return Err(commands::paused(&container).into());
        }
        let record = container.record;
        let request = ExecRequest {
            container: ContainerRef::from(&record),
            argv: exec.argv.to_vec(),
            env: exec.env.to_vec(),
            user: exec.user.clone(),
            cwd: exec.cwd.clone(),
            terminal: exec.terminal,
            privileged: exec.privileged,
        };
        self.backend.exec(&request, console).await.map_err(|mut report| {
            // The command never ran: say which one, and where.
            if let (Some(_), Some(first), Some(program)) =
                (report.exit, report.diagnostics.first_mut(), exec.argv.first())
            {
                first.message = format!("cannot run `{program}` in container `{}`: {}", record.name, first.message);
            }
            report
        })
    }

    /// Finds the running container of a service that [`Engine::attach`] is for.
    ///
    /// # Errors
    /// When the service is not running.
    pub async fn attachable(
        &self,
        project: &ProjectName,
        service: &String,
        defined: &[ServiceName],
        index: Option<u32>,
    ) -> Result<Attachable, Report> {
        let ActualContainer { record, status, .. } = self.running(project, service, defined, index).await?;
        // In docker's words.
        let refused = match status.state {
            _ if status.paused => {
                let help = format!("let it go on with: hoist unpause {}", record.service);
                Some(("cannot attach to a paused container, unpause it first", help))
            }
            State::Restarting => {
                let help = format!("see why it ended: hoist logs {}", record.service);
                Some(("cannot attach to a restarting container, wait until it is running", help))
            }
            State::Created | State::Starting | State::Running | State::Exited => None,
        };
        if let Some((message, help)) = refused {
            return Err(Diagnostic::error(None, message).help(help).into());
        }
        let terminal = record.spec.pointer("/process/terminal").and_then(serde_json::Value::as_bool).unwrap_or(false);
        Ok(Attachable { container: ContainerRef::from(&record), terminal, input: record.policy.stdin_open })
    }

    /// Shows a container's output from now on and gives it our input, until it ends or the caller detaches.
    ///
    /// # Errors
    /// When it does not run any more, or the supervisor refuses.
    pub async fn attach(&self, container: &ContainerRef, console: Console) -> Result<Left, Report> {
        self.backend.attach(container, console, false).await
    }

    /// Returns whether a container runs, or is about to; one of which nothing is known does not.
    #[must_use]
    pub fn is_up(&self, container: &ContainerRef) -> bool {
        let actual = self.backend.observe(&container.project);
        actual.is_ok_and(|actual| actual.container(&container.id).is_some_and(ActualContainer::is_up))
    }

    /// Sends a signal to a container's first process.
    ///
    /// # Errors
    /// When it is just starting, or the supervisor refuses.
    pub async fn signal(&self, container: &ContainerRef, signal: i32) -> Result<(), StepError> {
        self.backend.perform(&Step::Kill { container: container.clone(), signal }, &Silent).await
    }

    /// Returns the running container of a service with this number, or the one with the lowest.
    async fn running(
        &self,
        project: &ProjectName,
        service: &String,
        defined: &[ServiceName],
        index: Option<u32>,
    ) -> Result<ActualContainer, Report> {
        self.adopt(project).await?;
        let actual = self.backend.observe(project)?;
        check_names(&actual, defined, std::slice::from_ref(service))?;
        let mut running: Vec<&ActualContainer> =
            actual.containers.iter().filter(|c| c.record.service.as_str() == service && c.is_up()).collect();
        running.sort_by_key(|c| (c.is_one_off(), c.record.number));
        let found = match index {
            None => running.first(),
            Some(index) => running.iter().find(|c| c.record.number == index),
        };
        if let Some(container) = found {
            return Ok((*container).clone());
        }
        let message = match index {
            None => format!("service \"{service}\" is not running"),
            Some(index) => format!("service \"{service}\" is not running container #{index}"),
        };
        Err(Diagnostic::error(None, message).help("start it: hoist up -d").into())
    }
}

/// A container that one can attach to.
#[derive(Debug)]
pub struct Attachable {
    /// Which.
    pub container: ContainerRef,
    /// It has a terminal.
    pub terminal: bool,
    /// It reads what is typed.
    pub input: bool,
}

/// What `exec` is asked for.
#[derive(Debug)]
pub struct Exec<'a> {
    /// The service.
    pub service: &'a String,
    /// Services of the file.
    pub defined: &'a [ServiceName],
    /// Number of the replica; `None` is the lowest that runs.
    pub index: Option<u32>,
    /// Program and arguments.
    pub argv: &'a [String],
    /// Variables as `NAME=value`.
    pub env: &'a [String],
    /// Instead of the container's user.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// Give it a terminal.
    pub terminal: bool,
    /// Give it every capability.
    pub privileged: bool,
}

/// A name is known when the file defines it or a container bears it.
fn check_names(actual: &Actual, defined: &[ServiceName], services: &[String]) -> Result<(), Report> {
    let known: BTreeSet<&str> = actual
        .containers
        .iter()
        .map(|c| c.record.service.as_str())
        .chain(defined.iter().map(ServiceName::as_str))
        .collect();
    let Some(wanted) = services.iter().find(|name| !known.contains(name.as_str())) else { return Ok(()) };
    let closest = crate::diag::nearest(wanted, known.iter().copied()).map(Into::into);
    Err(graph::Error::NoSuchService { wanted: wanted.clone(), closest }.into())
}

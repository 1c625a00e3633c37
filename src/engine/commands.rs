//! The commands about containers that are there: what is asked for, checked against what exists, planned by
//! [`existing`]; and questions about them.
//!
//! `kill`, `pause` and `unpause` take no lock: they change nothing but what a supervisor does, and are what one reaches
//! for while another command waits.

use std::collections::BTreeSet;
use std::time::Duration;

use super::actual::{Actual, ActualContainer};
use super::backend::Backend;
use super::desired::published;
use super::execute::OnFailure;
use super::plan::{LONGEST_WAIT, Orphans, graph_of};
use super::{Engine, Grace, Prepared, check_names, existing};
use crate::diag::{Diagnostic, Report};
use crate::name::{ProjectName, ServiceName};
use crate::network::{PublishedPort, Transport};
use crate::runtime::processes::Process;

/// The containers that a command is about.
#[derive(Debug, Clone, Copy)]
pub struct Target<'a> {
    /// The project.
    pub project: &'a ProjectName,
    /// Services of the file; `None` without a file, when all that have containers count.
    pub defined: Option<&'a [ServiceName]>,
    /// The services named; none is all.
    pub services: &'a [String],
}

impl Target<'_> {
    pub(super) fn has(&self, service: &ServiceName) -> bool {
        match self.services {
            [] => self.defined.is_none_or(|defined| defined.contains(service)),
            named => named.iter().any(|name| name == service.as_str()),
        }
    }

    pub(super) fn check(&self, actual: &Actual) -> Result<(), Report> {
        check_names(actual, self.defined.unwrap_or_default(), self.services)
    }
}

/// What `start` waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The conditions of dependencies alone.
    Started,
    /// Every service's health or completion as well, at most so long; `None` is without end.
    Waited(Option<Duration>),
}

/// What `rm` is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Remove {
    /// Stop those that run first, instead of leaving them.
    pub stop: bool,
    /// Their anonymous volumes as well.
    pub volumes: bool,
    /// How they are stopped.
    pub grace: Grace,
}

/// Which published port is asked for.
#[derive(Debug, Clone, Copy)]
pub struct PortQuestion {
    /// Port in the container.
    pub target: u16,
    /// Its protocol.
    pub protocol: Transport,
    /// Number of the replica; `None` is the lowest that runs.
    pub index: Option<u32>,
}

/// The processes of one container.
#[derive(Debug)]
pub struct Top {
    /// Its service.
    pub service: ServiceName,
    /// Number of the replica.
    pub number: u32,
    /// Its processes, sorted by number.
    pub processes: Vec<Process>,
}

impl<B: Backend> Engine<B> {
    /// Checks that services are known: the file has them, or a container is theirs.
    ///
    /// # Errors
    /// When one is not, or what exists cannot be read.
    pub fn check(&self, target: &Target<'_>) -> Result<(), Report> {
        target.check(&self.backend.observe(target.project)?)
    }

    /// Plans the start of containers that do not run, and of those that they depend on. Of the services in `without` the
    /// file wants no container, so that they need not have one.
    ///
    /// # Errors
    /// When what exists cannot be read, a named service has no container, or one is paused.
    pub async fn prepare_start(
        &self,
        target: &Target<'_>,
        without: &BTreeSet<ServiceName>,
        ready: Ready,
    ) -> Result<Prepared<B::Lock>, Report> {
        let Target { project, .. } = *target;
        let lock = self.lock(project, false).await?;
        let actual = self.backend.observe(project)?;
        self.refuse_other_namespace(project, &actual)?;
        target.check(&actual)?;
        let there: BTreeSet<&str> =
            actual.containers.iter().filter(|c| !c.is_one_off()).map(|c| c.record.service.as_str()).collect();
        let missing = match target.services {
            // As in Compose, a service without a container is passed over, unless there is none at all.
            [] if !there.is_empty() => Vec::new(),
            [] => target.defined.unwrap_or_default().iter().map(ServiceName::as_str).collect(),
            named => named.iter().map(String::as_str).filter(|name| !there.contains(name)).collect::<Vec<_>>(),
        };
        let missing: Vec<&str> = missing.into_iter().filter(|name| !without.contains(*name)).collect();
        if !missing.is_empty() {
            let nothing = |name: &str| {
                Diagnostic::error(None, format!("service \"{name}\" has no container to start"))
                    .help(format!("make it with: hoist up -d {name}"))
            };
            return Err(Report { diagnostics: missing.into_iter().map(nothing).collect(), ..Report::default() });
        }
        let all = graph_of(&actual);
        let names: Vec<String> = all.order().filter(|name| target.has(name)).map(ToString::to_string).collect();
        let graph = if names.is_empty() { all.select_alone(&[])? } else { all.select(&names)? };
        refuse_paused(actual.containers.iter().filter(|c| graph.contains(&c.record.service)))?;
        let wait = match ready {
            Ready::Started => None,
            Ready::Waited(at_most) => Some(at_most.unwrap_or(LONGEST_WAIT)),
        };
        let plan = existing::start(&actual, &graph, wait, &self.options(Grace::default(), Orphans::Named));
        Ok(self.prepared(plan, project, "start", OnFailure::Stop, lock))
    }

    /// Plans the stop of the named services, or of all; the containers stay.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub async fn prepare_stop(&self, target: &Target<'_>, grace: Grace) -> Result<Prepared<B::Lock>, Report> {
        let lock = self.lock(target.project, false).await?;
        let actual = self.backend.observe(target.project)?;
        self.refuse_other_namespace(target.project, &actual)?;
        target.check(&actual)?;
        let services: BTreeSet<ServiceName> =
            actual.containers.iter().map(|c| &c.record.service).filter(|s| target.has(s)).cloned().collect();
        let plan = existing::stop(&actual, Some(&services), &self.options(grace, Orphans::Named));
        Ok(self.prepared(plan, target.project, "stop", OnFailure::Continue, lock))
    }

    /// Plans the removal of containers that do not run, and returns their names. Those of `run` are left.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub async fn prepare_remove(
        &self,
        target: &Target<'_>,
        remove: &Remove,
    ) -> Result<(Prepared<B::Lock>, Vec<String>), Report> {
        let lock = self.lock(target.project, false).await?;
        let actual = self.backend.observe(target.project)?;
        self.refuse_other_namespace(target.project, &actual)?;
        target.check(&actual)?;
        let goes = |c: &ActualContainer| {
            let runs = c.is_up() || c.status.process.is_some();
            !c.is_one_off() && target.has(&c.record.service) && (remove.stop || !runs)
        };
        let options = self.options(remove.grace, Orphans::Named);
        let plan = existing::remove(&actual, goes, remove.volumes, "rm", &options);
        let names = actual.containers.iter().filter(|c| goes(c)).map(|c| c.record.name.to_string()).collect();
        Ok((self.prepared(plan, target.project, "rm", OnFailure::Continue, lock), names))
    }

    /// Plans a stop and a start of the named services, or of all, and unless they are `alone`, of those that asked to
    /// follow.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service has no container.
    pub async fn prepare_restart(
        &self,
        project: &ProjectName,
        services: &[String],
        alone: bool,
        grace: Grace,
    ) -> Result<Prepared<B::Lock>, Report> {
        let lock = self.lock(project, false).await?;
        let actual = self.backend.observe(project)?;
        self.refuse_other_namespace(project, &actual)?;
        let all = graph_of(&actual);
        let graph = if alone { all.select_alone(services)? } else { all.select_for_restart(services)? };
        let named: BTreeSet<ServiceName> = all.select_alone(services)?.order().cloned().collect();
        let mut plan = existing::restart(&actual, &graph, &named, &self.options(grace, Orphans::Named));
        if plan.is_empty() {
            plan.warnings.push(format!("No containers to restart for project \"{project}\"."));
        }
        Ok(self.prepared(plan, project, "restart", OnFailure::Stop, lock))
    }

    /// Plans a signal to the containers that run, to those of `run` too, and with `orphans` to those of services that
    /// the file does not have.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn prepare_kill(&self, target: &Target<'_>, signal: i32, orphans: bool) -> Result<Prepared<B::Lock>, Report> {
        let actual = self.backend.observe(target.project)?;
        self.refuse_other_namespace(target.project, &actual)?;
        target.check(&actual)?;
        let all = orphans && target.services.is_empty();
        let plan = existing::kill(&actual, |c| all || target.has(&c.record.service), signal);
        Ok(self.prepared(plan, target.project, "kill", OnFailure::Continue, None))
    }

    /// Plans the pause of the containers that run. Those that are paused already are told when the rest is done.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn prepare_pause(&self, target: &Target<'_>) -> Result<Prepared<B::Lock>, Report> {
        self.prepare_hold(target, true)
    }

    /// Plans that paused containers go on. Those that run are told when the rest is done.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub fn prepare_unpause(&self, target: &Target<'_>) -> Result<Prepared<B::Lock>, Report> {
        self.prepare_hold(target, false)
    }

    fn prepare_hold(&self, target: &Target<'_>, paused: bool) -> Result<Prepared<B::Lock>, Report> {
        let actual = self.backend.observe(target.project)?;
        self.refuse_other_namespace(target.project, &actual)?;
        target.check(&actual)?;
        let chosen = |c: &ActualContainer| target.has(&c.record.service);
        let (verb, state, (plan, as_asked)) = match paused {
            true => ("pause", "is already paused", existing::pause(&actual, chosen)),
            false => ("unpause", "is not paused", existing::unpause(&actual, chosen)),
        };
        let refused = as_asked.iter().map(|c| Diagnostic::error(None, format!("container `{}` {state}", c.name)));
        let refused = refused.collect();
        Ok(Prepared { refused, ..self.prepared(plan, target.project, verb, OnFailure::Continue, None) })
    }

    /// Returns the host port that leads to a port of a service.
    ///
    /// # Errors
    /// When the service is unknown or not running, or does not publish the port.
    pub async fn port(&self, target: &Target<'_>, question: PortQuestion) -> Result<PublishedPort, Report> {
        self.adopt(target.project).await?;
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        let PortQuestion { target: wanted, protocol, index } = question;
        let container = running(&actual, target, index)?;
        let ports: Vec<PublishedPort> =
            container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published).collect();
        ports.iter().find(|p| p.target == wanted && p.protocol == protocol).copied().ok_or_else(|| {
            let message = format!("no port {wanted}/{protocol} for container {}", container.record.name);
            let published: Vec<String> = ports.iter().map(|p| format!("{}/{}", p.target, p.protocol)).collect();
            if published.is_empty() {
                return Diagnostic::error(None, message).help("publish it with `ports` in the file").into();
            }
            Diagnostic::error(None, format!("{message}: {}", published.join(", "))).into()
        })
    }

    /// Returns the processes of the containers that run, sorted by the containers' names.
    ///
    /// # Errors
    /// When what exists cannot be read, or a named service is unknown.
    pub async fn top(&self, target: &Target<'_>) -> Result<Vec<Top>, Report> {
        self.adopt(target.project).await?;
        let actual = self.backend.observe(target.project)?;
        target.check(&actual)?;
        // As in Compose, orphans are shown as well.
        let chosen = |c: &&ActualContainer| target.services.is_empty() || target.has(&c.record.service);
        let mut running: Vec<&ActualContainer> =
            actual.containers.iter().filter(chosen).filter(|c| c.status.process.is_some()).collect();
        running.sort_by(|a, b| a.record.name.cmp(&b.record.name));
        let top = |c: &ActualContainer| {
            let processes = self.backend.processes(&c.record)?;
            Ok(Top { service: c.record.service.clone(), number: c.record.number, processes })
        };
        running.into_iter().map(top).collect()
    }
}

/// Returns the container of the one service in `target` that runs: the lowest number, one of `run` last, or `index`.
fn running<'a>(actual: &'a Actual, target: &Target<'_>, index: Option<u32>) -> Result<&'a ActualContainer, Report> {
    let mut running: Vec<&ActualContainer> =
        actual.containers.iter().filter(|c| target.has(&c.record.service) && c.is_up()).collect();
    running.sort_by_key(|c| (c.is_one_off(), c.record.number));
    let found = running.into_iter().find(|c| index.is_none_or(|index| c.record.number == index));
    found.ok_or_else(|| {
        let service = target.services.join(" ");
        let which = index.map_or_else(String::new, |index| format!(" container #{index}"));
        let message = format!("service \"{service}\" is not running{which}");
        Diagnostic::error(None, message).help(format!("start it: hoist up -d {service}")).into()
    })
}

/// Says that a container is paused, and what to do.
pub(super) fn paused(container: &ActualContainer) -> Diagnostic {
    let record = &container.record;
    Diagnostic::error(None, format!("container `{}` is paused", record.name))
        .help(format!("let it go on with: hoist unpause {}", record.service))
}

/// A paused container runs already and cannot be started: all of them are told at once.
pub(super) fn refuse_paused<'a>(containers: impl Iterator<Item = &'a ActualContainer>) -> Result<(), Report> {
    let diagnostics: Vec<Diagnostic> = containers.filter(|c| c.status.paused && c.is_up()).map(paused).collect();
    if diagnostics.is_empty() { Ok(()) } else { Err(Report { diagnostics, ..Report::default() }) }
}

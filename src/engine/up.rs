//! `up`: images first, then what should exist, compared with what does.
//!
//! Loads, observes, chooses and plans; applying is the same for every command.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::actual::Actual;
use super::backend::{Backend, Building};
use super::container::ImageFacts;
use super::desired::{self, Desired, Inputs, OneOff, Recreate};
use super::execute::OnFailure;
use super::graph::Graph;
use super::plan::{Options, Orphans, Reach};
use super::step::{Plan, Step};
use super::{Engine, Grace, Prepared, builds, commands, plan, rollback, summary, update};
use crate::compose::model::{self, Project, PullPolicy, Service};
use crate::diag::{Diagnostic, Report, Span, nearest};
use crate::event::Sink;
use crate::name::{ContainerId, ServiceName};
use crate::network::PublishedPort;
use crate::runtime::MountSource;
use crate::state::before::Before;
use crate::state::boot_id;

/// What `up` and `create` are asked for.
pub struct Up<'a> {
    /// The model.
    pub project: &'a Project,
    /// Each service's hash.
    pub hashes: &'a BTreeMap<ServiceName, String>,
    /// The services named; none is all.
    pub services: &'a [String],
    /// Leave out what the named services depend on.
    pub alone: bool,
    /// When containers that are there are replaced.
    pub recreate: Replace,
    /// New volumes for those without a name, instead of those of the containers that are replaced.
    pub renew: bool,
    /// How many containers services have, instead of what the file says.
    pub scale: &'a BTreeMap<ServiceName, u32>,
    /// A container of the one named service, beside its replicas, which are left as they are: what `run` makes.
    pub one_off: Option<&'a OneOff>,
    /// How containers that are replaced are stopped.
    pub grace: Grace,
    /// What happens to containers of services that the file does not have.
    pub orphans: Orphans,
    /// How far the containers are brought.
    pub reach: Reach,
    /// When containers are replaced and that fails, all is left as it is.
    pub keep_failed: bool,
    /// Whether images are built.
    pub building: Building,
    /// When images are fetched, instead of what the services say.
    pub pulling: Option<PullPolicy>,
    /// Who hears of that, if not who hears of all the rest.
    pub pull_events: Option<&'a dyn Sink>,
    /// Who hears of what is built, if not who hears of all the rest.
    pub build_events: Option<&'a dyn Sink>,
}

/// When `up` replaces containers that are there, besides those that are not what the file asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replace {
    /// Never, even those.
    pub never: bool,
    /// The named services' always.
    pub named: bool,
    /// Always those of services that the named ones depend on.
    pub dependencies: bool,
}

impl<B: Backend> Engine<B> {
    /// Loads, observes, chooses and plans; changes nothing but images that have to be built.
    ///
    /// # Errors
    /// Everything that can be known before a change: circles, images, names, addresses, ports, bind sources.
    pub async fn prepare_up(&self, request: &Up<'_>, events: &dyn Sink) -> Result<Prepared<B::Lock>, Report> {
        let project = request.project;
        let all = Graph::of_project(project)?;
        let graph = if request.alone { all.select_alone(request.services)? } else { all.select(request.services)? };
        if let Some(name) = request.scale.keys().find(|name| !graph.contains(name)) {
            return Err(unscalable(project, name).into());
        }
        if graph.order().next().is_none() {
            let disabled: Vec<&str> = project.disabled.keys().map(ServiceName::as_str).collect();
            let mut diagnostic = Diagnostic::error(None, "no service selected");
            if !disabled.is_empty() {
                let names = disabled.join(", ");
                diagnostic = diagnostic.help(format!("switch a profile on with --profile, or name one of: {names}"));
            }
            return Err(diagnostic.into());
        }
        let (mut images, mut planned_images, mut hold) = (Images::default(), Vec::new(), None);
        if self.looking {
            planned_images = self.planned_images(request, &graph)?;
        } else {
            let told = request.pull_events.unwrap_or(events);
            self.fetch_images(project, &graph, request.pulling, request.building, told).await?;
            images = self.images(request, &graph, events).await?;
        }
        let lock = self.lock(&project.name, true).await?;
        if !self.looking {
            hold = Some(self.backend.images().hold()?);
            self.check_layers(&images)?;
        }
        let actual = self.backend.observe(&project.name)?;
        if self.looking {
            images = self.seen_images(project, &graph, &planned_images, &actual).await?;
        }
        let inputs = Inputs {
            project,
            graph: &graph,
            images: &images.of,
            hook_images: &images.of_hooks,
            hashes: request.hashes,
            actual: &actual,
            paths: self.backend.paths(),
            engine: self.backend.engine_id(),
            host: &self.backend.host_facts()?,
            recreate: &recreate(request.recreate, request.services, &graph)?,
            renew: request.renew,
            scale: request.scale,
            one_off: request.one_off,
        };
        let wished = desired::desired(&inputs, &mut self.backend.choices()?)
            .map_err(|diagnostics| Report { diagnostics, ..Report::default() })?;
        self.check_bind_sources(project, &wished)?;
        let kept = wished.containers.iter().filter(|c| c.creation.is_none());
        commands::refuse_paused(kept.filter_map(|c| actual.container(&c.container.id)))?;
        let options = Options { reach: request.reach, ..self.options(request.grace, request.orphans) };
        let mut plan = plan::plan(&wished, &actual, &options);
        plan.images = planned_images;
        check_names(&plan, &actual)?;
        let gone_back_from = plan.steps.iter().any(|planned| matches!(planned.step, Step::Commit(_)));
        let records = update::records(&wished, &actual);
        let changes = if self.looking { summary::changes(&plan, Some(&wished)) } else { Vec::new() };
        Ok(Prepared {
            places: places(project, &plan),
            plan,
            warnings: wished.warnings,
            project: project.name.clone(),
            verb: match (request.one_off, request.reach) {
                (Some(_), _) => "run",
                (None, Reach::Created) => "create",
                (None, Reach::Started | Reach::Ready(_)) => "up",
            },
            on_failure: OnFailure::Stop,
            refused: Vec::new(),
            lock,
            before: gone_back_from
                .then(|| Before { records, ..rollback::before(&actual, boot_id(), request.keep_failed) }),
            changes,
            _hold: hold,
        })
    }

    /// An image may have lost its name, and then its layers, while others were fetched and built.
    fn check_layers(&self, images: &Images) -> Result<(), Report> {
        for facts in images.of.values().chain(images.of_hooks.values()) {
            if !self.backend.missing(&facts.layers).is_empty() {
                let message = format!("image `{}` was removed while the command began", facts.reference);
                return Err(Diagnostic::error(None, message).help("run the command again").into());
            }
        }
        Ok(())
    }

    /// Finds all images: those that are not built first, so that nothing is built when one of them is missing.
    async fn images(&self, request: &Up<'_>, graph: &Graph, events: &dyn Sink) -> Result<Images, Report> {
        let project = request.project;
        let events = request.build_events.unwrap_or(events);
        let services = graph.order().filter_map(|name| project.services.get(name));
        let (built, found): (Vec<&Service>, Vec<&Service>) = services.partition(|service| service.build.is_some());
        let (mut images, mut missing) = (Images::default(), Report::default());
        for service in found {
            match self.backend.image(project, service, request.building, events).await {
                Ok(facts) => drop(images.of.insert(service.name.clone(), facts)),
                Err(report) => missing.diagnostics.extend(report.diagnostics),
            }
        }
        for (hook, image) in hooks_with_images(project, graph) {
            match self.backend.image(project, hook, Building::Never, events).await {
                Ok(facts) => drop(images.of_hooks.insert(image.to_owned(), facts)),
                Err(report) => missing.diagnostics.extend(report.diagnostics),
            }
        }
        if !missing.diagnostics.is_empty() {
            return Err(missing);
        }
        for service in builds::in_order(project, &built)? {
            let is_policy = service.fetching.policy == Some(PullPolicy::Build);
            let is_asked = is_policy && request.pulling.is_none() && request.building == Building::Missing;
            let building = if is_asked { Building::Always } else { request.building };
            let facts = self.backend.image(project, service, building, events).await?;
            images.of.insert(service.name.clone(), facts);
        }
        Ok(images)
    }

    /// A bind source that is missing and is not to be made is an error before anything is changed.
    fn check_bind_sources(&self, project: &Project, wished: &Desired) -> Result<(), Report> {
        let mut report = Report::default();
        for (creation, _) in wished.containers.iter().filter_map(|c| c.creation.as_ref()) {
            let generated: BTreeSet<&PathBuf> = creation.files.iter().map(|file| &file.path).collect();
            let sources = creation.spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Bind(path) => Some(path),
                MountSource::Layers { .. } | MountSource::Tmpfs { .. } => None,
            });
            let ours = self.backend.paths().volumes();
            let wanted = sources
                .filter(|path| !generated.contains(path) && !creation.directories.contains(path))
                .filter(|path| !path.starts_with(&ours));
            for path in self.backend.missing(&wanted.cloned().collect::<Vec<_>>()) {
                let service = &creation.record.service;
                let message = format!("service `{service}` binds `{}`, which does not exist", path.display());
                let binds =
                    |m: &&model::Mount| matches!(&m.source, model::MountSource::Bind { path: p, .. } if *p == path);
                let written = project.services.get(service).and_then(|s| s.volumes.iter().find(binds));
                let help = "make it first, or let it be made as a directory with `create_host_path: true`";
                report.diagnostics.push(Diagnostic::error(written.map(|m| m.span), message).help(help));
            }
        }
        if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
    }
}

/// What is known of images.
#[derive(Debug, Default)]
pub(super) struct Images {
    /// Each selected service's.
    pub of: BTreeMap<ServiceName, ImageFacts>,
    /// Those that hooks name, by their name.
    pub of_hooks: BTreeMap<String, ImageFacts>,
}

/// Returns the `pre_start` hooks that have another image than their service, and its name.
pub(super) fn hooks_with_images<'p>(
    project: &'p Project,
    graph: &'p Graph,
) -> impl Iterator<Item = (&'p Service, &'p str)> {
    let services = graph.order().filter_map(|name| project.services.get(name));
    services.flat_map(|service| {
        let own = service.image.as_ref().map(|image| image.value.as_str());
        let hooks = service.pre_start.iter().filter(|hook| hook.build.is_none());
        let named = hooks.filter_map(|hook| Some((hook, hook.image.as_ref()?.value.as_str())));
        named.filter(move |(_, image)| own != Some(*image))
    })
}

/// Returns where the file publishes the ports that a plan takes.
fn places(project: &Project, plan: &Plan) -> Vec<(PublishedPort, Span)> {
    let mut places = Vec::new();
    let mut ports: Vec<(&ServiceName, &PublishedPort)> = plan.ports.iter().map(|(name, port)| (name, port)).collect();
    for planned in &plan.steps {
        let Step::Attach(attachment) = &planned.step else { continue };
        let endpoints = attachment.endpoints.iter();
        ports.extend(endpoints.flat_map(|e| &e.ports).map(|port| (&attachment.container.service, port)));
    }
    for (service, port) in ports {
        let Some(service) = project.services.get(service) else { continue };
        // Entries of a range share its place; the rest differ in their published port.
        let number = port.host_port.to_string();
        let exact = service.ports.iter().find(|p| p.published.as_deref() == Some(&number));
        let entry = exact.or_else(|| service.ports.iter().find(|p| p.target == port.target));
        places.extend(entry.map(|entry| (*port, entry.span)));
    }
    places
}

/// Returns whose containers are replaced whether they changed or not.
fn recreate(replace: Replace, services: &[String], graph: &Graph) -> Result<Recreate, Report> {
    let Replace { never, named, dependencies } = replace;
    if never {
        return Ok(Recreate::Never);
    }
    let targets: BTreeSet<ServiceName> = graph.select_alone(services)?.order().cloned().collect();
    let chosen = graph.order().filter(|name| if targets.contains(*name) { named } else { dependencies });
    Ok(match chosen.cloned().collect::<BTreeSet<ServiceName>>() {
        none if none.is_empty() => Recreate::Changed,
        chosen => Recreate::Always(chosen),
    })
}

fn unscalable(project: &Project, name: &ServiceName) -> Diagnostic {
    let known: Vec<&str> = project.services.keys().chain(project.disabled.keys()).map(ServiceName::as_str).collect();
    let diagnostic = Diagnostic::error(None, format!("no such service: {name}"));
    if known.contains(&name.as_str()) {
        return diagnostic.help(format!("the command is not about it: name it too, as in: hoist up {name}"));
    }
    match nearest(name.as_str(), known) {
        Some(near) => diagnostic.help(format!("did you mean `{near}`?")),
        None => diagnostic,
    }
}

/// A name belongs to one container: who has it must be gone before it is given again.
fn check_names(plan: &Plan, actual: &Actual) -> Result<(), Report> {
    let removed =
        |id: &ContainerId| plan.steps.iter().any(|p| matches!(&p.step, Step::RemoveContainer(c) if c.id == *id));
    let mut report = Report::default();
    for planned in &plan.steps {
        let Step::CreateContainer(creation) = &planned.step else { continue };
        let record = &creation.record;
        let holder = actual.containers.iter().find(|c| c.record.name == record.name && !removed(&c.record.id));
        if let Some(holder) = holder {
            let service = &holder.record.service;
            let message = format!("container name `{}` is in use by a container of service `{service}`", record.name);
            let help = format!(
                "remove that one first: hoist down {service}, or up --remove-orphans if the file does not have it"
            );
            report.diagnostics.push(Diagnostic::error(None, message).help(help));
        }
    }
    if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
}

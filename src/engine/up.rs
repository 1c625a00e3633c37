//! `up`: images first, then what should exist, compared with what does.
//!
//! Loads, observes, chooses and plans; applying is the same for every command.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::backend::{Backend, Building};
use super::container::ImageFacts;
use super::desired::{self, Desired, Inputs, Recreate};
use super::execute::OnFailure;
use super::graph::Graph;
use super::step::{Plan, Step};
use super::{Engine, Grace, Prepared, commands, plan};
use crate::compose::model::{self, Project, PullPolicy, Service};
use crate::diag::{Diagnostic, Report, Span};
use crate::event::Sink;
use crate::name::ServiceName;
use crate::network::PublishedPort;
use crate::runtime::MountSource;

/// What `up` is asked for.
pub struct Up<'a> {
    /// The model.
    pub project: &'a Project,
    /// Each service's hash.
    pub hashes: &'a BTreeMap<ServiceName, String>,
    /// The services named; none is all.
    pub services: &'a [String],
    /// When containers that are there are replaced.
    pub recreate: Replace,
    /// How containers that are replaced are stopped.
    pub grace: Grace,
    /// Remove containers of services that the file does not have.
    pub remove_orphans: bool,
    /// Whether images are built.
    pub building: Building,
    /// When images are fetched, instead of what the services say.
    pub pulling: Option<PullPolicy>,
    /// Who hears of that, if not who hears of all the rest.
    pub pull_events: Option<&'a dyn Sink>,
}

/// When `up` replaces containers that are there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replace {
    /// When they are not what the file asks for.
    Changed,
    /// The named services' always, those that they depend on when changed.
    Named,
    /// Never.
    Never,
}

impl<B: Backend> Engine<B> {
    /// Loads, observes, chooses and plans; changes nothing but images that have to be built.
    ///
    /// # Errors
    /// Everything that can be known before a change: circles, images, names, addresses, ports, bind sources.
    pub async fn prepare_up(&self, request: &Up<'_>, events: &dyn Sink) -> Result<Prepared<B::Lock>, Report> {
        let project = request.project;
        let graph = Graph::of_project(project)?.select(request.services)?;
        if graph.order().next().is_none() {
            let disabled: Vec<&str> = project.disabled.keys().map(ServiceName::as_str).collect();
            let mut diagnostic = Diagnostic::error(None, "no service selected");
            if !disabled.is_empty() {
                let names = disabled.join(", ");
                diagnostic = diagnostic.help(format!("switch a profile on with --profile, or name one of: {names}"));
            }
            return Err(diagnostic.into());
        }
        self.fetch_images(project, &graph, request.pulling, request.building, request.pull_events.unwrap_or(events))
            .await?;
        let images = self.images(request, &graph, events).await?;
        let lock = self.backend.lock(&project.name)?;
        let actual = self.backend.observe(&project.name)?;
        let inputs = Inputs {
            project,
            graph: &graph,
            images: &images,
            hashes: request.hashes,
            actual: &actual,
            paths: self.backend.paths(),
            engine: self.backend.engine_id(),
            host: &self.backend.host_facts()?,
            recreate: &self.recreate(request, &graph)?,
        };
        let wished = desired::desired(&inputs, &mut self.backend.choices()?)
            .map_err(|diagnostics| Report { diagnostics, ..Report::default() })?;
        self.check_bind_sources(project, &wished)?;
        let kept = wished.containers.iter().filter(|c| c.creation.is_none());
        commands::refuse_paused(kept.filter_map(|c| actual.container(&c.container.id)))?;
        let options = self.options(request.grace, request.remove_orphans);
        let plan = plan::plan(&wished, &actual, &options);
        Ok(Prepared {
            places: places(project, &plan),
            plan,
            warnings: wished.warnings,
            project: project.name.clone(),
            verb: "up",
            on_failure: OnFailure::Stop,
            refused: Vec::new(),
            lock: Some(lock),
        })
    }

    /// Finds all images: those that are not built first, so that nothing is built when one of them is missing.
    async fn images(
        &self,
        request: &Up<'_>,
        graph: &Graph,
        events: &dyn Sink,
    ) -> Result<BTreeMap<ServiceName, ImageFacts>, Report> {
        let project = request.project;
        let services = graph.order().filter_map(|name| project.services.get(name));
        let (built, found): (Vec<&Service>, Vec<&Service>) = services.partition(|service| service.build.is_some());
        let (mut images, mut missing) = (BTreeMap::new(), Report::default());
        for service in found {
            match self.backend.image(&project.name, service, request.building, events).await {
                Ok(facts) => drop(images.insert(service.name.clone(), facts)),
                Err(report) => missing.diagnostics.extend(report.diagnostics),
            }
        }
        if !missing.diagnostics.is_empty() {
            return Err(missing);
        }
        for service in built {
            let is_policy = service.fetching.policy == Some(PullPolicy::Build);
            let is_asked = is_policy && request.pulling.is_none() && request.building == Building::Missing;
            let building = if is_asked { Building::Always } else { request.building };
            let facts = self.backend.image(&project.name, service, building, events).await?;
            images.insert(service.name.clone(), facts);
        }
        Ok(images)
    }

    fn recreate(&self, request: &Up<'_>, graph: &Graph) -> Result<Recreate, Report> {
        Ok(match request.recreate {
            Replace::Changed => Recreate::Changed,
            Replace::Never => Recreate::Never,
            Replace::Named => Recreate::Always(graph.select_alone(request.services)?.order().cloned().collect()),
        })
    }

    /// A bind source that is missing and is not to be made is an error before anything is changed.
    fn check_bind_sources(&self, project: &Project, wished: &Desired) -> Result<(), Report> {
        let mut report = Report::default();
        for (creation, _) in wished.containers.iter().filter_map(|c| c.creation.as_ref()) {
            let generated: BTreeSet<&PathBuf> = creation.files.iter().map(|(path, _)| path).collect();
            let sources = creation.spec.mounts.iter().filter_map(|mount| match &mount.source {
                MountSource::Bind(path) => Some(path),
                MountSource::Tmpfs { .. } => None,
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

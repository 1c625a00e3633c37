//! Which images a command fetches, and when: policies, base images of builds, one fetch for all.

use std::collections::BTreeSet;
use std::time::Duration;

use super::Engine;
use super::backend::{Backend, Building, Fetch, Fetched, Give, Presence};
use super::builds;
use super::console::Front;
use super::up::hooks_with_images;
use crate::build::execute::BuildSpec;
use crate::compose::model::{Project, PullPolicy, Service};
use crate::diag::{Diagnostic, Report, Span};
use crate::engine::graph::Graph;
use crate::event::{Event, Progress, Sink, Subject};
use crate::image::store::Image;

/// What `pull` is asked for.
#[derive(Debug)]
pub struct Pull<'a> {
    /// The model.
    pub project: &'a Project,
    /// The services named; none is all.
    pub services: &'a [String],
    /// Those that they depend on as well.
    pub include_deps: bool,
    /// Leave images out that can be built.
    pub ignore_buildable: bool,
    /// Fetch what can be fetched, and do not fail for the rest.
    pub ignore_failures: bool,
    /// Instead of the services' own.
    pub policy: Option<PullPolicy>,
}

/// What `build` is asked for.
#[derive(Debug)]
pub struct Build<'a> {
    /// The model.
    pub project: &'a Project,
    /// The services named; none is all.
    pub services: &'a [String],
    /// Those that they depend on as well.
    pub with_dependencies: bool,
    /// Ask the registry for base images that are here.
    pub pull: bool,
}

/// Decides whether an image is fetched. `now` is seconds since the epoch.
pub(super) fn is_due(policy: PullPolicy, presence: Presence, now: i64) -> bool {
    match (policy, presence) {
        (PullPolicy::Never | PullPolicy::Build, _) => false,
        (PullPolicy::Always, _) | (_, Presence::Absent) => true,
        (PullPolicy::Missing, Presence::Here { .. }) => false,
        // When it came out of an archive, nobody knows how old it is.
        (PullPolicy::Every(_), Presence::Here { pulled: None }) => true,
        (PullPolicy::Every(age), Presence::Here { pulled: Some(at) }) => {
            // A clock that was set back makes it due as well.
            !(0..i64::try_from(age.as_secs()).unwrap_or(i64::MAX)).contains(&now.saturating_sub(at))
        }
    }
}

/// Adds an image, unless it is in the list; one that anybody requires is required.
fn want(all: &mut Vec<Fetch>, one: Fetch) {
    match all.iter_mut().find(|f| f.reference == one.reference && f.platform == one.platform) {
        Some(there) => there.required |= one.required,
        None => all.push(one),
    }
}

impl<B: Backend> Engine<B> {
    /// Fetches what `up` needs and may fetch. What can be built need not be had.
    pub(super) async fn fetch_images(
        &self,
        project: &Project,
        graph: &Graph,
        pulling: Option<PullPolicy>,
        building: Building,
        events: &dyn Sink,
    ) -> Result<(), Report> {
        let services: Vec<&Service> = graph.order().filter_map(|name| project.services.get(name)).collect();
        let hooks: Vec<&Service> = hooks_with_images(project, graph).map(|(hook, _)| hook).collect();
        let builds: BTreeSet<&str> = services
            .iter()
            .filter(|s| s.build.is_some())
            .filter_map(|s| Some(s.image.as_ref()?.value.as_str()))
            .collect();
        let policy = |service: &Service| pulling.or(service.fetching.policy).unwrap_or_default();
        let built_anyway = |service: &Service| {
            service.build.is_some()
                && building != Building::Never
                && (building == Building::Always || policy(service) == PullPolicy::Build || service.image.is_none())
        };
        let now = self.backend.now();
        let mut wanted = Vec::new();
        for service in services.iter().chain(&hooks) {
            let Some(fetch) = fetch_of(service).filter(|_| !built_anyway(service)) else { continue };
            let presence = self.backend.presence(&fetch.reference, fetch.platform.as_deref())?;
            if is_due(policy(service), presence, now) {
                let required = !builds.contains(fetch.reference.as_str());
                want(&mut wanted, Fetch { required, ..fetch });
            }
        }
        let surely = services.iter().filter(|service| built_anyway(service));
        self.add_bases(project, surely.copied(), (building, pulling), &mut wanted, events).await?;
        self.fetch(&wanted, events).await?;
        // What could be neither found nor fetched is built.
        let mut bases = Vec::new();
        let others = services.iter().filter(|service| !built_anyway(service));
        self.add_bases(project, others.copied(), (building, pulling), &mut bases, events).await?;
        self.fetch(&bases, events).await.map(drop)
    }

    /// Adds the base images that builds need and that are not here.
    async fn add_bases<'s>(
        &self,
        project: &Project,
        services: impl Iterator<Item = &'s Service>,
        (building, pulling): (Building, Option<PullPolicy>),
        wanted: &mut Vec<Fetch>,
        events: &dyn Sink,
    ) -> Result<(), Report> {
        if building == Building::Never || pulling == Some(PullPolicy::Never) {
            return Ok(());
        }
        for service in services {
            let Some(build) = &service.build else { continue };
            let is_new = match &service.image {
                Some(image) => matches!(self.backend.presence(&image.value, None)?, Presence::Absent),
                None => true,
            };
            let always = building == Building::Always || service.fetching.policy == Some(PullPolicy::Build);
            if !(is_new || always) {
                continue;
            }
            for (reference, line) in self.backend.base_images(project, service, events).await? {
                if build.pull || matches!(self.backend.presence(&reference, None)?, Presence::Absent) {
                    want(wanted, base(Some(build.span), reference, line));
                }
            }
        }
        Ok(())
    }

    /// Fetches all at once; fails with what is required and could not be had.
    async fn fetch(&self, wanted: &[Fetch], events: &dyn Sink) -> Result<Vec<Fetched>, Report> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        events.send(Event::Begin { verb: "pull", total: wanted.len() });
        let result = self.backend.fetch(wanted, events).await;
        events.send(Event::End);
        let fetched = result?;
        let mut report = Report::default();
        for (wanted, fetched) in wanted.iter().zip(&fetched) {
            if let (true, Fetched::Failed(diagnostic)) = (wanted.required, fetched) {
                report.diagnostics.push(failure(wanted, diagnostic.clone()));
            }
        }
        if report.diagnostics.is_empty() { Ok(fetched) } else { Err(report) }
    }

    /// Builds the images of services that say how, after fetching what they build upon; returns how many there are.
    ///
    /// # Errors
    /// Unknown services; base images that could not be had; the first build that fails.
    pub async fn build(&self, request: &Build<'_>, events: &dyn Sink) -> Result<usize, Report> {
        let graph = Graph::of_project(request.project)?;
        let graph = match request.with_dependencies {
            true => graph.select(request.services)?,
            false => graph.select_alone(request.services)?,
        };
        let services = graph.order().filter_map(|name| request.project.services.get(name));
        let built: Vec<&Service> = services.filter(|service| service.build.is_some()).collect();
        let built = builds::in_order(request.project, &built)?;
        let mut bases = Vec::new();
        for (service, build) in built.iter().filter_map(|service| Some((service, service.build.as_ref()?))) {
            for (reference, line) in self.backend.base_images(request.project, service, events).await? {
                let absent = || Ok::<_, Report>(matches!(self.backend.presence(&reference, None)?, Presence::Absent));
                if request.pull || build.pull || absent()? {
                    want(&mut bases, base(Some(build.span), reference, line));
                }
            }
        }
        self.fetch(&bases, events).await?;
        for service in &built {
            self.backend.image(request.project, service, Building::Always, events).await?;
        }
        Ok(built.len())
    }

    /// Lets somebody look around in what a failed step of a build has left.
    pub fn debug_builds(&self, front: Box<dyn Front>) {
        self.backend.debug_builds(front);
    }

    /// Builds one image, after fetching what it is built upon.
    ///
    /// # Errors
    /// Base images that could not be had; what is wrong with the Dockerfile; what fails.
    pub async fn build_image(&self, spec: &BuildSpec, pull: bool, events: &dyn Sink) -> Result<Image, Report> {
        let mut bases = Vec::new();
        for (reference, line) in self.backend.bases_of(spec, events).await? {
            if pull || matches!(self.backend.presence(&reference, None)?, Presence::Absent) {
                want(&mut bases, base(None, reference, line));
            }
        }
        self.fetch(&bases, events).await?;
        self.backend.build_image(spec, events).await
    }

    /// Fetches the images of services.
    ///
    /// # Errors
    /// Unknown services; images that could not be had, unless that is asked to be ignored.
    pub async fn pull(&self, request: &Pull<'_>, events: &dyn Sink) -> Result<(), Report> {
        let graph = Graph::of_project(request.project)?;
        let graph = match request.include_deps {
            true => graph.select(request.services)?,
            false => graph.select_alone(request.services)?,
        };
        let skip = |name: &str, why: &'static str| {
            let (subject, progress) = (Subject::Image(name.to_owned()), Progress::Done(why));
            events.send(Event::Progress { subject, progress, elapsed: Duration::ZERO, detail: None });
        };
        let (mut wanted, mut buildable) = (Vec::new(), BTreeSet::new());
        let services = graph.order().filter_map(|name| request.project.services.get(name));
        for service in services.chain(hooks_with_images(request.project, &graph).map(|(hook, _)| hook)) {
            let Some(fetch) = fetch_of(service) else {
                skip(service.name.as_str(), "Skipped - No image to be pulled");
                continue;
            };
            // Asked for by name of the command, images are refreshed, but where the file says otherwise.
            let policy = request.policy.or(service.fetching.policy).unwrap_or(PullPolicy::Always);
            // A tag that moves is looked after, as docker compose does.
            let moves = fetch.reference.ends_with(":latest")
                || !fetch.reference.rsplit('/').next().unwrap_or("").contains([':', '@']);
            let policy = if policy == PullPolicy::Missing && moves { PullPolicy::Always } else { policy };
            let presence = self.backend.presence(&fetch.reference, fetch.platform.as_deref())?;
            if matches!(policy, PullPolicy::Never | PullPolicy::Build) {
                skip(&fetch.reference, "Skipped");
            } else if !is_due(policy, presence, self.backend.now()) {
                skip(&fetch.reference, "Skipped - Image is already present locally");
            } else if service.build.is_some() && request.ignore_buildable {
                skip(&fetch.reference, "Skipped - Image can be built");
            } else {
                if service.build.is_some() {
                    buildable.insert((fetch.reference.clone(), service.name.to_string()));
                }
                let required = service.build.is_none() && !request.ignore_failures;
                want(&mut wanted, Fetch { required, ..fetch });
            }
        }
        let fetched = self.fetch(&wanted, events).await?;
        let (mut report, mut to_build) = (Report::default(), Vec::new());
        for (wanted, fetched) in wanted.iter().zip(fetched) {
            let Fetched::Failed(diagnostic) = fetched else { continue };
            let builders = buildable.iter().filter(|(reference, _)| *reference == wanted.reference);
            to_build.extend(builders.map(|(_, service)| service.as_str()));
            if request.ignore_failures {
                events.send(Event::Warning(diagnostic.message));
            } else {
                report.diagnostics.push(failure(wanted, diagnostic));
            }
        }
        if !to_build.is_empty() {
            let list = to_build.join(" ");
            events.send(Event::Warning(format!(
                "some service images must be built from source: hoist up --build {list}"
            )));
        }
        if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
    }
}

/// What `push` is asked for.
#[derive(Debug)]
pub struct Push<'a> {
    /// The model.
    pub project: &'a Project,
    /// The services; none is all.
    pub services: &'a [String],
    /// Also those that the named ones depend on.
    pub include_deps: bool,
    /// Images that cannot be given are warnings.
    pub ignore_failures: bool,
}

impl<B: Backend> Engine<B> {
    /// Gives the images of services that are built and say how they are called to their registries, by all their names.
    ///
    /// # Errors
    /// Unknown services; images that could not be given, unless that is asked to be ignored.
    pub async fn push(&self, request: &Push<'_>, events: &dyn Sink) -> Result<(), Report> {
        let graph = Graph::of_project(request.project)?;
        let graph = match request.include_deps {
            true => graph.select(request.services)?,
            false => graph.select_alone(request.services)?,
        };
        let mut wanted: Vec<Give> = Vec::new();
        for service in graph.order().filter_map(|name| request.project.services.get(name)) {
            match (&service.image, &service.build) {
                (Some(image), Some(build)) => {
                    // The tags of the build are names of the same image.
                    for reference in [&image.value].into_iter().chain(&build.tags) {
                        if wanted.iter().all(|give| give.reference != *reference) {
                            wanted.push(Give {
                                reference: reference.clone(),
                                place: Some(image.span),
                                required: !request.ignore_failures,
                            });
                        }
                    }
                }
                _ => events.send(Event::Progress {
                    subject: Subject::Image(service.name.to_string()),
                    progress: Progress::Done("Skipped"),
                    elapsed: Duration::ZERO,
                    detail: None,
                }),
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        events.send(Event::Begin { verb: "push", total: wanted.len() });
        let result = self.backend.push(&wanted, events).await;
        events.send(Event::End);
        let mut report = Report::default();
        for diagnostic in result?.into_iter().flatten() {
            if request.ignore_failures {
                events.send(Event::Warning(diagnostic.message));
            } else {
                report.diagnostics.push(diagnostic);
            }
        }
        if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
    }
}

/// Returns why an image could not be had, at its place and with its name.
fn failure(wanted: &Fetch, diagnostic: Diagnostic) -> Diagnostic {
    let Diagnostic { message, .. } = &diagnostic;
    let name = &wanted.reference;
    let message = match &wanted.base_of {
        Some(line) => format!("cannot pull `{name}`, which {line} builds upon: {message}"),
        None if message.contains(name) => message.clone(),
        None => format!("cannot pull `{name}`: {message}"),
    };
    Diagnostic { span: wanted.place, message, ..diagnostic }
}

/// Returns what is fetched for a build, at whose line of the Dockerfile it is named.
fn base(place: Option<Span>, reference: String, line: String) -> Fetch {
    Fetch { reference, platform: None, place, base_of: Some(line), required: true }
}

fn fetch_of(service: &Service) -> Option<Fetch> {
    let image = service.image.as_ref()?;
    let platform = service.fetching.platform.as_ref().map(|p| p.value.clone());
    Some(Fetch { reference: image.value.clone(), platform, place: Some(image.span), base_of: None, required: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_when_an_image_is_due() {
        let day = PullPolicy::Every(Duration::from_secs(86_400));
        let here = |pulled| Presence::Here { pulled };
        for (policy, presence, due) in [
            (PullPolicy::Missing, Presence::Absent, true),
            (PullPolicy::Missing, here(None), false),
            (PullPolicy::Always, here(Some(1_000_000)), true),
            (PullPolicy::Never, Presence::Absent, false),
            (PullPolicy::Build, Presence::Absent, false),
            (day, Presence::Absent, true),
            (day, here(Some(1_000_000 - 86_399)), false),
            (day, here(Some(1_000_000 - 86_400)), true),
            (day, here(Some(1_000_001)), true),
            (day, here(None), true),
        ] {
            assert_eq!(is_due(policy, presence, 1_000_000), due, "{policy:?} {presence:?}");
        }
    }

    #[test]
    fn an_image_is_wanted_once_and_as_much_as_by_anybody() {
        let fetch = |reference: &str, required| Fetch {
            reference: reference.into(),
            platform: None,
            place: None,
            base_of: None,
            required,
        };
        let mut all = Vec::new();
        for one in [fetch("a", false), fetch("b", false), fetch("a", true), fetch("a", false)] {
            want(&mut all, one);
        }
        assert_eq!(
            all.iter().map(|f| (f.reference.as_str(), f.required)).collect::<Vec<_>>(),
            [("a", true), ("b", false)]
        );
    }
}

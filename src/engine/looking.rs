//! Images in a plan that is only looked at: nothing is fetched or built for it.
//!
//! What would be is said. An image that is not here is taken for the one that its service's containers were made of, so that
//! these count as unchanged.

use super::Engine;
use super::actual::Actual;
use super::backend::{Backend, Building, Presence};
use super::container::ImageFacts;
use super::graph::Graph;
use super::images::is_due;
use super::step::ImageChange;
use super::up::{Images, Up, hooks_with_images};
use crate::compose::model::{Healthcheck, Project, PullPolicy, Service};
use crate::diag::{Diagnostic, Report};
use crate::event::Silent;

impl<B: Backend> Engine<B> {
    /// Returns what would be fetched and built, which is neither here.
    pub(super) fn planned_images(&self, request: &Up<'_>, graph: &Graph) -> Result<Vec<ImageChange>, Report> {
        let Up { project, pulling, building, .. } = *request;
        let now = self.backend.now();
        let mut planned: Vec<ImageChange> = Vec::new();
        let services = graph.order().filter_map(|name| project.services.get(name));
        for service in services.chain(hooks_with_images(project, graph).map(|(hook, _)| hook)) {
            let reference = reference_of(project, service);
            let platform = service.fetching.platform.as_ref().map(|p| p.value.as_str());
            let presence = self.backend.presence(&reference, platform)?;
            let missing = matches!(presence, Presence::Absent);
            let policy = pulling.or(service.fetching.policy).unwrap_or_default();
            let asked = building == Building::Always || (policy == PullPolicy::Build && pulling.is_none());
            let build = match &service.build {
                Some(_) if building != Building::Never => asked || missing,
                _ => false,
            };
            let fetch = !build && (service.image.is_some() && is_due(policy, presence, now));
            if missing && !build && !fetch {
                let message = format!("image `{reference}` of service `{}` is not in the store", service.name);
                let help = "without --no-build and --pull never it would be built or fetched";
                return Err(Diagnostic::error(Some(service.span), message).help(help).into());
            }
            if (build || fetch) && !planned.iter().any(|p| p.reference == reference) {
                planned.push(ImageChange { reference, build, missing });
            }
        }
        Ok(planned)
    }

    /// Returns the images as far as they are known: one that is missing is taken for the one that its service's containers
    /// were made of.
    pub(super) async fn seen_images(
        &self,
        project: &Project,
        graph: &Graph,
        planned: &[ImageChange],
        actual: &Actual,
    ) -> Result<Images, Report> {
        let mut seen = Images::default();
        let services = graph.order().filter_map(|name| project.services.get(name)).map(|service| (service, None));
        let hooks = hooks_with_images(project, graph).map(|(hook, image)| (hook, Some(image)));
        for (service, hook) in services.chain(hooks) {
            let reference = reference_of(project, service);
            let missing = planned.iter().any(|p| p.missing && p.reference == reference);
            let facts = if missing {
                let mut of_it = actual.containers.iter().filter(|c| c.record.service == service.name);
                let made = of_it.find(|c| c.record.image == reference);
                let id = made.map(|c| c.record.image_id.clone()).unwrap_or_default();
                let health = made.is_none_or(|c| c.record.policy.health.is_some());
                let check = Healthcheck { test: Some(vec!["CMD".into(), "true".into()]), ..Healthcheck::default() };
                let cmd = vec!["the image's command".to_owned()];
                ImageFacts { reference, id, cmd, healthcheck: health.then_some(check), ..ImageFacts::default() }
            } else {
                self.backend.image(project, service, Building::Never, &Silent).await?
            };
            match hook {
                None => drop(seen.of.insert(service.name.clone(), facts)),
                Some(image) => drop(seen.of_hooks.insert(image.to_owned(), facts)),
            }
        }
        Ok(seen)
    }
}

/// Returns the name of a service's image: a built one that has none is named after project and service.
fn reference_of(project: &Project, service: &Service) -> String {
    let written = service.image.as_ref().map(|image| image.value.clone());
    written.unwrap_or_else(|| format!("{}-{}", project.name, service.name))
}

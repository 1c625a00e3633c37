//! The record of a container that takes what has changed in the file while it runs.

use super::{Chooser, DEFAULT_GRACE, DesiredContainer, LABEL, Role, attachment, json};
use crate::compose;
use crate::compose::model::Service;
use crate::engine::actual::ActualContainer;
use crate::engine::container::{self, ImageFacts};
use crate::engine::differences::{Differences, changed_paths, differences, fingerprint};
use crate::engine::graph::Edge;
use crate::engine::limits;
use crate::engine::step::{ContainerRef, Reason};
use crate::engine::update::{Class, class, takes};
use crate::runtime::controllers::Support;
use crate::runtime::resources::Resources;
use crate::state::record::{ContainerRecord, Policy};

impl Chooser<'_> {
    /// Returns what has changed of a service, if its container that is there can take all of it.
    pub(super) fn taken_in_place(&mut self, service: &Service, existing: &ActualContainer) -> Option<Reason> {
        let (record, key) = (&existing.record, self.inputs.host.key.as_ref()?);
        let facets = compose::facets(service);
        let paths = changed_paths(&record.said, &facets, &record.id, key)?;
        if paths.iter().any(|path| class(path) == Class::Made) {
            return None;
        }
        let all = Differences::new(differences(&record.said, &facets, &record.id, key))?;
        // What there is to say of the limits is said when the container is chosen.
        let support = if limits::any(service) { self.choices.support().ok()? } else { Support::default() };
        let resources = limits::resources(service, &support, &mut Vec::new());
        takes(existing, &resources, container::log(service.logging)).then_some(Reason::Updated(all))
    }

    /// Leaves a container that is there, and gives it another record.
    pub(super) fn update(
        &mut self,
        service: &Service,
        existing: &ActualContainer,
        reason: Reason,
        after: Vec<Edge>,
    ) -> Option<DesiredContainer> {
        let image = self.inputs.images.get(&service.name)?;
        let (resources, _) = self.choose_limits(service);
        let record = self.updated(service, image, existing, &resources)?;
        Some(DesiredContainer {
            container: ContainerRef::from(&record),
            attachment: attachment(&record, self.inputs.paths, &self.specs()),
            update: Some((Box::new(record), reason)),
            ..self.keep(existing, after)
        })
    }

    /// Leaves the container of a hook that has done its work for `replicas` that go on and take what has changed: that is none of
    /// the hook's, and it needs not run again for it.
    pub(super) fn update_hook(
        &self,
        existing: &ActualContainer,
        image: &ImageFacts,
        replicas: &[DesiredContainer],
        after: Vec<Edge>,
    ) -> Option<DesiredContainer> {
        let (replica, reason) = replicas.iter().find_map(|c| c.update.as_ref())?;
        if !existing.has_completed() || existing.record.image_id != image.id {
            return None;
        }
        let mut record = existing.record.clone();
        record.config_hash.clone_from(&replica.config_hash);
        record.labels.insert(format!("{LABEL}config-hash"), replica.config_hash.clone());
        Some(DesiredContainer { update: Some((Box::new(record), reason.clone())), ..self.keep(existing, after) })
    }

    /// Returns the record of a container that is there with all that it takes in place.
    fn updated(
        &mut self,
        service: &Service,
        image: &ImageFacts,
        existing: &ActualContainer,
        resources: &Resources,
    ) -> Option<ContainerRecord> {
        let (old, key) = (&existing.record, self.inputs.host.key.as_ref()?);
        let hash = self.inputs.hashes.get(&service.name)?;
        let mut spec = old.spec.clone();
        spec.as_object_mut()?.insert("resources".to_owned(), json(resources));
        let said = fingerprint(&compose::facets(service), &old.id, key);
        Some(ContainerRecord {
            config_hash: hash.clone(),
            labels: self.labels(service, old.number, &Role::Replica, image, hash),
            policy: Policy {
                restart: container::restart(service.restart),
                attempts: container::attempts(service.attempts),
                health: container::health(service, image),
                stop_signal: self.choose_signal(service, image),
                stop_grace_ms: container::millis(service.stop_grace_period.unwrap_or(DEFAULT_GRACE)),
                log: container::log(service.logging),
                ..old.policy.clone()
            },
            spec,
            hooks: container::hooks(service),
            said,
            ..old.clone()
        })
    }
}

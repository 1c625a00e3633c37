//! What runs to its end before a service starts: the containers of its `pre_start` hooks.
//!
//! One for each hook, once for all replicas, as docker compose names them. It has the networks of its service but not its names
//! there, and the volumes of the first replica, those without a name included; these are filled before the first hook looks
//! at them. A container that has done its work stays, and says so: the hook runs again when the service is another, or
//! when it failed. While a replica runs nothing is to be prepared.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;

/// Its own image, or its service's.
fn image_of_hook<'a>(inputs: &Inputs<'a>, hook: &Service) -> Option<&'a ImageFacts> {
    let own = hook.image.as_ref().filter(|_| hook.build.is_none());
    own.and_then(|image| inputs.hook_images.get(&image.value)).or_else(|| inputs.images.get(&hook.name))
}

impl Chooser<'_> {
    /// Returns the containers of the hooks of a service, whose `replicas` are chosen.
    pub(super) fn choose_pre_start(
        &mut self,
        service: &Service,
        replicas: &mut [DesiredContainer],
    ) -> Vec<DesiredContainer> {
        let inputs = self.inputs;
        if service.pre_start.is_empty() || replicas.is_empty() {
            return Vec::new();
        }
        let up = |c: &DesiredContainer| inputs.actual.container(&c.container.id).is_some_and(ActualContainer::is_up);
        let needed = !replicas.iter().any(|c| c.creation.is_none() && up(c));
        let there = inputs.actual.pre_starts(&service.name);
        let first = &replicas[0];
        let heir = match &first.creation {
            Some((creation, _)) => Some(creation.record.clone()),
            None => inputs.actual.container(&first.container.id).map(|c| c.record.clone()),
        };
        let mut chosen: Vec<DesiredContainer> = Vec::new();
        for (number, hook) in (0_u16..).zip(&service.pre_start) {
            let existing = there.iter().find(|c| pre_start(&c.record) == Some(number)).copied();
            let (Some(image), Some(hash)) = (image_of_hook(inputs, hook), inputs.hashes.get(&service.name)) else {
                continue; // that the service has none was told
            };
            let drift = existing.map_or(Some(Reason::Missing), |c| self.drift_of_hook(service, image, hash, c));
            match (existing, drift) {
                (Some(existing), None) => {
                    chosen.push(self.keep(existing, inputs.graph.dependencies(&service.name).to_vec()));
                }
                (_, Some(reason)) if needed => {
                    let name = format!("{}-{}-pre_start-{number}", inputs.project.name, service.name);
                    let Some(name) = self.own_name(ContainerName::new(name), Some(hook.span)) else { continue };
                    let identity = Identity { number: number.into(), name, role: Role::PreStart };
                    let after = inputs.graph.dependencies(&service.name).to_vec();
                    chosen.extend(self.make(hook, image, identity, heir.as_ref(), reason, after));
                }
                (Some(existing), Some(Reason::ConfigChanged)) => {
                    let after = inputs.graph.dependencies(&service.name).to_vec();
                    chosen.extend(self.update_hook(existing, image, replicas, after));
                }
                _ => {}
            }
        }
        // What the hooks see is what the service's image has there.
        if let Some(hook) = chosen.first_mut().filter(|c| c.creation.is_some()) {
            hook.populations = replicas.iter_mut().take(1).flat_map(|c| std::mem::take(&mut c.populations)).collect();
        }
        chosen
    }

    /// Returns why a hook's container is made anew, if it is.
    fn drift_of_hook(
        &self,
        service: &Service,
        image: &ImageFacts,
        hash: &str,
        existing: &ActualContainer,
    ) -> Option<Reason> {
        let failed = existing.status.state == State::Exited && !existing.has_completed();
        match self.inputs.recreate {
            _ if !existing.complete || failed => Some(Reason::Incomplete),
            Recreate::Never => None,
            Recreate::Always(services) if services.contains(&service.name) => Some(Reason::Forced),
            _ if existing.record.config_hash != hash => Some(Reason::ConfigChanged),
            _ if existing.record.image_id != image.id => Some(Reason::ConfigChanged),
            Recreate::Always(_) | Recreate::Changed => None,
        }
    }
}

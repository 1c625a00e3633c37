//! How replicas take the place of those that are there, where their service says it (`deploy.update_config`).
//!
//! Invariant: as of the whole, see [`super`].

use super::*;
use crate::compose::model::{FailureAction, Order, Update};
use crate::engine::step::OnReplicas;

/// How a replica is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rolling {
    /// It is started before the one whose place it takes is stopped, if that can be.
    pub start_first: bool,
    /// How many of its service are replaced at a time; 0 is all.
    pub parallelism: u32,
    /// From one lot to the next.
    pub delay: Duration,
    /// How long it is watched when it is ready, if that is asked for.
    pub monitor: Option<Duration>,
    /// What is done when it fails.
    pub on_failure: OnReplicas,
}

/// Returns how a service's replicas are replaced, of which there are so many; `None` when it does not say so.
pub(super) fn of(service: &Service, number: u32) -> Option<Rolling> {
    let Update { parallelism, delay, monitor, failure_action, max_failure_ratio, order, .. } =
        service.update.clone()?;
    let tolerated = match failure_action {
        Some(FailureAction::Continue) => u32::MAX,
        Some(FailureAction::Pause | FailureAction::Rollback) | None => part(max_failure_ratio, number),
    };
    Some(Rolling {
        start_first: order == Order::StartFirst,
        parallelism,
        delay,
        monitor,
        on_failure: OnReplicas { tolerated, pause: failure_action == Some(FailureAction::Pause) },
    })
}

/// Returns the largest number of `all` that is no larger part of them than `ratio`.
fn part(ratio: f64, all: u32) -> u32 {
    // Three of ten are no more than 0.3, which no binary number is.
    (0..=all).rev().find(|n| f64::from(*n) <= ratio * f64::from(all) + 1e-9).unwrap_or(0)
}

/// Returns whether a container does its work, so that there is something in going on with it.
pub(super) fn serves(container: &ActualContainer) -> bool {
    container.complete && container.is_up() && !container.is_stopping() && !container.status.paused
}

impl Chooser<'_> {
    /// Of two containers that have a port of the host or a name one after the other, the first must be gone before the second
    /// comes. One that is replaced and whose port or name goes to another than its successor is replaced as if its service had
    /// not said how.
    pub(super) fn keep_ports_apart(&mut self, containers: &mut [DesiredContainer]) {
        let ports_of = |record: &ContainerRecord| {
            record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published).collect::<Vec<_>>()
        };
        let new: Vec<(ContainerName, Vec<PublishedPort>)> = containers
            .iter()
            .filter_map(|c| c.creation.as_ref().map(|(creation, _)| &creation.record))
            .map(|record| (record.name.clone(), ports_of(record)))
            .collect();
        for container in containers.iter_mut().filter(|c| c.rolling.is_some()) {
            let ContainerRef { service, name, .. } = &container.container;
            let replicas = self.inputs.actual.replicas(service);
            let Some(old) = replicas.into_iter().find(|c| c.record.number == container.number) else { continue };
            let others = || new.iter().filter(|(other, _)| other != name);
            let named =
                others().find(|(other, _)| *other == old.record.name).map(|(other, _)| ("name".to_owned(), other));
            let claimed = || {
                ports_of(&old.record).into_iter().find_map(|port| {
                    let taker = others().find(|(_, ports)| ports.iter().any(|p| conflict(p, &port)));
                    taker.map(|(other, _)| (format!("port {}", port.host_port), other))
                })
            };
            let Some((what, other)) = named.or_else(claimed) else { continue };
            let update = self.inputs.project.services.get(service).and_then(|service| service.update.as_ref());
            let message = format!(
                "`{name}` is not replaced as `update_config` says, but stopped first, with all that are replaced: its {what} goes \
                 to `{other}`"
            );
            self.warnings.push(Diagnostic::warning(update.map(|update| update.span), message));
            container.rolling = None;
            if let Some((creation, _)) = &mut container.creation {
                creation.record.succession = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_replicas_is_rounded_down() {
        let cases = [(0.0, 5, 0), (0.3, 10, 3), (0.29, 10, 2), (1.0, 4, 4), (0.5, 1, 0), (0.5, 3, 1), (0.1, 0, 0)];
        for (ratio, all, wanted) in cases {
            assert_eq!(part(ratio, all), wanted, "{ratio} of {all}");
        }
    }
}

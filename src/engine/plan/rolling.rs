//! Replicas that are replaced as their service says (`deploy.update_config`): in lots, each when the one before is ready, the
//! new one before the old one is stopped or after.
//!
//! Invariant: as of the whole, see [`super`].

use super::*;
use crate::engine::desired::Rolling;
use crate::engine::step::Attachment;

/// How long a new replica is watched that is started first and has no health check, if the file does not say: swarm's default.
/// Without it nothing would tell that it works before everything leads to it.
pub(super) const MONITOR: Duration = Duration::from_secs(5);

/// Replicas of one service that are replaced at the same time.
#[derive(Debug, Default)]
pub(super) struct Lot {
    /// How many are in it.
    number: u32,
    /// The steps after which it begins.
    begins: Vec<StepId>,
    /// The steps after which it is done.
    ends: Vec<StepId>,
}

/// A container that runs until all is there.
#[derive(Debug)]
pub(super) struct Draining {
    container: ContainerRef,
    grace: Duration,
    attachment: Option<Attachment>,
}

impl Up<'_> {
    /// Returns how a container takes the place of one that is there; `None` when that one is stopped with all others, or there
    /// is none.
    pub(super) fn rolls(&self, container: &DesiredContainer) -> Option<Rolling> {
        container.rolling.filter(|_| self.options.reach != Reach::Created && self.old(container).is_some())
    }

    fn old(&self, container: &DesiredContainer) -> Option<&ActualContainer> {
        let mut replicas = self.actual.replicas(&container.container.service);
        replicas.find(|old| old.record.number == container.number && old.complete && container.creation.is_some())
    }

    /// Takes the old replica out of the way of a new one, when the lot before has come to its end.
    pub(super) fn begin_lot(&mut self, container: &DesiredContainer, desired: &Desired) {
        let Some(rolling) = self.rolls(container) else { return };
        let Some((_, reason)) = &container.creation else { return };
        let service = &container.container.service;
        self.plan.failures.insert(service.clone(), rolling.on_failure);
        let mut lot = self.lots.remove(service).unwrap_or_default();
        if rolling.parallelism > 0 && lot.number == rolling.parallelism {
            let ends = std::mem::take(&mut lot.ends);
            let begins = if rolling.delay.is_zero() {
                ends
            } else {
                let step = Step::Delay { next: container.container.clone(), time: rolling.delay };
                vec![self.plan.push(step, reason.clone(), ends)]
            };
            lot = Lot { number: 0, begins, ends: Vec::new() };
        }
        lot.number += 1;
        let mut after = self.stops_of_dependents(desired, service);
        after.extend(&lot.begins);
        self.lots.insert(service.clone(), lot);
        let actual = self.actual;
        let replicas = actual.replicas(service);
        let Some(old) = replicas.into_iter().find(|c| c.record.number == container.number) else { return };
        if container.starts_first() {
            self.set_aside_serving(old, reason, &after);
        } else {
            let steps = self.set_aside(old, reason, &after);
            self.note_removal(old, &steps);
        }
    }

    /// Gives a container's name away while it runs; it has its ports and its addresses until all is there.
    fn set_aside_serving(&mut self, old: &ActualContainer, reason: &Reason, after: &[StepId]) {
        let container = ContainerRef::from(&old.record);
        let name = container.name.set_aside(&container.id);
        let step = Step::SetAside { name, container: container.clone(), serving: true };
        let step = self.plan.push(step, reason.clone(), after.iter().copied());
        self.removals.insert(container.id.clone(), step);
        let own = Duration::from_millis(old.record.policy.stop_grace_ms);
        let attachment = attachment(&old.record, self.options.paths, &self.specs).filter(|_| old.pinned);
        self.draining.push(Draining { container, grace: self.options.timeout.unwrap_or(own), attachment });
    }

    /// Returns the step after which a container that is started is there for others; of a replica that takes the place of
    /// another this is when it is ready and has taken over.
    pub(super) fn end_of_start(&mut self, container: &DesiredContainer, start: StepId, reason: &Reason) -> StepId {
        let (Some(rolling), Some((creation, _))) = (self.rolls(container), &container.creation) else { return start };
        let has_check = creation.record.policy.health.is_some();
        let watched = match rolling.monitor {
            None if has_check => Some(Duration::ZERO),
            None if container.starts_first() => Some(MONITOR),
            monitor => monitor,
        };
        let mut end = start;
        if let Some(time) = watched {
            let (on, until) = (container.container.clone(), Until::Steady(time));
            let wait = Step::Wait(Wait { on, until, at_most: LONGEST_WAIT, required: true });
            end = self.plan.push(wait, reason.clone(), [end]);
        }
        let there = match self.old(container).map(|old| ContainerRef::from(&old.record)) {
            Some(predecessor) if container.starts_first() => {
                let step = Step::TakeOver { successor: container.container.clone(), predecessor };
                end = self.plan.push(step, reason.clone(), [end]);
                end
            }
            Some(_) | None => start,
        };
        if let Some(lot) = self.lots.get_mut(&container.container.service) {
            lot.ends.push(end);
        }
        there
    }

    /// When all is there that was asked for, what still runs of what was before is stopped, and then forgotten.
    pub(super) fn decide(&mut self, desired: &Desired, last: &[StepId]) {
        let project = || desired.project.clone();
        let decided = self.plan.push(Step::Decide(project()), Reason::Complete, last.iter().copied());
        let mut ends: Vec<StepId> = Vec::new();
        for Draining { container, grace, attachment } in std::mem::take(&mut self.draining) {
            let reason = Reason::Succeeded;
            let step = Step::Drain { container: container.clone(), grace, strict: self.options.strict };
            let mut before = self.plan.push(step, reason.clone(), [decided]);
            if let Some(attachment) = attachment {
                before = self.plan.push(Step::Detach(Box::new(attachment)), reason.clone(), [before]);
            }
            let id = container.id.clone();
            let removal = self.plan.push(Step::RemoveContainer(container), reason, [before]);
            self.removals.insert(id, removal);
            ends.push(removal);
        }
        for (container, reason) in std::mem::take(&mut self.leaving) {
            let id = container.id.clone();
            let removal = self.plan.push(Step::RemoveContainer(container), reason, [decided]);
            self.removals.insert(id, removal);
            ends.push(removal);
        }
        self.plan.push(Step::Commit(project()), Reason::Complete, ends);
    }
}

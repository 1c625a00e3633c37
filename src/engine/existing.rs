//! Plans of the commands about containers that are there: start, stop, restart, remove, kill, pause, unpause.
//!
//! Invariant: pure, as all planning. These commands know no file: order and conditions are in the containers' labels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::compose::model::Condition;
use crate::engine::actual::{Actual, ActualContainer};
use crate::engine::desired::attachment;
use crate::engine::graph::{Edge, Graph};
use crate::engine::plan::{LONGEST_WAIT, Options, graph_of, is_anonymous, specs, stop_step, take_ports, tear_down};
use crate::engine::step::{ContainerRef, Plan, Reason, Step, StepId, Until, Wait};
use crate::name::{ContainerId, NetworkId, ServiceName, VolumeName};
use crate::network::NetworkSpec;

/// Returns the steps that stop running containers, dependents first, and keep them.
#[must_use]
pub fn stop(actual: &Actual, services: Option<&BTreeSet<ServiceName>>, options: &Options<'_>) -> Plan {
    let mut plan = Plan::default();
    let specs = specs(actual);
    let graph = graph_of(actual);
    let mut stopped: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
    for service in graph.order().rev().filter(|s| services.is_none_or(|wanted| wanted.contains(*s))) {
        let after: Vec<StepId> =
            graph.dependents(service).filter_map(|(name, _)| stopped.get(name)).flatten().copied().collect();
        for container in actual.containers.iter().filter(|c| c.record.service == *service && c.is_up()) {
            let step = stop_step(container, false, options);
            let id = plan.push(step, Reason::Asked("stop"), after.iter().copied());
            stopped.entry(&container.record.service).or_default().push(id);
            if let Some(attachment) = attachment(&container.record, options.paths, &specs).filter(|_| container.pinned)
            {
                plan.push(Step::Detach(Box::new(attachment)), Reason::Asked("stop"), [id]);
            }
        }
    }
    plan
}

/// Returns the steps that remove the chosen containers, dependents first where they have to be stopped; with `volumes` also
/// their volumes without a name that nobody else has.
#[must_use]
pub fn remove(
    actual: &Actual,
    chosen: impl Fn(&ActualContainer) -> bool,
    volumes: bool,
    verb: &'static str,
    options: &Options<'_>,
) -> Plan {
    let mut plan = Plan::default();
    let specs = specs(actual);
    let graph = graph_of(actual);
    let mut begun: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
    let mut ends: BTreeMap<&VolumeName, Vec<StepId>> = BTreeMap::new();
    for service in graph.order().rev() {
        let after: Vec<StepId> =
            graph.dependents(service).filter_map(|(name, _)| begun.get(name)).flatten().copied().collect();
        for container in actual.containers.iter().filter(|c| c.record.service == *service && chosen(c)) {
            let steps = tear_down(&mut plan, container, &Reason::Asked(verb), &after, &specs, options);
            if container.is_up() {
                begun.entry(&container.record.service).or_default().extend(steps.first());
            }
            for volume in &container.record.volumes {
                ends.entry(volume).or_default().extend(steps.last());
            }
        }
    }
    for (volume, after) in ends.into_iter().filter(|_| volumes) {
        let kept = actual.containers.iter().any(|c| !chosen(c) && c.record.volumes.contains(volume));
        if is_anonymous(actual, volume) && !kept {
            plan.push(Step::RemoveVolume(volume.clone()), Reason::Asked(verb), after);
        }
    }
    plan
}

/// Returns the steps that stop and start the containers of the selected services, dependencies first. `graph` holds
/// what was selected; services that are in it beyond `named` follow a dependency.
#[must_use]
pub fn restart(actual: &Actual, graph: &Graph, named: &BTreeSet<ServiceName>, options: &Options<'_>) -> Plan {
    let mut plan = Plan::default();
    let specs = specs(actual);
    let mut started: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
    for service in graph.order() {
        let follows = graph.dependencies(service).iter().find(|e| e.restart && !named.contains(service));
        let reason = follows.map_or(Reason::Asked("restart"), |e| Reason::RestartedWith(e.on.clone()));
        let after: Vec<StepId> =
            graph.dependencies(service).iter().filter_map(|e| started.get(&e.on)).flatten().copied().collect();
        for container in actual.containers.iter().filter(|c| c.record.service == *service && !c.is_one_off()) {
            let mut after = after.clone();
            if container.is_up() {
                after = vec![plan.push(stop_step(container, true, options), reason.clone(), after)];
            }
            if let Some(attachment) =
                attachment(&container.record, options.paths, &specs).filter(|_| !container.attached)
            {
                after = vec![plan.push(Step::Attach(Box::new(attachment)), reason.clone(), after)];
            }
            take_ports(&mut plan, container);
            let start = plan.push(Step::Start(ContainerRef::from(&container.record)), reason.clone(), after);
            started.entry(&container.record.service).or_default().push(start);
        }
    }
    plan
}

/// Returns the steps that start the containers of the services in `graph` which do not run, each after what it depends
/// on. With `wait`, readiness is waited for so long: health where it is asked for, completion where others wait for it.
#[must_use]
pub fn start(actual: &Actual, graph: &Graph, wait: Option<Duration>, options: &Options<'_>) -> Plan {
    let mut start = Start { actual, plan: Plan::default(), starts: BTreeMap::new(), waits: BTreeMap::new() };
    let specs = specs(actual);
    for service in graph.order() {
        let prepared = start.prepare(service, graph, options, &specs);
        for container in start.of(service) {
            if container.is_up() && !container.is_stopping() {
                continue;
            }
            let mut before: Vec<StepId> = prepared.into_iter().collect();
            if let Some(attachment) =
                attachment(&container.record, options.paths, &specs).filter(|_| !container.attached)
            {
                before.push(start.plan.push(Step::Attach(Box::new(attachment)), Reason::NotAttached, []));
            }
            for edge in graph.dependencies(service) {
                for on in start.of(&edge.on) {
                    before.extend(start.gate(service, edge, on));
                }
            }
            take_ports(&mut start.plan, container);
            let step = Step::Start(ContainerRef::from(&container.record));
            let id = start.plan.push(step, Reason::Asked("start"), before);
            start.starts.insert(container.record.id.clone(), id);
        }
    }
    if let Some(at_most) = wait {
        for service in graph.order() {
            let is_job = graph.dependents(service).any(|(_, e)| e.condition == Condition::ServiceCompletedSuccessfully);
            for container in start.of(service) {
                let until = match container.record.policy.health {
                    _ if is_job => Until::Completed,
                    Some(_) => Until::Healthy,
                    None => continue, // it runs when its start is done
                };
                let on = ContainerRef::from(&container.record);
                let after = start.starts.get(&container.record.id).copied();
                let step = Step::Wait(Wait { on, until, at_most, required: true });
                start.plan.push(step, Reason::Asked("wait"), after);
            }
        }
    }
    start.plan
}

struct Start<'a> {
    actual: &'a Actual,
    plan: Plan,
    starts: BTreeMap<ContainerId, StepId>,
    waits: BTreeMap<(ContainerId, Until), StepId>,
}

impl<'a> Start<'a> {
    fn of(&self, service: &ServiceName) -> Vec<&'a ActualContainer> {
        self.actual.containers.iter().filter(|c| c.record.service == *service && !c.is_one_off()).collect()
    }

    /// Runs what is there to run before a service starts and has not done its work, unless a replica runs; returns the step
    /// after which it has.
    fn prepare(
        &mut self,
        service: &ServiceName,
        graph: &Graph,
        options: &Options<'_>,
        specs: &BTreeMap<NetworkId, NetworkSpec>,
    ) -> Option<StepId> {
        let replicas = self.of(service);
        if replicas.is_empty() || replicas.iter().any(|c| c.is_up()) {
            return None;
        }
        let mut last = None;
        for hook in self.actual.pre_starts(service).into_iter().filter(|c| !c.has_completed()) {
            let mut before: Vec<StepId> = last.into_iter().collect();
            if let Some(attachment) = attachment(&hook.record, options.paths, specs).filter(|_| !hook.attached) {
                before.push(self.plan.push(Step::Attach(Box::new(attachment)), Reason::NotAttached, []));
            }
            for edge in graph.dependencies(service) {
                for on in self.of(&edge.on) {
                    before.extend(self.gate(service, edge, on));
                }
            }
            let on = ContainerRef::from(&hook.record);
            if !hook.is_up() {
                before = vec![self.plan.push(Step::Start(on.clone()), Reason::Asked("start"), before)];
            }
            let wait = Wait { on, until: Until::Completed, at_most: LONGEST_WAIT, required: true };
            last = Some(self.plan.push(Step::Wait(wait), Reason::NeededBy(service.clone()), before));
        }
        last
    }

    /// Returns the step after which a dependency is what its dependent needs; `None` when it is that already.
    fn gate(&mut self, dependent: &ServiceName, edge: &Edge, on: &ActualContainer) -> Option<StepId> {
        let start = self.starts.get(&on.record.id).copied();
        let until = match edge.condition {
            Condition::ServiceStarted => return start,
            Condition::ServiceHealthy if start.is_none() && on.is_healthy() => return None,
            Condition::ServiceHealthy => Until::Healthy,
            Condition::ServiceCompletedSuccessfully if start.is_none() && on.has_completed() => return None,
            Condition::ServiceCompletedSuccessfully => Until::Completed,
        };
        let key = (on.record.id.clone(), until);
        if let Some(wait) = self.waits.get(&key) {
            return Some(*wait);
        }
        let on = ContainerRef::from(&on.record);
        let step = Step::Wait(Wait { on, until, at_most: LONGEST_WAIT, required: true });
        let wait = self.plan.push(step, Reason::NeededBy(dependent.clone()), start);
        self.waits.insert(key, wait);
        Some(wait)
    }
}

/// Returns the steps that send a signal to the chosen containers that run, all at once.
#[must_use]
pub fn kill(actual: &Actual, chosen: impl Fn(&ActualContainer) -> bool, signal: i32) -> Plan {
    let mut plan = Plan::default();
    for container in by_name(actual).into_iter().filter(|c| c.is_up() && chosen(c)) {
        let step = Step::Kill { container: ContainerRef::from(&container.record), signal };
        plan.push(step, Reason::Asked("kill"), []);
    }
    plan
}

/// Returns the steps that hold the chosen containers that run, all at once, and those that are held already.
#[must_use]
pub fn pause(actual: &Actual, chosen: impl Fn(&ActualContainer) -> bool) -> (Plan, Vec<ContainerRef>) {
    hold(actual, |c| chosen(c) && c.is_up(), true)
}

/// Returns the steps that let the chosen containers go on, all at once, and those that run but are not held.
#[must_use]
pub fn unpause(actual: &Actual, chosen: impl Fn(&ActualContainer) -> bool) -> (Plan, Vec<ContainerRef>) {
    hold(actual, |c| chosen(c) && c.is_up(), false)
}

fn hold(actual: &Actual, chosen: impl Fn(&ActualContainer) -> bool, paused: bool) -> (Plan, Vec<ContainerRef>) {
    let (mut plan, mut as_asked) = (Plan::default(), Vec::new());
    for container in by_name(actual).into_iter().filter(|c| !c.is_one_off() && chosen(c)) {
        let (reference, status) = (ContainerRef::from(&container.record), &container.status);
        // One that is held for a moment can be held for good.
        if (status.paused && !(paused && status.borrowed)) == paused {
            as_asked.push(reference);
        } else if paused {
            plan.push(Step::Pause(reference), Reason::Asked("pause"), []);
        } else {
            plan.push(Step::Unpause(reference), Reason::Asked("unpause"), []);
        }
    }
    (plan, as_asked)
}

fn by_name(actual: &Actual) -> Vec<&ActualContainer> {
    let mut all: Vec<&ActualContainer> = actual.containers.iter().collect();
    all.sort_by(|a, b| a.record.name.cmp(&b.record.name));
    all
}

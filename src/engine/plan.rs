//! From what should exist and what does to the steps between them, each with its reason.
//!
//! Invariant: pure. Reads nothing, changes nothing, never asks. A step comes after those it waits for, so that the list
//! itself is one valid order; nothing else holds a step back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use self::rolling::{Draining, Lot};
use crate::compose::model::Condition;
use crate::engine::actual::{Actual, ActualContainer, pre_start};
use crate::engine::desired::{ANONYMOUS, Desired, DesiredContainer, LABEL, attachment, conflict, published};
use crate::engine::graph::{Edge, Graph};
use crate::engine::step::{Attachment, ContainerRef, NetworkChange, Plan, Reason, Step, StepId, Until, Wait};
use crate::engine::update::stays_healthy;
use crate::name::{ContainerId, NetworkId, ProjectName, ServiceName, VolumeName};
use crate::network::{NetworkSpec, PublishedPort};
use crate::paths::Paths;
use crate::state::record::State;

mod rolling;

/// A dependency that has not got there after a day never will. Compose waits without end.
pub const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// What planning is told besides the two states.
#[derive(Debug, Clone)]
pub struct Options<'a> {
    /// Where things live.
    pub paths: &'a Paths,
    /// Time from stop signal to kill, instead of each container's own.
    pub timeout: Option<Duration>,
    /// Wait for that time even when the signal cannot reach a container's first process.
    pub strict: bool,
    /// What happens to containers of services that the file does not have.
    pub orphans: Orphans,
    /// How far the containers are brought.
    pub reach: Reach,
}

impl<'a> Options<'a> {
    /// Returns those of a command that was told nothing.
    #[must_use]
    pub fn new(paths: &'a Paths) -> Self {
        Self { paths, timeout: None, strict: false, orphans: Orphans::Named, reach: Reach::Started }
    }
}

/// What happens to containers of services that the file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orphans {
    /// They stay, and a warning names them.
    #[default]
    Named,
    /// They go.
    Removed,
    /// They stay.
    Ignored,
}

/// How far `up` brings containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// They are there: what `create` does.
    Created,
    /// They are started.
    #[default]
    Started,
    /// They are healthy where health is asked for, completed where others wait for it, and get there within this time.
    Ready(Duration),
}

/// Returns the steps that turn `actual` into `desired`.
///
/// A container that fits is left alone; one that ended is started again. One exception keeps a second `up` quiet: a
/// container that ended with exit code 0, and whose completion others wait for, runs again only if one of those is
/// about to start. A service that asked for it (`restart: true`) is stopped before a dependency of it is replaced, and
/// started again after.
///
/// A plan that replaces containers can be gone back from ([`rollback`](super::rollback)) until its [`Step::Commit`], which
/// comes when all else is done: those that are replaced, and others that go, are stopped and set aside first, and removed
/// after it. Replicas of a service that says how they are replaced are so in lots; with one whose successor is started first
/// the plan can be gone back from until its [`Step::Decide`], and such ones are stopped after it.
#[must_use]
pub fn plan(desired: &Desired, actual: &Actual, options: &Options<'_>) -> Plan {
    let mut up = Up {
        actual,
        options,
        plan: Plan::default(),
        specs: specs(actual),
        networks: BTreeMap::new(),
        volumes: BTreeMap::new(),
        filled: BTreeMap::new(),
        removals: BTreeMap::new(),
        parted: desired.containers.iter().any(|c| c.update.is_some() || replaces(c, actual)) || actual.before.is_some(),
        leaving: Vec::new(),
        draining: Vec::new(),
        lots: BTreeMap::new(),
        released: Vec::new(),
        updates: BTreeMap::new(),
        starts: BTreeMap::new(),
        prepared: BTreeMap::new(),
        waits: BTreeMap::new(),
        following: BTreeMap::new(),
        stopped: BTreeMap::new(),
    };
    up.stop_followers(desired);
    up.remove_leftovers(desired);
    up.remove_ended();
    up.create_networks(desired);
    up.create_volumes(desired);
    let starting = up.starting(desired);
    for container in &desired.containers {
        up.bring_up(container, desired, &starting);
    }
    up.wait_for_all(desired);
    up.commit(desired);
    up.remove_replaced_networks(desired);
    up.plan
}

/// Returns whether a container takes the place of one that works.
fn replaces(container: &DesiredContainer, actual: &Actual) -> bool {
    container.creation.as_ref().is_some_and(|(creation, why)| {
        let (service, number) = (&creation.record.service, creation.record.number);
        !container.one_off
            && why.replaces()
            && actual.replicas(service).any(|c| c.record.number == number && c.complete)
    })
}

/// What is removed by [`down`].
#[derive(Debug, Clone, Default)]
pub struct Down {
    /// Only these services; `None` is the whole project, its networks included.
    pub services: Option<BTreeSet<ServiceName>>,
    /// The services of the file, to tell orphans; `None` without a file: nothing is an orphan then.
    pub defined: Option<BTreeSet<ServiceName>>,
    /// Remove named volumes of the project, and those without a name.
    pub volumes: bool,
    /// Remove these images, by their names.
    pub images: Vec<String>,
}

/// Returns the steps that remove a project: dependents before what they depend on, then networks, then volumes.
#[must_use]
pub fn down(project: &ProjectName, actual: &Actual, request: &Down, options: &Options<'_>) -> Plan {
    let mut plan = Plan::default();
    let specs = specs(actual);
    let graph = graph_of(actual);
    let is_orphan =
        |c: &ActualContainer| request.defined.as_ref().is_some_and(|defined| !defined.contains(&c.record.service));
    let goes = |c: &&ActualContainer| {
        (options.orphans == Orphans::Removed || !is_orphan(c))
            && request.services.as_ref().is_none_or(|services| services.contains(&c.record.service))
    };
    let (going, staying): (Vec<&ActualContainer>, Vec<&ActualContainer>) =
        actual.containers.iter().partition(|c| goes(c));
    let orphans: Vec<&str> = staying.iter().filter(|c| is_orphan(c)).map(|c| c.record.name.as_str()).collect();
    if !orphans.is_empty() && options.orphans == Orphans::Named {
        plan.warnings.push(orphan_warning(&orphans));
    }
    let mut stopped: BTreeMap<&ServiceName, Vec<StepId>> = BTreeMap::new();
    let mut ends: BTreeMap<&ContainerId, Vec<StepId>> = BTreeMap::new();
    // What goes as a whole is not gone back from: a `down` that is killed leaves nothing that would come back.
    let whole = request.services.is_none();
    let commit = actual.before.iter().filter(|_| whole).map(|_| Step::Commit(project.clone()));
    let commit: Vec<StepId> = commit.map(|step| plan.push(step, Reason::Asked("down"), [])).collect();
    for old in actual.aside.iter().filter(|c| whole || goes(c)) {
        let steps = tear_down(&mut plan, old, &Reason::Asked("down"), &commit, &specs, options);
        ends.insert(&old.record.id, steps);
    }
    for service in graph.order().rev() {
        let dependents = graph.dependents(service).filter_map(|(name, _)| stopped.get(name)).flatten();
        let waits_for: Vec<StepId> = dependents.chain(&commit).copied().collect();
        for container in going.iter().filter(|c| c.record.service == *service) {
            let reason = if is_orphan(container) { Reason::Orphan } else { Reason::Asked("down") };
            let steps = tear_down(&mut plan, container, &reason, &waits_for, &specs, options);
            stopped.entry(&container.record.service).or_default().extend(steps.first());
            ends.insert(&container.record.id, steps);
        }
    }
    let going: Vec<&ActualContainer> =
        going.into_iter().chain(actual.aside.iter().filter(|c| whole || goes(c))).collect();
    for reference in &request.images {
        let made_of_it = going.iter().filter(|c| c.record.image == *reference);
        let after: Vec<StepId> = made_of_it.filter_map(|c| ends.get(&c.record.id)).flatten().copied().collect();
        plan.push(Step::RemoveImage(reference.clone()), Reason::Asked("down"), after);
    }
    if request.services.is_some() {
        return plan;
    }
    let detached_from = |network: &NetworkId| {
        let on_it = going.iter().filter(|c| c.record.endpoints.iter().any(|e| e.network == *network));
        on_it.filter_map(|c| ends.get(&c.record.id)).flatten().copied().collect::<Vec<StepId>>()
    };
    for network in actual.networks.iter().filter(|n| n.record.project == *project) {
        let held = staying.iter().any(|c| c.record.endpoints.iter().any(|e| e.network == network.record.id));
        if held || network.shared {
            plan.warnings.push(format!("network {} is still in use and stays", network.record.name));
            continue;
        }
        let change = NetworkChange { record: network.record.clone(), spec: network.spec.clone() };
        let after = detached_from(&network.record.id);
        plan.push(Step::RemoveNetwork(Box::new(change)), Reason::Asked("down"), after);
    }
    if request.volumes {
        let ours = actual.volumes.values().filter(|v| v.record.project.as_ref() == Some(project));
        for volume in ours {
            if staying.iter().any(|c| c.record.volumes.contains(&volume.record.name)) {
                plan.warnings.push(format!("volume {} is still in use and stays", volume.record.name));
                continue;
            }
            let mounted = going.iter().filter(|c| c.record.volumes.contains(&volume.record.name));
            let after: Vec<StepId> = mounted.filter_map(|c| ends.get(&c.record.id)).flatten().copied().collect();
            plan.push(Step::RemoveVolume(volume.record.name.clone()), Reason::Asked("down"), after);
        }
    }
    plan
}

/// Returns the order of the services that have containers, from the labels that `up` wrote.
#[must_use]
pub fn graph_of(actual: &Actual) -> Graph {
    let mut services: BTreeMap<ServiceName, Vec<Edge>> = BTreeMap::new();
    for container in &actual.containers {
        let label = container.record.labels.get(&format!("{LABEL}depends_on")).map_or("", String::as_str);
        let edges = services.entry(container.record.service.clone()).or_default();
        for entry in label.split(',') {
            let mut parts = entry.split(':');
            let Some(on) = parts.next().and_then(|name| ServiceName::new(name).ok()) else { continue };
            let condition = match parts.next() {
                Some("service_healthy") => Condition::ServiceHealthy,
                Some("service_completed_successfully") => Condition::ServiceCompletedSuccessfully,
                _ => Condition::ServiceStarted,
            };
            let restart = parts.next() == Some("true");
            if !edges.iter().any(|e| e.on == on) {
                edges.push(Edge { on, condition, restart, required: false, span: None });
            }
        }
    }
    // Two runs with different files can leave a circle behind; removing must work all the same, then in any order.
    Graph::new(services.clone())
        .or_else(|_| Graph::new(services.into_keys().map(|name| (name, Vec::new()))))
        .unwrap_or_default()
}

/// Returns the host ports that a plan takes, and those that it gives up before it takes them.
#[must_use]
pub fn ports(plan: &Plan) -> (Vec<PublishedPort>, Vec<PublishedPort>) {
    let mut taken: Vec<PublishedPort> = plan.ports.iter().map(|(_, port)| *port).collect();
    let mut released = Vec::new();
    for planned in &plan.steps {
        if let Step::Attach(attachment) = &planned.step {
            taken.extend(attachment.endpoints.iter().flat_map(|e| e.ports.iter().copied()));
        } else if let Step::Detach(attachment) = &planned.step {
            released.extend(attachment.endpoints.iter().flat_map(|e| e.ports.iter().copied()));
        }
    }
    (taken, released)
}

pub(super) fn specs(actual: &Actual) -> BTreeMap<NetworkId, NetworkSpec> {
    actual.networks.iter().map(|n| (n.record.id.clone(), n.spec.clone())).collect()
}

/// Returns whether a volume has no name; then one container has it.
pub(super) fn is_anonymous(actual: &Actual, volume: &VolumeName) -> bool {
    actual.volumes.get(volume).is_some_and(|v| v.record.labels.contains_key(ANONYMOUS))
}

fn orphan_warning(names: &[&str]) -> String {
    format!(
        "Found orphan containers ([{}]) for this project. If you removed or renamed this service in your compose file, \
         you can run this command with the --remove-orphans flag to clean it up.",
        names.join(" ")
    )
}

pub(super) fn stop_step(container: &ActualContainer, restart: bool, options: &Options<'_>) -> Step {
    let own = Duration::from_millis(container.record.policy.stop_grace_ms);
    Step::Stop {
        container: ContainerRef::from(&container.record),
        grace: options.timeout.unwrap_or(own),
        strict: options.strict,
        restart,
    }
}

/// Notes the ports that a container which is there takes again with its start. One that is attached anew brings them along.
pub(super) fn take_ports(plan: &mut Plan, container: &ActualContainer) {
    if container.attached && !container.is_up() {
        let ports = container.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published);
        plan.ports.extend(ports.map(|port| (container.record.service.clone(), port)));
    }
}

/// Adds the steps that remove a container; the first one waits for `after`.
pub(super) fn tear_down(
    plan: &mut Plan,
    container: &ActualContainer,
    reason: &Reason,
    after: &[StepId],
    specs: &BTreeMap<NetworkId, NetworkSpec>,
    options: &Options<'_>,
) -> Vec<StepId> {
    let mut steps = part(plan, container, reason, after, specs, options);
    let before = steps.last().map_or_else(|| after.to_vec(), |last| vec![*last]);
    steps.push(plan.push(Step::RemoveContainer(ContainerRef::from(&container.record)), reason.clone(), before));
    steps
}

/// Adds the steps that stop a container and take it off its networks; the first one waits for `after`.
fn part(
    plan: &mut Plan,
    container: &ActualContainer,
    reason: &Reason,
    after: &[StepId],
    specs: &BTreeMap<NetworkId, NetworkSpec>,
    options: &Options<'_>,
) -> Vec<StepId> {
    let mut steps: Vec<StepId> = Vec::new();
    let mut push = |step: Step| {
        let before = steps.last().map_or_else(|| after.to_vec(), |last| vec![*last]);
        steps.push(plan.push(step, reason.clone(), before));
    };
    // One whose start failed is not up, and its process may still be on its way out.
    if container.is_up() || container.status.process.is_some() {
        push(stop_step(container, false, options));
    }
    if let Some(attachment) = attachment(&container.record, options.paths, specs).filter(|_| container.pinned) {
        push(Step::Detach(Box::new(attachment)));
    }
    steps
}

struct Up<'a> {
    actual: &'a Actual,
    options: &'a Options<'a>,
    plan: Plan,
    specs: BTreeMap<NetworkId, NetworkSpec>,
    /// Steps that make networks.
    networks: BTreeMap<NetworkId, StepId>,
    /// Steps that make volumes.
    volumes: BTreeMap<VolumeName, StepId>,
    /// The last step that fills a volume.
    filled: BTreeMap<VolumeName, StepId>,
    /// Steps after which containers are gone, or out of the way.
    removals: BTreeMap<ContainerId, StepId>,
    /// Containers are set aside first and removed when all is there.
    parted: bool,
    /// Those, with why they go.
    leaving: Vec<(ContainerRef, Reason)>,
    /// Those that run until all is there.
    draining: Vec<Draining>,
    /// The lots of replicas that are being replaced, by their service.
    lots: BTreeMap<ServiceName, Lot>,
    /// Ports that become free, and the step after which they are.
    released: Vec<(PublishedPort, StepId)>,
    /// Steps that update containers.
    updates: BTreeMap<ContainerId, StepId>,
    /// Steps that start containers.
    starts: BTreeMap<ContainerId, StepId>,
    /// The step after which the last hook so far of what runs before a service has done its work.
    prepared: BTreeMap<ServiceName, StepId>,
    /// Steps that wait for containers.
    waits: BTreeMap<(ContainerId, Until, bool), StepId>,
    /// Containers that run, fit, and are started again since a dependency of theirs is replaced.
    following: BTreeMap<ContainerId, Reason>,
    /// Steps that stop those, by their service.
    stopped: BTreeMap<ServiceName, Vec<StepId>>,
}

impl Up<'_> {
    /// Stops the containers whose services asked to be restarted when a dependency is replaced, dependents first.
    fn stop_followers(&mut self, desired: &Desired) {
        if self.options.reach == Reach::Created {
            return;
        }
        let replaced = |c: &&DesiredContainer| c.creation.as_ref().is_some_and(|(_, why)| why.replaces());
        let mut moving: BTreeMap<&ServiceName, bool> =
            desired.containers.iter().filter(replaced).map(|c| (&c.container.service, true)).collect();
        // Dependencies come first, so one pass carries a restart all the way up.
        for container in desired.containers.iter().filter(|c| c.creation.is_none() && c.container.pre_start.is_none()) {
            let cause = container.after.iter().filter(|e| e.restart).find_map(|e| Some((&e.on, *moving.get(&e.on)?)));
            let up = self.actual.container(&container.container.id).is_some_and(ActualContainer::is_up);
            if let Some((on, replaced)) = cause.filter(|_| up) {
                let why = if replaced { Reason::ReplacedUnder } else { Reason::RestartedWith };
                self.following.insert(container.container.id.clone(), why(on.clone()));
                moving.entry(&container.container.service).or_insert(false);
            }
        }
        for container in desired.containers.iter().rev() {
            let id = &container.container.id;
            let (Some(reason), Some(there)) = (self.following.get(id), self.actual.container(id)) else { continue };
            let after = self.stops_of_dependents(desired, &container.container.service);
            let step = self.plan.push(stop_step(there, true, self.options), reason.clone(), after);
            self.stopped.entry(container.container.service.clone()).or_default().push(step);
        }
    }

    /// Returns the steps that stop the containers which follow a service.
    fn stops_of_dependents(&self, desired: &Desired, service: &ServiceName) -> Vec<StepId> {
        let dependents = desired.containers.iter().filter(|c| c.after.iter().any(|e| e.on == *service && e.restart));
        let services: BTreeSet<&ServiceName> = dependents.map(|c| &c.container.service).collect();
        services.into_iter().filter_map(|name| self.stopped.get(name)).flatten().copied().collect()
    }

    /// Returns the containers that will be started.
    fn starting<'d>(&self, desired: &'d Desired) -> BTreeSet<&'d ContainerId> {
        let mut starting: BTreeSet<&ContainerId> = BTreeSet::new();
        if self.options.reach == Reach::Created {
            return starting;
        }
        for container in desired.containers.iter().rev() {
            let id = &container.container.id;
            let there = self.actual.container(id).filter(|_| container.creation.is_none());
            let mut dependents = desired
                .containers
                .iter()
                .flat_map(|c| c.after.iter().map(move |e| (c, e)))
                .filter(|(_, e)| e.on == container.container.service)
                .peekable();
            if container.container.pre_start.is_some() {
                let service = &container.container.service;
                let first = |c: &&DesiredContainer| c.container.service == *service && c.container.pre_start.is_none();
                let first: Vec<&DesiredContainer> = desired.containers.iter().filter(first).collect();
                let runs = |c: &&DesiredContainer| c.creation.is_none() && !starting.contains(&c.container.id);
                let needed = !first.is_empty() && !first.iter().any(runs);
                if needed && there.is_none_or(|c| !c.is_up() && !c.has_completed()) {
                    starting.insert(id);
                }
                continue;
            }
            let job = dependents.clone().any(|(_, e)| e.condition == Condition::ServiceCompletedSuccessfully);
            let starts = match there {
                None => true,
                Some(_) if self.following.contains_key(id) => true,
                Some(there) if there.is_up() && !there.is_stopping() => false,
                Some(there) if job && there.has_completed() => {
                    dependents.any(|(c, _)| starting.contains(&c.container.id))
                }
                Some(_) => true,
            };
            if starts {
                starting.insert(id);
            }
        }
        starting
    }

    /// With `--wait`: until all are what others may count on.
    fn wait_for_all(&mut self, desired: &Desired) {
        let Reach::Ready(at_most) = self.options.reach else { return };
        let dependencies = || desired.containers.iter().flat_map(|c| &c.after);
        for container in desired.containers.iter().filter(|c| c.container.pre_start.is_none()) {
            let ContainerRef { service, id, .. } = &container.container;
            let there = self.actual.container(id).filter(|_| container.creation.is_none());
            let Some(record) = container.record(self.actual) else { continue };
            let is_job =
                dependencies().any(|e| e.on == *service && e.condition == Condition::ServiceCompletedSuccessfully);
            let start = self.starts.get(id).or(self.updates.get(id)).copied();
            let until = match record.policy.health {
                _ if is_job => Until::Completed,
                Some(_) => Until::Healthy,
                None => continue, // it runs when its start is done
            };
            let done = match until {
                Until::Completed => there.is_some_and(ActualContainer::has_completed),
                Until::Healthy | Until::Steady(_) => there.is_some_and(|there| stays_healthy(container, there)),
            };
            if start.is_some() || !done {
                let step = Step::Wait(Wait { on: container.container.clone(), until, at_most, required: true });
                self.plan.push(step, Reason::Asked("wait"), start);
            }
        }
    }

    /// Containers that are replaced, surplus replicas, and orphans if asked: all first, so that their ports are free.
    fn remove_leftovers(&mut self, desired: &Desired) {
        let mut orphans: Vec<&str> = Vec::new();
        for old in self.actual.containers.iter().filter(|c| !c.is_one_off() || pre_start(&c.record).is_some()) {
            let hook = pre_start(&old.record);
            let wished = |c: &&DesiredContainer| {
                c.container.pre_start == hook
                    && (!c.one_off || hook.is_some())
                    && c.container.service == old.record.service
                    && c.number == old.record.number
            };
            let service = &old.record.service;
            let reason = if !desired.services.contains(service) {
                if self.options.orphans != Orphans::Removed {
                    orphans.extend(hook.is_none().then_some(old.record.name.as_str()));
                    continue;
                }
                Reason::Orphan
            } else if let Some(container) = desired.containers.iter().find(wished) {
                match &container.creation {
                    Some((_, reason)) => reason.clone(),
                    None if container.container.id == old.record.id => continue,
                    None => Reason::Surplus,
                }
            } else if desired.selected.contains(service) {
                Reason::Surplus
            } else {
                continue; // a service that this command is not about
            };
            if desired.containers.iter().any(|c| wished(&c) && self.rolls(c).is_some()) {
                continue; // in its turn
            }
            let after = self.stops_of_dependents(desired, service);
            // What was never finished is nothing to go back to.
            let steps = match self.parted && old.complete {
                true => self.set_aside(old, &reason, &after),
                false => tear_down(&mut self.plan, old, &reason, &after, &self.specs, self.options),
            };
            self.note_removal(old, &steps);
        }
        if !orphans.is_empty() && self.options.orphans == Orphans::Named {
            self.plan.warnings.push(orphan_warning(&orphans));
        }
        // What an earlier command set aside and did not remove.
        for old in &self.actual.aside {
            let reason = Reason::Incomplete;
            if self.parted {
                self.leaving.push((ContainerRef::from(&old.record), reason));
            } else {
                tear_down(&mut self.plan, old, &reason, &[], &self.specs, self.options);
            }
        }
    }

    /// Notes after which step a container is out of the way and its ports are free.
    fn note_removal(&mut self, old: &ActualContainer, steps: &[StepId]) {
        let Some(last) = steps.last() else { return };
        self.removals.insert(old.record.id.clone(), *last);
        let ports = old.record.endpoints.iter().flat_map(|e| &e.ports).filter_map(published);
        self.released.extend(ports.map(|port| (port, *last)));
    }

    /// Stops a container and gives its name, its ports and its addresses away; it is removed with the commit.
    fn set_aside(&mut self, old: &ActualContainer, reason: &Reason, after: &[StepId]) -> Vec<StepId> {
        let mut steps = part(&mut self.plan, old, reason, after, &self.specs, self.options);
        let container = ContainerRef::from(&old.record);
        let before = steps.last().map_or_else(|| after.to_vec(), |last| vec![*last]);
        let name = container.name.set_aside(&container.id);
        let step = Step::SetAside { name, container: container.clone(), serving: false };
        steps.push(self.plan.push(step, reason.clone(), before));
        self.leaving.push((container, reason.clone()));
        steps
    }

    /// When all that was asked for is there, what it took the place of goes.
    fn commit(&mut self, desired: &Desired) {
        if !self.parted {
            return;
        }
        let waited_for: BTreeSet<StepId> = self.plan.steps.iter().flat_map(|p| p.after.iter().copied()).collect();
        let last: Vec<StepId> = (0..self.plan.steps.len()).map(StepId).filter(|id| !waited_for.contains(id)).collect();
        if !self.draining.is_empty() {
            return self.decide(desired, &last);
        }
        let commit = self.plan.push(Step::Commit(desired.project.clone()), Reason::Complete, last);
        for (container, reason) in std::mem::take(&mut self.leaving) {
            let id = container.id.clone();
            let removal = self.plan.push(Step::RemoveContainer(container), reason, [commit]);
            self.removals.insert(id, removal);
        }
    }

    /// Containers of `run --rm` whose command could not remove them: it was killed, or did not wait for their end.
    fn remove_ended(&mut self) {
        let ended = |c: &&ActualContainer| c.record.auto_remove && c.status.state == State::Exited;
        for old in self.actual.containers.iter().filter(ended) {
            let reason = Reason::Asked("its removal");
            let steps = tear_down(&mut self.plan, old, &reason, &[], &self.specs, self.options);
            for volume in old.record.volumes.iter().filter(|volume| is_anonymous(self.actual, volume)) {
                let step = Step::RemoveVolume(volume.clone());
                self.plan.push(step, reason.clone(), steps.last().copied());
            }
        }
    }

    fn create_networks(&mut self, desired: &Desired) {
        if let Some(why) = self.actual.way_shut.as_ref().filter(|_| !desired.networks.is_empty()) {
            self.plan.warnings.push(format!(
                "the host's firewall drops all forwarded packets, so that published ports and the way out do not work: \
                 {why}, which could let them through"
            ));
        }
        for network in &desired.networks {
            let reason = match self.actual.network(&network.record.id) {
                Some(there) if there.present => continue,
                Some(_) => Reason::Lost,
                None if self.same_name(network).next().is_some() => Reason::ConfigChanged,
                None => Reason::Missing,
            };
            let step = self.plan.push(Step::CreateNetwork(Box::new(network.clone())), reason, []);
            self.networks.insert(network.record.id.clone(), step);
        }
    }

    fn same_name(&self, network: &NetworkChange) -> impl Iterator<Item = NetworkChange> {
        let (name, id) = (network.record.name.clone(), network.record.id.clone());
        self.actual
            .networks
            .iter()
            .filter(move |n| n.record.name == name && n.record.id != id)
            .map(|n| NetworkChange { record: n.record.clone(), spec: n.spec.clone() })
    }

    /// Networks of the same name and another configuration, once nobody is on them.
    fn remove_replaced_networks(&mut self, desired: &Desired) {
        for network in &desired.networks {
            for old in self.same_name(network).collect::<Vec<_>>() {
                let on_it = |c: &&ActualContainer| c.record.endpoints.iter().any(|e| e.network == old.record.id);
                let removals: Option<Vec<StepId>> = self
                    .actual
                    .containers
                    .iter()
                    .filter(on_it)
                    .map(|c| self.removals.get(&c.record.id).copied())
                    .collect();
                let shared = self.actual.network(&old.record.id).is_some_and(|n| n.shared);
                if let Some(after) = removals.filter(|_| !shared) {
                    self.plan.push(Step::RemoveNetwork(Box::new(old)), Reason::ConfigChanged, after);
                }
            }
        }
    }

    fn create_volumes(&mut self, desired: &Desired) {
        for volume in desired.volumes.iter().filter(|v| !self.actual.volumes.contains_key(&v.name)) {
            let step = self.plan.push(Step::CreateVolume(Box::new(volume.clone())), Reason::Missing, []);
            self.volumes.insert(volume.name.clone(), step);
        }
    }

    fn bring_up(&mut self, container: &DesiredContainer, desired: &Desired, starting: &BTreeSet<&ContainerId>) {
        let id = &container.container.id;
        let there = self.actual.container(id);
        let mut before_start: Vec<StepId> = Vec::new();
        let mut reason = Reason::NotRunning;
        if let Some((creation, why)) = &container.creation {
            reason = why.clone();
            self.begin_lot(container, desired);
            let networks = creation.record.endpoints.iter().filter_map(|e| self.networks.get(&e.network));
            let volumes = creation.record.volumes.iter().filter_map(|v| self.volumes.get(v));
            let replaced = |c: &&ActualContainer| {
                c.record.name == creation.record.name
                    || (!container.one_off
                        && c.record.service == creation.record.service
                        && c.record.number == creation.record.number)
            };
            let old = self.actual.containers.iter().filter(replaced).filter_map(|c| self.removals.get(&c.record.id));
            let after: Vec<StepId> = networks.chain(volumes).chain(old).copied().collect();
            let mut creation = creation.clone();
            if self.rolls(container).is_none() {
                creation.record.succession = None; // nobody waits for it: it is not started, or there is nobody to succeed
            }
            let created = self.plan.push(Step::CreateContainer(creation), why.clone(), after);
            before_start.push(created);
            for population in &container.populations {
                let after = self.filled.get(&population.volume).or(self.volumes.get(&population.volume)).copied();
                let step = self.plan.push(Step::PopulateVolume(Box::new(population.clone())), Reason::Missing, after);
                self.filled.insert(population.volume.clone(), step);
                before_start.push(step);
            }
        }
        before_start.extend(self.update(container));
        if self.options.reach == Reach::Created {
            return;
        }
        let is_hook = container.container.pre_start.is_some();
        let attaches = |_: &&Attachment| there.is_none_or(|c| !c.attached) && (!is_hook || starting.contains(id));
        if let Some(attachment) = container.attachment.as_ref().filter(attaches) {
            let why = if container.creation.is_some() { reason.clone() } else { Reason::NotAttached };
            let ports: Vec<PublishedPort> = attachment.endpoints.iter().flat_map(|e| e.ports.iter().copied()).collect();
            let freed = self.released.iter().filter(|(p, _)| ports.iter().any(|mine| conflict(mine, p)));
            let networks = attachment.endpoints.iter().filter_map(|e| self.networks.get(&e.network));
            let after: Vec<StepId> =
                freed.map(|(_, step)| *step).chain(networks.copied()).chain(before_start.first().copied()).collect();
            before_start.push(self.plan.push(Step::Attach(Box::new(attachment.clone())), why, after));
        }
        if !starting.contains(id) {
            if is_hook {
                // One that a command which was killed has left at work.
                if there.is_some_and(ActualContainer::is_up) && container.creation.is_none() {
                    self.wait_for_hook(container, None);
                }
            } else if there.is_some_and(ActualContainer::is_up) && container.update.is_none() {
                self.plan.running.push(container.container.name.clone());
            }
            return;
        }
        if let Some(there) = there.filter(|_| container.creation.is_none()) {
            take_ports(&mut self.plan, there);
        }
        if let Some(why) = self.following.get(id) {
            reason = why.clone();
            before_start.extend(self.stopped.get(&container.container.service).into_iter().flatten());
        }
        for edge in &container.after {
            let replica = |c: &&DesiredContainer| c.container.service == edge.on && c.container.pre_start.is_none();
            for on in desired.containers.iter().filter(replica) {
                before_start.extend(self.gate(container, edge, on));
            }
        }
        before_start.extend(self.prepared.get(&container.container.service).filter(|_| !container.one_off || is_hook));
        if container.by_hand {
            return;
        }
        let start = self.plan.push(Step::Start(container.container.clone()), reason.clone(), before_start);
        let there = self.end_of_start(container, start, &reason);
        self.starts.insert(id.clone(), there);
        if is_hook {
            self.wait_for_hook(container, Some(start));
        }
    }

    /// What comes after a hook waits for its end.
    fn wait_for_hook(&mut self, hook: &DesiredContainer, start: Option<StepId>) {
        let ContainerRef { service, .. } = &hook.container;
        let at_most = LONGEST_WAIT;
        let wait = Wait { on: hook.container.clone(), until: Until::Completed, at_most, required: true };
        let after = start.or(self.prepared.get(service).copied());
        let step = self.plan.push(Step::Wait(wait), Reason::NeededBy(service.clone()), after);
        self.prepared.insert(service.clone(), step);
    }

    /// Updates a container that takes what has changed. What is stopped for a restart is updated when it has ended.
    fn update(&mut self, container: &DesiredContainer) -> Option<StepId> {
        let (record, why) = container.update.as_ref()?;
        let stopped = self.following.contains_key(&container.container.id);
        let after = self.stopped.get(&container.container.service).filter(|_| stopped).cloned().unwrap_or_default();
        let step = self.plan.push(Step::Update(record.clone()), why.clone(), after);
        self.updates.insert(container.container.id.clone(), step);
        Some(step)
    }

    /// Returns the step after which a dependency is what its dependent needs; `None` when it is that already.
    fn gate(&mut self, dependent: &DesiredContainer, edge: &Edge, on: &DesiredContainer) -> Option<StepId> {
        let start = self.starts.get(&on.container.id).copied();
        let there = self.actual.container(&on.container.id).filter(|_| start.is_none());
        let updated = start.or(self.updates.get(&on.container.id).copied());
        let until = match edge.condition {
            Condition::ServiceStarted => return start,
            Condition::ServiceHealthy if there.is_some_and(|there| stays_healthy(on, there)) => return None,
            Condition::ServiceHealthy => Until::Healthy,
            Condition::ServiceCompletedSuccessfully if there.is_some_and(ActualContainer::has_completed) => {
                return None;
            }
            Condition::ServiceCompletedSuccessfully => Until::Completed,
        };
        let key = (on.container.id.clone(), until, edge.required);
        if let Some(wait) = self.waits.get(&key) {
            return Some(*wait);
        }
        let step = Step::Wait(Wait { on: on.container.clone(), until, at_most: LONGEST_WAIT, required: edge.required });
        let wait = self.plan.push(step, Reason::NeededBy(dependent.container.service.clone()), updated);
        self.waits.insert(key, wait);
        Some(wait)
    }
}

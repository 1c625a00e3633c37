//! Going back to what a project was, when containers of it were being replaced and that came to no good end.
//!
//! Before the first change of such a plan, and of one that updates containers in place ([`update`](super::update)), the project
//! is written down ([`Before`]); containers that are replaced, and others that go with them, are stopped and set aside under
//! another name; when all that was asked for is there, one step forgets what was written down, and only then are they
//! removed. So a project is the old one or the new one: a plan that fails or is interrupted before that step is taken back at
//! once, and one whose process was killed by the next command.
//!
//! Where a successor is started first, the old container runs until all is there. Then it is written down that this is so, which
//! decides; and what still runs of what was before is stopped and removed, by this command or by the next one.
//!
//! It is taken back in two plans. The first removes what was not there before, gives back the names, and stops what did
//! not run; the second starts what ran. Between them the project is looked at again, so that both are plain plans from
//! what is there. Named volumes that were made stay, as always when nobody has asked for their end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::actual::{Actual, ActualContainer};
use super::backend::Backend;
use super::execute::{self, OnFailure, Outcome};
use super::plan::{Options, Orphans, graph_of, is_anonymous, specs, stop_step, tear_down};
use super::step::{ContainerRef, NetworkChange, Plan, Reason, Step, StepId, Wait};
use super::{Engine, Grace, existing, plan};
use crate::diag::Report;
use crate::event::{Silent, Sink};
use crate::name::{ContainerId, ContainerName, ProjectName, VolumeName};
use crate::state::before::{Before, Was};
use crate::state::boot_id;

/// Returns what is written down of a project.
#[must_use]
pub fn before(actual: &Actual, boot_id: String, kept: bool) -> Before {
    let was = |c: &ActualContainer| Was { id: c.record.id.clone(), up: c.is_up() && !c.is_stopping() };
    Before {
        boot_id,
        containers: actual.containers.iter().map(was).collect(),
        networks: actual.networks.iter().map(|n| n.record.id.clone()).collect(),
        records: Vec::new(),
        kept,
        done: false,
    }
}

/// Returns the steps that remove what was not there before, give back names, and stop what did not run.
#[must_use]
pub fn undo(project: &ProjectName, before: &Before, actual: &Actual, options: &Options<'_>) -> Plan {
    let mut plan = Plan::default();
    let (specs, reason) = (specs(actual), Reason::TakenBack);
    let mut gone: Vec<(&ActualContainer, StepId)> = Vec::new();
    for container in &actual.containers {
        match before.container(&container.record.id) {
            Some(was) if was.up || !container.is_up() => {}
            Some(_) => drop(plan.push(stop_step(container, false, options), reason.clone(), [])),
            None => {
                let mut after = give_back(&mut plan, container, actual);
                if after.is_some() && container.record.succession.as_ref().is_some_and(|s| s.done) {
                    after = drain(&mut plan, container, &reason, after, options); // somebody has come to it meanwhile
                }
                let steps = tear_down(&mut plan, container, &reason, after.as_slice(), &specs, options);
                gone.extend(steps.last().map(|last| (container, *last)));
            }
        }
    }
    let stays = |c: &ActualContainer| before.container(&c.record.id).is_some();
    let mut restored: BTreeMap<&ContainerId, StepId> = BTreeMap::new();
    for old in &actual.aside {
        let Some(name) = &old.record.aside else { continue };
        if stays(old) {
            let after = gone.iter().filter(|(c, _)| c.record.name == *name).map(|(_, step)| *step);
            let step = plan.push(Step::Restore(named(old, name)), reason.clone(), after);
            restored.insert(&old.record.id, step);
        } else {
            let steps = tear_down(&mut plan, old, &reason, &[], &specs, options);
            gone.extend(steps.last().map(|last| (old, *last)));
        }
    }
    // Also one that says so already: who was killed while it updated a container may not have come to the kernel.
    for record in &before.records {
        let step = restored.get(&record.id).copied();
        if step.is_some() || actual.container(&record.id).is_some() {
            plan.push(Step::Update(Box::new(record.clone())), reason.clone(), step);
        }
    }
    let after = |of: &dyn Fn(&ActualContainer) -> bool| {
        gone.iter().filter(|(c, _)| of(c)).map(|(_, step)| *step).collect::<Vec<_>>()
    };
    let kept = || actual.containers.iter().chain(&actual.aside).filter(|c| stays(c));
    let volumes: BTreeSet<&VolumeName> = gone.iter().flat_map(|(c, _)| &c.record.volumes).collect();
    for volume in volumes {
        if is_anonymous(actual, volume) && !kept().any(|c| c.record.volumes.contains(volume)) {
            let after = after(&|c| c.record.volumes.contains(volume));
            plan.push(Step::RemoveVolume(volume.clone()), reason.clone(), after);
        }
    }
    for network in &actual.networks {
        if network.record.project == *project && !before.networks.contains(&network.record.id) && !network.shared {
            let change = NetworkChange { record: network.record.clone(), spec: network.spec.clone() };
            let after = after(&|c| c.record.endpoints.iter().any(|e| e.network == network.record.id));
            plan.push(Step::RemoveNetwork(Box::new(change)), reason.clone(), after);
        }
    }
    plan
}

/// Leads names and ports back to a container that still runs, before its successor goes.
fn give_back(plan: &mut Plan, successor: &ActualContainer, actual: &Actual) -> Option<StepId> {
    let succession = successor.record.succession.as_ref()?;
    let predecessor = actual.aside.iter().find(|old| old.record.id == succession.of)?;
    let name = predecessor.record.aside.as_ref()?;
    let (successor, predecessor) = (ContainerRef::from(&successor.record), named(predecessor, name));
    Some(plan.push(Step::GiveBack { successor, predecessor }, Reason::TakenBack, []))
}

/// Returns the steps that remove what others have taken the place of, when all that was asked for was there.
#[must_use]
pub fn finish(project: &ProjectName, actual: &Actual, options: &Options<'_>) -> Plan {
    let (mut plan, specs) = (Plan::default(), specs(actual));
    let mut gone = Vec::new();
    for old in &actual.aside {
        let drained = drain(&mut plan, old, &Reason::Succeeded, None, options);
        let steps = tear_down(&mut plan, old, &Reason::Succeeded, drained.as_slice(), &specs, options);
        gone.extend(steps.last().copied());
    }
    plan.push(Step::Commit(project.clone()), Reason::Complete, gone);
    plan
}

/// Lets a container that runs come to its end, when nothing leads to it any more.
fn drain(
    plan: &mut Plan,
    container: &ActualContainer,
    reason: &Reason,
    after: Option<StepId>,
    options: &Options<'_>,
) -> Option<StepId> {
    if !container.is_up() {
        return after;
    }
    let own = Duration::from_millis(container.record.policy.stop_grace_ms);
    let grace = options.timeout.unwrap_or(own);
    let step = Step::Drain { container: ContainerRef::from(&container.record), grace, strict: options.strict };
    Some(plan.push(step, reason.clone(), after))
}

/// Returns the steps that start what ran before. What a container waits for in vain does not keep it from running: it did.
#[must_use]
pub fn start(before: &Before, actual: &Actual, options: &Options<'_>) -> Plan {
    let ran = |c: &ActualContainer| before.container(&c.record.id).is_some_and(|was| was.up);
    let mut of_then = actual.clone();
    of_then.containers.retain(|c| c.is_up() || c.has_completed() || ran(c));
    let graph = graph_of(&of_then);
    let mut plan = existing::start(&of_then, &graph, None, options);
    for planned in &mut plan.steps {
        planned.reason = Reason::TakenBack;
        if let Step::Wait(Wait { required, .. }) = &mut planned.step {
            *required = false;
        }
    }
    plan
}

/// Returns a container by the name that it had.
fn named(container: &ActualContainer, name: &ContainerName) -> ContainerRef {
    ContainerRef { name: name.clone(), ..ContainerRef::from(&container.record) }
}

impl<B: Backend> Engine<B> {
    /// Takes the project's lock, unless plans are only looked at, and leaves what a replacement that was cut short has left.
    pub(super) fn lock_as_it_is(&self, project: &ProjectName) -> Result<Option<B::Lock>, Report> {
        if self.looking { Ok(None) } else { self.backend.lock(project).map(Some) }
    }

    /// Takes the project's lock, unless plans are only looked at. A replacement that was cut short is taken back first, with
    /// `kept` also one that was left for a look; one that had only to stop what was before is finished.
    pub(super) async fn lock(&self, project: &ProjectName, kept: bool) -> Result<Option<B::Lock>, Report> {
        let Some(lock) = self.lock_as_it_is(project)? else { return Ok(None) };
        if let Some(before) = self.backend.unfinished(project)?.filter(|before| kept || !before.kept) {
            // What cannot be had back does not stand in the way of what is asked for.
            let (done, what) = match before.done {
                true => (self.finish(project).await, "had replaced containers; those are gone"),
                false => {
                    (self.take_back(project, &before, &Silent).await, "replaced or updated containers; those are back")
                }
            };
            let note = match done {
                Ok(()) => format!("a command was cut short while it {what}"),
                Err(report) => report.render(false).trim_end().to_owned(),
            };
            self.notes.borrow_mut().push(note);
        }
        Ok(Some(lock))
    }

    /// Makes the project again what it was. The caller has the lock.
    ///
    /// # Errors
    /// What could not be had back; the next command tries again.
    pub(super) async fn take_back(
        &self,
        project: &ProjectName,
        before: &Before,
        events: &dyn Sink,
    ) -> Result<(), Report> {
        let options = self.options(Grace::default(), Orphans::Ignored);
        let actual = self.backend.observe(project)?;
        self.backend.supervise(project).await?;
        let mut undone = self.run(&undo(project, before, &actual, &options), events).await;
        let actual = self.backend.observe(project)?;
        // After a reboot nothing is started that nobody has asked for.
        if before.boot_id == boot_id() {
            let plan = start(before, &actual, &options);
            let (taken, _) = plan::ports(&plan);
            if !taken.is_empty() {
                self.backend.reserve(project, &taken, &[], &|_| None).await?;
            }
            undone.diagnostics.extend(self.run(&plan, events).await.diagnostics);
        }
        if undone.diagnostics.is_empty() {
            self.backend.perform(&Step::Commit(project.clone()), &Silent).await?;
        }
        self.backend.leave(project).await?;
        if undone.diagnostics.is_empty() { Ok(()) } else { Err(undone) }
    }

    /// Stops and removes what others have taken the place of. The caller has the lock.
    async fn finish(&self, project: &ProjectName) -> Result<(), Report> {
        let actual = self.backend.observe(project)?;
        self.backend.supervise(project).await?;
        let plan = finish(project, &actual, &self.options(Grace::default(), Orphans::Ignored));
        let never = std::future::pending();
        let outcome = execute::execute(&plan, &self.backend, &Silent, OnFailure::Stop, never).await;
        let report = outcome.report(&plan, "The next command tries again to remove what was replaced.");
        self.backend.leave(project).await?;
        if report.diagnostics.is_empty() { Ok(()) } else { Err(report) }
    }

    async fn run(&self, plan: &Plan, events: &dyn Sink) -> Report {
        let never = std::future::pending();
        let outcome: Outcome = execute::execute(plan, &self.backend, events, OnFailure::Continue, never).await;
        outcome.report(plan, "The next command tries again to go back to what was before.")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compose::model::{Condition, Project};
    use crate::engine::desired::Recreate;
    use crate::engine::testing::{World, paths, project, service};
    use crate::name::NetworkId;

    /// Ten services in three layers: one that all need, jobs and healthy ones between, and the rest.
    fn ten() -> Project {
        let layer = |from: u16, to: u16, on: &'static str| {
            (from..to).map(move |n| service(&format!("s{n}")).needs(on, Condition::ServiceHealthy).publishes(8000 + n))
        };
        let base = service("base").healthy().mounts("data", "/data");
        let middle = service("middle").needs("base", Condition::ServiceStarted).healthy();
        project([base, middle].into_iter().chain(layer(0, 4, "base")).chain(layer(4, 8, "middle")))
    }

    /// What a project is to those who use it: its containers with what they run, and its networks.
    #[derive(Debug, PartialEq)]
    struct Seen {
        containers: BTreeMap<ContainerName, (String, String, bool)>,
        networks: BTreeSet<NetworkId>,
    }

    fn seen(world: &World) -> Seen {
        let actual = world.actual.borrow();
        assert!(actual.aside.is_empty() && actual.before.is_none(), "something is left: {:?}", actual.aside);
        let of = |c: &ActualContainer| {
            (c.record.name.clone(), (c.record.id.to_string(), c.record.config_hash.clone(), c.is_up()))
        };
        Seen {
            containers: actual.containers.iter().map(of).collect(),
            networks: actual.networks.iter().map(|n| n.record.id.clone()).collect(),
        }
    }

    fn take_back(world: &World, project: &Project) {
        let paths = paths();
        let options = Options::new(&paths);
        let before = world.actual.borrow().before.clone().expect("it was written down");
        let undoing = undo(&project.name, &before, &world.actual.borrow(), &options);
        assert!(world.run(&undoing, OnFailure::Continue, &Silent).is_complete());
        let starting = start(&before, &world.actual.borrow(), &options);
        assert!(world.run(&starting, OnFailure::Continue, &Silent).is_complete());
        world.actual.borrow_mut().before = None;
    }

    /// Brings ten services up, changes all, and lets the step of that number fail; `None` when there is no such step.
    fn fail_at(number: usize, seed: usize, change: impl Fn(&World, &mut Project)) -> Option<()> {
        let (world, mut project) = (World::default(), ten());
        let (_, plan) = world.plan_up(&project, false);
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        let old = seen(&world);
        change(&world, &mut project);
        let (_, plan) = world.plan_up(&project, true);
        let steps = plan.steps.len();
        let commit = plan.steps.iter().position(|p| matches!(p.step, Step::Commit(_))).expect("it replaces containers");
        if number >= steps {
            return None;
        }
        let first = before(&world.actual.borrow(), String::new(), false);
        world.actual.borrow_mut().before = Some(first);
        world.seed.set(seed);
        world.fail_at.set(Some(world.performed() + number));
        let outcome = world.run(&plan, OnFailure::Stop, &Silent);
        assert_eq!(outcome.failed.len(), 1);
        world.fail_at.set(None);
        let committed = world.actual.borrow().before.is_none();
        assert_eq!(committed, outcome.done.contains(&StepId(commit)));
        if committed {
            // What is left of the old ones goes with the next `up`.
            let (_, plan) = world.plan_up(&project, true);
            assert!(plan.steps.iter().all(|p| matches!(p.step, Step::RemoveContainer(_))), "{plan}");
            assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
            assert!(seen(&world).containers.values().all(|(_, hash, up)| hash == "h2" && *up));
        } else {
            take_back(&world, &project);
            assert_eq!(seen(&world), old, "after step {} failed", number + 1);
        }
        Some(())
    }

    fn all_changed(world: &World, project: &mut Project) {
        world.hashes.borrow_mut().extend(project.services.keys().map(|name| (name.to_string(), "h2".to_owned())));
    }

    #[test]
    fn whichever_step_fails_the_project_is_the_old_or_the_new_one() {
        for seed in 0..3 {
            let steps = (0..).take_while(|number| fail_at(*number, seed, all_changed).is_some()).count();
            assert!(steps > 60, "{steps} steps are too few for ten services");
        }
    }

    #[test]
    fn the_same_when_services_come_and_go_in_it() {
        let change = |world: &World, project: &mut Project| {
            project.services.shift_remove("s7");
            let new = service("new").needs("base", Condition::ServiceStarted).publishes(8007);
            project.services.insert(new.name.clone(), new);
            all_changed(world, project);
        };
        assert!((0..).take_while(|number| fail_at(*number, 3, change).is_some()).count() > 60);
    }

    #[test]
    fn a_plan_that_was_killed_is_taken_back_by_what_was_written_down() {
        let (world, project) = (World::default(), ten());
        let (_, plan) = world.plan_up(&project, false);
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        let old = seen(&world);
        all_changed(&world, &mut project.clone());
        let (_, plan) = world.plan_up(&project, false);
        let commit = plan.steps.iter().position(|p| matches!(p.step, Step::Commit(_))).expect("it replaces containers");
        for cut in 0..=commit {
            let first = before(&world.actual.borrow(), String::new(), false);
            world.actual.borrow_mut().before = Some(first);
            // As a process does that is killed: steps are done, and nobody says what became of them.
            let done = Plan { steps: plan.steps[..cut].to_vec(), ..Plan::default() };
            assert!(world.run(&done, OnFailure::Stop, &Silent).is_complete());
            take_back(&world, &project);
            assert_eq!(seen(&world), old, "cut after {cut} steps");
        }
    }

    #[test]
    fn down_does_not_come_back() {
        let (world, project) = (World::default(), ten());
        let (_, plan) = world.plan_up(&project, false);
        world.run(&plan, OnFailure::Stop, &Silent);
        all_changed(&world, &mut project.clone());
        let (_, plan) = world.plan_up(&project, false);
        let first = before(&world.actual.borrow(), String::new(), false);
        world.actual.borrow_mut().before = Some(first);
        let done = Plan { steps: plan.steps[..20].to_vec(), ..Plan::default() };
        world.run(&done, OnFailure::Stop, &Silent);
        assert!(!world.actual.borrow().aside.is_empty(), "{done}");
        let down = plan::down(&project.name, &world.actual.borrow(), &plan::Down::default(), &Options::new(&paths()));
        assert!(matches!(down.steps[0].step, Step::Commit(_)));
        assert!(world.run(&down, OnFailure::Continue, &Silent).is_complete());
        let left = seen(&world);
        assert!(left.containers.is_empty() && left.networks.is_empty(), "{left:?}");
    }

    #[test]
    fn what_cannot_be_had_back_does_not_stop_the_next_up() {
        let (world, project) = (World::default(), ten());
        let (_, plan) = world.plan_up(&project, false);
        world.run(&plan, OnFailure::Stop, &Silent);
        all_changed(&world, &mut project.clone());
        let (_, plan) = world.plan_up(&project, false);
        let first = before(&world.actual.borrow(), String::new(), false);
        world.actual.borrow_mut().before = Some(first);
        let done = Plan { steps: plan.steps[..30].to_vec(), ..Plan::default() };
        world.run(&done, OnFailure::Stop, &Silent);
        let plan = world.plan_for(&project, &[], &Recreate::Changed, |_| {});
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        assert!(seen(&world).containers.values().all(|(_, hash, up)| hash == "h2" && *up));
    }
}

//! Updating a container in place: it takes what has changed in the file, and its processes go on.
//!
//! Which keys are of that kind is [`class`]'s to say, for one key after the other; `docs/recreate.md` shows them all. The record
//! is written first and the supervisor told of it then, which has the kernel do what it says; each of the two can be done
//! again, and when one is refused both are what they were. See docs/decisions/0020-updates-in-place.md.

use super::actual::{Actual, ActualContainer};
use super::desired::{Desired, DesiredContainer};
use super::differences::top;
use super::host::{Done, failed, failed_io};
use super::local::Local;
use super::step::{ContainerRef, StepError};
use crate::compose;
use crate::fault;
use crate::runtime::resources::{Controller, Resources};
use crate::state::record::{ContainerRecord, LogPolicy};
use crate::supervisor::protocol::Request;

/// What a container that is there makes of a key that has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It cannot take it.
    Made,
    /// It takes it.
    Taken,
}

/// Keys that are limits, what our supervisor does, or what a later command reads: nothing of a process's own.
const TAKEN: &[&str] = &[
    "attach",
    "cpu_period",
    "cpu_quota",
    "cpu_shares",
    "cpus",
    "cpuset",
    // Limits again, and what is read when containers are replaced.
    "deploy",
    // Read by `watch`, from the file.
    "develop",
    "healthcheck",
    "labels",
    "logging",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "oom_kill_disable",
    "pids_limit",
    "post_start",
    "pre_stop",
    "restart",
    "stop_grace_period",
    "stop_signal",
];

/// Returns what becomes of what stands at a path below a service. What has no effect here is taken by the record alone.
#[must_use]
pub fn class(path: &str) -> Class {
    let key = top(path);
    if TAKEN.contains(&key) || compose::is_inert(key) { Class::Taken } else { Class::Made }
}

/// Returns whether a container takes other limits and another policy of its log, when what has changed is of the right [`class`].
///
/// Memory that is not limited is counted elsewhere, and what a process holds stays counted there: such a limit would hold for
/// some of it. A log that moves, or that has fewer files, is another log.
pub(super) fn takes(there: &ActualContainer, limits: &Resources, log: LogPolicy) -> bool {
    let counted = |resources: &Resources| resources.controllers().contains(&Controller::Memory);
    let memory = !there.is_up() || counted(&resources(&there.record)) || !counted(limits);
    let LogPolicy { kept, max_files, .. } = there.record.policy.log;
    memory && log.kept == kept && log.max_files >= max_files
}

/// Returns the limits in a record; those of one that is damaged are none.
fn resources(record: &ContainerRecord) -> Resources {
    let written = record.spec.get("resources").cloned();
    written.and_then(|value| serde_json::from_value(value).ok()).unwrap_or_default()
}

/// Returns whether a container is healthy and its check stays the same, so that nobody has to wait for it.
pub(super) fn stays_healthy(container: &DesiredContainer, there: &ActualContainer) -> bool {
    let same = |(record, _): &(Box<ContainerRecord>, _)| record.policy.health == there.record.policy.health;
    there.is_healthy() && container.update.as_ref().is_none_or(same)
}

/// Returns the records of the containers that are updated, as they are.
pub(super) fn records(desired: &Desired, actual: &Actual) -> Vec<ContainerRecord> {
    let updated = desired.containers.iter().filter(|c| c.update.is_some());
    updated.filter_map(|c| actual.container(&c.container.id)).map(|c| c.record.clone()).collect()
}

/// Returns a record as it is written after another one: with what the container has left from its limits before.
fn after(mut record: ContainerRecord, before: &ContainerRecord) -> ContainerRecord {
    let limits = resources(&record).after(&resources(before));
    if let (Some(spec), Ok(limits)) = (record.spec.as_object_mut(), serde_json::to_value(&limits)) {
        spec.insert("resources".to_owned(), limits);
    }
    record
}

impl Local {
    /// Gives a container a record, and has it do what that says.
    pub(super) async fn update(&self, record: &ContainerRecord) -> Done {
        let what = || format!("update container `{}`", record.name);
        let before = self.state.container(&record.id).map_err(|e| failed(what(), e))?;
        let before = before.ok_or_else(|| failed_io(what(), std::io::Error::other("its record is gone")))?;
        let record = after(record.clone(), &before);
        let container = ContainerRef::from(&record);
        let request = || Request::Update { container: record.id.clone() };
        self.state.write_container(&record).map_err(|e| failed(what(), e))?;
        fault::point("update.recorded");
        let asked = self.ask(&container, request(), "update").await;
        fault::point("update.done");
        let Err(error) = asked else { return Ok(()) };
        let back = after(before, &record);
        self.state.write_container(&back).map_err(|e| failed(what(), e))?;
        if let Err(e) = self.ask(&container, request(), "update").await {
            tracing::debug!("container {} as it was: {e}", container.name); // the refusal is the one to tell
        }
        let StepError::Failed { what, source, help } = error else { return Err(error) };
        let anew = format!("to replace it instead: hoist up --force-recreate {}", container.service);
        Err(StepError::Failed { what, source, help: help.or(Some(anew)) })
    }
}

#[cfg(test)]
mod tests {
    use insta::assert_snapshot;

    use super::*;
    use crate::compose::model::Project;
    use crate::compose::testing;
    use crate::diag::Sources;
    use crate::engine::desired::Recreate;
    use crate::engine::execute::OnFailure;
    use crate::engine::plan::{Options, Reach};
    use crate::engine::rollback;
    use crate::engine::step::{Plan, Step};
    use crate::engine::summary;
    use crate::engine::testing::{World, paths};
    use crate::event::Silent;
    use crate::runtime::resources::Bound;
    use crate::state::before::Before;
    use crate::state::record::{Health, State};

    const SHOP: &str = "name: shop
services:
  db:
    image: img
    mem_limit: 64m
    labels: {tier: back}
    healthcheck: {test: a}
  web:
    image: img
    restart: always
    depends_on: {db: {condition: service_healthy}}
";

    fn load(text: &str) -> (Project, Sources) {
        let (_dir, request) = testing::project(&[("compose.yaml", text)]);
        let loaded = compose::load(&request).expect("it is valid");
        let mut project = loaded.project;
        // The directory is another one each time.
        project.working_dir = "/srv/shop".into();
        (project, loaded.sources)
    }

    fn plan(world: &World, text: &str) -> Plan {
        world.plan_for(&load(text).0, &[], &Recreate::Changed, |_| {})
    }

    #[track_caller]
    fn done(world: &World, plan: &Plan) {
        let outcome = world.run(plan, OnFailure::Stop, &Silent);
        assert!(outcome.is_complete(), "{outcome:?}");
    }

    /// Returns a host on which the shop is up.
    fn shop() -> World {
        let world = World::default();
        done(&world, &plan(&world, SHOP));
        world
    }

    #[test]
    fn what_can_be_taken_is_taken_and_told() {
        let world = shop();
        let before = world.actual.borrow().clone();
        let edited = SHOP.replace("64m", "128m").replace("tier: back", "tier: front").replace("always", "on-failure:3");
        let (project, sources) = load(&edited);
        let wished = world.desired(&project, &[], &Recreate::Changed).expect("chosen");
        let steps = world.plan_for(&project, &[], &Recreate::Changed, |_| {});
        assert_snapshot!(steps, @r#"
        1  update  shop-db-1               updated in place: mem_limit "67108864" → "134217728", labels.tier changed
        2  update  shop-web-1              updated in place: restart "always" → "on-failure:3"
        3  commit  shop        after 1, 2  all is there
        "#);
        assert_snapshot!(summary::text(&summary::changes(&steps, Some(&wished)), &sources), @r#"
        ~ update  container  shop-db-1 (updated in place)
            mem_limit "67108864" → "134217728"  (compose.yaml:5:16)
            labels.tier changed  (compose.yaml:6:20)
        ~ update  container  shop-web-1 (updated in place)
            restart "always" → "on-failure:3"  (compose.yaml:10:14)
        = keep    network    shop_default
        "#);
        done(&world, &steps);
        assert!(plan(&world, &edited).is_empty());
        let after = world.actual.borrow();
        for (old, new) in before.containers.iter().zip(&after.containers) {
            assert_eq!((&old.record.id, &old.record.endpoints), (&new.record.id, &new.record.endpoints));
            assert_eq!(old.status, new.status);
        }
        assert_eq!(resources(&after.containers[0].record).memory_and_swap, Some(Bound::AtMost(256 << 20)));
        assert_eq!(after.containers[0].record.labels["tier"], "front");
    }

    #[test]
    fn what_cannot_be_taken_replaces_and_takes_the_rest_with_it() {
        let world = shop();
        let edited = SHOP.replace("64m", "128m\n    command: b");
        let steps = plan(&world, &edited).to_string();
        assert!(!steps.contains("update") && steps.contains("set aside"), "{steps}");
        assert!(world.plan_for(&load(&edited).0, &[], &Recreate::Never, |_| {}).is_empty());
        let forced = Recreate::Always(load(SHOP).0.services.keys().cloned().collect());
        let steps = world.plan_for(&load(&SHOP.replace("64m", "32m")).0, &[], &forced, |_| {}).to_string();
        assert!(!steps.contains("update") && steps.contains("recreation asked for"), "{steps}");
        // Another digest of the image, too.
        world.images.borrow_mut().insert("db".into(), "sha256:2".into());
        let steps = plan(&world, &SHOP.replace("64m", "32m")).to_string();
        assert!(!steps.contains("update") && steps.contains("mem_limit"), "{steps}");
        world.images.borrow_mut().clear();
        // What an older version has made is not known well enough.
        world.actual.borrow_mut().containers[0].record.said.clear();
        let steps = plan(&world, &SHOP.replace("64m", "32m")).to_string();
        assert!(!steps.contains("update") && steps.contains("set aside"), "{steps}");
    }

    #[test]
    fn memory_begins_to_be_limited_with_a_process() {
        let world = shop();
        let limited = SHOP.replace("restart: always", "mem_limit: 64m");
        assert!(plan(&world, &limited).to_string().contains("set aside"));
        world.actual.borrow_mut().containers.iter_mut().for_each(|c| c.status.state = State::Exited);
        assert_snapshot!(plan(&world, &limited), @r#"
        1  start         shop-db-1               not running
        2  update        shop-web-1              updated in place: mem_limit "67108864" added, restart "always" removed
        3  wait healthy  shop-db-1   after 1     web depends on it
        4  start         shop-web-1  after 2, 3  not running
        5  commit        shop        after 4     all is there
        "#);
        let logging = |text: &str| SHOP.replace("restart: always", &format!("restart: always\n    logging: {text}"));
        for (edit, taken) in [
            ("{options: {max-size: 1m}}", true),
            ("{options: {max-file: '3', max-size: 1m}}", true),
            ("{options: {max-file: '2', max-size: 1m}}", false),
            ("{driver: none}", false),
        ] {
            let steps = plan(&world, &logging(edit));
            assert_eq!(steps.to_string().contains("update "), taken, "{edit}: {steps}");
            done(&world, &steps);
        }
    }

    #[test]
    fn who_waits_for_health_waits_for_the_new_check() {
        let world = shop();
        let edited = SHOP.replace("test: a", "test: b").replace("restart: always", "user: '1'");
        let steps = plan(&world, &edited).to_string();
        let line = |what: &str| steps.lines().find(|line| line.contains(what)).expect("it is there").to_owned();
        let update = line("update").split_whitespace().next().expect("a number").to_owned();
        assert!(line("wait healthy").contains(&format!("after {update} ")), "{steps}");
        let waited = world.plan_for(&load(&SHOP.replace("test: a", "test: b")).0, &[], &Recreate::Changed, |options| {
            options.reach = Reach::Ready(std::time::Duration::from_secs(1));
        });
        assert_snapshot!(waited, @r"
        1  update        shop-db-1           updated in place: healthcheck.test[1] changed
        2  wait healthy  shop-db-1  after 1  wait asked for
        3  commit        shop       after 2  all is there
        ");
        // Without a check there is nothing to wait for.
        let none = load(&SHOP.replace("{test: a}", "{disable: true}")).0;
        let errors = world.desired(&none, &[], &Recreate::Changed).expect_err("web waits for it");
        assert!(errors[0].message.contains("has no healthcheck configured"), "{errors:?}");
    }

    #[test]
    fn wherever_it_is_cut_the_records_are_the_old_or_the_new_ones() {
        let edited = SHOP.replace("64m", "128m").replace("always", "on-failure:3") + "    user: '1'\n";
        for cut in 0.. {
            let world = shop();
            let records = |world: &World| -> Vec<ContainerRecord> {
                let mut all: Vec<_> = world.actual.borrow().containers.iter().map(|c| c.record.clone()).collect();
                all.sort_by_key(|record| record.name.clone());
                all
            };
            let old = records(&world);
            let (project, _) = load(&edited);
            let wished = world.desired(&project, &[], &Recreate::Changed).expect("chosen");
            let steps = world.plan_for(&project, &[], &Recreate::Changed, |_| {});
            let updated = super::records(&wished, &world.actual.borrow());
            assert_eq!(updated.len(), 1, "the other is replaced");
            let first = Before { records: updated, ..rollback::before(&world.actual.borrow(), String::new(), false) };
            world.actual.borrow_mut().before = Some(first.clone());
            let Some(part) = steps.steps.get(..cut) else { break };
            done(&world, &Plan { steps: part.to_vec(), ..Plan::default() });
            if world.actual.borrow().before.is_none() {
                break; // it is the new one
            }
            let paths = paths();
            let options = Options::new(&paths);
            let undoing = rollback::undo(&project.name, &first, &world.actual.borrow(), &options);
            assert!(undoing.to_string().contains("update"), "also when it was not: {undoing}");
            done(&world, &undoing);
            let starting = rollback::start(&first, &world.actual.borrow(), &options);
            done(&world, &starting);
            assert_eq!(records(&world), old, "cut after {cut} steps");
            assert!(world.actual.borrow().containers.iter().all(|c| c.is_up()));
            assert!(cut < steps.steps.len());
        }
    }

    #[test]
    fn one_that_could_not_be_taken_back_and_was_then_replaced_has_its_name_first() {
        let world = shop();
        let old = world.actual.borrow().containers[0].record.clone();
        done(&world, &plan(&world, &SHOP.replace("64m", "128m")));
        let first = rollback::before(&world.actual.borrow(), String::new(), false);
        let first = Before { records: vec![old.clone()], ..first };
        let steps = plan(&world, &SHOP.replace("64m", "128m\n    command: b"));
        let commit = steps.steps.iter().position(|p| matches!(p.step, Step::Commit(_))).expect("it replaces");
        done(&world, &Plan { steps: steps.steps[..commit].to_vec(), ..Plan::default() });
        let paths = paths();
        let project = load(SHOP).0;
        let undoing = rollback::undo(&project.name, &first, &world.actual.borrow(), &Options::new(&paths));
        done(&world, &undoing);
        let after = world.actual.borrow();
        assert_eq!(after.container(&old.id).map(|there| &there.record), Some(&old), "{undoing}");
        // Who begins anew while that is not finished goes back to what was then, and keeps what is new of those that were there.
        let [one, two] = [64_u64, 96].map(|size| {
            let mut record = old.clone();
            record.spec["resources"] = serde_json::json!({"memory": size});
            record
        });
        let web = after.containers.iter().find(|c| c.record.id != old.id).expect("the other").record.clone();
        let earlier = Before { records: vec![one.clone()], ..first.clone() };
        let mut stranger = web.clone();
        stranger.id = crate::name::ContainerId::from_bytes([9; 32]);
        let now = Before { records: vec![two, web.clone(), stranger], kept: true, ..Before::default() };
        let both = now.since(earlier.clone());
        assert_eq!(both, Before { records: vec![one, web], kept: true, ..earlier });
    }

    #[test]
    fn a_record_remembers_what_the_container_has_in_the_kernel() {
        let world = shop();
        let there = world.actual.borrow().containers[0].record.clone();
        assert_eq!(resources(&there).controllers(), [Controller::Memory]);
        let mut none = there.clone();
        none.spec["resources"] = serde_json::json!({});
        let written = after(none, &there);
        assert_eq!(resources(&written).left, [Controller::Memory]);
        assert_eq!(after(there.clone(), &written), there);
    }

    #[test]
    fn health_that_is_known_counts_while_its_check_stays() {
        let world = shop();
        world.actual.borrow_mut().containers[0].status.health = Some(Health::Healthy);
        let steps = plan(&world, &SHOP.replace("64m", "32m").replace("restart: always", "user: '1'"));
        assert!(!steps.to_string().contains("wait healthy"), "{steps}");
    }
}

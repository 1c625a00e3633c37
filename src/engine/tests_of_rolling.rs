//! Replicas that are replaced as their service says: the plan, and that it can be gone back from wherever it ends.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::actual::ActualContainer;
use super::desired::Recreate;
use super::execute::OnFailure;
use super::plan::{Options, Reach};
use super::rollback::{before, finish, start, undo};
use super::step::{Plan, Step};
use super::testing::{World, paths, project, service};
use crate::compose::model::{Condition, FailureAction, Order, Project};
use crate::event::Silent;
use crate::name::{ContainerId, ContainerName, ServiceName};

fn up(world: &World, project: &Project) {
    let (_, plan) = world.plan_up(project, false);
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
}

fn change(world: &World, project: &Project) {
    world.hashes.borrow_mut().extend(project.services.keys().map(|name| (name.to_string(), "h2".to_owned())));
}

/// Brings a project up, changes all of it, and returns the plan for that.
fn changed(world: &World, project: &Project) -> Plan {
    up(world, project);
    change(world, project);
    world.plan_up(project, false).1
}

#[test]
fn the_new_one_first() {
    let web = service("web").healthy().publishes(8080).updates(Order::StartFirst, |_| {});
    let (world, project) = (World::default(), project([web]));
    let plan = changed(&world, &project);
    insta::assert_snapshot!(plan, @"
    1   set aside         shop-web-1            configuration changed
    2   create container  shop-web-1  after 1   configuration changed
    3   attach            shop-web-1  after 2   configuration changed
    4   start             shop-web-1  after 3   configuration changed
    5   wait ready        shop-web-1  after 4   configuration changed
    6   take over         shop-web-1  after 5   configuration changed
    7   decide            shop        after 6   all is there
    8   drain             shop-web-1  after 7   another has taken its place
    9   detach            shop-web-1  after 8   another has taken its place
    10  remove container  shop-web-1  after 9   another has taken its place
    11  commit            shop        after 10  all is there
    ");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    let (_, again) = world.plan_up(&project, false);
    assert!(again.is_empty(), "{again}");
}

#[test]
fn without_a_health_check_it_is_watched_for_a_time() {
    let web = |monitor| service("web").updates(Order::StartFirst, |update| update.monitor = monitor);
    for (monitor, wanted) in [(None, 5), (Some(7), 7), (Some(0), 0)] {
        let plan = changed(&World::default(), &project([web(monitor.map(Duration::from_secs))]));
        let waits = plan.steps.iter().filter_map(|planned| {
            let Step::Wait(wait) = &planned.step else { return None };
            Some(wait.until)
        });
        let wanted = super::step::Until::Steady(Duration::from_secs(wanted));
        assert_eq!(waits.collect::<Vec<_>>(), [wanted], "{monitor:?}");
    }
}

#[test]
fn lots_come_one_after_the_other() {
    let lots = |order, parallelism| {
        let web = service("web").updates(order, |update| {
            update.parallelism = parallelism;
            update.delay = Duration::from_secs(10);
            update.monitor = Some(Duration::from_secs(1));
        });
        let (world, project) = (World::default(), project([web]));
        world.scale("web", 3);
        let plan = changed(&world, &project);
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        plan
    };
    insta::assert_snapshot!(lots(Order::StopFirst, 2), @"
    1   stop              shop-web-1               configuration changed
    2   detach            shop-web-1  after 1      configuration changed
    3   set aside         shop-web-1  after 2      configuration changed
    4   create container  shop-web-1  after 3      configuration changed
    5   attach            shop-web-1  after 4      configuration changed
    6   start             shop-web-1  after 5      configuration changed
    7   wait ready        shop-web-1  after 6      configuration changed
    8   stop              shop-web-2               configuration changed
    9   detach            shop-web-2  after 8      configuration changed
    10  set aside         shop-web-2  after 9      configuration changed
    11  create container  shop-web-2  after 10     configuration changed
    12  attach            shop-web-2  after 11     configuration changed
    13  start             shop-web-2  after 12     configuration changed
    14  wait ready        shop-web-2  after 13     configuration changed
    15  delay             shop-web-3  after 7, 14  configuration changed
    16  stop              shop-web-3  after 15     configuration changed
    17  detach            shop-web-3  after 16     configuration changed
    18  set aside         shop-web-3  after 17     configuration changed
    19  create container  shop-web-3  after 18     configuration changed
    20  attach            shop-web-3  after 19     configuration changed
    21  start             shop-web-3  after 20     configuration changed
    22  wait ready        shop-web-3  after 21     configuration changed
    23  commit            shop        after 22     all is there
    24  remove container  shop-web-1  after 23     configuration changed
    25  remove container  shop-web-2  after 23     configuration changed
    26  remove container  shop-web-3  after 23     configuration changed
    ");
    insta::assert_snapshot!(lots(Order::StartFirst, 1), @"
    1   set aside         shop-web-1                    configuration changed
    2   create container  shop-web-1  after 1           configuration changed
    3   attach            shop-web-1  after 2           configuration changed
    4   start             shop-web-1  after 3           configuration changed
    5   wait ready        shop-web-1  after 4           configuration changed
    6   take over         shop-web-1  after 5           configuration changed
    7   delay             shop-web-2  after 6           configuration changed
    8   set aside         shop-web-2  after 7           configuration changed
    9   create container  shop-web-2  after 8           configuration changed
    10  attach            shop-web-2  after 9           configuration changed
    11  start             shop-web-2  after 10          configuration changed
    12  wait ready        shop-web-2  after 11          configuration changed
    13  take over         shop-web-2  after 12          configuration changed
    14  delay             shop-web-3  after 13          configuration changed
    15  set aside         shop-web-3  after 14          configuration changed
    16  create container  shop-web-3  after 15          configuration changed
    17  attach            shop-web-3  after 16          configuration changed
    18  start             shop-web-3  after 17          configuration changed
    19  wait ready        shop-web-3  after 18          configuration changed
    20  take over         shop-web-3  after 19          configuration changed
    21  decide            shop        after 20          all is there
    22  drain             shop-web-1  after 21          another has taken its place
    23  detach            shop-web-1  after 22          another has taken its place
    24  remove container  shop-web-1  after 23          another has taken its place
    25  drain             shop-web-2  after 21          another has taken its place
    26  detach            shop-web-2  after 25          another has taken its place
    27  remove container  shop-web-2  after 26          another has taken its place
    28  drain             shop-web-3  after 21          another has taken its place
    29  detach            shop-web-3  after 28          another has taken its place
    30  remove container  shop-web-3  after 29          another has taken its place
    31  commit            shop        after 24, 27, 30  all is there
    ");
    let at_once = lots(Order::StopFirst, 0);
    assert!(at_once.steps.iter().all(|planned| !matches!(planned.step, Step::Delay { .. })), "{at_once}");
}

#[test]
fn who_depends_on_it_waits_until_it_has_taken_over() {
    let web = service("web").healthy().updates(Order::StartFirst, |_| {});
    let front = service("front").needs("web", Condition::ServiceStarted);
    let plan = changed(&World::default(), &project([web, front]));
    let position = |fits: &dyn Fn(&Step) -> bool| plan.steps.iter().position(|p| fits(&p.step)).expect("it is there");
    let over = position(&|step| matches!(step, Step::TakeOver { .. }));
    let front = position(&|step| matches!(step, Step::Start(c) if c.service.as_str() == "front"));
    assert!(plan.steps[front].after.iter().any(|after| after.0 == over), "{plan}");
}

#[test]
fn a_port_that_goes_to_another_is_free_before_it_comes() {
    let roll = |name: &str, port| service(name).publishes(port).updates(Order::StartFirst, |_| {});
    let (world, mut shop) = (World::default(), project([roll("a", 8080), roll("b", 8081)]));
    up(&world, &shop);
    // They change places, and `c` is beside them.
    for (name, port) in [("a", 8081), ("b", 8080)] {
        let name = ServiceName::new(name).expect("a test name");
        shop.services.insert(name, roll(if port == 8081 { "a" } else { "b" }, port));
    }
    change(&world, &shop);
    let (wished, plan) = world.plan_up(&shop, false);
    let warnings: Vec<&str> = wished.warnings.iter().map(|w| w.message.as_str()).collect();
    assert_eq!(
        warnings,
        [
            "`shop-a-1` is not replaced as `update_config` says, but stopped first, with all that are replaced: its port 8080 \
             goes to `shop-b-1`",
            "`shop-b-1` is not replaced as `update_config` says, but stopped first, with all that are replaced: its port 8081 \
             goes to `shop-a-1`",
        ]
    );
    assert!(plan.steps.iter().all(|p| !matches!(p.step, Step::TakeOver { .. })), "{plan}");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    assert!(world.actual.borrow().containers.iter().all(|c| c.record.succession.is_none()));
}

#[test]
fn nothing_is_rolled_that_does_not_run_or_is_not_to() {
    let web = || service("web").updates(Order::StartFirst, |_| {});
    let (world, shop) = (World::default(), project([web()]));
    up(&world, &shop);
    world.actual.borrow_mut().containers[0].status.state = crate::state::record::State::Exited;
    change(&world, &shop);
    let (_, plan) = world.plan_up(&shop, false);
    assert!(plan.steps.iter().all(|p| !matches!(p.step, Step::TakeOver { .. })), "it serves nobody\n{plan}");

    let world = World::default();
    up(&world, &shop);
    change(&world, &shop);
    let plan = world.plan_for(&shop, &[], &Recreate::Changed, |options| options.reach = Reach::Created);
    assert!(plan.steps.iter().all(|p| !matches!(p.step, Step::TakeOver { .. })), "it is only made\n{plan}");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    assert!(world.actual.borrow().containers.iter().all(|c| c.record.succession.is_none()));
}

/// Services of every order with three replicas of one, some with ports, some with checks.
fn mixed() -> Project {
    let base = service("base").healthy().mounts("data", "/data");
    let web = service("web").healthy().needs("base", Condition::ServiceHealthy);
    let web = web.updates(Order::StartFirst, |update| update.delay = Duration::from_secs(1));
    let api = service("api").publishes(8080).needs("web", Condition::ServiceHealthy);
    let api = api.updates(Order::StartFirst, |_| {});
    let work = service("work").updates(Order::StopFirst, |update| update.parallelism = 2);
    let plain = service("plain").publishes(8081).needs("api", Condition::ServiceStarted);
    project([base, web, api, work, plain])
}

fn of_mixed() -> (World, Project) {
    let (world, project) = (World::default(), mixed());
    world.scale("web", 3);
    world.scale("work", 3);
    up(&world, &project);
    (world, project)
}

fn seen(world: &World) -> BTreeMap<ContainerName, (ContainerId, String, bool)> {
    let actual = world.actual.borrow();
    assert!(actual.aside.is_empty() && actual.before.is_none(), "something is left: {:?}", actual.aside);
    let leads = |c: &ActualContainer| actual.leads(c) && c.attached;
    assert!(actual.containers.iter().all(leads), "everything leads to those that are there");
    let of =
        |c: &ActualContainer| (c.record.name.clone(), (c.record.id.clone(), c.record.config_hash.clone(), c.is_up()));
    actual.containers.iter().map(of).collect()
}

/// The containers whose successors are started first.
fn serving(world: &World) -> BTreeSet<ContainerId> {
    let first = |c: &&ActualContainer| ["web", "api"].contains(&c.record.service.as_str());
    world.actual.borrow().containers.iter().filter(first).map(|c| c.record.id.clone()).collect()
}

/// What was before, or what came, does the work of each replica that is started first: one of the two, and it runs.
fn each_is_served(world: &World, after: &str) {
    let actual = world.actual.borrow();
    for (name, number) in [("web", 3), ("api", 1)] {
        let all = || actual.containers.iter().chain(&actual.aside).filter(|c| c.record.service.as_str() == name);
        let leading: Vec<u32> = all()
            .filter(|c| c.is_up() && actual.leads(c))
            .map(|c| c.record.number)
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        assert_eq!(leading, (1..=number).collect::<Vec<u32>>(), "of {name} {after}");
        let twice = all().filter(|c| c.is_up() && actual.leads(c)).count();
        assert_eq!(twice, leading.len(), "two of {name} have one place {after}");
    }
}

/// Goes back or forward, as the next command does.
fn go_on(world: &World, project: &Project) -> bool {
    let paths = paths();
    let options = Options::new(&paths);
    let before = world.actual.borrow().before.clone();
    let Some(before) = before else { return true };
    if before.done {
        let plan = finish(&project.name, &world.actual.borrow(), &options);
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        return true;
    }
    let undoing = undo(&project.name, &before, &world.actual.borrow(), &options);
    assert!(world.run(&undoing, OnFailure::Continue, &Silent).is_complete(), "{undoing}");
    each_is_served(world, "while it is taken back");
    let starting = start(&before, &world.actual.borrow(), &options);
    assert!(world.run(&starting, OnFailure::Continue, &Silent).is_complete());
    world.actual.borrow_mut().before = None;
    false
}

fn is_old_or_new(
    world: &World,
    project: &Project,
    old: &BTreeMap<ContainerName, (ContainerId, String, bool)>,
    serving: &BTreeSet<ContainerId>,
    after: &str,
) -> bool {
    let is_new = go_on(world, project);
    if is_new {
        // What else is left goes with the next `up`.
        let (_, plan) = world.plan_up(project, false);
        assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
        assert!(seen(world).values().all(|(_, hash, up)| hash == "h2" && *up), "{after}");
        assert_eq!(seen(world).len(), old.len(), "{after}");
    } else {
        assert_eq!(seen(world), *old, "{after}");
        let stopped = world.stopped.borrow();
        assert_eq!(serving.intersection(&stopped).next(), None, "one was stopped that served, {after}");
    }
    is_new
}

#[test]
fn wherever_it_is_cut_the_old_ones_serve_or_the_new_ones_do() {
    let mut cut = 0;
    let (mut old_ones, mut new_ones) = (0, 0);
    loop {
        let (world, project) = of_mixed();
        let (old, serving) = (seen(&world), serving(&world));
        change(&world, &project);
        let (_, plan) = world.plan_up(&project, false);
        if cut > plan.steps.len() {
            break;
        }
        let first = before(&world.actual.borrow(), String::new(), false);
        world.actual.borrow_mut().before = Some(first);
        // As a process does that is killed: steps are done, and nobody says what became of them.
        let done = Plan { steps: plan.steps[..cut].to_vec(), ..Plan::default() };
        assert!(world.run(&done, OnFailure::Stop, &Silent).is_complete());
        let after = format!("after {cut} steps of\n{plan}");
        each_is_served(&world, &after);
        match is_old_or_new(&world, &project, &old, &serving, &after) {
            true => new_ones += 1,
            false => old_ones += 1,
        }
        cut += 1;
    }
    assert!(old_ones > 40 && new_ones > 5, "{old_ones} and {new_ones}");
}

#[test]
fn whichever_step_fails_the_old_ones_serve_or_the_new_ones_do() {
    for seed in 0..3 {
        let mut number = 0;
        loop {
            let (world, project) = of_mixed();
            let (old, serving) = (seen(&world), serving(&world));
            change(&world, &project);
            let (_, plan) = world.plan_up(&project, false);
            if number >= plan.steps.len() {
                break;
            }
            let first = before(&world.actual.borrow(), String::new(), false);
            world.actual.borrow_mut().before = Some(first);
            world.seed.set(seed);
            world.fail_at.set(Some(world.performed() + number));
            let outcome = world.run(&plan, OnFailure::Stop, &Silent);
            assert_eq!(outcome.failed.len(), 1);
            world.fail_at.set(None);
            let after = format!("when step {} of its run failed of\n{plan}", number + 1);
            each_is_served(&world, &after);
            is_old_or_new(&world, &project, &old, &serving, &after);
            number += 1;
        }
        assert!(number > 50, "{number}");
    }
}

#[test]
fn so_many_may_fail_as_the_service_says() {
    let run = |action, ratio, broken: usize| {
        let web = service("web").healthy().updates(Order::StopFirst, |update| {
            (update.failure_action, update.max_failure_ratio) = (action, ratio);
        });
        let (world, project) = (World::default(), project([web]));
        world.scale("web", 4);
        let plan = changed(&world, &project);
        let made = plan.steps.iter().filter_map(|planned| {
            let Step::CreateContainer(creation) = &planned.step else { return None };
            Some(creation.record.id.clone())
        });
        world.broken.borrow_mut().extend(made.take(broken));
        let outcome = world.run(&plan, OnFailure::Stop, &Silent);
        (outcome.is_complete(), outcome.pauses(&plan))
    };
    assert_eq!(run(None, 0.0, 0), (true, false));
    assert_eq!(run(None, 0.0, 1), (false, false));
    assert_eq!(run(None, 0.25, 1), (true, false));
    assert_eq!(run(None, 0.25, 2), (false, false));
    assert_eq!(run(Some(FailureAction::Rollback), 0.5, 3), (false, false));
    assert_eq!(run(Some(FailureAction::Pause), 0.5, 2), (true, false));
    assert_eq!(run(Some(FailureAction::Pause), 0.5, 3), (false, true));
    assert_eq!(run(Some(FailureAction::Continue), 0.0, 4), (true, false));
}

//! Plans as text, and properties of planning and executing on a host in memory.

use std::collections::BTreeSet;
use std::sync::Mutex;

use insta::assert_snapshot;
use proptest::prelude::*;

use crate::compose::model::{Condition, Content, Grant, Project, Sealed};
use crate::diag::Span;
use crate::engine::actual::Actual;
use crate::engine::desired::{Desired, Recreate};
use crate::engine::execute::{OnFailure, Outcome, execute};
use crate::engine::existing;
use crate::engine::plan::{self, Down, Options};
use crate::engine::step::{Plan, Step};
use crate::engine::testing::{World, paths, project, service};
use crate::event::{Event, Progress, Silent, Sink};
use crate::state::record::State;

fn options(paths: &crate::paths::Paths) -> Options<'_> {
    Options::new(paths)
}

fn up(world: &World, project: &Project) -> Plan {
    let (_, plan) = world.plan_up(project, false);
    let outcome = world.run(&plan, OnFailure::Stop, &Silent);
    assert!(outcome.is_complete(), "{outcome:?}");
    plan
}

fn shop() -> Project {
    project([
        service("web").needs("db", Condition::ServiceHealthy).publishes(8000),
        service("db").healthy().mounts("data", "/var/lib/db"),
    ])
}

#[test]
fn a_fresh_up_waits_for_health_and_nothing_else() {
    let world = World::default();
    assert_snapshot!(world.plan_up(&shop(), false).1, @r"
    1   create network    shop_default              missing
    2   create volume     shop_data                 missing
    3   create container  shop-db-1     after 1, 2  missing
    4   populate volume   shop_data     after 2     missing
    5   attach            shop-db-1     after 3     missing
    6   start             shop-db-1     after 4, 5  missing
    7   create container  shop-web-1    after 1     missing
    8   attach            shop-web-1    after 7     missing
    9   wait healthy      shop-db-1     after 6     web depends on it
    10  start             shop-web-1    after 8, 9  missing
    ");
}

#[test]
fn a_container_is_replaced_when_a_file_it_is_given_is_another() {
    let world = World::default();
    let granted = |text: &str| {
        let mut web = service("web");
        let content = Content::Text(Sealed(text.as_bytes().to_vec()));
        let (title, target) = ("secret `s`".to_owned(), "/run/secrets/s".to_owned());
        web.grants = vec![Grant { title, content, target, uid: None, gid: None, mode: 0o400, span: Span::default() }];
        project([web])
    };
    up(&world, &granted("one"));
    assert_snapshot!(world.plan_up(&granted("one"), false).1, @"");
    // The host of the tests takes this one for something else than what is there.
    let (_, plan) = world.plan_up(&granted("another"), false);
    assert!(plan.to_string().contains("configs or secrets changed"), "{plan}");
    assert!(!format!("{plan:?}").contains("another"), "a plan shows no secret");
}

#[test]
fn an_unchanged_project_is_left_alone() {
    let world = World::default();
    up(&world, &shop());
    let (_, plan) = world.plan_up(&shop(), false);
    assert_snapshot!(plan, @"");
    assert_eq!(plan.running.len(), 2);
}

#[test]
fn a_changed_service_is_recreated_alone() {
    let world = World::default();
    up(&world, &shop());
    world.hashes.borrow_mut().insert("db".into(), "h2".into());
    let address = |world: &World| {
        let actual = world.actual.borrow();
        let db = actual.containers.iter().find(|c| c.record.service.as_str() == "db").expect("db is there");
        db.record.endpoints[0].address
    };
    let before = address(&world);
    let plan = up(&world, &shop());
    assert_snapshot!(plan, @r"
    1  stop              shop-db-1           configuration changed
    2  detach            shop-db-1  after 1  configuration changed
    3  set aside         shop-db-1  after 2  configuration changed
    4  create container  shop-db-1  after 3  configuration changed
    5  attach            shop-db-1  after 4  configuration changed
    6  start             shop-db-1  after 5  configuration changed
    7  commit            shop       after 6  all is there
    8  remove container  shop-db-1  after 7  configuration changed
    ");
    assert_eq!(address(&world), before, "it keeps its address");
}

#[test]
fn a_changed_image_is_a_reason_too() {
    let world = World::default();
    up(&world, &shop());
    world.images.borrow_mut().insert("web".into(), "sha256:2".into());
    assert_snapshot!(world.plan_up(&shop(), false).1, @r"
    1  stop              shop-web-1           image changed
    2  detach            shop-web-1  after 1  image changed
    3  set aside         shop-web-1  after 2  image changed
    4  create container  shop-web-1  after 3  image changed
    5  attach            shop-web-1  after 4  image changed
    6  start             shop-web-1  after 5  image changed
    7  commit            shop        after 6  all is there
    8  remove container  shop-web-1  after 7  image changed
    ");
}

#[test]
fn a_stopped_container_is_started_again() {
    let world = World::default();
    up(&world, &shop());
    let stop = existing::stop(&world.actual.borrow(), None, &options(&paths()));
    assert_snapshot!(stop, @r"
    1  stop    shop-web-1           stop asked for
    2  detach  shop-web-1  after 1  stop asked for
    3  stop    shop-db-1   after 1  stop asked for
    4  detach  shop-db-1   after 3  stop asked for
    ");
    assert!(world.run(&stop, OnFailure::Continue, &Silent).is_complete());
    assert_snapshot!(world.plan_up(&shop(), false).1, @r"
    1  attach        shop-db-1               not attached
    2  start         shop-db-1   after 1     not running
    3  attach        shop-web-1              not attached
    4  wait healthy  shop-db-1   after 2     web depends on it
    5  start         shop-web-1  after 3, 4  not running
    ");
}

#[test]
fn start_goes_in_order_and_waits_for_what_dependents_need() {
    let world = World::default();
    up(&world, &shop());
    let plan_of = |world: &World, wait| {
        let actual = world.actual.borrow();
        existing::start(&actual, &plan::graph_of(&actual), wait, &options(&paths()))
    };
    assert!(plan_of(&world, None).is_empty());
    let stop = existing::stop(&world.actual.borrow(), None, &options(&paths()));
    assert!(world.run(&stop, OnFailure::Continue, &Silent).is_complete());
    let plan = plan_of(&world, Some(std::time::Duration::from_secs(30)));
    assert_snapshot!(plan, @r"
    1  attach        shop-db-1               not attached
    2  start         shop-db-1   after 1     start asked for
    3  attach        shop-web-1              not attached
    4  wait healthy  shop-db-1   after 2     web depends on it
    5  start         shop-web-1  after 3, 4  start asked for
    6  wait healthy  shop-db-1   after 2     wait asked for
    ");
    assert_eq!(plan::ports(&plan).0.len(), 1, "the port is taken again");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    assert!(plan_of(&world, None).is_empty());
}

#[test]
fn one_that_ended_by_itself_takes_its_ports_again_and_keeps_its_network() {
    let world = World::default();
    up(&world, &shop());
    let web = |world: &World| world.actual.borrow().containers.iter().position(|c| c.record.service.as_str() == "web");
    let at = web(&world).expect("web is there");
    assert_eq!(plan::ports(&world.plan_up(&shop(), false).1), (vec![], vec![]), "what runs has its ports");
    world.actual.borrow_mut().containers[at].status.state = State::Exited;
    let (_, plan) = world.plan_up(&shop(), false);
    assert_snapshot!(plan, @r"1  start  shop-web-1    not running");
    let taken: Vec<u16> = plan::ports(&plan).0.iter().map(|p| p.host_port).collect();
    assert_eq!(taken, [8000]);
}

#[test]
fn what_is_held_is_let_go_and_the_rest_is_told() {
    let world = World::default();
    up(&world, &shop());
    let (pause, already) = existing::pause(&world.actual.borrow(), |c| c.record.service.as_str() == "db");
    assert_snapshot!(pause, @r"1  pause  shop-db-1    pause asked for");
    assert!(already.is_empty());
    assert!(world.run(&pause, OnFailure::Continue, &Silent).is_complete());
    let (pause, already) = existing::pause(&world.actual.borrow(), |_| true);
    assert_snapshot!(pause, @r"1  pause  shop-web-1    pause asked for");
    assert_eq!(already.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["shop-db-1"]);
    let (unpause, running) = existing::unpause(&world.actual.borrow(), |_| true);
    assert_snapshot!(unpause, @r"1  unpause  shop-db-1    unpause asked for");
    assert_eq!(running.len(), 1);
    let kill = existing::kill(&world.actual.borrow(), |_| true, 9);
    assert_snapshot!(kill, @r"
    1  kill  shop-db-1     kill asked for
    2  kill  shop-web-1    kill asked for
    ");
    assert!(world.run(&kill, OnFailure::Continue, &Silent).is_complete());
    assert!(existing::kill(&world.actual.borrow(), |_| true, 9).is_empty());
}

#[test]
fn after_a_reboot_kernel_objects_are_made_again() {
    let world = World::default();
    up(&world, &shop());
    {
        let mut actual = world.actual.borrow_mut();
        actual.networks[0].present = false;
        for container in &mut actual.containers {
            container.attached = false;
            container.status.state = State::Exited;
        }
    }
    assert_snapshot!(world.plan_up(&shop(), false).1, @r"
    1  create network  shop_default              not in the kernel
    2  attach          shop-db-1     after 1     not attached
    3  start           shop-db-1     after 2     not running
    4  attach          shop-web-1    after 1     not attached
    5  wait healthy    shop-db-1     after 3     web depends on it
    6  start           shop-web-1    after 4, 5  not running
    ");
}

#[test]
fn down_removes_dependents_first_and_keeps_volumes() {
    let world = World::default();
    up(&world, &shop());
    let name = shop().name;
    assert_snapshot!(plan::down(&name, &world.actual.borrow(), &Down::default(), &options(&paths())), @r"
    1  stop              shop-web-1                down asked for
    2  detach            shop-web-1    after 1     down asked for
    3  remove container  shop-web-1    after 2     down asked for
    4  stop              shop-db-1     after 1     down asked for
    5  detach            shop-db-1     after 4     down asked for
    6  remove container  shop-db-1     after 5     down asked for
    7  remove network    shop_default  after 3, 6  down asked for
    ");
    let all = Down { volumes: true, ..Down::default() };
    assert_snapshot!(plan::down(&name, &world.actual.borrow(), &all, &options(&paths())), @r"
    1  stop              shop-web-1                down asked for
    2  detach            shop-web-1    after 1     down asked for
    3  remove container  shop-web-1    after 2     down asked for
    4  stop              shop-db-1     after 1     down asked for
    5  detach            shop-db-1     after 4     down asked for
    6  remove container  shop-db-1     after 5     down asked for
    7  remove network    shop_default  after 3, 6  down asked for
    8  remove volume     shop_data     after 6     down asked for
    ");
}

#[test]
fn a_process_that_is_on_its_way_out_is_waited_for() {
    let world = World::default();
    up(&world, &project([service("web")]));
    {
        let status = &mut world.actual.borrow_mut().containers[0].status;
        status.state = crate::state::record::State::Exited;
        status.process = Some(crate::state::record::ProcessIdentity { pid: 7, start_time: 1, boot_id: "b".into() });
    }
    let plan = plan::down(&shop().name, &world.actual.borrow(), &Down::default(), &options(&paths()));
    assert!(matches!(plan.steps[0].step, Step::Stop { .. }), "{plan}");
}

#[test]
fn an_orphan_is_named_and_stays_until_asked() {
    let world = World::default();
    up(&world, &shop());
    let smaller = project([service("db").healthy().mounts("data", "/var/lib/db")]);
    assert_snapshot!(world.plan_up(&smaller, false).1, @r"
    warning: Found orphan containers ([shop-web-1]) for this project. If you removed or renamed this service in your compose file, you can run this command with the --remove-orphans flag to clean it up.
    ");
    assert_snapshot!(world.plan_up(&smaller, true).1, @r"
    1  stop              shop-web-1           not in the file
    2  detach            shop-web-1  after 1  not in the file
    3  remove container  shop-web-1  after 2  not in the file
    ");
}

#[test]
fn a_completed_job_runs_again_only_with_its_dependents() {
    let world = World::default();
    let migrated = project([
        service("web").needs("migrate", Condition::ServiceCompletedSuccessfully),
        service("worker").needs("migrate", Condition::ServiceCompletedSuccessfully),
        service("migrate"),
    ]);
    let plan = up(&world, &migrated);
    assert_snapshot!(plan, @r"
    1   create network    shop_default                 missing
    2   create container  shop-migrate-1  after 1      missing
    3   attach            shop-migrate-1  after 2      missing
    4   start             shop-migrate-1  after 3      missing
    5   create container  shop-web-1      after 1      missing
    6   attach            shop-web-1      after 5      missing
    7   wait completed    shop-migrate-1  after 4      web depends on it
    8   start             shop-web-1      after 6, 7   missing
    9   create container  shop-worker-1   after 1      missing
    10  attach            shop-worker-1   after 9      missing
    11  start             shop-worker-1   after 7, 10  missing
    ");
    assert!(world.plan_up(&migrated, false).1.is_empty());
    world.hashes.borrow_mut().insert("web".into(), "h2".into());
    assert_snapshot!(world.plan_up(&migrated, false).1, @r"
    1   stop              shop-web-1                  configuration changed
    2   detach            shop-web-1      after 1     configuration changed
    3   set aside         shop-web-1      after 2     configuration changed
    4   start             shop-migrate-1              not running
    5   create container  shop-web-1      after 3     configuration changed
    6   attach            shop-web-1      after 5     configuration changed
    7   wait completed    shop-migrate-1  after 4     web depends on it
    8   start             shop-web-1      after 6, 7  configuration changed
    9   commit            shop            after 8     all is there
    10  remove container  shop-web-1      after 9     configuration changed
    ");
}

#[test]
fn restart_goes_in_order_and_takes_along_who_asked() {
    let world = World::default();
    let mut shop = shop();
    shop.services[0].depends_on[0].restart = true;
    up(&world, &shop);
    let actual = world.actual.borrow();
    let all = plan::graph_of(&actual);
    let named = BTreeSet::from([shop.services[1].name.clone()]);
    let graph = all.select_for_restart(&["db".into()]).expect("db is there");
    assert_snapshot!(existing::restart(&actual, &graph, &named, &options(&paths())), @r"
    1  stop   shop-db-1            restart asked for
    2  start  shop-db-1   after 1  restart asked for
    3  stop   shop-web-1  after 2  db is restarted
    4  start  shop-web-1  after 3  db is restarted
    ");
}

#[test]
fn a_changed_network_is_replaced_with_its_containers() {
    let world = World::default();
    let mut shop = shop();
    up(&world, &shop);
    shop.networks["default"].internal = true;
    shop.services[0].ports.clear();
    assert_snapshot!(world.plan_up(&shop, false).1, @r"
    1   stop              shop-web-1                  networks changed
    2   detach            shop-web-1    after 1       networks changed
    3   set aside         shop-web-1    after 2       networks changed
    4   stop              shop-db-1                   networks changed
    5   detach            shop-db-1     after 4       networks changed
    6   set aside         shop-db-1     after 5       networks changed
    7   create network    shop_default                configuration changed
    8   create container  shop-db-1     after 6, 7    networks changed
    9   attach            shop-db-1     after 8       networks changed
    10  start             shop-db-1     after 9       networks changed
    11  create container  shop-web-1    after 3, 7    networks changed
    12  attach            shop-web-1    after 11      networks changed
    13  wait healthy      shop-db-1     after 10      web depends on it
    14  start             shop-web-1    after 12, 13  networks changed
    15  commit            shop          after 14      all is there
    16  remove container  shop-web-1    after 15      networks changed
    17  remove container  shop-db-1     after 15      networks changed
    18  remove network    shop_default  after 16, 17  configuration changed
    ");
}

#[test]
fn two_services_may_swap_their_ports() {
    let world = World::default();
    up(&world, &project([service("a").publishes(1), service("b").publishes(2)]));
    for name in ["a", "b"] {
        world.hashes.borrow_mut().insert(name.into(), "h2".into());
    }
    up(&world, &project([service("a").publishes(2), service("b").publishes(1)]));
}

#[test]
fn what_cannot_be_chosen_is_said_all_at_once() {
    let world = World::default();
    let mut broken = project([
        service("a").publishes(80),
        service("b").publishes(80),
        service("c").needs("a", Condition::ServiceHealthy),
    ]);
    let nope = crate::compose::model::Spanned { value: "NOPE".to_owned(), span: crate::diag::Span::default() };
    broken.services[2].cap_add.push(nope.clone());
    broken.services[2].stop_signal = Some(nope);
    let errors = world.desired(&broken, &[], &Recreate::Changed).expect_err("it cannot be");
    let text: Vec<String> = errors.into_iter().map(|e| e.message).collect();
    assert_snapshot!(text.join("\n"), @r"
    port 80 is published by container `shop-a-1` already
    `NOPE` is not a capability
    `NOPE` is not a signal
    dependency failed to start: container shop-a-1 has no healthcheck configured
    ");
}

#[test]
fn forced_recreation_is_for_the_named_and_never_is_never() {
    let world = World::default();
    up(&world, &shop());
    world.hashes.borrow_mut().insert("db".into(), "h2".into());
    let never = world.desired(&shop(), &[], &Recreate::Never).expect("chosen");
    assert!(never.containers.iter().all(|c| c.creation.is_none()));
    world.hashes.borrow_mut().clear();
    let web = shop().services[0].name.clone();
    let forced = world.desired(&shop(), &["web"], &Recreate::Always(BTreeSet::from([web]))).expect("chosen");
    let made: Vec<&str> =
        forced.containers.iter().filter(|c| c.creation.is_some()).map(|c| c.container.service.as_str()).collect();
    assert_eq!(made, ["web"]);
}

#[derive(Default)]
struct Words(Mutex<Vec<String>>);

impl Sink for Words {
    fn send(&self, event: Event) {
        let text = match event {
            Event::Progress { subject, progress: Progress::Working(word) | Progress::Done(word), .. } => {
                format!("{} {} {word}", subject.kind(), subject.name())
            }
            Event::Progress { subject, detail, .. } => {
                format!("{} {} Error {}", subject.kind(), subject.name(), detail.unwrap_or_default())
            }
            Event::Warning(text) => text,
            Event::Begin { .. }
            | Event::Transfer { .. }
            | Event::Hook { .. }
            | Event::Explained { .. }
            | Event::Said { .. }
            | Event::End => {
                return;
            }
        };
        self.0.lock().expect("not poisoned").push(text);
    }
}

#[test]
fn events_are_composes_words() {
    let world = World::default();
    let solo = project([service("web")]);
    let words = Words::default();
    let (_, plan) = world.plan_up(&solo, false);
    world.run(&plan, OnFailure::Stop, &words);
    world.hashes.borrow_mut().insert("web".into(), "h2".into());
    let (_, plan) = world.plan_up(&solo, false);
    world.run(&plan, OnFailure::Stop, &words);
    let down = plan::down(&solo.name, &world.actual.borrow(), &Down::default(), &options(&paths()));
    world.run(&down, OnFailure::Continue, &words);
    assert_snapshot!(words.0.lock().expect("not poisoned").join("\n"), @r"
    Network shop_default Creating
    Network shop_default Created
    Container shop-web-1 Creating
    Container shop-web-1 Created
    Container shop-web-1 Starting
    Container shop-web-1 Started
    Container shop-web-1 Recreate
    Container shop-web-1 Recreated
    Container shop-web-1 Starting
    Container shop-web-1 Started
    Container shop-web-1 Stopping
    Container shop-web-1 Stopped
    Container shop-web-1 Removing
    Container shop-web-1 Removed
    Network shop_default Removing
    Network shop_default Removed
    ");
}

#[test]
fn a_failure_is_reported_with_what_was_not_done() {
    let world = World::default();
    let (_, plan) = world.plan_up(&shop(), false);
    let at = plan.steps.iter().position(|p| matches!(p.step, Step::Wait(_))).expect("a wait");
    world.fail_at.set(Some(at));
    let outcome = world.run(&plan, OnFailure::Stop, &Silent);
    assert!(!outcome.is_complete());
    assert_snapshot!(outcome.report(&plan, "What was done stays; run `hoist up` again to go on").render(false), @r"
    error: container shop-db-1: made to fail: in memory
    help: 8 of 10 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on
    ");
}

#[test]
fn the_way_down_goes_on_past_failures() {
    let world = World::default();
    up(&world, &project([service("a"), service("b")]));
    let name = shop().name;
    let down = plan::down(&name, &world.actual.borrow(), &Down::default(), &options(&paths()));
    // The run that went before has counted its steps; the first of this one fails.
    let before = 7;
    world.fail_at.set(Some(before));
    let outcome = world.run(&down, OnFailure::Continue, &Silent);
    assert!(outcome.not_done.is_empty());
    assert_eq!(world.actual.borrow().containers.len(), 1, "the other container is gone");
    assert!(outcome.failed.len() > 1, "what followed from it failed too, and all of it is told: {outcome:?}");
    assert_eq!(world.actual.borrow().networks.len(), 1, "the network is in use and stays");
}

#[test]
fn a_stop_lets_running_steps_end_and_starts_no_other() {
    let world = World::default();
    let (_, plan) = world.plan_up(&shop(), false);
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let outcome = runtime.block_on(execute(&plan, &world, &Silent, OnFailure::Stop, std::future::ready(())));
    assert!(outcome.interrupted);
    assert_eq!(outcome.done.len(), 2, "the network and the volume, which had begun");
    assert_eq!(outcome.done.len() + outcome.not_done.len(), plan.steps.len());
}

#[test]
fn an_optional_dependency_that_fails_is_a_warning() {
    let world = World::default();
    let mut shop = shop();
    shop.services[0].depends_on[0].required = false;
    let (_, plan) = world.plan_up(&shop, false);
    let words = Words::default();
    world.fail_at.set(Some(plan.steps.iter().position(|p| matches!(p.step, Step::Wait(_))).expect("a wait")));
    let outcome = world.run(&plan, OnFailure::Stop, &words);
    assert!(outcome.is_complete(), "{outcome:?}");
    assert!(words.0.lock().expect("not poisoned").iter().any(|w| w.starts_with("optional dependency failed")));
}

/// A project out of random numbers: services depend only on those before them.
fn any_project() -> impl Strategy<Value = Project> {
    let one = (any::<u8>(), any::<u8>(), any::<u8>());
    prop::collection::vec(one, 1..7).prop_map(|seeds| {
        let services = seeds.iter().enumerate().map(|(at, (kind, arrows, extras))| {
            let mut made = service(&format!("s{at}"));
            if kind % 3 == 1 {
                made = made.healthy();
            }
            for on in (0..at).filter(|on| arrows >> (on % 8) & 1 == 1) {
                let condition = match seeds[on].0 % 3 {
                    0 => Condition::ServiceStarted,
                    1 => Condition::ServiceHealthy,
                    _ => Condition::ServiceCompletedSuccessfully,
                };
                made = made.needs(&format!("s{on}"), condition);
            }
            if extras & 1 == 1 {
                made = made.publishes(8000 + u16::from(extras >> 4) * 10 + u16::try_from(at).expect("small"));
            }
            if extras & 2 == 2 {
                made = made.mounts(if extras & 4 == 4 { "shared" } else { "own" }, "/data");
            }
            if extras & 8 == 8 {
                made.networks.insert("back".into(), crate::compose::model::ServiceNetwork::default());
            }
            made
        });
        project(services.collect::<Vec<_>>())
    })
}

fn assert_order(plan: &Plan, outcome: &Outcome) {
    let mut done = BTreeSet::new();
    for id in &outcome.done {
        assert!(plan.steps[id.0].after.iter().all(|before| done.contains(before)), "step {id} ran too early");
        done.insert(*id);
    }
}

fn assert_satisfied(desired: &Desired, actual: &Actual) {
    for wished in &desired.containers {
        let mut found = actual.containers.iter().filter(|c| c.record.name == wished.container.name);
        let container = found.next().expect("it is there");
        assert_eq!(found.next(), None, "it is there once");
        assert_eq!(container.record.id, wished.container.id);
        assert!(container.is_up() || container.has_completed());
    }
    for network in &desired.networks {
        assert!(actual.network(&network.record.id).is_some_and(|n| n.present));
    }
    assert!(desired.volumes.iter().all(|v| actual.volumes.contains_key(&v.name)));
    let mut leases: Vec<_> =
        actual.containers.iter().flat_map(|c| c.record.endpoints.iter().map(|e| (&e.network, e.address))).collect();
    let count = leases.len();
    leases.sort();
    leases.dedup();
    assert_eq!(leases.len(), count, "an address given twice");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_run_ends_in_what_was_wished_whatever_fails_on_the_way(
        first in any_project(), second in any_project(),
        fail in 0_usize..60, seed in any::<u16>(), changed in prop::collection::vec(0_usize..7, 0..3),
    ) {
        let world = World::default();
        world.seed.set(usize::from(seed));
        world.fail_at.set(Some(fail));
        for (round, project) in [&first, &second].into_iter().enumerate() {
            if round == 1 {
                // The hash over a service covers all that the random projects differ in.
                for (at, service) in second.services.values().enumerate() {
                    let was = first.services.get_index(at).map(|(_, s)| s);
                    if was.is_none_or(|was| was != service) {
                        world.hashes.borrow_mut().insert(service.name.to_string(), "h2".into());
                    }
                }
                for at in &changed {
                    world.images.borrow_mut().insert(format!("s{at}"), "sha256:2".into());
                }
            }
            let mut attempts = 0;
            loop {
                let (desired, plan) = world.plan_up(project, true);
                let outcome = world.run(&plan, OnFailure::Stop, &Silent);
                assert_order(&plan, &outcome);
                if outcome.is_complete() {
                    assert_satisfied(&desired, &world.actual.borrow());
                    break;
                }
                attempts += 1;
                prop_assert!(attempts < 2, "only one step fails: {outcome:?}");
            }
            let (_, again) = world.plan_up(project, true);
            prop_assert!(again.is_empty(), "planning again gives\n{again}");
        }
        world.fail_at.set(None);
        let all = Down { volumes: true, ..Down::default() };
        let plan = plan::down(&first.name, &world.actual.borrow(), &all, &options(&paths()));
        let outcome = world.run(&plan, OnFailure::Continue, &Silent);
        assert_order(&plan, &outcome);
        prop_assert!(outcome.is_complete(), "{outcome:?}");
        prop_assert_eq!(&*world.actual.borrow(), &Actual::default());
    }

    #[test]
    fn a_stopped_project_comes_back(project in any_project(), seed in any::<u16>()) {
        let world = World::default();
        world.seed.set(usize::from(seed));
        up(&world, &project);
        let stop = existing::stop(&world.actual.borrow(), None, &options(&paths()));
        let outcome = world.run(&stop, OnFailure::Continue, &Silent);
        assert_order(&stop, &outcome);
        prop_assert!(world.actual.borrow().containers.iter().all(|c| !c.is_up()));
        let (desired, plan) = world.plan_up(&project, false);
        let outcome = world.run(&plan, OnFailure::Stop, &Silent);
        prop_assert!(outcome.is_complete(), "{outcome:?}");
        assert_satisfied(&desired, &world.actual.borrow());
    }
}

//! Plans of `up` as text: how many containers, which are replaced and who follows, how far they are brought.

use std::collections::BTreeSet;
use std::time::Duration;

use insta::assert_snapshot;

use crate::compose::model::{Condition, Mount, MountSource, Project, Spanned};
use crate::diag::Sources;
use crate::engine::desired::{OneOff, Recreate};
use crate::engine::execute::OnFailure;
use crate::engine::existing;
use crate::engine::plan::{self, Options, Orphans, Reach};
use crate::engine::step::{ImageChange, Plan, Step};
use crate::engine::summary;
use crate::engine::testing::{World, paths, project, service};
use crate::event::Silent;
use crate::name::{ContainerName, ProjectName};
use crate::state::record::State;

/// Plans, and has the plan done.
fn up(world: &World, project: &Project) -> Plan {
    let plan = world.plan_for(project, &[], &Recreate::Changed, |_| {});
    let outcome = world.run(&plan, OnFailure::Stop, &Silent);
    assert!(outcome.is_complete(), "{outcome:?}");
    plan
}

fn shop() -> Project {
    project([service("web").needs("db", Condition::ServiceHealthy), service("db").healthy()])
}

fn names(world: &World) -> Vec<String> {
    let mut names: Vec<String> = world.actual.borrow().containers.iter().map(|c| c.record.name.to_string()).collect();
    names.sort();
    names
}

#[test]
fn replicas_are_counted_on_and_the_obsolete_go_first() {
    let world = World::default();
    let solo = project([service("web")]);
    world.scale("web", 3);
    up(&world, &solo);
    assert_eq!(names(&world), ["shop-web-1", "shop-web-2", "shop-web-3"]);
    assert!(world.plan_for(&solo, &[], &Recreate::Changed, |_| {}).is_empty());
    world.actual.borrow_mut().containers[0].record.config_hash = "old".into();
    world.scale("web", 2);
    assert_snapshot!(up(&world, &solo), @r"
    1  stop              shop-web-1           more than asked for
    2  detach            shop-web-1  after 1  more than asked for
    3  remove container  shop-web-1  after 2  more than asked for
    ");
    world.scale("web", 3);
    up(&world, &solo);
    assert_eq!(names(&world), ["shop-web-2", "shop-web-3", "shop-web-4"]);
    world.scale("web", 1);
    up(&world, &solo);
    assert_eq!(names(&world), ["shop-web-2"]);
    world.scale("web", 0);
    up(&world, &solo);
    assert_eq!(names(&world), [""; 0]);
}

#[test]
fn the_file_says_how_many_and_the_command_says_otherwise() {
    let world = World::default();
    let scaled = |number: u32| {
        let mut web = service("web").needs("db", Condition::ServiceHealthy);
        web.scale = Some(Spanned { value: number, span: crate::diag::Span::default() });
        project([web, service("db").healthy()])
    };
    up(&world, &scaled(2));
    assert_eq!(names(&world), ["shop-db-1", "shop-web-1", "shop-web-2"]);
    assert!(world.plan_for(&scaled(2), &[], &Recreate::Changed, |_| {}).is_empty());
    // Another number replaces none of those that stay, and a service that is not named is left alone.
    assert!(world.plan_for(&scaled(1), &["db"], &Recreate::Changed, |_| {}).is_empty());
    up(&world, &scaled(1));
    assert_eq!(names(&world), ["shop-db-1", "shop-web-1"]);
    // Nobody waits for a dependency of which there is none.
    up(&world, &scaled(0));
    assert_eq!(names(&world), ["shop-db-1"]);
    let mut none = scaled(1);
    none.services[1].scale = Some(Spanned { value: 0, span: crate::diag::Span::default() });
    assert_snapshot!(up(&world, &none), @r"
    1  stop              shop-db-1            more than asked for
    2  detach            shop-db-1   after 1  more than asked for
    3  remove container  shop-db-1   after 2  more than asked for
    4  create container  shop-web-1           missing
    5  attach            shop-web-1  after 4  missing
    6  start             shop-web-1  after 5  missing
    ");
    assert_eq!(names(&world), ["shop-web-1"]);
    world.scale("web", 3);
    up(&world, &scaled(2));
    assert_eq!(names(&world), ["shop-db-1", "shop-web-1", "shop-web-2", "shop-web-3"]);
    let errors = world.desired(&scaled(2), &[], &Recreate::Changed).err();
    assert_eq!(errors, None);
    world.scale("web", 4_000_000_000);
    let errors = world.desired(&scaled(2), &[], &Recreate::Changed).expect_err("too many");
    assert_eq!(errors[0].message, "service `web` has 4000000000 containers; one host has 65535 at most");
}

#[test]
fn a_port_of_the_host_is_not_for_two_replicas_and_a_range_is_shared_out() {
    let web = |published: &str| {
        let mut web = service("web").publishes(8000);
        web.ports[0].published = Some(published.to_owned());
        web.scale = Some(Spanned { value: 3, span: crate::diag::Span::default() });
        project([web])
    };
    let world = World::default();
    let told = |published: &str, world: &World| {
        let errors = world.desired(&web(published), &[], &Recreate::Changed).expect_err("it cannot be");
        errors.into_iter().map(|e| format!("{}: {}", e.message, e.help.unwrap_or_default())).collect::<Vec<_>>()
    };
    let fixed =
        ["port 8000 leads to one container, and service `web` has 3: publish a range with a port for each, such as \
         `8000-8002:80`, or any free ports: `80`"];
    assert_eq!(told("8000", &world), fixed);
    // As it is when some are there already.
    world.scale("web", 1);
    up(&world, &web("8000"));
    world.scale("web", 3);
    assert_eq!(told("8000", &world), fixed);
    assert_eq!(told("8000-8001", &World::default()), ["no port is free: "]);
    let ports = |world: &World| {
        let actual = world.actual.borrow();
        let ports = actual.containers.iter().map(|c| (c.record.number, c.record.endpoints[0].ports[0].host_port));
        ports.collect::<BTreeSet<(u32, u16)>>()
    };
    let world = World::default();
    up(&world, &web("8000-8002"));
    assert_eq!(ports(&world), BTreeSet::from([(1, 8000), (2, 8001), (3, 8002)]));
    world.hashes.borrow_mut().insert("web".into(), "h2".into());
    up(&world, &web("8000-8002"));
    assert_eq!(ports(&world), BTreeSet::from([(1, 8000), (2, 8001), (3, 8002)]));
}

#[test]
fn a_dependent_waits_for_every_replica() {
    let world = World::default();
    world.scale("db", 2);
    assert_snapshot!(world.plan_for(&shop(), &[], &Recreate::Changed, |_| {}), @r"
    1   create network    shop_default                   missing
    2   create container  shop-db-1     after 1          missing
    3   attach            shop-db-1     after 2          missing
    4   start             shop-db-1     after 3          missing
    5   create container  shop-db-2     after 1          missing
    6   attach            shop-db-2     after 5          missing
    7   start             shop-db-2     after 6          missing
    8   create container  shop-web-1    after 1          missing
    9   attach            shop-web-1    after 8          missing
    10  wait healthy      shop-db-1     after 4          web depends on it
    11  wait healthy      shop-db-2     after 7          web depends on it
    12  start             shop-web-1    after 9, 10, 11  missing
    ");
}

#[test]
fn a_container_name_is_not_for_two() {
    let world = World::default();
    let mut solo = project([service("web")]);
    let name = crate::compose::model::Spanned { value: "front".to_owned(), span: crate::diag::Span::default() };
    solo.services[0].container_name = Some(name);
    world.scale("web", 2);
    let errors = world.desired(&solo, &[], &Recreate::Changed).expect_err("it cannot be");
    let text: Vec<String> = errors.into_iter().map(|e| e.message).collect();
    assert_snapshot!(text.join("\n"), @r#"the "web" service is using the custom container name "front", and each container has a name of its own"#);
}

#[test]
fn who_asked_for_it_follows_a_replaced_dependency() {
    let world = World::default();
    let mut shop = project([
        service("tail").needs("web", Condition::ServiceStarted),
        service("web").needs("db", Condition::ServiceHealthy).publishes(8000),
        service("calm").needs("db", Condition::ServiceStarted),
        service("db").healthy(),
    ]);
    shop.services[0].depends_on[0].restart = true;
    shop.services[1].depends_on[0].restart = true;
    up(&world, &shop);
    world.hashes.borrow_mut().insert("db".into(), "h2".into());
    let created = world.plan_for(&shop, &[], &Recreate::Changed, |options| options.reach = Reach::Created);
    assert_snapshot!(created, @r"
    1  stop              shop-db-1           configuration changed
    2  detach            shop-db-1  after 1  configuration changed
    3  set aside         shop-db-1  after 2  configuration changed
    4  create container  shop-db-1  after 3  configuration changed
    5  commit            shop       after 4  all is there
    6  remove container  shop-db-1  after 5  configuration changed
    ");
    assert_snapshot!(up(&world, &shop), @r"
    1   stop              shop-tail-1            web is restarted
    2   stop              shop-web-1   after 1   db is replaced
    3   stop              shop-db-1    after 2   configuration changed
    4   detach            shop-db-1    after 3   configuration changed
    5   set aside         shop-db-1    after 4   configuration changed
    6   create container  shop-db-1    after 5   configuration changed
    7   attach            shop-db-1    after 6   configuration changed
    8   start             shop-db-1    after 7   configuration changed
    9   wait healthy      shop-db-1    after 8   web depends on it
    10  start             shop-web-1   after 9   db is replaced
    11  start             shop-tail-1  after 10  web is restarted
    12  commit            shop         after 11  all is there
    13  remove container  shop-db-1    after 12  configuration changed
    ");
    assert!(world.plan_for(&shop, &[], &Recreate::Changed, |_| {}).is_empty());
}

#[test]
fn what_is_only_created_is_started_by_the_next_up() {
    let world = World::default();
    let created = world.plan_for(&shop(), &[], &Recreate::Changed, |options| options.reach = Reach::Created);
    assert_snapshot!(created, @r"
    1  create network    shop_default           missing
    2  create container  shop-db-1     after 1  missing
    3  create container  shop-web-1    after 1  missing
    ");
    assert!(world.run(&created, OnFailure::Stop, &Silent).is_complete());
    assert_snapshot!(up(&world, &shop()), @r"
    1  attach        shop-db-1               not attached
    2  start         shop-db-1   after 1     not running
    3  attach        shop-web-1              not attached
    4  wait healthy  shop-db-1   after 2     web depends on it
    5  start         shop-web-1  after 3, 4  not running
    ");
}

#[test]
fn waiting_is_for_health_and_for_jobs_that_others_wait_for() {
    let world = World::default();
    let shop = project([
        service("web").needs("job", Condition::ServiceCompletedSuccessfully).healthy(),
        service("job"),
        service("plain"),
    ]);
    let ready = |world: &World| {
        world.plan_for(&shop, &["web", "plain"], &Recreate::Changed, |options| {
            options.reach = Reach::Ready(Duration::from_secs(30));
        })
    };
    let plan = ready(&world);
    let text = plan.to_string();
    let waits: Vec<&str> = text.lines().filter(|line| line.contains("wait ")).collect();
    assert_snapshot!(waits.join("\n"), @r"
    10  wait completed    shop-job-1    after 4      web depends on it
    12  wait completed    shop-job-1    after 4      wait asked for
    13  wait healthy      shop-web-1    after 11     wait asked for
    ");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    assert!(ready(&world).is_empty(), "{}", ready(&world));
}

#[test]
fn orphans_can_be_left_in_silence() {
    let world = World::default();
    up(&world, &shop());
    let smaller = project([service("db").healthy()]);
    let plan = |orphans| world.plan_for(&smaller, &[], &Recreate::Changed, |options| options.orphans = orphans);
    assert_eq!(plan(Orphans::Named).warnings.len(), 1);
    assert_eq!(plan(Orphans::Ignored), Plan { running: plan(Orphans::Ignored).running, ..Plan::default() });
    assert_eq!(plan(Orphans::Removed).steps.len(), 3);
}

#[test]
fn services_that_are_not_named_are_left_alone() {
    let world = World::default();
    up(&world, &shop());
    for name in ["web", "db"] {
        world.hashes.borrow_mut().insert(name.into(), "h2".into());
    }
    let forced = Recreate::Always(BTreeSet::from([shop().services[1].name.clone()]));
    let plan = world.plan_for(&shop(), &["db"], &forced, |_| {});
    assert!(plan.steps.iter().all(|p| p.step.subject().name() != "shop-web-1"), "{plan}");
    assert!(plan.to_string().contains("recreation asked for"), "{plan}");
}

#[test]
fn what_is_removed_takes_its_anonymous_volumes_along() {
    let world = World::default();
    let mut shop = shop();
    shop.services[1].volumes.push(Mount {
        source: MountSource::Anonymous,
        target: "/data".into(),
        read_only: false,
        span: crate::diag::Span::default(),
    });
    up(&world, &shop);
    let paths = paths();
    let plan = existing::remove(&world.actual.borrow(), |_| true, true, "rm", &Options::new(&paths));
    let steps = plan.steps.iter().map(|p| format!("{} {}", p.step.verb(), p.step.subject().name()));
    let before_the_volume: Vec<String> = steps.take(plan.steps.len() - 1).collect();
    assert_snapshot!(before_the_volume.join("\n"), @r"
    stop shop-web-1
    detach shop-web-1
    remove container shop-web-1
    stop shop-db-1
    detach shop-db-1
    remove container shop-db-1
    ");
    assert!(matches!(plan.steps.last().map(|p| &p.step), Some(Step::RemoveVolume(_))), "{plan}");
    assert!(world.run(&plan, OnFailure::Continue, &Silent).is_complete());
    assert!(world.actual.borrow().volumes.is_empty() && world.actual.borrow().containers.is_empty());
}

#[test]
fn a_one_off_waits_for_what_it_needs_and_is_no_replica() {
    let world = World::default();
    up(&world, &shop());
    let running = names(&world);
    let db = world.actual.borrow().containers.iter().position(|c| c.record.service.as_str() == "db").expect("db");
    world.actual.borrow_mut().containers[db].status.state = State::Exited;
    let one_off = |by_hand| OneOff {
        service: shop().services[0].name.clone(),
        name: Some("once".to_owned()),
        aliases: false,
        auto_remove: true,
        by_hand,
    };
    *world.one_off.borrow_mut() = Some(one_off(true));
    let plan = world.plan_for(&shop(), &["web"], &Recreate::Changed, |_| {});
    assert_snapshot!(plan, @r"
    1  start             shop-db-1           not running
    2  create container  once                run asked for
    3  attach            once       after 2  run asked for
    4  wait healthy      shop-db-1  after 1  web depends on it
    ");
    *world.one_off.borrow_mut() = Some(one_off(false));
    let plan = world.plan_for(&shop(), &["web"], &Recreate::Changed, |_| {});
    assert_snapshot!(plan.steps.last().map(|p| p.step.verb()).unwrap_or_default(), @"start");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    let made = world.actual.borrow().containers.last().expect("it was made").record.clone();
    assert_eq!(made.endpoints[0].aliases, [made.id.short()]);
    assert_eq!(made.labels["com.docker.compose.oneoff"], "True");
    // `up` leaves it while it runs, and takes it away when it has ended.
    *world.one_off.borrow_mut() = None;
    assert!(world.plan_for(&shop(), &[], &Recreate::Changed, |_| {}).is_empty());
    let last = world.actual.borrow().containers.len() - 1;
    world.actual.borrow_mut().containers[last].status.state = State::Exited;
    assert_snapshot!(up(&world, &shop()), @r"
    1  detach            once           its removal asked for
    2  remove container  once  after 1  its removal asked for
    ");
    assert_eq!(names(&world), running);
}

#[test]
fn a_plan_comes_to_a_few_words() {
    let world = World::default();
    let shop = project([
        service("web").needs("db", Condition::ServiceHealthy).mounts("pages", "/srv"),
        service("db").healthy().mounts("data", "/var/lib/db"),
        service("job"),
        service("old"),
    ]);
    up(&world, &shop);
    world.hashes.borrow_mut().insert("db".into(), "h2".into());
    for name in ["job", "web"] {
        let at = world.actual.borrow().containers.iter().position(|c| c.record.service.as_str() == name);
        world.actual.borrow_mut().containers[at.expect("it is there")].status.state = State::Exited;
    }
    let mut shop = shop;
    shop.services.shift_remove("old");
    let new = service("new").mounts("fresh", "/x");
    shop.services.insert(new.name.clone(), new);
    shop.volumes
        .insert("fresh".into(), crate::compose::model::Volume { name: "shop_fresh".into(), ..Default::default() });
    let wished = world.desired(&shop, &[], &Recreate::Changed).expect("it can be chosen");
    let paths = paths();
    let options = Options { orphans: Orphans::Removed, ..Options::new(&paths) };
    let mut plan = plan::plan(&wished, &world.actual.borrow(), &options);
    plan.images.push(ImageChange { reference: "img".into(), build: false, missing: true });
    assert_snapshot!(summary::text(&summary::changes(&plan, Some(&wished)), &Sources::default()), @r"
    + pull     image      img (missing)
    ~ replace  container  shop-db-1 (configuration changed)
    - remove   container  shop-old-1 (not in the file)
    + create   volume     shop_fresh (missing)
    ~ start    container  shop-job-1 (not running)
    + create   container  shop-new-1 (missing)
    ~ start    container  shop-web-1 (not running)
    = keep     network    shop_default
    = keep     volume     shop_data
    = keep     volume     shop_pages
    ");
    assert!(world.run(&plan, OnFailure::Stop, &Silent).is_complete());
    let wished = world.desired(&shop, &[], &Recreate::Changed).expect("it can be chosen");
    let plan = plan::plan(&wished, &world.actual.borrow(), &options);
    assert!(!summary::any(&summary::changes(&plan, Some(&wished))));
}

#[test]
fn a_name_that_another_project_has_is_refused() {
    let world = World::default();
    let mut web = service("web");
    web.image = None; // as the hook's
    web.pre_start = vec![web.clone()];
    let shop = project([web]);
    let told = |names: &[&str]| -> Vec<String> {
        let name = |name: &&str| ContainerName::new(*name).expect("a name");
        let other = ProjectName::new("other").expect("a name");
        world.actual.borrow_mut().other_names = names.iter().map(|n| (name(n), other.clone())).collect();
        let errors = world.desired(&shop, &[], &Recreate::Changed).err().unwrap_or_default();
        errors.into_iter().map(|error| error.message).collect()
    };
    assert_eq!(told(&["web-1"]), [""; 0]);
    let refusal = |name: &str| format!("container name `{name}` is in use by project `other`");
    assert_eq!(told(&["shop-web-1"]), [refusal("shop-web-1")]);
    assert_eq!(told(&["shop-web-pre_start-0"]), [refusal("shop-web-pre_start-0")]);
    let service = shop.services[0].name.clone();
    let once = OneOff { service, name: Some("once".to_owned()), aliases: false, auto_remove: true, by_hand: true };
    *world.one_off.borrow_mut() = Some(once);
    assert_eq!(told(&["once"]), [refusal("once")]);
}

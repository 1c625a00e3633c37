//! What `up` is told: how many containers, which are replaced, how far they are brought, whose output is shown.

use std::collections::BTreeSet;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

const WEB_AND_DB: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on: [db]
  db:
    image: busybox
    command: sleep 1000
    volumes: [/data]
";

fn names(shop: &TestProject) -> BTreeSet<String> {
    shop.records().iter().map(|r| r.name.to_string()).collect()
}

fn ids(shop: &TestProject) -> [String; 2] {
    ["web", "db"].map(|service| shop.record(service).id.to_string())
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn replicas_come_and_go_and_share_their_name() {
    require_root!();
    let shop = TestProject::new("shop", WEB_AND_DB);
    shop.hoist(&["up", "-d", "--scale", "db=3"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-db-3", "shop-web-1"]));
    let addresses =
        shop.shell("web", "nslookup db 127.0.0.11 | grep -c '^Address.*172\\|^Address.*10\\.\\|^Address.*192'");
    assert_eq!(addresses, "3", "each replica has an address under the service's name");
    // One that has changed goes before those that have not, whatever its number.
    assert_eq!(shop.hoist(&["up", "-d", "--scale", "db=3", "--dry-run"]).ok(), "");
    shop.hoist(&["up", "-d", "--scale", "db=2"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-web-1"]));
    shop.hoist(&["up", "-d", "--scale", "db=0", "--no-deps", "db"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1"]));
    let message = shop.hoist(&["up", "-d", "--scale", "dbb=2"]).fails();
    assert!(message.contains("no such service: dbb") && message.contains("did you mean `db`?"), "{message}");
    let message = shop.hoist(&["up", "-d", "--scale", "db"]).fails();
    assert!(message.contains("invalid --scale option \"db\". Should be SERVICE=NUM"), "{message}");
    shop.hoist(&["up", "-d", "--scale", "db=2"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-web-1"]));
}

#[test]
fn the_file_says_how_many_containers_a_service_has() {
    require_root!();
    let scaled = |db: &str| WEB_AND_DB.replace("    volumes:", &format!("    {db}\n    volumes:"));
    let shop = TestProject::new("shop", &scaled("deploy: {replicas: 2}"));
    let said = shop.up();
    assert!(!said.contains("no effect"), "{said}");
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-web-1"]));
    let all = || shop.records().iter().map(|r| r.id.to_string()).collect::<BTreeSet<String>>();
    let before = all();
    // The number is no part of what a container is: none is replaced.
    shop.write("compose.yaml", &scaled("deploy: {replicas: 3}"));
    assert!(shop.hoist(&["plan"]).ok().contains("container  shop-db-3 (missing)"));
    shop.up();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-db-3", "shop-web-1"]));
    assert!(before.is_subset(&all()));
    // A command that is about another service leaves it alone, and one that says a number wins.
    shop.write("compose.yaml", &scaled("scale: 1"));
    shop.hoist(&["up", "-d", "--no-deps", "web"]).ok();
    assert_eq!(names(&shop).len(), 4);
    shop.hoist(&["up", "-d", "--scale", "db=2"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-db-2", "shop-web-1"]));
    shop.hoist(&["run", "--rm", "-T", "web", "true"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-web-1"]));
    shop.write("compose.yaml", &scaled("scale: 0"));
    shop.hoist(&["create"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1"]));
    shop.hoist(&["start", "db"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1"]));
    let twice = scaled("scale: 2").replace("    scale: 2", "    scale: 2\n    ports: ['8080:80']");
    shop.write("compose.yaml", &twice);
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("port 8080 leads to one container, and service `db` has 2"), "{message}");
    assert!(message.contains("compose.yaml:11:13") && message.contains("8080-8081:80"), "{message}");
    shop.write("compose.yaml", &twice.replace("8080:80", "8080-8081:80"));
    shop.up();
    let ports: BTreeSet<u16> = shop.records().iter().flat_map(|r| &r.endpoints[0].ports).map(|p| p.host_port).collect();
    assert_eq!(ports, BTreeSet::from([8080, 8081]));
}

#[test]
fn who_is_replaced_is_what_the_options_say() {
    require_root!();
    let shop = TestProject::new("shop", WEB_AND_DB);
    shop.up();
    let run = |arguments: &[&str]| {
        let before = ids(&shop);
        shop.hoist(&[&["up", "-d"], arguments].concat()).ok();
        let after = ids(&shop);
        [before[0] != after[0], before[1] != after[1]]
    };
    for (arguments, replaced) in [
        (&[][..], [false, false]),
        (&["--force-recreate"], [true, true]),
        (&["--force-recreate", "web"], [true, false]),
        (&["--force-recreate", "db"], [false, true]),
        (&["--force-recreate", "--always-recreate-deps", "web"], [true, true]),
        (&["--always-recreate-deps", "web"], [false, true]),
        (&["--force-recreate", "--no-deps", "web"], [true, false]),
        (&["-V", "web"], [true, false]),
    ] {
        assert_eq!(run(arguments), replaced, "{arguments:?}");
    }
    shop.write("compose.yaml", &WEB_AND_DB.replace("1000", "2000"));
    assert_eq!(run(&["--no-recreate"]), [false, false]);
    // A dependency that changed is replaced as well, unless it is left out.
    assert_eq!(run(&["--no-deps", "web"]), [true, false]);
    assert_eq!(run(&["web"]), [false, true]);
}

#[test]
fn anonymous_volumes_are_kept_until_new_ones_are_asked_for() {
    require_root!();
    let shop = TestProject::new("shop", WEB_AND_DB);
    shop.up();
    shop.shell("db", "echo kept > /data/file");
    shop.hoist(&["up", "-d", "--force-recreate"]).ok();
    assert_eq!(shop.shell("db", "cat /data/file"), "kept");
    shop.hoist(&["up", "-d", "--renew-anon-volumes", "web"]).ok();
    assert_eq!(shop.shell("db", "cat /data/file"), "kept", "only of the named");
    shop.hoist(&["up", "-d", "-V"]).ok();
    assert_eq!(shop.shell("db", "ls /data"), "");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn what_is_not_started_is_started_by_the_next() {
    require_root!();
    let shop = TestProject::new("shop", WEB_AND_DB);
    shop.hoist(&["up", "--no-start"]).ok();
    assert_eq!(names(&shop), set(["shop-db-1", "shop-web-1"]));
    assert_eq!(shop.hoist(&["ps", "-q"]).ok(), "");
    let all = shop.hoist(&["ps", "-a", "--format", "json"]).ok();
    assert_eq!(all.matches("\"State\":\"created\"").count(), 2, "{all}");
    let before = ids(&shop);
    shop.hoist(&["start"]).ok();
    shop.pid("web");
    shop.up();
    assert_eq!(ids(&shop), before);
}

#[test]
fn a_dependent_that_asked_for_it_is_restarted_with_a_replaced_dependency() {
    require_root!();
    let file = WEB_AND_DB.replace("depends_on: [db]", "depends_on: {db: {condition: service_started, restart: true}}");
    let shop = TestProject::new("shop", &file);
    shop.up();
    let (before, pid) = (ids(&shop), shop.pid("web"));
    shop.hoist(&["up", "-d", "--always-recreate-deps", "web"]).ok();
    let after = ids(&shop);
    assert_eq!((before[0] == after[0], before[1] == after[1]), (true, false));
    assert_ne!(shop.pid("web"), pid, "the same container, another process");
    let (pid, db) = (shop.pid("web"), &shop.record("db").id);
    shop.hoist(&["up", "-d", "--force-recreate", "--no-deps", "db"]).ok();
    assert_ne!(shop.record("db").id, *db);
    assert_eq!(shop.pid("web"), pid, "the command was not about it");
}

#[test]
fn waiting_ends_when_all_are_ready_and_says_who_is_not() {
    require_root!();
    let file = |test: &str, command: &str| {
        format!(
            "
services:
  web:
    image: busybox
    command: {command}
    healthcheck:
      test: {test}
      interval: 100ms
      retries: 10
    depends_on:
      job: {{condition: service_completed_successfully}}
  job:
    image: busybox
    command: 'true'
  plain:
    image: busybox
    command: sleep 1000
"
        )
    };
    let shop = TestProject::new("shop", &file("test -e /ready", "sh -c 'sleep 0.3; touch /ready; exec sleep 1000'"));
    shop.hoist(&["up", "--wait"]).ok();
    shop.pid("plain");
    assert!(shop.hoist(&["ps"]).ok().contains("(healthy)"));
    shop.hoist(&["up", "--wait", "--wait-timeout", "5"]).ok();
    for (test, command, more, code, wanted) in [
        ("'false'", "sleep 1000", &[][..], 10, "container shop-web-1 is unhealthy"),
        ("'false'", "sh -c 'exit 7'", &[], 11, "container shop-web-1 exited (7)"),
        ("sleep 100", "sleep 1000", &["--wait-timeout", "1"], 12, "application not healthy after 1s"),
    ] {
        shop.write("compose.yaml", &file(test, command));
        let run = shop.hoist(&[&["up", "--wait"], more].concat()).code(code);
        assert!(run.stderr.contains(wanted), "{run}");
        assert!(!run.stderr.contains("dependency failed"), "{run}");
    }
    // One that has no health check has to stay up.
    shop.write("compose.yaml", "services:\n  plain:\n    image: busybox\n    command: sh -c 'exit 3'\n  slow:\n    image: busybox\n    command: sleep 1000\n    healthcheck: {test: 'sleep 0.3'}\n");
    let run = shop.hoist(&["up", "--wait", "--remove-orphans"]).code(11);
    assert!(run.stderr.contains("container shop-plain-1 exited (3)"), "{run}");
}

const THREE: &str = "
services:
  first:
    image: busybox
    command: sh -c 'sleep 0.2; echo over; exit 3'
    depends_on:
      job: {condition: service_completed_successfully}
  second:
    image: busybox
    command: sh -c 'trap \"echo stopped; exit 4\" TERM; echo here; while :; do sleep 0.02; done'
  job:
    image: busybox
    command: echo done
";

#[test]
fn the_first_end_ends_all_with_its_code() {
    require_root!();
    let shop = TestProject::new("shop", THREE);
    let run = shop.hoist(&["up", "--abort-on-container-exit"]).code(3);
    assert!(run.stderr.contains("Aborting on container exit..."), "{run}");
    // What is written on the way out is shown as well.
    assert!(run.stdout.contains("first-1   | over") && run.stdout.contains("second-1  | stopped"), "{run}");
    assert_eq!((shop.wait_exit("first"), shop.wait_exit("second")), (3, 4));
    let _ = shop.hoist(&["up", "--abort-on-container-failure"]).code(3);
    let _ = shop.hoist(&["up", "--exit-code-from", "second"]).code(4);
    let run = shop.hoist(&["up", "--exit-code-from", "job", "job"]).code(0);
    assert!(run.stderr.contains("Aborting"), "{run}");
    shop.write("compose.yaml", &THREE.replace("exit 3", "exit 0"));
    let mut up = shop.spawn(&["up", "--abort-on-container-failure"]);
    up.wait_for("its end", |line| line == "first-1 exited with code 0");
    shop.pid("second");
    shop.hoist(&["stop", "second"]).ok();
    let _ = up.finish(20.secs()).code(4);
    let message = shop.hoist(&["up", "--exit-code-from", "frist"]).fails();
    assert!(message.contains("no such service: frist"), "{message}");
}

#[test]
fn only_what_is_attached_is_shown() {
    require_root!();
    let shop = TestProject::new("shop", THREE);
    let shown = |arguments: &[&str]| {
        let run = shop.hoist(&[&["up", "--abort-on-container-failure", "--no-color"], arguments].concat()).code(3);
        let lines = run.stdout.lines().filter_map(|line| line.split_once('|').map(|(name, _)| name.trim().to_owned()));
        lines.collect::<BTreeSet<String>>()
    };
    assert_eq!(shown(&[]), set(["first-1", "second-1", "job-1"]));
    assert_eq!(shown(&["--attach", "second"]), set(["second-1"]));
    let written = shop.read("compose.yaml");
    shop.write("compose.yaml", &written.replace("  second:\n", "  second:\n    attach: false\n"));
    assert_eq!(shown(&[]), set(["first-1", "job-1"]));
    assert_eq!(shown(&["--attach", "second"]), set(["second-1"]));
    shop.write("compose.yaml", &written);
    assert_eq!(shown(&["--no-attach", "second"]), set(["first-1", "job-1"]));
    shop.hoist(&["down"]).ok(); // so that the job runs again
    assert_eq!(shown(&["first"]), set(["first-1"]));
    shop.hoist(&["down"]).ok();
    assert_eq!(shown(&["--attach-dependencies", "first"]), set(["first-1", "job-1"]));
    assert_eq!(shown(&["--no-attach", "first", "--no-attach", "second", "--no-attach", "job"]), set([]));
    let message = shop.hoist(&["up", "--attach", "second", "first"]).fails();
    assert!(message.contains("cannot attach to services not included in up: second"), "{message}");
}

#[test]
fn times_are_shown_when_asked_for() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  job:\n    image: busybox\n    command: echo hello\n");
    let text = shop.hoist(&["up", "--timestamps", "--no-log-prefix"]).ok();
    let (time, rest) = text.split_once(' ').expect("a time and a text");
    assert!(time.starts_with("20") && time.ends_with('Z') && rest == "hello\n", "{text}");
}

#[test]
fn a_name_that_an_orphan_has_is_refused_before_anything_is_changed() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  old:\n    image: busybox\n    command: sleep 1000\n    container_name: front\n",
    );
    shop.up();
    let pid = shop.pid("old");
    shop.write(
        "compose.yaml",
        "services:\n  new:\n    image: busybox\n    command: sleep 1000\n    container_name: front\n",
    );
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("container name `front` is in use by a container of service `old`"), "{message}");
    assert_eq!(shop.pid("old"), pid);
    let mut ignoring = shop.command(&["up", "-d", "--remove-orphans"]);
    ignoring.env("COMPOSE_IGNORE_ORPHANS", "1");
    let message = super::support::run::Run::of(ignoring, 20.secs()).fails();
    assert!(message.contains("cannot combine COMPOSE_IGNORE_ORPHANS and --remove-orphans"), "{message}");
    shop.hoist(&["up", "-d", "--remove-orphans"]).ok();
    assert_eq!(names(&shop), set(["front"]));
    eventually(10.secs(), "it has gone", || holds(!std::path::Path::new(&format!("/proc/{pid}")).exists()));
}

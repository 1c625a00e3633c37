//! `pre_start`: what runs to its end before a service starts.

use super::faults::{faults_by_name, of_parts, run, struck};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

/// Two hooks, the second of another image, before two replicas; what they do is in a volume.
const SHOP: &str = "
services:
  db:
    image: busybox
    command: sh -c 'sleep 0.3; touch /up; exec sleep 1000'
    healthcheck: {test: test -e /up, start_period: 20s, start_interval: 50ms}
  web:
    image: busybox
    command: sh -c 'cat /data/done; exec sleep 1000'
    user: '1000'
    working_dir: /tmp
    scale: 2
    labels: {note: '${NOTE:-1}'}
    environment: {WHO: web, TURN: '${TURN:-1}'}
    volumes: [data:/data, /scratch]
    depends_on: {db: {condition: service_healthy}}
    pre_start:
      - command: sh -c 'ping -c 1 -w 5 db >/dev/null && echo first $$WHO $$(id -u) $$(pwd) >> /data/done; echo mine > /scratch/here; exit ${CODE:-0}'
        environment: {WHO: hook}
      - image: redis
        command: sh -c 'redis-server --version >/dev/null && echo second $$WHO >> /data/done'
        user: '0'
  log:
    image: busybox
    command: sh -c 'cat /data/done; exec sleep 1000'
    volumes: [data:/data]
    depends_on: [web]
volumes: {data: {}}
";

fn shop() -> TestProject {
    TestProject::with_images("shop", &["busybox", "redis"], SHOP)
}

fn names(shop: &TestProject) -> Vec<String> {
    let mut names: Vec<String> = shop.records().iter().map(|record| record.name.to_string()).collect();
    names.sort();
    names
}

const ALL: [&str; 6] =
    ["shop-db-1", "shop-log-1", "shop-web-1", "shop-web-2", "shop-web-pre_start-0", "shop-web-pre_start-1"];
const ONCE: &str = "first hook 0 /tmp\nsecond web\n";

#[test]
fn hooks_run_once_and_in_order_before_all_replicas() {
    require_root!();
    let shop = shop();
    let objects = shop.host().objects();
    shop.up();
    assert_eq!(names(&shop), ALL);
    eventually(10.secs(), "what was prepared is seen", || holds(shop.log_text("log") == ONCE));
    assert_eq!(shop.hoist(&["exec", "-T", "--index", "1", "web", "cat", "/scratch/here"]).ok(), "mine\n");
    shop.hoist(&["exec", "-T", "--index", "2", "web", "test", "!", "-e", "/scratch/here"]).ok();
    // They are part of a start, no containers that anybody asked for.
    for line in [&["ps", "-a"][..], &["logs"]] {
        let shown = shop.hoist(line).ok();
        assert!(shown.contains("web-2") && !shown.contains("pre_start"), "{line:?}:\n{shown}");
    }
    // What is prepared stays so.
    assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
    shop.hoist(&["stop"]).ok();
    shop.hoist(&["start"]).ok();
    shop.hoist(&["stop", "web"]).ok();
    shop.up();
    shop.hoist(&["restart", "web"]).ok();
    assert_eq!(shop.hoist(&["exec", "-T", "web", "cat", "/data/done"]).ok(), ONCE);
    // What the replicas take while they run is none of the hooks'.
    let ids = |shop: &TestProject| {
        let mut ids: Vec<String> = shop.records().iter().map(|record| record.id.to_string()).collect();
        ids.sort();
        ids
    };
    let before = ids(&shop);
    shop.write(".env", "NOTE=2\n");
    let told = shop.up();
    assert!(told.contains("shop-web-2 Updated") && ids(&shop) == before, "{told}");
    assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
    shop.hoist(&["stop", "web"]).ok();
    shop.up();
    assert_eq!(shop.hoist(&["exec", "-T", "web", "cat", "/data/done"]).ok(), ONCE);
    // But another service is prepared anew.
    shop.write(".env", "TURN=2\n");
    let told = shop.up();
    assert!(told.contains("shop-web-pre_start-1"), "{told}");
    assert_eq!(shop.hoist(&["exec", "-T", "web", "cat", "/data/done"]).ok(), ONCE.repeat(2));
    shop.hoist(&["up", "-d", "--force-recreate", "--no-deps", "web"]).ok();
    assert_eq!(shop.hoist(&["exec", "-T", "web", "cat", "/data/done"]).ok(), ONCE.repeat(3));
    assert_eq!(names(&shop), ALL);
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&objects);
}

#[test]
fn a_hook_that_fails_is_the_end_of_the_start() {
    require_root!();
    let shop = shop();
    let objects = shop.host().objects();
    shop.write(".env", "CODE=3\n");
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    assert!(told.contains("error: service \"web\" pre_start[0] exited with code 3"), "{told}");
    assert_eq!(shop.hoist(&["ps", "--services", "--status", "running"]).ok(), "db\n");
    // Its container stays for a look, and the next `up` makes another.
    let failed = shop.records().into_iter().find(|r| r.name.as_str() == "shop-web-pre_start-0").expect("it stays").id;
    shop.write(".env", "CODE=0\n");
    shop.up();
    assert!(shop.records().iter().all(|record| record.id != failed));
    let before = names(&shop);
    // One that would replace what runs leaves it as it was.
    shop.write(".env", "TURN=2\nCODE=4\n");
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    assert!(told.contains("pre_start[0] exited with code 4") && told.contains("are back"), "{told}");
    assert_eq!(names(&shop), before);
    for index in ["1", "2"] {
        assert_eq!(shop.hoist(&["exec", "-T", "--index", index, "web", "sh", "-c", "echo $TURN"]).ok(), "1\n");
    }
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&objects);
}

#[test]
fn one_for_each_replica_is_refused_at_its_place() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  web:\n    image: busybox\n    pre_start:\n      - command: 'true'\n        per_replica: true\n",
    );
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    let wanted = "error: service \"web\" pre_start[0]: per_replica is not yet supported\n --> compose.yaml:6:22\n";
    assert!(told.contains(wanted) && told.contains("runs once for all replicas"), "{told}");
    assert_eq!(names(&shop), [""; 0]);
}

#[test]
fn what_is_created_is_prepared_when_it_is_started() {
    require_root!();
    let shop = shop();
    let objects = shop.host().objects();
    shop.hoist(&["create"]).ok();
    assert_eq!(names(&shop), ALL);
    shop.hoist(&["start"]).ok();
    eventually(10.secs(), "what was prepared is seen", || holds(shop.log_text("log") == ONCE));
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&objects);
}

#[test]
fn wherever_an_up_is_killed_the_next_one_finishes_the_hooks() {
    require_root!();
    let shop = shop();
    let objects = shop.host().objects();
    let (clean, met) = run(&shop, None, &["up", "-d"]);
    let _ = clean.code(0);
    for fault in faults_by_name(&of_parts(&[""], met)) {
        shop.hoist(&["down", "-v"]).ok();
        let (up, met) = run(&shop, Some(&fault), &["up", "-d"]);
        let killed = struck(&fault, &met, &up);
        shop.up();
        assert_eq!(names(&shop), ALL, "after {fault}");
        let done = shop.hoist(&["exec", "-T", "web", "cat", "/data/done"]).ok();
        // A hook that had been started is not started twice, but for one that was cut short by the death of all.
        assert!(done == ONCE, "after {fault}, killed: {killed}:\n{done}");
    }
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&objects);
}

//! `create`, `rm`, `scale` and `restart` of a few services.

use std::collections::BTreeSet;

use super::support::project::TestProject;
use super::support::run::{Run, Running};
use super::support::{Secs as _, require_root};

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      db: {condition: service_started, restart: true}
  db:
    image: busybox
    command: sleep 1000
    volumes: [/data, kept:/kept]
volumes:
  kept:
";

fn names(shop: &TestProject) -> BTreeSet<String> {
    shop.records().iter().map(|r| r.name.to_string()).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// Returns how many volumes there are.
fn volumes(shop: &TestProject) -> usize {
    std::fs::read_dir(shop.host().root().join("volumes")).expect("volumes").count()
}

#[test]
fn what_is_created_does_not_run_until_it_is_started() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let plan = shop.hoist(&["create", "--dry-run"]).ok();
    assert!(plan.contains("create container") && !plan.contains("start "), "{plan}");
    let progress = shop.hoist(&["create", "--scale", "web=2", "web"]).code(0).stderr;
    assert!(progress.contains(" Container shop-web-2 Created"), "{progress}");
    assert_eq!(names(&shop), set(["shop-web-1", "shop-web-2", "shop-db-1"]));
    assert_eq!(shop.hoist(&["ps", "-q"]).ok(), "");
    // It is what `up` would have made.
    shop.hoist(&["create", "--scale", "web=2"]).ok();
    let before = shop.record("db").id;
    shop.hoist(&["up", "-d", "--scale", "web=2"]).ok();
    assert_eq!(shop.record("db").id, before);
    let pid = shop.pid("db");
    // What runs and has changed is replaced, and does not run then.
    shop.write("compose.yaml", &SHOP.replace("volumes: [/data", "init: true\n    volumes: [/data"));
    shop.hoist(&["create", "--no-recreate", "db"]).ok();
    assert_eq!(shop.pid("db"), pid);
    shop.hoist(&["create", "db"]).ok();
    assert_ne!(shop.record("db").id, before);
    assert!(shop.try_status("db").is_none(), "it was never started");
    let message = shop.hoist(&["create", "--force-recreate", "--no-recreate"]).fails();
    assert!(message.contains("--force-recreate and --no-recreate are incompatible"), "{message}");
}

#[test]
fn only_what_is_stopped_is_removed_unless_it_is_to_be_stopped() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let message = shop.hoist(&["rm", "-f"]).code(0).stderr;
    assert_eq!(message, "No stopped containers\n");
    shop.up();
    assert_eq!(shop.hoist(&["rm", "-f"]).code(0).stderr, "No stopped containers\n");
    shop.hoist(&["stop", "db"]).ok();
    // Nothing is removed by somebody who does not say yes.
    for (answer, gone) in [("n\n", false), ("", false), ("y\n", true)] {
        let asked = Running::of(shop.command(&["rm"]), Some(answer)).finish(20.secs()).code(0);
        assert!(asked.stdout.starts_with("Going to remove shop-db-1\nAre you sure? [yN] "), "{asked}");
        assert_eq!(names(&shop) == set(["shop-web-1"]), gone, "{answer:?}");
    }
    assert_eq!(volumes(&shop), 2, "its volumes stay");
    shop.up();
    let plan = shop.hoist(&["rm", "-s", "-v", "--dry-run"]).ok();
    assert!(plan.contains("stop ") && plan.contains("remove volume"), "{plan}");
    assert_eq!(names(&shop).len(), 2);
    let run = shop.hoist(&["rm", "-fsv", "db"]).code(0);
    assert_eq!(run.stdout, "Going to remove shop-db-1\n");
    assert_eq!(names(&shop), set(["shop-web-1"]));
    assert!(shop.volume("kept").is_dir(), "one with a name stays");
    assert_eq!(volumes(&shop), 2, "the anonymous one of the first container, and the named one");
    let message = shop.hoist(&["rm", "-f", "wbe"]).fails();
    assert!(message.contains("did you mean `web`?"), "{message}");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn a_scale_is_for_the_named_services() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    shop.up();
    shop.hoist(&["scale", "web=3"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1", "shop-web-2", "shop-web-3", "shop-db-1"]));
    shop.hoist(&["scale", "web=1", "db=0"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1"]));
    shop.hoist(&["scale", "--no-deps", "web=2"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1", "shop-web-2"]));
    shop.hoist(&["scale", "web=2"]).ok();
    assert_eq!(names(&shop), set(["shop-web-1", "shop-web-2", "shop-db-1"]));
    let message = shop.hoist(&["scale", "web"]).fails();
    assert!(message.contains("invalid scale specifier: web"), "{message}");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn who_asked_to_follow_a_restart_follows_unless_left_out() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    shop.up();
    let pids = || [shop.pid("web"), shop.pid("db")];
    let before = pids();
    shop.hoist(&["restart", "--no-deps", "db"]).ok();
    let after = pids();
    assert_eq!((before[0] == after[0], before[1] == after[1]), (true, false));
    shop.hoist(&["restart", "db"]).ok();
    assert_ne!(shop.pid("web"), after[0]);
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn down_removes_images_when_it_is_told_and_nobody_has_them() {
    require_root!();
    let file = "
services:
  far:
    image: busybox
    command: sleep 1000
  made:
    build: .
  named:
    build: .
    image: mine:1
";
    let shop = TestProject::new("shop", file);
    shop.write("Dockerfile", "FROM busybox\nCMD [\"sleep\", \"1000\"]\n");
    let images = || -> BTreeSet<String> {
        let list = shop.hoist(&["image", "ls"]).ok();
        list.lines().skip(1).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(":")).collect()
    };
    shop.up();
    assert_eq!(images(), set(["busybox:latest", "mine:1", "shop-made:latest"]));
    let other = shop.beside("other", "services:\n  one:\n    image: busybox\n    command: sleep 1000\n");
    other.up();
    let message = shop.hoist(&["down", "--rmi", "some"]).fails();
    assert!(message.contains("invalid value for --rmi: \"some\" (legal values are \"local\", \"all\")"), "{message}");
    shop.hoist(&["down", "--rmi", "local", "far"]).ok();
    assert_eq!(images().len(), 3, "the service's image is not ours");
    let run = shop.hoist(&["down", "--rmi", "local"]).code(0);
    assert!(run.stderr.contains(" Image shop-made Removed"), "{run}");
    assert_eq!(images(), set(["busybox:latest", "mine:1"]));
    shop.up();
    // What another project's container is made of stays, with a warning.
    let run = shop.hoist(&["down", "--rmi", "all"]).code(0);
    assert!(run.stderr.contains("Image busybox: Resource is still in use"), "{run}");
    assert_eq!(images(), set(["busybox:latest"]));
    // A command that is killed in between is finished by the next.
    let mut killed = other.command(&["down", "--rmi", "all"]);
    killed.env("HOIST_FAULT", "image.unlisted");
    assert_eq!(Run::of(killed, 20.secs()).code, None);
    assert_eq!(images(), set(["busybox:latest"]));
    other.hoist(&["down", "--rmi", "all"]).ok();
    assert_eq!(images(), set([]));
}

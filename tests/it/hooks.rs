//! `post_start` and `pre_stop`.

use super::support::project::TestProject;
use super::support::{Secs as _, require_root};

const SHOP: &str = "
services:
  web:
    image: busybox
    user: www-data
    init: true
    command: sleep 1000
    environment: {WHERE: here}
    volumes: [./ctl:/ctl]
    post_start:
      - command: sh -c 'echo started $$(id -u) $$WHERE $$MORE $$(pwd) >> /ctl/log'
        user: root
        working_dir: /tmp
        environment: [MORE=more]
      - command: [sh, -c, 'echo then $(id -u) >> /ctl/log']
        user: root
    pre_stop:
      - command: [sh, -c, 'echo stopping >> /ctl/log; test ! -e /ctl/stay || { echo I stay; exit 3; }']
        user: root
";

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.make_dir("ctl");
    shop
}

#[test]
fn they_run_when_a_command_starts_and_stops_a_container() {
    require_root!();
    let shop = shop();
    let started = "started 0 here more /tmp\nthen 0\n";
    shop.up();
    assert_eq!(shop.read("ctl/log"), started);
    shop.up();
    assert_eq!(shop.read("ctl/log"), started, "it runs already");
    shop.hoist(&["restart", "web"]).ok();
    assert_eq!(shop.read("ctl/log"), format!("{started}stopping\n{started}"));
    shop.hoist(&["stop", "web"]).ok();
    shop.hoist(&["stop", "web"]).ok();
    assert_eq!(shop.read("ctl/log"), format!("{started}stopping\n{started}stopping\n"), "once");
    shop.hoist(&["start", "web"]).ok();
    // What is held goes on for them.
    shop.hoist(&["pause", "web"]).ok();
    shop.write("ctl/log", "");
    shop.hoist(&["restart", "web"]).ok();
    assert_eq!(shop.read("ctl/log"), format!("stopping\n{started}"));
    // No file is needed to know them.
    shop.write("compose.yaml", "services: {web: {image: busybox}}\n");
    shop.write("ctl/log", "");
    shop.down();
    assert_eq!(shop.read("ctl/log"), "stopping\n");
}

#[test]
fn what_is_killed_has_none() {
    require_root!();
    let shop = shop();
    shop.up();
    shop.write("ctl/log", "");
    shop.hoist(&["kill", "web"]).ok();
    shop.down();
    assert_eq!(shop.read("ctl/log"), "");
}

#[test]
fn one_that_fails_says_why_and_how_to_go_on() {
    require_root!();
    let shop = shop();
    shop.up();
    shop.write("ctl/stay", "");
    let said = shop.hoist(&["stop", "web"]).fails();
    assert!(said.contains("pre_stop[0] of container `shop-web-1` exited with code 3"), "{said}");
    assert!(said.contains("I stay") && said.contains("hoist kill web"), "{said}");
    assert_eq!(shop.shell("web", "echo runs"), "runs");
    // It is not replaced either, but taken away when all is.
    shop.write("compose.yaml", &SHOP.replace("1000", "2000"));
    assert!(shop.hoist(&["up", "-d"]).fails().contains("exited with code 3"));
    assert_eq!(shop.shell("web", "echo runs"), "runs");
    assert!(shop.hoist(&["down"]).fails().contains("exited with code 3"));
    assert_eq!(shop.records().len(), 0);
    std::fs::remove_file(shop.path("ctl/stay")).expect("it is there");
    shop.write("compose.yaml", &SHOP.replace("echo then $(id -u) >> /ctl/log", "echo not; exit 4"));
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("post_start[1] of container `shop-web-1` exited with code 4"), "{said}");
    assert!(said.lines().any(|line| line.trim_end().ends_with("not")), "{said}");
    shop.down();
}

#[test]
fn who_is_attached_sees_what_they_write() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    command: sh -c 'echo runs; exec sleep 1000'
    post_start:
      - command: [sh, -c, 'echo one; printf two']
      - command: [sh, -c, 'echo three >&2']
    pre_stop:
      - command: echo leaves
",
    );
    let background = shop.hoist(&["up", "-d"]).code(0);
    assert!(!format!("{background}").contains("three"), "{background}");
    let stopped = shop.hoist(&["stop"]).code(0);
    assert!(!format!("{stopped}").contains("leaves"), "{stopped}");

    let mut up = shop.spawn(&["up"]);
    for text in ["one", "two", "three"] {
        up.wait_for(text, |line| line == format!("web-1 ->  | {text}"));
    }
    up.wait_for("its output", |line| line == "web-1     | runs");
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.wait_for("leaves", |line| line == "web-1 ->  | leaves");
    let _ = up.finish(30.secs()).code(130);

    let mut up = shop.spawn(&["up", "--no-log-prefix"]);
    up.wait_for("three", |line| line == "three");
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
}

//! `up` without `-d`.

use nix::sys::signal::Signal;

use hoist::state::record::State;

use super::support::project::TestProject;
use super::support::{Secs as _, require_root};

#[test]
fn output_has_a_prefix_and_an_interrupt_stops_in_order() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'trap \"echo web stops; exit 0\" TERM; echo web runs; while :; do sleep 0.02; done'
    depends_on: [database]
  database:
    image: busybox
    command: sh -c 'trap \"echo db stops; exit 0\" TERM; echo db runs; while :; do sleep 0.02; done'
",
    );
    let mut up = shop.spawn(&["up"]);
    // Prefixes have one width.
    up.wait_for("the first", |line| line == "database-1  | db runs");
    up.wait_for("the second", |line| line == "web-1       | web runs");
    up.signal(Signal::SIGINT);
    let run = up.finish(30.secs()).code(130);
    let log = |service: &str| shop.log_text(service);
    assert_eq!((log("web").as_str(), log("database").as_str()), ("web runs\nweb stops\n", "db runs\ndb stops\n"));
    let finished = |service: &str| shop.status(service).finished.expect("it has ended");
    assert!(finished("web") <= finished("database"), "{run}");
    // Stopped, not removed; nothing of their ends was lost.
    for service in ["web", "database"] {
        let status = shop.status(service);
        assert_eq!((status.state, status.exit_code), (State::Exited, Some(0)), "{service}");
    }
}

#[test]
fn a_second_interrupt_kills() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  stubborn:
    image: busybox
    command: sh -c 'trap \"echo no\" TERM; echo ready; while :; do sleep 0.02; done'
    stop_grace_period: 10m
",
    );
    let mut up = shop.spawn(&["up", "--no-log-prefix"]);
    up.wait_for("ready", |line| line == "ready");
    up.signal(Signal::SIGINT);
    shop.wait_log("stubborn", "no", |line| line == "no");
    up.signal(Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    let status = shop.status("stubborn");
    assert_eq!((status.state, status.exit_code), (State::Exited, Some(137)));
}

#[test]
fn up_ends_when_all_have_ended_and_shows_everything_they_wrote() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  count:
    image: busybox
    command: seq 1 2000
",
    );
    let run = shop.hoist(&["up", "--no-log-prefix"]).code(0);
    let numbers: Vec<u32> = run.stdout.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers, (1..=2000).collect::<Vec<u32>>(), "{run}");
}

#[test]
fn an_attached_up_that_is_killed_leaves_the_containers_running() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  web:\n    image: busybox\n    command: sh -c 'echo ready; exec sleep 1000'\n",
    );
    let mut up = shop.spawn(&["up"]);
    up.wait_for("ready", |line| line.ends_with("ready"));
    let pid = shop.pid("web");
    up.signal(Signal::SIGKILL);
    assert_eq!(up.finish(10.secs()).code, None);
    assert_eq!(shop.pid("web"), pid);
    assert_eq!(shop.shell("web", "echo still"), "still");
}

#[test]
fn an_up_that_is_interrupted_while_it_waits_stops_what_it_started() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      db:
        condition: service_healthy
  db:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: 'false'
      interval: 1s
      start_period: 10m
",
    );
    let up = shop.spawn(&["up"]);
    shop.wait_status("db", "running", |s| s.state == State::Running);
    up.signal(Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    assert_eq!(shop.status("db").state, State::Exited);
    assert!(shop.try_status("web").is_none_or(|s| s.started.is_none()));
}

#[test]
fn an_up_after_an_interrupt_takes_its_ports_again() {
    require_root!();
    let compose = "services:\n  web:\n    image: busybox\n    command: sh -c 'echo ready; exec sleep 1000'\n    ports: [\"8080:80\"]\n";
    let shop = TestProject::new("shop", compose);
    let mut up = shop.spawn(&["up", "--no-log-prefix"]);
    up.wait_for("ready", |line| line == "ready");
    up.signal(Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    shop.hoist(&["up", "-d"]).ok();
    assert_eq!(shop.status("web").state, State::Running);
}

#[test]
fn a_container_that_ended_before_its_output_was_shown_is_told_to_have_ended() {
    require_root!();
    let compose = "
services:
  job:
    image: busybox
    command: sh -c 'echo bye; exit 3'
  web:
    image: busybox
    command: sh -c 'echo ready; exec sleep 1000'
    depends_on:
      job: {condition: service_completed_successfully, required: false}
";
    let shop = TestProject::new("shop", compose);
    let mut up = shop.spawn(&["up"]);
    up.wait_for("ready", |line| line == "web-1  | ready");
    up.signal(Signal::SIGINT);
    let run = up.finish(30.secs()).code(130);
    assert!(run.stderr.contains("job-1 exited with code 3\n"), "{run}");
}

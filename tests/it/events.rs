//! `events`: what happens to containers is told once, in Docker's words, whoever is killed.

use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, require_root};

/// Returns the actions on record, each with its service and what belongs to it.
#[track_caller]
fn story(project: &TestProject, arguments: &[&str]) -> Vec<String> {
    let line = [&["events", "--json", "--since", "1h", "--until", "0s"], arguments].concat();
    let text = project.hoist(&line).ok();
    text.lines().map(|line| words(&serde_json::from_str(line).expect("JSON"))).collect()
}

fn words(event: &Value) -> String {
    let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let extra = ["exitCode", "signal"].iter().find_map(|key| event["attributes"][key].as_str());
    format!("{} {}{}", text("service"), text("action"), extra.map(|e| format!(" {e}")).unwrap_or_default())
}

/// Answers its stop signal with code 3.
const POLITE: &str = "
services:
  web:
    image: busybox
    command: sh -c 'trap \"exit 3\" TERM; touch /ready; while :; do sleep 0.05; done'
    stop_grace_period: 20s
    labels: {tier: front}
    healthcheck: {test: test -e /ready}
";

#[test]
fn a_containers_life_is_told_in_dockers_words() {
    require_root!();
    let shop = TestProject::new("shop", POLITE);
    let mut live = shop.spawn(&["events"]);
    shop.hoist(&["up", "-d", "--wait"]).ok();
    let id = shop.record("web").id;
    let line = live.wait_for("the start", |line| line.contains(" container start "));
    assert!(line.ends_with(&format!(" container start {id} (image=busybox, name=shop-web-1, tier=front)")), "{line}");
    for command in [&["pause"][..], &["unpause"], &["restart"], &["kill", "-s", "USR2"], &["stop"]] {
        shop.hoist(command).ok();
    }
    shop.down();
    live.wait_for("the removal", |line| line.contains(" container destroy "));
    let all = story(&shop, &[]);
    assert_eq!(all[..3], ["web create", "web start", "web health_status: healthy"]);
    // The second run may end before its health is known.
    let told: Vec<&str> = all.iter().map(String::as_str).filter(|e| !e.contains("health_status")).collect();
    let wanted = [
        "web create",
        "web start",
        "web pause",
        "web unpause",
        "web kill 15",
        "web die 3",
        "web stop",
        "web start",
        "web restart",
        "web kill 12",
    ];
    assert_eq!(told[..wanted.len().min(told.len())], wanted, "{all:?}");
    assert_eq!(told[told.len() - 1], "web destroy", "{all:?}");
    assert_eq!(told.iter().filter(|e| e.starts_with("web die")).count(), 2, "{all:?}");
    live.signal(Signal::SIGINT);
    let seen = live.finish(20.secs()).code(130).stdout;
    assert_eq!(seen.lines().count(), all.len(), "{seen}");
}

#[test]
fn events_are_chosen_by_service_and_time() {
    require_root!();
    let file = "
services:
  a: {image: busybox, command: 'true'}
  b: {image: busybox, command: sh -c 'exit 4', restart: on-failure:1}
";
    let shop = TestProject::new("shop", file);
    let other = shop.beside("other", "services: {a: {image: busybox, command: sleep 1000}}\n");
    other.up();
    shop.up();
    shop.wait_exit("a");
    shop.wait_status("b", "at its end", |s| s.restarts == 1 && s.exit_code == Some(4) && s.process.is_none());
    shop.hoist(&["run", "--rm", "-T", "a"]).ok();
    assert_eq!(story(&shop, &["a"]), ["a create", "a start", "a die 0"], "without those of `run`");
    assert_eq!(story(&shop, &["b"]), ["b create", "b start", "b die 4", "b start", "b die 4"]);
    let nowhere = shop.beside("nowhere", "");
    assert_eq!(nowhere.hoist(&["-p", "other", "events", "--since", "1h", "--until", "0s"]).ok().lines().count(), 2);
    assert_eq!(shop.hoist(&["events", "--until", "0s"]).ok(), "", "without --since from now on");
    assert_eq!(shop.hoist(&["events", "--since", "1h", "--until", "2h"]).ok(), "", "it ends before it begins");
    for (arguments, message) in [(["events", "c"], "no such service: c"), (["events", "--since=x"], "`x` is no time")] {
        let told = shop.hoist(&arguments).code(1).stderr;
        assert!(told.contains(message), "{told}");
    }
}

#[test]
fn nothing_is_lost_or_told_twice_when_workers_are_killed() {
    require_root!();
    let shop = TestProject::new("shop", POLITE);
    shop.hoist(&["up", "-d", "--wait"]).ok();
    let supervisor = shop.supervisor();
    let killed = |pid: i32| kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
    killed(supervisor.worker_pid);
    eventually(20.secs(), "another worker", || (shop.supervisor().worker_pid != supervisor.worker_pid).then_some(()));
    shop.hoist(&["ps"]).ok();
    assert_eq!(story(&shop, &[]), ["web create", "web start", "web health_status: healthy"]);
    // It ends while nobody looks.
    let supervisor = shop.supervisor();
    killed(supervisor.holder_pid);
    killed(supervisor.worker_pid);
    killed(shop.pid("web"));
    shop.hoist(&["ps", "-a"]).ok();
    let end = |event: &String| event.starts_with("web die");
    eventually(20.secs(), "the end is told", || story(&shop, &[]).iter().any(end).then_some(()));
    assert_eq!(story(&shop, &[]).iter().filter(|event| end(event)).count(), 1);
    shop.down();
    // What is cut short, or full, is in nobody's way.
    let events = shop.host().run().join("events");
    let whole = fs::read_to_string(&events).expect("events");
    fs::write(&events, format!("{}\n{{\"time\":", whole.trim_end())).expect("written");
    shop.up();
    let starts = || story(&shop, &[]).iter().filter(|event| *event == "web start").count();
    assert_eq!(starts(), 2, "{:?}", story(&shop, &[]));
    fs::remove_file(&events).expect("removed");
    shop.hoist(&["restart", "-t", "0"]).ok();
    assert!(story(&shop, &[]).contains(&"web restart".to_owned()), "{:?}", story(&shop, &[]));
    shop.down();
}

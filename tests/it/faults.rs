//! Commands and supervisors that end at every boundary of their work: the next command finishes what they began, and
//! `down` leaves nothing.
//!
//! A first run without a fault reports the boundaries that it meets. With full counts (`./dev soak`) a run is then ended
//! at the first, the second, the third and so on, until one meets no fault; else once at each name.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;

use hoist::state::record::{Health, State};

use super::support::net;
use super::support::project::TestProject;
use super::support::run::Run;
use super::support::{Secs as _, eventually, holds, is_soak, require_root};

/// A job, a database that is asked for its health, a published page: every kind of step.
const SHOP: &str = "
services:
  init:
    image: busybox
    command: sh -c 'echo made > /data/init'
    volumes: [data:/data]
  db:
    image: busybox
    command: sh -c 'cat /data/init; exec sleep 1000'
    volumes: [data:/data, ./conf:/conf:ro]
    healthcheck:
      test: test -e /conf/index.html
      interval: 1h
    depends_on:
      init:
        condition: service_completed_successfully
  web:
    image: busybox
    command: httpd -f -p 80 -h /conf
    volumes: [./conf:/conf:ro]
    ports: ['8080:80']
    depends_on:
      db:
        condition: service_healthy
volumes:
  data:
";

/// A boundary that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Met {
    role: String,
    name: String,
    killed: bool,
}

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.write("conf/index.html", "here\n");
    shop.hoist(&["version"]).ok();
    shop
}

/// Runs a command with a fault, or none; returns how it went and the boundaries met by it and by the supervisor that it
/// started, which may write more of them.
pub(super) fn run(shop: &TestProject, fault: Option<&str>, arguments: &[&str]) -> (Run, Vec<Met>) {
    let _ = fs::remove_file(shop.path("report")); // there is none at first
    let mut command = shop.command(arguments);
    command.env("HOIST_FAULT_REPORT", shop.path("report"));
    if let Some(fault) = fault {
        command.env("HOIST_FAULT", fault);
    }
    (Run::of(command, 60.secs()), report(shop))
}

/// Returns what was reported since the last [`run`].
fn report(shop: &TestProject) -> Vec<Met> {
    let text = fs::read_to_string(shop.path("report")).unwrap_or_default();
    let met = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        assert!(matches!(words.len(), 3 | 4), "{line}");
        Met { role: words[0].to_owned(), name: words[2].to_owned(), killed: words.len() == 4 }
    };
    text.lines().map(met).collect()
}

/// Returns the faults to try: every boundary by its number and one more, or every name once, now at its first time and
/// now at its last.
pub(super) fn faults(role: &str, met: &[Met]) -> Vec<String> {
    let prefix = if role == "command" { String::new() } else { format!("{role}:") };
    let of_role: Vec<&Met> = met.iter().filter(|m| m.role == role).collect();
    assert!(!of_role.is_empty(), "no boundary of {role}");
    if is_soak() {
        return (1..=of_role.len() + 1).map(|n| format!("{prefix}{n}")).collect();
    }
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for met in of_role {
        *times.entry(&met.name).or_default() += 1;
    }
    let turns = times.iter().enumerate();
    turns.map(|(i, (name, n))| format!("{prefix}{name}@{}", if i % 2 == 0 { 1 } else { *n })).collect()
}

/// Returns the boundaries of some parts of a command, such as `image.`.
pub(super) fn of_parts(parts: &[&str], met: Vec<Met>) -> Vec<Met> {
    met.into_iter().filter(|met| met.role == "command" && parts.iter().any(|part| met.name.starts_with(part))).collect()
}

/// Returns faults as [`faults`] does, by name also with full counts, for boundaries among many others.
pub(super) fn faults_by_name(met: &[Met]) -> Vec<String> {
    if !is_soak() {
        return faults("command", met);
    }
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let numbered = met.iter().map(|met| {
        let n = times.entry(&met.name).or_default();
        *n += 1;
        format!("{}@{n}", met.name)
    });
    numbered.collect()
}

/// Returns how many boundaries a process met.
pub(super) fn of(role: &str, met: &[Met]) -> usize {
    met.iter().filter(|m| m.role == role).count()
}

/// Returns whether a fault struck; one that names the first of its kind must.
#[track_caller]
pub(super) fn struck(fault: &str, met: &[Met], run: &Run) -> bool {
    let killed = met.iter().any(|m| m.killed);
    assert!(killed || !fault.ends_with("@1"), "{fault} was not met\n{run}");
    killed
}

/// Waits until all is as the file asks for, and nothing is left to do.
#[track_caller]
fn is_up(shop: &TestProject, after: &str) {
    let records = shop.records();
    let replicas = records.iter().filter(|r| r.labels["com.docker.compose.oneoff"] == "False");
    let services: Vec<&str> = replicas.map(|r| r.service.as_str()).collect();
    assert_eq!(services.len(), 3, "after {after}: {services:?}");
    let status = |service: &str| shop.try_status(service);
    // Its exit code may have been lost, and then it runs again; nobody waits for that when the others are up.
    eventually(10.secs(), &format!("init has completed after {after}"), || {
        holds(status("init").is_some_and(|s| (s.state, s.exit_code) == (State::Exited, Some(0))))
    });
    for service in ["db", "web"] {
        eventually(10.secs(), &format!("{service} runs after {after}"), || {
            holds(status(service).is_some_and(|s| s.state == State::Running && s.process.is_some()))
        });
    }
    // One that ran before was not waited for, and is asked anew by a new worker.
    eventually(10.secs(), &format!("db is healthy after {after}"), || {
        holds(status("db").is_some_and(|s| s.health == Some(Health::Healthy)))
    });
    eventually(10.secs(), &format!("the page is there after {after}"), || {
        let page = net::http_get("127.0.0.1:8080".parse().expect("an address"), "/");
        holds(page.is_ok_and(|page| page == "here\n"))
    });
    let table = shop.hoist(&["ps", "-a"]).ok();
    assert!(table.contains("(healthy)") && table.contains("Exited (0)"), "after {after}:\n{table}");
    assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "", "after {after}");
}

/// Says, past the test runner's capture, how many boundaries were tried.
pub(super) fn tell(what: &str, tried: usize, of: usize) {
    if is_soak() {
        drop(writeln!(std::io::stderr(), "{what}: ended at {tried} boundaries of {of}"));
    }
}

#[test]
fn an_up_and_a_down_that_end_anywhere_are_finished_by_the_next() {
    require_root!();
    let shop = shop();
    let before = shop.host().objects();
    let (up, met_up) = run(&shop, None, &["up", "-d"]);
    let _ = up.code(0);
    is_up(&shop, "a clean up");
    let (down, met_down) = run(&shop, None, &["down", "-v"]);
    let _ = down.code(0);
    shop.host().is_again(&before);
    let (ups, downs) = (faults("command", &met_up), faults("command", &met_down));
    let mut tried = 0;
    for turn in 0..ups.len().max(downs.len()) {
        if let Some(fault) = ups.get(turn) {
            let (up, met) = run(&shop, Some(fault), &["up", "-d"]);
            let killed = struck(fault, &met, &up);
            tried += usize::from(killed);
            assert_eq!(up.code.is_none(), killed, "{up}");
            // Now and then what a killed `up` left is taken down at once.
            if turn % 4 == 3 {
                shop.hoist(&["down", "-v"]).ok();
                shop.host().is_again_after(&before, fault);
            }
        }
        shop.up();
        is_up(&shop, ups.get(turn).map_or("a clean down", String::as_str));
        if let Some(fault) = downs.get(turn) {
            let (down, met) = run(&shop, Some(fault), &["down", "-v"]);
            let killed = struck(fault, &met, &down);
            tried += usize::from(killed);
            assert_eq!(down.code.is_none(), killed, "{down}");
        }
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, downs.get(turn).map_or("a clean up", String::as_str));
    }
    tell("up and down", tried, of("command", &met_up) + of("command", &met_down));
}

#[test]
fn an_up_that_replaces_and_ends_anywhere_is_finished_by_the_next() {
    require_root!();
    let shop = shop();
    let before = shop.host().objects();
    shop.up();
    let (up, met) = run(&shop, None, &["up", "-d", "--force-recreate"]);
    let _ = up.code(0);
    is_up(&shop, "a clean up");
    let mut tried = 0;
    for fault in faults("command", &met) {
        let (up, met) = run(&shop, Some(&fault), &["up", "-d", "--force-recreate"]);
        tried += usize::from(struck(&fault, &met, &up));
        shop.up();
        is_up(&shop, &fault);
    }
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&before);
    tell("up --force-recreate", tried, of("command", &met));
}

#[test]
fn a_run_that_ends_anywhere_leaves_nothing_that_the_next_does_not_take_away() {
    require_root!();
    let shop = shop();
    let before = shop.host().objects();
    let once = ["run", "--rm", "-T", "db", "cat", "/data/init"];
    let (clean, met) = run(&shop, None, &once);
    assert_eq!(clean.code(0).stdout, "made\n");
    shop.hoist(&["down", "-v"]).ok();
    let mut tried = 0;
    for fault in faults("command", &met) {
        let (ended, met) = run(&shop, Some(&fault), &once);
        tried += usize::from(struck(&fault, &met, &ended));
        // One that had been created and not started stays until `down`; one that has run goes with the next command.
        eventually(20.secs(), &format!("what ran has gone after {fault}"), || {
            shop.up();
            let ids = shop.records().into_iter().filter(|r| r.auto_remove).map(|r| r.id);
            let started = |id| shop.run_dir().join("containers").join(format!("{id}.json")).exists();
            holds(!ids.into_iter().any(started))
        });
        is_up(&shop, &fault);
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, &fault);
    }
    tell("run --rm", tried, of("command", &met));
}

/// Brings the project up with a fault in its supervisor, works with it and takes it down; the commands' own success is
/// what is returned, and the boundaries that the supervisor met over all of it.
fn life(shop: &TestProject, fault: Option<&str>) -> (Vec<Run>, Vec<Met>) {
    let (up, _) = run(shop, fault, &["up", "-d"]);
    let restart = shop.hoist(&["restart", "-t", "1", "db"]);
    let exec = shop.hoist(&["exec", "-T", "web", "cat", "/conf/index.html"]);
    (vec![up, restart, exec], report(shop))
}

#[test]
fn a_worker_that_ends_anywhere_is_replaced_and_no_command_fails() {
    require_root!();
    let shop = shop();
    let before = shop.host().objects();
    let whole = |fault: Option<&str>| {
        let (runs, _) = life(&shop, fault);
        for run in &runs[..2] {
            assert_eq!(run.code, Some(0), "{fault:?}: {run}");
        }
        // Nobody knows whether an exec ran that was under way: it says so, and is not repeated.
        let exec = &runs[2];
        assert!(exec.stdout == "here\n" || exec.stderr.contains("the supervisor went away"), "{fault:?}: {exec}");
        shop.wait_status("db", "healthy", |s| s.health == Some(Health::Healthy));
        is_up(&shop, fault.unwrap_or("no fault"));
        eventually(10.secs(), &format!("all that db wrote is in its log after {fault:?}"), || {
            holds(shop.log_text("db") == "made\nmade\n")
        });
        let down = shop.hoist(&["down", "-v"]);
        assert_eq!(down.code, Some(0), "{fault:?}: {down}");
        shop.host().is_again_after(&before, fault.unwrap_or("no fault"));
        (report(&shop), down)
    };
    let (met, _) = whole(None);
    let mut tried = 0;
    for fault in faults("worker", &met) {
        let (met, down) = whole(Some(&fault));
        tried += usize::from(struck(&fault, &met, &down));
    }
    tell("worker", tried, of("worker", &met));
}

#[test]
fn a_holder_that_ends_anywhere_is_replaced_by_the_next_command() {
    require_root!();
    let shop = shop();
    let before = shop.host().objects();
    let (runs, _) = life(&shop, None);
    assert!(runs.iter().all(|run| run.code == Some(0)), "{runs:?}");
    shop.wait_status("db", "healthy", |s| s.health == Some(Health::Healthy));
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&before);
    let met = report(&shop);
    let mut tried = 0;
    for fault in faults("holder", &met) {
        let (runs, _) = life(&shop, Some(&fault));
        // A job whose exit code went with the holder is not known to have succeeded.
        shop.up();
        is_up(&shop, &fault);
        // It may end while it leaves, after the command has.
        eventually(20.secs(), &format!("nothing is left after {fault}"), || {
            let down = shop.hoist(&["down", "-v"]);
            assert_eq!(down.code, Some(0), "{fault}: {down}");
            holds(shop.host().left_since(&before).is_empty())
        });
        tried += usize::from(struck(&fault, &report(&shop), &runs[0]));
    }
    tell("holder", tried, of("holder", &met));
}

#[test]
fn a_fault_that_makes_no_sense_is_refused() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let mut command = shop.command(&["version"]);
    command.env("HOIST_FAULT", "worker");
    let _ = Run::of(command, 20.secs()).code(0); // a name of a boundary, which `version` does not meet
    let mut command = shop.command(&["version"]);
    command.env("HOIST_FAULT", "keeper:1");
    let message = Run::of(command, 20.secs()).fails();
    assert!(message.contains("HOIST_FAULT=keeper:1"), "{message}");
}

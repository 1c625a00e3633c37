//! `wait`: the end of containers, and their exit codes.

use nix::sys::signal::Signal;

use super::support::project::TestProject;
use super::support::run::Running;
use super::support::{Secs as _, require_root};

/// Jobs that end when they are told to, with the code that they are told.
const JOBS: &str = "
services:
  a: &job
    image: busybox
    command: sh -c 'while ! test -e /ctl/$$NAME; do sleep 0.02; done; exit $$(cat /ctl/$$NAME)'
    environment: {NAME: a}
    volumes: ['./ctl:/ctl']
  b:
    <<: *job
    environment: {NAME: b}
";

fn jobs() -> TestProject {
    let jobs = TestProject::new("jobs", JOBS);
    jobs.make_dir("ctl");
    jobs.up();
    jobs
}

/// Returns a command that waits for both, when it has seen the end of `b`.
fn waiting_for_a(jobs: &TestProject) -> Running {
    let mut wait = jobs.spawn(&["wait", "a", "b"]);
    jobs.write("ctl/b", "0");
    wait.wait_for("the end of b", |seen| seen.ends_with("exited with status code 0"));
    wait
}

#[test]
fn the_code_of_the_last_to_end_is_ours() {
    require_root!();
    let jobs = jobs();
    let line =
        |service: &str, code: i32| format!("container \"{}\" exited with status code {code}", jobs.record(service).id);
    let (a, b) = (line("a", 5), line("b", 3));
    let mut wait = jobs.spawn(&["wait", "b", "a"]);
    jobs.write("ctl/a", "5");
    wait.wait_for("the first", |seen| seen == a);
    jobs.write("ctl/b", "3");
    let run = wait.finish(20.secs()).code(3);
    assert_eq!(run.stdout, format!("{a}\n{b}\n"));
    assert_eq!(jobs.hoist(&["wait", "a"]).code(5).stdout, format!("{a}\n"), "one that has ended counts");
    let nowhere = jobs.beside("nowhere", "");
    assert_eq!(nowhere.hoist(&["-p", "jobs", "wait", "b"]).code(3).stdout, format!("{b}\n"));
}

#[test]
fn the_first_end_takes_the_project_down_if_asked() {
    require_root!();
    let jobs = jobs();
    let mut wait = jobs.spawn(&["wait", "--down-project", "a", "b"]);
    jobs.write("ctl/a", "7");
    wait.wait_for("the end", |seen| seen.ends_with("exited with status code 7"));
    let run = wait.finish(60.secs()).code(7);
    assert!(run.stderr.contains(" Container jobs-b-1 Removed"), "{run}");
    assert_eq!(jobs.records(), []);
}

#[test]
fn what_is_removed_meanwhile_has_ended_too() {
    require_root!();
    let jobs = jobs();
    let wait = waiting_for_a(&jobs);
    jobs.hoist(&["down", "-t", "0"]).ok();
    let run = wait.finish(20.secs()).code(137);
    assert!(run.stdout.ends_with("exited with status code 137\n"), "{run}");
}

#[test]
fn there_must_be_something_to_wait_for() {
    require_root!();
    let jobs = TestProject::new("jobs", JOBS);
    jobs.make_dir("ctl");
    let told: String =
        [&["wait", "a"][..], &["wait", "c"], &["wait"]].iter().map(|line| jobs.hoist(line).code(1).stderr).collect();
    insta::assert_snapshot!(told, @r#"
    error: no containers for project "jobs"
    help: start them with: hoist up -d a
    error: no such service: c
    help: did you mean `a`?
    error: the following required arguments were not provided:
      <SERVICES>...

    Usage: hoist wait <SERVICES>...

    For more information, try '--help'.
    "#);
    jobs.up();
    let wait = waiting_for_a(&jobs);
    wait.signal(Signal::SIGINT);
    assert_eq!(wait.finish(20.secs()).code(130).stdout.lines().count(), 1);
}

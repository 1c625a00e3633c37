//! Attached clients that lose their worker get each line once, also what was said while they had none.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::project::TestProject;
use super::support::run::{Run, Running};
use super::support::{Secs as _, eventually, holds, require_root};

/// Says a line on each stream when it is signalled, and at its end half of one on standard error, which is no
/// UTF-8.
const TELLER: &str = r#"
services:
  web:
    image: busybox
    command:
      - sh
      - -c
      - |
        trap 'n=$$((n+1)); echo line $$n; echo also $$n >&2' USR1
        trap "printf 'w\377rds' >&2; exit 5" TERM
        echo ready
        while :; do sleep 0.02; done
"#;

fn teller() -> TestProject {
    let shop = TestProject::new("shop", TELLER);
    shop.up();
    shop.wait_log("web", "ready", |line| line == "ready");
    shop
}

/// Has the container say its next lines, and waits until they are in the log.
#[track_caller]
fn say(shop: &TestProject, number: u32) {
    kill(Pid::from_raw(shop.pid("web")), Signal::SIGUSR1).expect("it runs");
    for word in ["line", "also"] {
        shop.wait_log("web", word, |line| line == format!("{word} {number}"));
    }
}

fn attach(shop: &TestProject) -> Running {
    let client = shop.spawn(&["attach", "--no-stdin", "--sig-proxy=false", "web"]);
    wait_attached(shop, client.pid());
    client
}

/// Waits until the worker has a client's pipes.
#[track_caller]
fn wait_attached(shop: &TestProject, client: Pid) {
    let pipes = |pid: i32| -> BTreeSet<String> {
        let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
        let names = all.filter_map(|fd| std::fs::read_link(fd.path()).ok()?.into_os_string().into_string().ok());
        names.filter(|name| name.starts_with("pipe:")).collect()
    };
    let worker = shop.supervisor().worker_pid;
    eventually(20.secs(), "it is attached", || holds(pipes(worker).intersection(&pipes(client.as_raw())).count() == 2));
}

fn kill_worker(shop: &TestProject) {
    let before = shop.supervisor().worker_pid;
    kill(Pid::from_raw(before), Signal::SIGKILL).expect("it runs");
    eventually(20.secs(), "another worker", || holds(shop.supervisor().worker_pid != before));
}

/// A process that is stopped as long as this is there.
struct Stopped(Pid);

impl Stopped {
    fn new(pid: Pid) -> Self {
        kill(pid, Signal::SIGSTOP).expect("it runs");
        let stopped = Self(pid);
        eventually(20.secs(), "all of its threads are stopped", || {
            let mut tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten();
            holds(tasks.all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
                stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
            }))
        });
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT); // it may have been killed
    }
}

/// Has the container end; compares what its client was given with lines `from` to `to` and its last words.
#[track_caller]
fn ends(shop: &TestProject, client: Running, from: u32, to: u32) {
    kill(Pid::from_raw(shop.pid("web")), Signal::SIGTERM).expect("it runs");
    assert_eq!(shop.wait_exit("web"), 5);
    has_all(client, from, to);
}

#[track_caller]
fn has_all(client: Running, from: u32, to: u32) {
    let run = client.finish(20.secs()).code(5);
    let lines = |word: &str| (from..=to).map(|n| format!("{word} {n}\n")).collect::<String>();
    assert_eq!((run.stdout, run.stderr), (lines("line"), lines("also") + "w\u{fffd}rds"));
}

#[test]
fn a_client_that_comes_while_lines_go_from_the_pipe_to_the_log_has_each_once() {
    require_root!();
    let shop = teller();
    let holder = Pid::from_raw(shop.supervisor().holder_pid);
    // The worker has logged a line and waits for the holder to take it out of the pipe.
    let stopped = Stopped::new(holder);
    say(&shop, 1);
    let client = attach(&shop);
    drop(stopped);
    say(&shop, 2);
    // So has the next one, when the client comes back to it.
    let away = Stopped::new(client.pid());
    kill_worker(&shop);
    let stopped = Stopped::new(holder);
    say(&shop, 3);
    drop(away);
    wait_attached(&shop, client.pid());
    drop(stopped);
    say(&shop, 4);
    ends(&shop, client, 2, 4);
}

#[test]
fn a_client_that_loses_one_worker_after_the_other_has_each_line_once() {
    require_root!();
    let shop = teller();
    let mut client = attach(&shop);
    for round in 0..3 {
        say(&shop, 3 * round + 1);
        let away = Stopped::new(client.pid());
        kill_worker(&shop);
        say(&shop, 3 * round + 2);
        drop(away);
        client.wait_for("what it missed", |line| line == format!("line {}", 3 * round + 2));
        say(&shop, 3 * round + 3);
    }
    ends(&shop, client, 1, 9);
}

#[test]
fn a_client_that_comes_back_after_the_end_has_the_rest_of_both_streams() {
    require_root!();
    let shop = teller();
    let client = attach(&shop);
    say(&shop, 1);
    let away = Stopped::new(client.pid());
    kill_worker(&shop);
    say(&shop, 2);
    kill(Pid::from_raw(shop.pid("web")), Signal::SIGTERM).expect("it runs");
    assert_eq!(shop.wait_exit("web"), 5);
    drop(away);
    has_all(client, 1, 2);
}

#[test]
fn half_a_line_on_standard_error_is_in_the_log_before_the_end_is_told() {
    require_root!();
    let shop = TestProject::new("shop", TELLER);
    let mut up = shop.command(&["up", "-d"]);
    up.env("HOIST_FAULT", "worker:end.recorded");
    Run::of(up, 60.secs()).ok();
    shop.wait_log("web", "ready", |line| line == "ready");
    kill(Pid::from_raw(shop.pid("web")), Signal::SIGTERM).expect("it runs");
    assert_eq!(shop.wait_exit("web"), 5);
    assert_eq!(shop.log_text("web"), "ready\nw\u{fffd}rds");
}

#[test]
fn a_client_whose_output_is_not_read_when_its_worker_dies_has_each_line_once() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "services:\n  web:\n    image: busybox\n    command: sh -c 'trap \"seq 30000; exit 0\" TERM; echo ready; while :; do sleep 0.02; done'\n",
    );
    shop.up();
    shop.wait_log("web", "ready", |line| line == "ready");
    let mut attach = shop.command(&["attach", "--no-stdin", "--sig-proxy=false", "web"]);
    let mut client = attach.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started");
    wait_attached(&shop, Pid::from_raw(client.id().cast_signed()));
    kill(Pid::from_raw(shop.pid("web")), Signal::SIGTERM).expect("it runs");
    let mut shown = client.stdout.take().expect("piped");
    eventually(20.secs(), "its output is full", || {
        holds(rustix::io::ioctl_fionread(&shown).is_ok_and(|bytes| bytes > 60 << 10))
    });
    kill_worker(&shop);
    // It waits for its reader, for longer than it waits for a process that has ended; then it goes to the next worker.
    std::thread::sleep(3.secs());
    let mut text = String::new();
    shown.read_to_string(&mut text).expect("read");
    assert!(client.wait().expect("ours").success());
    let lines: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(lines == (1..=30000).collect::<Vec<u32>>(), "{} lines", lines.len());
}

#[test]
fn who_reads_late_gets_all_and_who_does_not_read_can_be_ended() {
    require_root!();
    let shop = TestProject::new("shop", "services: {web: {image: busybox, command: sleep 1000}}\n");
    shop.up();
    // More than one pipe holds, and less than two.
    let script = ["sh", "-c", "seq 20000"];
    for line in [&["run", "--rm", "-T", "web"][..], &["exec", "-T", "web"]] {
        let start = || {
            let mut command = shop.command(&[line, &script].concat());
            command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("started")
        };
        let mut late = start();
        std::thread::sleep(4.secs());
        let mut all = String::new();
        late.stdout.take().expect("piped").read_to_string(&mut all).expect("read");
        assert!(late.wait().expect("ours").success());
        assert!(
            all.lines().map(str::to_owned).eq((1..=20_000).map(|n| n.to_string())),
            "{} lines",
            all.lines().count()
        );
        // Nobody reads: it waits, until it is told to end.
        let mut stuck = start();
        let pid = Pid::from_raw(stuck.id().try_into().expect("a pid"));
        std::thread::sleep(3.secs());
        assert_eq!(stuck.try_wait().expect("ours"), None, "{line:?}");
        eventually(20.secs(), "it ends", || {
            let _ = kill(pid, Signal::SIGTERM);
            holds(stuck.try_wait().expect("ours").is_some())
        });
    }
}

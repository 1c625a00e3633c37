//! `logs`: what is shown of what containers wrote.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, is_soak, require_root};

const TALKER: &str = "
services:
  talker:
    image: busybox
    command: sh -c 'echo one; echo two >&2; echo three; touch /ctl/said; until [ -e /ctl/go ]; do sleep 0.02; done; echo four'
    volumes: [./ctl:/ctl]
";

fn talker() -> TestProject {
    let shop = TestProject::new("shop", TALKER);
    shop.make_dir("ctl");
    shop.up();
    shop.wait_log("talker", "three", |line| line == "three");
    shop
}

#[test]
fn every_line_is_kept_with_its_stream_and_time() {
    require_root!();
    let shop = talker();
    shop.wait_log("talker", "two", |line| line == "two");
    let lines = shop.log("talker");
    let of = |stream: &str| lines.iter().filter(|l| l.stream == stream).map(|l| l.log.as_str()).collect::<String>();
    assert_eq!((of("stdout").as_str(), of("stderr").as_str()), ("one\nthree\n", "two\n"));
    for line in &lines {
        let time: jiff::Timestamp = line.time.parse().expect("RFC 3339");
        let age = jiff::Timestamp::now().duration_since(time);
        assert!(age.as_secs() < 60 && !age.is_negative(), "{}", line.time);
    }
}

#[test]
fn logs_shows_a_prefix_times_and_the_last_lines() {
    require_root!();
    let shop = talker();
    shop.write("ctl/go", "");
    assert_eq!(shop.wait_exit("talker"), 0);
    // What was written to stderr is shown there, as in Compose.
    let all = shop.hoist(&["logs"]).code(0);
    assert_eq!(all.stdout, "talker-1  | one\ntalker-1  | three\ntalker-1  | four\n");
    assert_eq!(all.stderr, "talker-1  | two\n");
    let last = shop.hoist(&["logs", "-n", "1", "--no-log-prefix", "talker"]).ok();
    assert_eq!(last, "four\n");
    assert_eq!(shop.hoist(&["logs", "-n", "0"]).ok(), "");
    let timed = shop.hoist(&["logs", "-t", "--no-log-prefix", "-n", "1"]).ok();
    let (time, text) = timed.trim_end().split_once(' ').expect("a time and a text");
    assert_eq!(text, "four");
    time.parse::<jiff::Timestamp>().unwrap_or_else(|e| panic!("{time}: {e}"));
    let message = shop.hoist(&["logs", "tolker"]).fails();
    assert!(message.contains("did you mean `talker`?"), "{message}");
}

#[test]
fn lines_are_chosen_by_their_time_and_their_container() {
    require_root!();
    let shop = talker();
    shop.wait_log("talker", "two", |line| line == "two");
    super::support::pause();
    shop.write("ctl/go", "");
    assert_eq!(shop.wait_exit("talker"), 0);
    let lines = shop.log("talker");
    let four = &lines.iter().find(|line| line.log == "four\n").expect("the last line").time;
    let logs = |options: &[&str]| shop.hoist(&[&["logs", "--no-log-prefix"], options].concat()).ok();
    assert_eq!(logs(&["--since", four]), "four\n");
    assert_eq!(logs(&["--until", four]), "one\nthree\n");
    assert_eq!(logs(&["--since", "1h", "-n", "1"]), "four\n");
    assert_eq!(logs(&["--since", "2000-01-01", "--until", "1h"]), "");
    assert_eq!(logs(&["--index", "1"]), "one\nthree\nfour\n");
    assert_eq!(logs(&["--index", "2"]), "");
    let message = shop.hoist(&["logs", "--since", "soon"]).fails();
    assert!(message.contains("`soon` is no time: write how long ago"), "{message}");
}

#[test]
fn lines_of_many_containers_are_complete_and_in_order_also_over_a_killed_supervisor() {
    require_root!();
    let lines = if is_soak() { 10_000 } else { 1_000 };
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  many:
    image: busybox
    init: true
    command: sh -c 'until [ -e /ctl/go ]; do sleep 0.02; done; i=0; while [ $$i -lt {lines} ]; do echo $$i; i=$$((i + 1)); done; sleep 1000'
    volumes: [./ctl:/ctl]
    scale: 10
"
        ),
    );
    shop.make_dir("ctl");
    shop.hoist(&["up", "-d", "--scale", "many=10"]).ok();
    shop.write("ctl/go", "");
    let last = (lines - 1).to_string();
    for number in 1..=2 {
        eventually(60.secs(), "a part of the lines", || {
            let some = shop.hoist(&["logs", "--no-log-prefix", "-n", "1"]).ok();
            holds(some.lines().any(|line| line.parse().is_ok_and(|n: u32| n >= lines / 4 * number)))
        });
        let supervisor = shop.supervisor();
        for pid in [supervisor.worker_pid, supervisor.holder_pid].into_iter().take(number as usize) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it runs");
        }
        shop.hoist(&["ps"]).ok();
    }
    let mut shown: BTreeMap<String, Vec<u32>> = BTreeMap::new();
    let mut before = String::new();
    let all = eventually(60.secs(), "all lines", || {
        let all = shop.hoist(&["logs", "-t"]).ok();
        holds(all.lines().filter(|line| line.ends_with(&format!(" {last}"))).count() == 10).map(|()| all)
    });
    for line in all.lines() {
        let (label, rest) = line.split_once('|').expect("a prefix");
        let (time, text) = rest.trim().split_once(' ').expect("a time");
        assert!(before.as_str() <= time, "{before} before {line}");
        time.clone_into(&mut before);
        shown.entry(label.trim().to_owned()).or_default().push(text.parse().expect("a number"));
    }
    assert_eq!(shown.len(), 10);
    for (label, numbers) in shown {
        assert!(numbers.into_iter().eq(0..lines), "{label}");
    }
}

#[test]
fn following_shows_what_comes_and_ends_with_the_last_container() {
    require_root!();
    let shop = talker();
    let mut logs = shop.spawn(&["logs", "-f", "--no-log-prefix"]);
    logs.wait_for("three", |line| line == "three");
    shop.write("ctl/go", "");
    logs.wait_for("four", |line| line == "four");
    let _ = logs.finish(20.secs()).code(0);
}

#[test]
fn following_ends_by_itself_at_a_time() {
    require_root!();
    let shop = talker();
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(1);
    let mut logs = shop.spawn(&["logs", "-f", "--no-log-prefix", "--until", &soon.to_string()]);
    logs.wait_for("three", |line| line == "three");
    let _ = logs.finish(20.secs()).code(0);
    assert_eq!(shop.try_status("talker").expect("a status").exit_code, None, "the container goes on");
}

#[test]
fn following_can_be_interrupted_and_leaves_the_container_alone() {
    require_root!();
    let shop = talker();
    let pid = shop.pid("talker");
    let mut logs = shop.spawn(&["logs", "-f"]);
    logs.wait_for("three", |line| line.ends_with("three"));
    logs.signal(Signal::SIGINT);
    let _ = logs.finish(20.secs()).code(130);
    assert_eq!(shop.pid("talker"), pid);
}

#[test]
fn a_last_line_without_its_newline_is_kept() {
    require_root!();
    let shop =
        TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: sh -c 'printf \"a\\\\nb\"'\n");
    shop.up();
    assert_eq!(shop.wait_exit("web"), 0);
    assert_eq!(shop.log_text("web"), "a\nb");
    assert_eq!(shop.hoist(&["logs", "--no-log-prefix"]).ok(), "a\nb\n");
}

#[test]
fn output_can_be_reopened_by_name_as_any_user() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    user: www-data
    command: sh -c 'echo out > /dev/stdout; echo err > /proc/self/fd/2; exec sleep 1000'
",
    );
    shop.up();
    shop.wait_log("web", "both", |line| line == "err");
    assert_eq!(shop.log_text("web"), "out\nerr\n");
}

#[test]
fn a_very_long_line_and_odd_bytes_come_through() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c 'dd if=/dev/zero bs=1000 count=300 2>/dev/null | tr \"\\\\0\" x; echo; printf \"ä\\\\377\\\\n\"'
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("web"), 0);
    let text = shop.log_text("web");
    let mut lines = text.lines();
    let long = lines.next().expect("the long line");
    assert_eq!((long.len(), long.trim_matches('x')), (300_000, ""));
    assert_eq!(lines.next(), Some("ä\u{fffd}"));
}

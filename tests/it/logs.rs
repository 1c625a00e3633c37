//! `logs`: what is shown of what containers wrote.

use nix::sys::signal::Signal;

use super::support::project::TestProject;
use super::support::{Secs as _, require_root};

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

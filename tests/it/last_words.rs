//! An `up` that fails because of a container shows what that said last.

use super::support::project::TestProject;
use super::support::require_root;

/// Returns what a failed `up -d` with these options says at its end, from the error on.
#[track_caller]
fn error(compose: &str, options: &[&str]) -> String {
    let shop = TestProject::new("shop", compose);
    let run = shop.hoist(&[&["up", "-d"], options].concat());
    assert!(run.code.is_some_and(|code| code != 0), "{run}");
    let from = run.stderr.find("error: ").unwrap_or_else(|| panic!("{run}"));
    run.stderr[from..].to_owned()
}

const WEB: &str = "
  web:
    image: busybox
    command: sleep 1000
    depends_on:
      db:
        condition: ";

#[test]
fn of_one_that_is_unhealthy() {
    require_root!();
    let db = "
services:
  db:
    image: busybox
    command: sh -c 'for i in $$(seq 12); do echo line $$i; done; exec sleep 1000'
    healthcheck:
      test: echo \"no answer from [::]:5432\"; exit 3
      interval: 50ms
      retries: 2
";
    insta::assert_snapshot!(error(&format!("{db}{WEB}service_healthy\n"), &[]), @r"
    error: dependency failed to start: container shop-db-1 is unhealthy
    help: see its output: hoist logs db
          6 of 8 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on

    the health check of shop-db-1 says (exit code 3):
      > no answer from [::]:5432

    the last lines of shop-db-1:
      > line 3
      > line 4
      > line 5
      > line 6
      > line 7
      > line 8
      > line 9
      > line 10
      > line 11
      > line 12
    ");
}

#[test]
fn of_one_whose_health_check_is_not_there_or_takes_too_long() {
    require_root!();
    let db = |test: &str| {
        format!(
            "
services:
  db:
    image: busybox
    command: sleep 1000
    healthcheck:
      test: {test}
      interval: 50ms
      timeout: 300ms
      retries: 1
{WEB}service_healthy
"
        )
    };
    insta::assert_snapshot!(error(&db("[CMD, pg_isready]"), &[]), @r"
    error: dependency failed to start: container shop-db-1 is unhealthy
    help: see its output: hoist logs db
          6 of 8 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on

    the health check of shop-db-1 says (exit code 127):
      > the command is not in the image: executable file not found in $PATH
    ");
    insta::assert_snapshot!(error(&db("echo waiting; sleep 1000"), &[]), @r"
    error: dependency failed to start: container shop-db-1 is unhealthy
    help: see its output: hoist logs db
          6 of 8 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on

    the health check of shop-db-1 says (it took too long):
      > waiting
    ");
}

#[test]
fn of_one_that_ended() {
    require_root!();
    let db = "
services:
  db:
    image: busybox
    command: sh -c 'printf \"\\033[2Jcannot open \\007the book\\\\r\\\\n\" >&2; printf \"no newline\"; exit 3'
    healthcheck:
      test: sleep 1000
";
    insta::assert_snapshot!(error(&format!("{db}{WEB}service_healthy\n"), &[]), @r"
    error: dependency failed to start: container shop-db-1 exited (3)
    help: see its output: hoist logs db
          6 of 8 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on

    the last lines of shop-db-1:
      > \u{1b}[2Jcannot open \u{7}the book
      > no newline
    ");
    insta::assert_snapshot!(error(&format!("{db}{WEB}service_completed_successfully\n"), &[]), @r#"
    error: service "db" didn't complete successfully: exit 3
    help: see its output: hoist logs db
          6 of 8 steps were done; not finished: shop-web-1. What was done stays; run `hoist up` again to go on

    the last lines of shop-db-1:
      > \u{1b}[2Jcannot open \u{7}the book
      > no newline
    "#);
}

#[test]
fn of_one_that_was_to_be_waited_for() {
    require_root!();
    let compose = "
services:
  job:
    image: busybox
    command: sh -c 'for i in $$(seq 30); do echo line $$i; done; exit 4'
    healthcheck: {test: sleep 1000}
";
    insta::assert_snapshot!(error(compose, &["--wait"]), @r"
    error: container shop-job-1 exited (4)
    help: see its output: hoist logs job

    the last lines of shop-job-1:
      > line 11
      > line 12
      > line 13
      > line 14
      > line 15
      > line 16
      > line 17
      > line 18
      > line 19
      > line 20
      > line 21
      > line 22
      > line 23
      > line 24
      > line 25
      > line 26
      > line 27
      > line 28
      > line 29
      > line 30
    ");
}

#[test]
fn lines_of_an_earlier_life_are_not_shown() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  db:
    image: busybox
    command: sh -c '[ -e /ctl/again ] || echo first; exit 1'
    volumes: [./ctl:/ctl]
  web:
    image: busybox
    command: sleep 1000
    depends_on: {db: {condition: service_completed_successfully}}
",
    );
    shop.make_dir("ctl");
    let first = shop.hoist(&["up", "-d"]).stderr;
    assert!(first.contains("\n  > first\n"), "{first}");
    shop.write("ctl/again", "");
    let second = shop.hoist(&["up", "-d"]).stderr;
    assert!(second.contains("didn't complete successfully") && !second.contains("first"), "{second}");
}

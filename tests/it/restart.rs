//! Restart policies and exit codes.

use hoist::state::record::State;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

#[test]
fn without_a_policy_a_container_stays_ended() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  seven:
    image: busybox
    command: sh -c 'exit 7'
  killed:
    image: busybox
    command: sh -c 'kill -9 $$$$'
    init: true
  zero:
    image: busybox
    command: 'true'
    restart: on-failure
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("seven"), 7);
    assert_eq!(shop.wait_exit("killed"), 137);
    assert_eq!(shop.wait_exit("zero"), 0);
    for service in ["seven", "killed", "zero"] {
        assert_eq!(shop.status(service).restarts, 0, "{service}");
    }
}

#[test]
fn on_failure_starts_again_as_often_as_it_says() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  job:
    image: busybox
    command: sh -c 'echo run; exit 5'
    restart: on-failure:2
",
    );
    shop.up();
    let status = shop.wait_status("job", "given up", |s| s.state == State::Exited && s.restarts == 2);
    assert_eq!(status.exit_code, Some(5));
    assert_eq!(shop.log_text("job"), "run\nrun\nrun\n");
}

#[test]
fn always_starts_again_after_success_and_after_a_kill() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    restart: always
  tick:
    image: busybox
    command: sh -c 'echo tick; usleep 20000'
    restart: unless-stopped
",
    );
    shop.up();
    let first = shop.pid("web");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(first), nix::sys::signal::Signal::SIGKILL).expect("it runs");
    let again = shop.wait_status("web", "started again", |s| {
        s.state == State::Running && s.process.as_ref().is_some_and(|p| p.pid != first)
    });
    assert_eq!(again.restarts, 1);
    assert_eq!(again.exit_code, Some(137));
    eventually(20.secs(), "tick runs three times", || holds(shop.log("tick").len() >= 3));
}

#[test]
fn a_stopped_container_is_not_started_again_by_its_policy() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    restart: always
",
    );
    let mut up = shop.spawn(&["up"]);
    up.wait_for("attached", |line| line.contains("Attaching"));
    shop.wait_status("web", "running", |s| s.state == State::Running);
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    let status = shop.status("web");
    assert_eq!(status.state, State::Exited);
    assert!(status.stopped_by_user);
    assert_eq!(status.restarts, 0);
}

#[test]
fn a_program_that_is_missing_is_named() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: no-such-program\n");
    let message = shop.hoist(&["up", "-d"]).fails();
    assert!(message.contains("no-such-program") && message.contains("shop-web-1"), "{message}");
}

#[test]
fn what_deploy_says_of_restarts_counts_and_is_updated_in_place() {
    require_root!();
    let text = "
services:
  counted:
    image: busybox
    command: echo run
    deploy: {restart_policy: {condition: any, max_attempts: 2}}
  never:
    image: busybox
    command: 'false'
    restart: always
    deploy: {restart_policy: {condition: none}}
  succeeds:
    image: busybox
    command: sh -c 'usleep 20000; exit 1'
    deploy: {restart_policy: {condition: on-failure, max_attempts: 1, delay: 10ms, window: 10ms}}
  waits:
    image: busybox
    command: sh -c 'exit 3'
    deploy: {restart_policy: {delay: 1h}}
";
    let shop = TestProject::new("shop", text);
    shop.up();
    shop.wait_status("counted", "given up", |s| s.state == State::Exited && s.restarts == 2);
    assert_eq!(shop.log_text("counted"), "run\nrun\nrun\n");
    assert_eq!(shop.wait_exit("never"), 1);
    assert_eq!(shop.status("never").restarts, 0);
    shop.wait_status("succeeds", "each run was long enough", |s| s.restarts >= 3);
    let waiting = shop.wait_status("waits", "waits", |s| s.state == State::Restarting);
    assert_eq!((waiting.restarts, waiting.exit_code), (0, Some(3)));

    let id = shop.record("waits").id;
    shop.write("compose.yaml", &text.replace("{delay: 1h}", "{delay: 10ms, max_attempts: 1}"));
    let plan = shop.hoist(&["plan"]).ok();
    assert!(plan.contains("~ update  container  shop-waits-1 (updated in place)\n"), "{plan}");
    shop.up();
    shop.wait_status("waits", "has not waited for long", |s| s.state == State::Exited && s.restarts == 1);
    assert_eq!(shop.record("waits").id, id);
}

//! `run`: containers beside the replicas of their service.

use hoist::state::record::{ContainerRecord, State};
use nix::sys::signal::Signal;

use super::support::project::TestProject;
use super::support::run::{Run, Running};
use super::support::tmux::Tmux;
use super::support::{Secs as _, eventually, holds, net, require_root};

const SHOP: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    ports: ['8080:80']
    restart: always
    environment: {COLOUR: red, SIZE: big}
    depends_on:
      db: {condition: service_healthy}
  db:
    image: busybox
    command: sh -c 'sleep 0.2; touch /ready; exec sleep 1000'
    healthcheck: {test: test -e /ready, interval: 50ms, retries: 100}
";

fn one_offs(shop: &TestProject) -> Vec<ContainerRecord> {
    let is_one_off = |r: &ContainerRecord| r.labels["com.docker.compose.oneoff"] == "True";
    shop.records().into_iter().filter(is_one_off).collect()
}

#[test]
fn a_command_runs_when_what_it_needs_is_ready_and_its_code_is_ours() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let before = shop.host().objects();
    let run = shop.hoist(&["run", "--rm", "web", "sh", "-c", "echo out; echo err >&2; exit 7"]).code(7);
    assert_eq!(run.stdout, "out\n");
    assert!(run.stderr.contains("shop-db-1 Healthy") && run.stderr.ends_with("err\n"), "{run}");
    assert!(one_offs(&shop).is_empty(), "it is gone");
    shop.pid("db");
    // Without --rm it stays, and is no replica.
    let _ = shop.hoist(&["run", "-q", "web", "false"]).code(1);
    let [record] = &one_offs(&shop)[..] else { panic!("it stays") };
    let slug = &record.labels["com.docker.compose.slug"];
    assert_eq!((slug.len(), record.name.as_str()), (64, format!("shop-web-run-{}", &slug[..12]).as_str()));
    assert!(!record.labels.contains_key("com.docker.compose.container-number"));
    assert_eq!(shop.hoist(&["ps", "-q", "web"]).ok(), "");
    assert!(shop.hoist(&["ps", "-a"]).ok().contains(record.name.as_str()));
    shop.up();
    assert_eq!(one_offs(&shop).len(), 1, "up is not about it");
    assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
    let _ = shop.hoist(&["run", "--rm", "web", "no-such-program"]).code(127);
    assert_eq!(one_offs(&shop).len(), 1);
    shop.down();
    assert_eq!(shop.records(), []);
    shop.host().is_again(&before);
}

#[test]
fn what_the_command_line_says_counts_for_this_container_alone() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    shop.write("more.env", "COLOUR=blue\nSHAPE=\"r${PART}\"\n");
    shop.write("here/file", "mounted\n");
    let mut command =
        shop.command(&["run", "--rm", "-q", "--no-deps", "-e", "SIZE=small", "-e", "PART", "-e", "NOT_SET"]);
    command.args(["--env-from-file", "more.env", "-v", "./here:/there:ro", "-u", "33:100", "-w", "/tmp"]);
    command.args(["-l", "a=b", "--name", "mine", "web", "sh", "-c"]);
    command.arg("echo $COLOUR $SIZE $SHAPE $PART; cat /there/file; id -u; id -g; pwd").env("PART", "ound");
    assert_eq!(Run::of(command, 20.secs()).ok(), "blue small round ound\nmounted\n33\n100\n/tmp\n");
    assert_eq!(shop.records(), [], "nothing else was started");
    let quiet = ["run", "--rm", "-q", "--no-deps"];
    // An entrypoint drops the service's command, not the one that is given.
    let run = |arguments: &[&str]| shop.hoist(&[&quiet[..], arguments].concat()).ok();
    assert_eq!(run(&["--entrypoint", "echo 'a  b'", "web"]), "a  b\n");
    assert_eq!(run(&["--entrypoint", "echo", "web", "c", "-d"]), "c -d\n");
    let caps = |arguments: &[&str]| {
        let all = [arguments, &["web", "grep", "CapEff", "/proc/self/status"]].concat();
        u64::from_str_radix(run(&all).trim().rsplit('\t').next().expect("a number"), 16).expect("hexadecimal")
    };
    let (usual, added) = (caps(&[]), caps(&["--cap-add", "SYS_TIME"]));
    assert_eq!(added & !usual, 1 << 25);
    assert_eq!(caps(&["--cap-drop", "ALL"]), 0);
    for (arguments, wanted) in [
        (&["-l", "a", "web"][..], "label must be set as KEY=VALUE"),
        (&["-p", "x", "web"], "--publish: "),
        (&["-P", "-p", "80", "web"], "--service-ports and --publish are incompatible"),
        (&["--env-from-file", "none", "web"], "cannot use `none`"),
        (&["webb"], "did you mean `web`?"),
    ] {
        let message = shop.hoist(&[&quiet[..], arguments].concat()).fails();
        assert!(message.contains(wanted), "{message}");
    }
}

#[test]
fn ports_and_names_are_only_had_when_asked_for() {
    require_root!();
    let file = SHOP.replace("sleep 1000\n    ports", "httpd -f -p 80 -h /etc\n    ports");
    let shop = TestProject::new("shop", &file);
    let start = |arguments: &[&str]| {
        let id = shop.hoist(&[&["run", "-d", "-q", "--no-deps"], arguments].concat()).ok();
        let records = one_offs(&shop);
        records.into_iter().find(|r| r.id.as_str() == id.trim()).expect("its id is printed")
    };
    let page = |port: u16| net::http_get(([127, 0, 0, 1], port).into(), "/hostname").is_ok_and(|text| !text.is_empty());
    let plain = start(&["web"]);
    assert!(plain.endpoints[0].ports.is_empty());
    assert!(!plain.endpoints[0].aliases.contains(&"web".to_owned()));
    let named = start(&["--use-aliases", "-p", "9090:80", "web"]);
    eventually(10.secs(), "the port that was asked for", || holds(page(9090)));
    assert!(named.endpoints[0].aliases.contains(&"web".to_owned()));
    assert!(!page(8080));
    let with_ports = start(&["--service-ports", "web"]);
    eventually(10.secs(), "the service's port", || holds(page(8080)));
    let message = shop.hoist(&["run", "-d", "--no-deps", "-P", "web"]).fails();
    assert!(message.contains("8080"), "{message}");
    assert_eq!(with_ports.policy.restart, hoist::state::record::RestartPolicy::No);
    shop.down();
}

#[test]
fn input_goes_in_and_its_end_too_and_signals_are_passed_on() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let cat = shop.command(&["run", "--rm", "-q", "--no-deps", "web", "cat"]);
    assert_eq!(Running::of(cat, Some("one\ntwo\n")).finish(20.secs()).ok(), "one\ntwo\n");
    let without = shop.command(&["run", "--rm", "-q", "--no-deps", "--interactive=false", "web", "cat"]);
    assert_eq!(Running::of(without, Some("unseen\n")).finish(20.secs()).ok(), "");
    let script = "trap 'echo got it; exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let mut run = shop.spawn(&["run", "--rm", "-q", "--no-deps", "web", "sh", "-c", script]);
    run.wait_for("ready", |line| line == "ready");
    run.signal(Signal::SIGUSR1);
    assert_eq!(run.finish(20.secs()).code(5).stdout, "ready\ngot it\n");
    let mut run = shop.spawn(&["run", "--rm", "-q", "--no-deps", "web", "sh", "-c", &script.replace("USR1", "INT")]);
    run.wait_for("ready", |line| line == "ready");
    run.signal(Signal::SIGINT);
    let _ = run.finish(20.secs()).code(5);
    assert_eq!(shop.records(), []);
}

#[test]
fn a_terminal_is_given_when_there_is_one() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    let tmux = Tmux::open(&shop);
    tmux.line("hoist run --rm -q --no-deps web sh -c 'test -t 0 && test -t 1 && stty size; read x; echo got $x; exit 3'; echo code $?");
    tmux.wait("the size", |screen| {
        screen.lines().any(|line| line.trim().split(' ').filter(|w| w.parse::<u16>().is_ok()).count() == 2)
    });
    tmux.line("hello");
    tmux.wait("the end", |screen| screen.contains("got hello") && screen.contains("code 3"));
    let refused = Running::of(shop.command(&["run", "--rm", "--tty", "-T", "web"]), None).finish(20.secs()).fails();
    assert!(refused.contains("can't be used together"), "{refused}");
}

#[test]
fn what_nobody_removed_goes_with_the_next_command() {
    require_root!();
    let shop = TestProject::new("shop", SHOP);
    shop.hoist(&["run", "-d", "--rm", "-q", "--no-deps", "-v", "/scratch", "web", "true"]).ok();
    shop.wait_status("web", "ended", |s| s.state == State::Exited);
    shop.hoist(&["run", "--rm", "-q", "--no-deps", "web", "true"]).ok();
    assert_eq!(shop.records(), []);
    assert_eq!(std::fs::read_dir(shop.host().root().join("volumes")).expect("volumes").count(), 0);
    // One that runs is left.
    shop.hoist(&["run", "-d", "--rm", "-q", "--no-deps", "--name", "runs", "web"]).ok();
    shop.hoist(&["up", "-d", "db"]).ok();
    assert_eq!(one_offs(&shop).len(), 1);
    // What cannot be started leaves nothing either.
    shop.down();
}

#[test]
fn dependencies_that_fail_are_told_and_nothing_runs() {
    require_root!();
    let shop = TestProject::new("shop", &SHOP.replace("touch /ready; exec sleep 1000", "exit 4"));
    let run = shop.hoist(&["run", "--rm", "web", "echo", "ran"]).code(1);
    assert!(run.stderr.contains("dependency failed to start: container shop-db-1 exited (4)"), "{run}");
    assert!(!run.stdout.contains("ran"), "{run}");
    assert!(one_offs(&shop).is_empty());
    let plan = shop.hoist(&["run", "--dry-run", "web", "echo", "ran"]).ok();
    assert!(plan.contains("shop-web-run-") && plan.contains("run asked for"), "{plan}");
    assert!(one_offs(&shop).is_empty());
}

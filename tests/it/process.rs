//! What the keys of a service do to its process: root, user, capabilities, names, signals, environment.

use std::time::Instant;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

/// Returns a field of `/proc/1/status` in a service's container.
fn status_field(shop: &TestProject, service: &str, field: &str) -> String {
    shop.shell(service, &format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/1/status"))
}

#[test]
fn a_read_only_root_refuses_writes_and_has_a_writable_dev_shm() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    read_only: true
",
    );
    shop.up();
    let refused = shop.hoist(&["exec", "-T", "web", "touch", "/file"]).fails();
    assert!(refused.contains("Read-only file system"), "{refused}");
    shop.shell("web", "touch /dev/shm/file");
    assert!(shop.shell("web", "cat /etc/resolv.conf").contains("127.0.0.11"));
}

#[test]
fn capabilities_are_dockers_and_can_be_added_and_dropped() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  default:
    image: busybox
    command: sleep 1000
  added:
    image: busybox
    command: sleep 1000
    cap_add: [NET_ADMIN]
    cap_drop: [CHOWN]
  none:
    image: busybox
    command: sleep 1000
    cap_drop: [ALL]
",
    );
    shop.up();
    // Docker's fourteen; then without bit 0 and with bit 12 (linux/capability.h).
    for (service, set) in [("default", "00000000a80425fb"), ("added", "00000000a80435fa"), ("none", "0000000000000000")]
    {
        assert_eq!(status_field(&shop, service, "CapEff"), set, "{service}");
        assert_eq!(status_field(&shop, service, "CapBnd"), set, "{service}");
        assert_eq!(status_field(&shop, service, "CapInh"), "0000000000000000", "{service}");
    }
    shop.shell("added", "ip link add dummy type dummy || ip link set lo mtu 1400");
    let _ = shop.hoist(&["exec", "-T", "default", "ip", "link", "set", "lo", "mtu", "1400"]).fails();
    let _ = shop.hoist(&["exec", "-T", "none", "chown", "33", "/tmp"]).fails();
}

#[test]
fn user_directory_and_hostname_are_as_asked() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    user: www-data
    working_dir: /made/for/it
    hostname: frontend
  numbers:
    image: busybox
    command: sleep 1000
    user: '1234:2345'
    container_name: chosen
",
    );
    shop.up();
    assert_eq!(
        shop.shell("web", "id -u; id -g; pwd; hostname; cat /etc/hostname"),
        "33\n33\n/made/for/it\nfrontend\nfrontend"
    );
    assert!(shop.shell("web", "cat /etc/hosts").contains("frontend"));
    assert_eq!(status_field(&shop, "web", "CapEff"), "0000000000000000");
    assert_eq!(shop.shell("numbers", "id -u; id -g"), "1234\n2345");
    let record = shop.record("numbers");
    assert_eq!(record.name.as_str(), "chosen");
    assert_eq!(shop.shell("numbers", "hostname"), record.id.short());
}

#[test]
fn init_is_the_first_process_and_reaps() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sh -c '(sleep 0.01 &); exec sleep 1000'
    init: true
",
    );
    shop.up();
    eventually(10.secs(), "the child is reaped", || {
        // All but the first process, and those of this question.
        let list = shop.shell("web", "ps -o pid,args | grep -v -e '^ *PID' -e '^ *1 ' -e 'ps -o' -e grep");
        holds(list.split_whitespace().skip(1).eq(["sleep", "1000"]))
    });
    let first = shop.shell("web", "tr '\\0' ' ' < /proc/1/cmdline");
    assert!(!first.starts_with("sleep"), "{first}");
    assert!(!first.contains("hoist __supervise"), "{first}");
}

#[test]
fn the_stop_signal_is_sent_and_the_grace_period_kept() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  usr1:
    image: busybox
    command: sh -c 'trap \"echo usr1; exit 4\" USR1; trap \"echo term; exit 5\" TERM; echo ready; while :; do sleep 0.02; done'
    stop_signal: SIGUSR1
  stubborn:
    image: busybox
    command: sh -c 'trap \"echo asked\" TERM; echo ready; while :; do sleep 0.02; done'
    stop_grace_period: 500ms
",
    );
    let up = shop.spawn(&["up", "--no-log-prefix"]);
    for service in ["usr1", "stubborn"] {
        eventually(10.secs(), "it is ready", || holds(shop.try_status(service).is_some()));
        shop.wait_log(service, "ready", |line| line == "ready");
    }
    let begun = Instant::now();
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    let took = begun.elapsed();
    assert_eq!(shop.status("usr1").exit_code, Some(4));
    assert_eq!(shop.log_text("usr1"), "ready\nusr1\n");
    assert_eq!(shop.status("stubborn").exit_code, Some(137));
    assert_eq!(shop.log_text("stubborn"), "ready\nasked\n");
    // Not a measure of speed: the ten seconds of the default must not have been used.
    assert!(took < 8.secs(), "{took:?}");
}

#[test]
fn a_stop_signal_that_comes_before_the_program_is_sent_again() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command:
      - sh
      - -c
      - echo preparing; sleep 0.7; exec sh -c 'trap \"exit 4\" TERM; while :; do sleep 0.02; done'
",
    );
    let up = shop.spawn(&["up", "--no-log-prefix"]);
    eventually(10.secs(), "it is there", || holds(shop.try_status("web").is_some()));
    shop.wait_log("web", "preparing", |line| line == "preparing");
    let begun = Instant::now();
    up.signal(nix::sys::signal::Signal::SIGINT);
    let _ = up.finish(30.secs()).code(130);
    assert_eq!(shop.status("web").exit_code, Some(4));
    // Not a measure of speed: the ten seconds of the default must not have been used.
    assert!(begun.elapsed() < 8.secs(), "{:?}", begun.elapsed());
}

#[test]
fn environment_comes_from_the_file_and_from_dotenv() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: ${IMAGE:-busybox}
    command: sleep 1000
    environment:
      - PLAIN=a b
      - FROM_DOTENV=${COLOUR}
      - DEFAULTED=${MISSING:-fallback}
      - EMPTY_STAYS=${EMPTY-unused}
      - EMPTY_DEFAULTED=${EMPTY:-used}
      - DOLLAR=$${COLOUR}
      - PASSED
    labels:
      org.example.team: ${COLOUR}s
",
    );
    shop.write(".env", "# colours\nCOLOUR='deep red'\nEMPTY=\nPASSED=through\n");
    shop.up();
    let seen = shop.shell("web", "env | sort");
    for line in [
        "PLAIN=a b",
        "FROM_DOTENV=deep red",
        "DEFAULTED=fallback",
        "EMPTY_STAYS=",
        "EMPTY_DEFAULTED=used",
        "DOLLAR=${COLOUR}",
        "PASSED=through",
        "HOME=/root",
    ] {
        assert!(seen.lines().any(|l| l == line), "no `{line}` in:\n{seen}");
    }
    assert!(!seen.contains("HOIST_"), "{seen}");
    let labels = shop.record("web").labels;
    let label = |name: &str| labels.get(name).map(String::as_str);
    assert_eq!(label("org.example.team"), Some("deep reds"));
    assert_eq!(label("com.docker.compose.project"), Some("shop"));
    assert_eq!(label("com.docker.compose.service"), Some("web"));
    assert_eq!(label("com.docker.compose.container-number"), Some("1"));
    assert_eq!(label("com.docker.compose.oneoff"), Some("False"));
}

#[test]
fn an_env_file_replaces_dotenv_and_the_shell_wins_over_both() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    environment:
      A: ${A:-none}
      B: ${B:-none}
      C: ${C:-none}
",
    );
    shop.write(".env", "A=dotenv\nB=dotenv\nC=dotenv\n");
    shop.write("other.env", "B=other\nC=other\n");
    let mut up = shop.command(&["--env-file", "other.env", "up", "-d"]);
    up.env("C", "shell");
    super::support::run::Run::of(up, 30.secs()).ok();
    assert_eq!(shop.shell("web", "echo $A $B $C"), "none other shell");
}

#[test]
fn entrypoint_and_command_replace_each_other_as_in_docker() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  both:
    image: busybox
    entrypoint: [echo, entry]
    command: [and, command]
  entry:
    image: busybox
    entrypoint: echo alone 'two words'
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("both"), 0);
    assert_eq!(shop.log_text("both"), "entry and command\n");
    assert_eq!(shop.wait_exit("entry"), 0);
    assert_eq!(shop.log_text("entry"), "alone two words\n");
}

#[test]
fn stdin_is_closed_unless_it_is_asked_to_stay_open() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  open:
    image: busybox
    command: cat
    stdin_open: true
  closed:
    image: busybox
    command: cat
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("closed"), 0);
    shop.pid("open");
    // It sleeps, which it does in a read alone: it neither got an end of file nor has ended.
    eventually(10.secs(), "cat reads", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", shop.pid("open"))).unwrap_or_default();
        holds(stat.contains("(cat) S "))
    });
}

//! A supervisor that has died is replaced by whichever command comes next, also by one that finds nothing to do, and by one
//! that comes while it dies.

use std::fs;

use hoist::state::record::{Health, State};
use nix::sys::signal::Signal;

use super::crash::{kill_both, process_state, send};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

/// It has to be asked for its health and started again, which nobody but a supervisor does.
const NEEDY: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    restart: always
    volumes: [./ctl:/ctl]
    healthcheck:
      test: test -e /ctl/ready
      interval: 1h
";

fn needy() -> TestProject {
    let shop = TestProject::new("shop", NEEDY);
    shop.make_dir("ctl");
    shop.up();
    shop
}

#[test]
fn a_command_that_finds_nothing_to_do_replaces_a_dead_supervisor() {
    require_root!();
    let shop = needy();
    for arguments in [&["up", "-d"][..], &["start"]] {
        shop.hoist(&["restart", "-t", "0"]).ok();
        assert_ne!(shop.status("web").health, Some(Health::Healthy), "{arguments:?}");
        let (old, pid) = (shop.supervisor(), shop.pid("web"));
        kill_both(&shop);
        assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "", "{arguments:?}: it runs");
        assert_eq!(shop.supervisor(), old, "{arguments:?}: a dry run changes nothing");
        shop.write("ctl/ready", "");
        shop.hoist(arguments).ok();
        assert_ne!(shop.supervisor().holder_pid, old.holder_pid, "{arguments:?}");
        assert_eq!(shop.pid("web"), pid, "{arguments:?}: nothing was to be done");
        shop.wait_status("web", "healthy", |s| s.health == Some(Health::Healthy));
        send(pid, Signal::SIGKILL);
        shop.wait_status("web", "started again", |s| s.state == State::Running && s.restarts == 1);
        fs::remove_file(shop.path("ctl/ready")).expect("it was made");
    }
    shop.down();
}

/// Returns how many connections to a supervisor there are in this thread's network namespace, not taken ones too.
fn connections() -> usize {
    let table = fs::read_to_string("/proc/thread-self/net/unix").expect("the table of sockets");
    // Both the listening socket and what is connected to it bear its name.
    table.lines().filter(|line| line.contains("control.sock")).count().saturating_sub(1)
}

#[test]
fn a_command_that_comes_while_a_supervisor_dies_is_served_by_the_next() {
    require_root!();
    let shop = needy();
    for arguments in [&["ps"][..], &["exec", "-T", "web", "echo", "here"], &["up", "-d"], &["restart", "-t", "0"]] {
        let old = shop.supervisor();
        eventually(10.secs(), "nobody speaks to it any more", || holds(connections() == 0));
        // The worker cannot notice yet that its holder is gone, and is spoken to in its place.
        send(old.worker_pid, Signal::SIGSTOP);
        send(old.holder_pid, Signal::SIGKILL);
        eventually(10.secs(), "the holder has ended", || {
            holds(matches!(process_state(old.holder_pid), None | Some('Z')))
        });
        let command = shop.spawn(arguments);
        eventually(10.secs(), "the command has come", || holds(connections() > 0));
        send(old.worker_pid, Signal::SIGCONT);
        let run = command.finish(30.secs()).code(0);
        assert!(arguments[0] != "exec" || run.stdout == "here\n", "{run}");
        let new = shop.supervisor();
        assert!(new.holder_pid != old.holder_pid && new.worker_pid != old.worker_pid, "{arguments:?}: {new:?}");
    }
    shop.down();
}

const FAILED: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    restart: always
    ports: ['8080:80']
  other:
    image: busybox
    command: sleep 1000
";

/// Makes it so that both of the supervisor's processes have died when the start of `web` had failed, just after that was
/// written down: its process has been killed and has not noticed. Returns the process.
#[track_caller]
fn failed_and_died(shop: &TestProject) -> i32 {
    let mut status = shop.status("web");
    let pid = shop.pid("web");
    kill_both(shop);
    (status.state, status.exit_code, status.reason) = (State::Exited, Some(127), Some("not found".to_owned()));
    let path = shop.run_dir().join("containers").join(format!("{}.json", status.id));
    fs::write(path, serde_json::to_vec(&status).expect("JSON")).expect("written");
    pid
}

#[test]
fn a_start_that_failed_is_no_container_that_runs() {
    require_root!();
    let shop = TestProject::new("shop", FAILED);
    shop.up();
    let gone = |pid| eventually(10.secs(), "it has ended", || holds(matches!(process_state(pid), None | Some('Z'))));
    // A new supervisor leaves it as it was told: not started again, with the reason, and its port is free.
    let pid = failed_and_died(&shop);
    shop.hoist(&["ps"]).ok();
    gone(pid);
    let status = shop.wait_status("web", "known to be gone", |s| s.process.is_none());
    assert_eq!((status.state, status.exit_code), (State::Exited, Some(127)));
    assert_eq!(status.reason.as_deref(), Some("not found"));
    drop(std::net::TcpListener::bind("0.0.0.0:8080").expect("free"));
    // Who asks for its start gets a new one.
    shop.up();
    let pid = failed_and_died(&shop);
    shop.up();
    gone(pid);
    let status = shop.status("web");
    assert_eq!((status.state, status.reason), (State::Running, None));
    assert_ne!(shop.pid("web"), pid);
    std::net::TcpListener::bind("0.0.0.0:8080").expect_err("held again");
    shop.down();
}

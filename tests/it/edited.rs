//! Files that change between `up` and `down`, and commands that change one project at the same time.

use super::support::project::TestProject;
use super::support::run::Running;
use super::support::{Secs as _, require_root};

const BEFORE: &str = "
services:
  old:
    image: busybox
    command: sleep 1000
    networks: [front, back]
    volumes: [data:/data]
  kept:
    image: busybox
    command: sleep 1000
    networks: [front]
    ports: ['8080:80']
networks:
  front:
  back:
volumes:
  data:
";

/// One service and its network have another name, the volume and the other network are gone.
const AFTER: &str = "
services:
  new:
    image: busybox
    command: sleep 1000
  kept:
    image: busybox
    command: sleep 1000
    ports: ['8081:80']
";

#[test]
fn what_a_changed_file_does_not_have_any_more_is_named_and_can_be_removed() {
    require_root!();
    let shop = TestProject::new("shop", BEFORE);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    shop.up();
    shop.write("compose.yaml", AFTER);
    let said = shop.hoist(&["down", "-v"]).code(0).stderr;
    assert!(said.contains("orphan containers ([shop-old-1])") && said.contains("--remove-orphans"), "{said}");
    // What the orphan needs is still there; the rest is not.
    let left: Vec<String> = shop.records().iter().map(|r| r.name.to_string()).collect();
    assert_eq!(left, ["shop-old-1"]);
    assert_eq!(shop.shell("old", "ls -d /data"), "/data");
    for what in ["network shop_front", "network shop_back", "volume shop_data"] {
        assert!(said.contains(&format!("{what} is still in use and stays")), "{said}");
    }
    shop.hoist(&["down", "-v", "--remove-orphans"]).ok();
    shop.host().is_again_after(&before, "a down with --remove-orphans");

    // The other way: an `up` with the changed file first, which keeps the orphan and says so.
    shop.write("compose.yaml", BEFORE);
    shop.up();
    shop.write("compose.yaml", AFTER);
    let said = shop.hoist(&["up", "-d"]).code(0).stderr;
    assert!(said.contains("orphan containers ([shop-old-1])"), "{said}");
    assert_eq!(shop.records().len(), 3);
    let _ = shop.hoist(&["up", "-d", "--remove-orphans"]).code(0);
    assert_eq!(shop.records().len(), 2);
    // Networks and volumes that no file mentions any more are still the project's.
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again_after(&before, "a down with the changed file");
}

#[test]
fn a_project_whose_file_is_gone_or_broken_is_taken_down_by_its_name() {
    require_root!();
    let shop = TestProject::new("shop", BEFORE);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    shop.up();
    let text = shop.read("compose.yaml");
    std::fs::remove_file(shop.path("compose.yaml")).expect("it was there");
    let message = shop.hoist(&["down"]).fails();
    assert!(message.contains("hoist -p PROJECT down"), "{message}");
    shop.hoist(&["-p", "shop", "down", "-v"]).ok();
    shop.host().is_again_after(&before, "a down by name");

    shop.write("compose.yaml", &text);
    shop.up();
    shop.write("compose.yaml", "services:\n  old: [\n");
    let message = shop.hoist(&["down"]).fails();
    assert!(message.contains("compose.yaml:") && message.contains("hoist -p PROJECT down"), "{message}");
    assert_eq!(shop.records().len(), 2, "nothing was done");
    // From a folder without a file, as the message says.
    let elsewhere = shop.beside("elsewhere", "");
    elsewhere.hoist(&["-p", "shop", "down", "-v"]).ok();
    shop.host().is_again_after(&before, "a down by name from elsewhere");
    shop.write("compose.yaml", &text);
}

#[test]
fn commands_that_change_one_project_at_once_wait_for_each_other() {
    require_root!();
    let shop = TestProject::new("shop", BEFORE);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    for round in 0..4 {
        // Two `up`: one makes all, the other finds it.
        let runs = [shop.spawn(&["up", "-d"]), shop.spawn(&["up", "-d"])].map(|run| run.finish(30.secs()).code(0));
        assert_eq!(shop.records().len(), 2, "round {round}: {runs:?}");
        assert_eq!(shop.shell("kept", "echo here"), "here");
        assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
        // One takes down what the other brings up, in either order.
        let runs = [
            shop.spawn(&["up", "-d", "--force-recreate"]),
            shop.spawn(&["down", "-v"]),
            shop.spawn(&["restart", "-t", "1"]),
        ];
        for run in runs {
            // A `restart` that comes after `down` finds nothing, which it says.
            let run = run.finish(30.secs());
            assert!(run.code == Some(0) || run.line.contains("restart"), "round {round}: {run}");
        }
        let records = shop.records().len();
        assert!(records == 0 || records == 2, "round {round}: {records} containers");
        if records == 2 {
            assert_eq!(shop.shell("old", "echo here"), "here");
        }
        shop.hoist(&["down", "-v"]).ok();
        shop.host().is_again_after(&before, "rounds of commands at once");
    }
}

#[test]
fn who_waits_for_another_command_says_so() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    shop.up();
    let path = shop.run_dir().join("lock");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("a lock");
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e).expect("free");
    std::fs::write(&path, "4242").expect("written");
    let changing = [&["up", "-d"][..], &["start"], &["stop"], &["restart"], &["down"]];
    let mut waiting: Vec<Running> = changing.iter().map(|arguments| shop.spawn(arguments)).collect();
    for command in &mut waiting {
        command.wait_for("who has the lock", |line| {
            line.contains("waiting for another hoist command (pid 4242)") && line.contains("project `shop`")
        });
    }
    // What does not wait must not say so.
    assert!(!shop.hoist(&["pause"]).code(0).stderr.contains("waiting"));
    assert!(!shop.hoist(&["unpause"]).code(0).stderr.contains("waiting"));
    let killed = shop.hoist(&["kill", "-s", "USR1"]).code(0);
    assert!(!killed.stderr.contains("waiting"), "{killed}");
    drop(lock);
    // `start` may come after `down`, and then there is nothing to start.
    for (arguments, command) in changing.iter().zip(waiting) {
        let run = command.finish(20.secs());
        let nothing = run.stderr.contains("has no container to start");
        assert!(run.code == Some(0) || nothing && arguments == &["start"], "{run}");
    }
}

#[test]
fn an_interrupted_up_that_waits_for_another_command_says_so() {
    require_root!();
    let compose = "services:\n  web:\n    image: busybox\n    command: sh -c 'echo ready; exec sleep 1000'\n";
    let shop = TestProject::new("shop", compose);
    let mut up = shop.spawn(&["up"]);
    up.wait_for("ready", |line| line.ends_with("ready"));
    let path = shop.run_dir().join("lock");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("a lock");
    let lock = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive).map_err(|(_, e)| e).expect("free");
    std::fs::write(&path, "4242").expect("written");
    up.signal(nix::sys::signal::Signal::SIGINT);
    up.wait_for("who has the lock", |line| line.contains("waiting for another hoist command (pid 4242)"));
    drop(lock);
    let _ = up.finish(20.secs()).code(130);
}

#[test]
fn two_folders_of_one_project_name_do_not_break_each_other() {
    require_root!();
    let one = TestProject::new("one", "name: shop\nservices:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    let two = one.beside("two", "name: shop\nservices:\n  api:\n    image: busybox\n    command: sleep 1000\n");
    one.hoist(&["version"]).ok();
    let before = one.host().objects();
    for _ in 0..3 {
        let runs = [one.spawn(&["up", "-d"]), two.spawn(&["up", "-d"])].map(|run| run.finish(30.secs()).code(0));
        // The second of them found the other's container.
        let told = runs.iter().filter(|run| run.stderr.contains("orphan containers")).count();
        assert_eq!(told, 1, "{runs:?}");
        assert_eq!(one.shell("web", "echo here"), "here");
        assert_eq!(two.shell("api", "echo here"), "here");
        let said = two.hoist(&["down"]).code(0).stderr;
        assert!(said.contains("orphan containers ([shop-web-1])"), "{said}");
        assert_eq!(one.shell("web", "echo here"), "here");
        one.hoist(&["down"]).ok();
        one.host().is_again_after(&before, "two folders");
    }
}

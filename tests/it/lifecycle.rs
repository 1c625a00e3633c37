//! `up -d`, `ps`, `exec`, `restart` and `down`; and what a second `up` does.

use hoist::state::record::State;

use super::support::project::TestProject;
use super::support::run::Run;
use super::support::{Secs as _, binary, eventually, holds, host, require_root};

const TWO: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
  db:
    image: busybox
    command: sleep 1000
    environment:
      COLOUR: red
volumes:
  data:
";

#[test]
fn a_project_comes_up_and_goes_away() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    let before = shop.host().objects();
    shop.up();
    let pids = [shop.pid("web"), shop.pid("db")];
    for pid in pids {
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).expect("it runs");
        assert_eq!(command, b"sleep\x001000\x00");
    }
    let during = shop.host().objects();
    let added = before.added_in(&during);
    assert_eq!(during.cgroups.len(), before.cgroups.len() + 1, "{added}");
    assert_eq!(during.tables.iter().filter(|t| t.contains("hoist-")).count(), during.tables.len(), "{added}");
    assert_eq!(during.links.difference(&before.links).count(), 3, "a bridge and two links: {added}");

    let rows: Vec<serde_json::Value> = shop
        .hoist(&["ps", "--format", "json"])
        .ok()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let seen: Vec<_> = rows.iter().map(|r| [&r["Name"], &r["Service"], &r["State"], &r["Image"]]).collect();
    assert_eq!(seen, [["shop-db-1", "db", "running", "busybox"], ["shop-web-1", "web", "running", "busybox"]]);
    assert_eq!(shop.shell("db", "echo $COLOUR"), "red");

    shop.down();
    let ended = |pid: i32| !std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually(10.secs(), "both have ended", || holds(pids.into_iter().all(ended)));
    assert_eq!(shop.records(), []);
    assert_eq!(shop.hoist(&["ps", "-a", "-q"]).ok(), "");
    shop.host().is_again(&before);
}

#[test]
fn a_second_up_changes_nothing() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let before = (shop.pid("web"), shop.pid("db"), shop.records(), shop.host().objects());
    assert_eq!(shop.hoist(&["up", "-d", "--dry-run"]).ok(), "");
    shop.up();
    assert_eq!((shop.pid("web"), shop.pid("db"), shop.records(), shop.host().objects()), before);
}

#[test]
fn a_dry_run_prints_the_plan_and_touches_nothing() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.hoist(&["ps"]).ok(); // makes the engine's own files
    let before = shop.host().objects();
    let plan = shop.hoist(&["up", "-d", "--dry-run"]).ok();
    for step in ["create network", "create container", "attach", "start"] {
        assert!(plan.contains(step), "no `{step}` in:\n{plan}");
    }
    assert_eq!(shop.host().objects(), before);
    assert_eq!(shop.records(), []);
}

#[test]
fn a_changed_service_is_recreated_alone() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let (web, db) = (shop.record("web").id, shop.record("db").id);
    let web_pid = shop.pid("web");
    shop.write("compose.yaml", &TWO.replace("red", "blue"));
    shop.up();
    assert_eq!((shop.record("web").id, shop.pid("web")), (web, web_pid));
    assert_ne!(shop.record("db").id, db);
    assert_eq!(shop.shell("db", "echo $COLOUR"), "blue");
    assert_eq!(shop.records().len(), 2);
}

#[test]
fn force_recreate_replaces_what_has_not_changed() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let (web, db) = (shop.record("web").id, shop.record("db").id);
    shop.hoist(&["up", "-d", "--force-recreate"]).ok();
    assert_ne!(shop.record("web").id, web);
    assert_ne!(shop.record("db").id, db);
}

#[test]
fn a_service_that_left_the_file_stays_until_orphans_are_removed() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let db = shop.pid("db");
    shop.write("compose.yaml", "services:\n  web:\n    image: busybox\n    command: sleep 1000\n");
    let progress = shop.up();
    assert!(progress.contains("shop-db-1"), "the orphan is not named:\n{progress}");
    assert_eq!(shop.pid("db"), db);
    shop.hoist(&["up", "-d", "--remove-orphans"]).ok();
    let left: Vec<_> = shop.records().iter().map(|r| r.service.to_string()).collect();
    assert_eq!(left, ["web"]);
}

#[test]
fn commands_at_once_come_one_after_the_other() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    let blog = shop.beside("blog", TWO);
    let ups: Vec<_> = [&shop, &blog, &shop, &blog].map(|project| project.spawn(&["up", "-d"])).into();
    for up in ups {
        let _ = up.finish(60.secs()).code(0);
    }
    for project in [&shop, &blog] {
        assert_eq!(project.records().len(), 2);
        for service in ["web", "db"] {
            project.pid(service);
        }
        assert_eq!(project.hoist(&["up", "-d", "--dry-run"]).ok(), "");
    }
    let addresses = [shop.address("web"), shop.address("db"), blog.address("web"), blog.address("db")];
    assert_eq!(addresses.iter().collect::<std::collections::BTreeSet<_>>().len(), 4, "{addresses:?}");
    let downs: Vec<_> = [&shop, &blog].map(|project| project.spawn(&["down"])).into();
    for down in downs {
        let _ = down.finish(60.secs()).code(0);
    }
}

#[test]
fn a_test_that_leaves_something_behind_fails() {
    require_root!();
    let seen = std::panic::catch_unwind(|| {
        let mut shop = TestProject::new("shop", TWO);
        shop.be_impatient();
        host::command("ip", &["link", "add", "forgotten", "type", "veth", "peer", "name", "too"]);
    });
    host::command("ip", &["link", "del", "forgotten"]);
    let message = *seen.expect_err("it must fail").downcast::<String>().expect("a message");
    assert_eq!(message, "left behind:\n  link forgotten\n  link too\n");
}

#[test]
fn down_of_a_project_that_is_not_up_is_fine() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.down();
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn restart_gives_a_new_process_in_the_same_container() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let (record, web, db) = (shop.record("web"), shop.pid("web"), shop.pid("db"));
    shop.shell("web", "echo kept > /file");
    shop.hoist(&["restart", "-t", "1", "web"]).ok();
    assert_eq!(shop.record("web"), record);
    assert_ne!(shop.pid("web"), web);
    assert_eq!(shop.pid("db"), db);
    assert_eq!(shop.shell("web", "cat /file"), "kept");
    assert_eq!(shop.shell("web", "hostname -i"), shop.address("web").to_string());
}

#[test]
fn exec_passes_on_code_environment_user_and_directory() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    shop.up();
    let _ = shop.hoist(&["exec", "-T", "web", "sh", "-c", "exit 7"]).code(7);
    let _ = shop.hoist(&["exec", "-T", "web", "sh", "-c", "kill -9 $$"]).code(137);
    let _ = shop.hoist(&["exec", "-T", "web", "no-such-program"]).code(127);
    let script = "echo $A; id -u; id -g; pwd";
    let seen = shop.hoist(&["exec", "-T", "-e", "A=b c", "-u", "33:100", "-w", "/tmp", "web", "sh", "-c", script]).ok();
    assert_eq!(seen, "b c\n33\n100\n/tmp\n");
    let both = shop.hoist(&["exec", "-T", "web", "sh", "-c", "echo out; echo err >&2"]).code(0);
    assert_eq!((both.stdout.as_str(), both.stderr.as_str()), ("out\n", "err\n"));
    let mut cat = shop.command(&["exec", "-T", "web", "cat"]);
    cat.env("UNUSED", "x");
    let cat = super::support::run::Running::of(cat, Some("through stdin\n")).finish(20.secs());
    assert_eq!(cat.ok(), "through stdin\n");
}

#[test]
fn exec_into_what_does_not_run_says_so() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    let message = shop.hoist(&["exec", "-T", "web", "true"]).fails();
    assert!(message.contains("service \"web\" is not running"), "{message}");
    let message = shop.hoist(&["exec", "-T", "wbe", "true"]).fails();
    assert!(message.contains("did you mean `web`?"), "{message}");
}

#[test]
fn ps_shows_what_has_ended_only_when_asked() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  once:
    image: busybox
    command: sh -c 'exit 3'
  web:
    image: busybox
    command: sleep 1000
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("once"), 3);
    let running = shop.hoist(&["ps"]).ok();
    assert!(running.contains("shop-web-1") && !running.contains("shop-once-1"), "{running}");
    let all = shop.hoist(&["ps", "-a"]).ok();
    assert!(all.contains("Exited (3)"), "{all}");
}

#[test]
fn a_substitution_around_up_returns() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    let mut shell = std::process::Command::new("sh");
    let script = format!("x=$({} up -d 2>&1); echo \"code $?\"", binary().display());
    shell.args(["-c", &script]);
    shop.host().prepare(&mut shell, &shop.path("."));
    assert_eq!(Run::of(shell, 30.secs()).ok(), "code 0\n");
    assert_eq!(shop.status("web").state, State::Running);
}

#[test]
fn without_root_one_sentence_says_so() {
    require_root!();
    let shop = TestProject::new("shop", TWO);
    // The binary may be in a folder that nobody else can enter; its mount is not.
    let bin = shop.host().directory().join("hoist");
    std::fs::write(&bin, "").expect("a file");
    rustix::mount::mount_bind(binary(), &bin).expect("mounted");
    host::command("chmod", &["-R", "a+rX", shop.host().directory().to_str().expect("UTF-8")]);
    let mut nobody = std::process::Command::new("setpriv");
    nobody.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]).arg(&bin).args(["up", "-d"]);
    shop.host().prepare(&mut nobody, &shop.path("."));
    let message = Run::of(nobody, 20.secs()).code(1).stderr;
    rustix::mount::unmount(&bin, rustix::mount::UnmountFlags::DETACH).expect("unmounted");
    insta::assert_snapshot!(message, @r#"
    error: hoist needs root to run containers
    help: run it with sudo
    "#);
}

#[test]
fn version_names_the_program() {
    let mut version = std::process::Command::new(binary());
    version.arg("version");
    let text = Run::of(version, 20.secs()).ok();
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}

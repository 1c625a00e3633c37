//! Edits of a file on real containers: which are replaced, which take it and which stay. The table of all keys is `engine::matrix`'s.

use hoist::state::record::{Health, State};
use nix::sys::signal::Signal;

use super::crash::send;
use super::faults::{run, struck};
use super::limits::limit_file;
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, require_root};

const WEB: &str = "
services:
  web:
    image: busybox
    command: sleep 1000
    environment: {LEVEL: info}
    env_file: more.env
    configs: [motd]
    networks: [default]
  db:
    image: busybox
    command: sleep 1000
configs:
  motd: {content: hello}
networks:
  default: {}
  back: {}
";

#[test]
fn an_edit_replaces_what_it_is_about_and_nothing_else() {
    require_root!();
    let shop = TestProject::new("shop", WEB);
    shop.write("more.env", "A=1\n");
    shop.up();
    let db = (shop.record("db").id, shop.pid("db"));
    let mut before = (shop.record("web").id, shop.pid("web"));
    let mut text = WEB.to_owned();
    let mut variables = "A=1\n";
    // What is replaced in the file, what is written in its place, and whether the container is another then.
    for (old, new, replaced) in [
        (
            "    image: busybox\n    command: sleep 1000\n    env",
            "    command: [sleep, '1000']\n    image: busybox\n    env",
            false,
        ),
        ("    networks: [default]", "    networks: [default]\n    depends_on: [db]\n    x-note: a", false),
        ("    networks: [default]", "    networks: [default]\n    pull_policy: missing\n    scale: 1", false),
        ("{LEVEL: info}", "[LEVEL=info]", false),
        ("[LEVEL=info]", "[LEVEL=debug]", true),
        ("    networks: [default]", "    networks: [default]\n    read_only: true", true),
        ("read_only: true", "read_only: false", true),
        ("content: hello", "content: bye", true),
        ("networks: [default]", "networks: {default: {aliases: [front]}}", true),
        ("{aliases: [front]}", "{aliases: [front]}, back: {}", true),
        ("    env_file: more.env", "    env_file: [{path: more.env}]", false),
        ("A=1", "A=1 # as before", false),
        ("A=1", "A=2", true),
    ] {
        if old.starts_with("A=") {
            variables = if new == "A=2" { "A=2\n" } else { "A=1 # as before\n" };
        } else {
            let edited = text.replacen(old, new, 1);
            assert_ne!(edited, text, "{old}");
            text = edited;
        }
        shop.write("more.env", variables);
        shop.write("compose.yaml", &text);
        let plan = shop.hoist(&["plan"]).code(0).stdout;
        assert_eq!(plan.contains("~ replace  container  shop-web-1"), replaced, "{old} → {new}: {plan}");
        assert_eq!(plan.contains("    config `motd` changed  (compose.yaml:"), new == "content: bye", "{plan}");
        shop.up();
        let after = (shop.record("web").id, shop.pid("web"));
        assert_eq!((after.0 != before.0, after.1 != before.1), (replaced, replaced), "{old} → {new}");
        before = after;
    }
    assert_eq!((shop.record("db").id, shop.pid("db")), db, "nothing was about it");
    assert_eq!(shop.shell("web", "echo $LEVEL $A; cat /motd"), "debug 2\nbye");
    shop.hoist(&["down"]).ok();
}

#[test]
fn another_image_under_the_same_name_is_told_by_its_digest() {
    require_root!();
    let shop = TestProject::new("shop", "services:\n  web:\n    build: .\n    image: made\n    command: sleep 1000\n");
    shop.write("Dockerfile", "FROM busybox\nLABEL a=1\n");
    shop.up();
    let before = shop.record("web");
    shop.write("Dockerfile", "FROM busybox\nLABEL a=2\n");
    let plan = shop.hoist(&["plan"]).code(0).stdout;
    assert!(plan.ends_with("Nothing to do: all is as the file says.\n"), "it is not built yet: {plan}");
    shop.hoist(&["build"]).ok();
    let plan = shop.hoist(&["plan"]).code(0).stdout;
    let first = &before.image_id["sha256:".len()..][..12];
    let line = plan.lines().nth(1).unwrap_or_default();
    assert!(plan.starts_with("~ replace  container  shop-web-1 (image changed)\n"), "{plan}");
    assert!(
        line.starts_with(&format!("    image digest {first} → ")) && line.ends_with("  (compose.yaml:4:12)"),
        "{plan}"
    );
    shop.up();
    let after = shop.record("web");
    assert_ne!((&after.id, &after.image_id), (&before.id, &before.image_id));
    assert!(line.contains(&after.image_id["sha256:".len()..][..12]), "{plan}");
    shop.hoist(&["down"]).ok();
}

/// A container with one of everything that it can take while it runs.
const TAKES: &str = "
services:
  web:
    image: busybox
    command: sh -c 'trap \"echo term; exit 0\" TERM; trap \"echo int; exit 0\" INT; while :; do usleep 20000; done'
    mem_limit: 64m
    labels: {tier: back}
    healthcheck: {test: 'true', interval: 100ms, retries: 1}
    volumes: [/scratch]
  db:
    image: busybox
    command: sleep 1000
";

/// Writes the file and has it done; returns what the plan had said.
#[track_caller]
fn edit(shop: &TestProject, text: &str) -> String {
    shop.write("compose.yaml", text);
    let plan = shop.hoist(&["plan", "--detailed-exitcode"]).code(2).stdout;
    shop.up();
    let quiet = shop.hoist(&["plan", "--detailed-exitcode"]).code(0).stdout;
    assert!(quiet.ends_with("Nothing to do: all is as the file says.\n"), "{quiet}");
    plan
}

#[test]
fn what_a_container_can_take_it_takes_and_goes_on() {
    require_root!();
    let shop = TestProject::new("shop", TAKES);
    shop.up();
    let is = |shop: &TestProject| {
        let record = shop.record("web");
        (record.id, shop.pid("web"), record.endpoints, record.volumes, shop.status("web").started)
    };
    let before = is(&shop);
    shop.shell("web", "echo here > /file");
    let mut text = TAKES.to_owned();
    let memory = || limit_file(&shop, "web", "memory", "memory.limit_in_bytes", "memory.max");
    let pids = || limit_file(&shop, "web", "pids", "pids.max", "pids.max");
    let cpu = || limit_file(&shop, "web", "cpu", "cpu.cfs_quota_us", "cpu.max");
    let health = |health: Health| drop(shop.wait_status("web", "asked", |s| s.health == Some(health)));
    for (old, new, holds) in [
        ("mem_limit: 64m", "mem_limit: 128m", &(|| assert_eq!(memory(), "134217728")) as &dyn Fn()),
        ("mem_limit: 128m", "mem_limit: 32m", &|| assert_eq!(memory(), "33554432")),
        ("mem_limit: 32m", "mem_limit: 32m\n    cpus: 0.5", &|| assert!(cpu().starts_with("50000"), "{}", cpu())),
        ("cpus: 0.5", "cpus: 0.25", &|| assert!(cpu().starts_with("25000"), "{}", cpu())),
        // A controller that the container is not under yet: all that it has comes under it.
        ("cpus: 0.25", "pids_limit: 20", &|| {
            assert_eq!(pids(), "20");
            assert!(["-1", "max 100000"].contains(&cpu().as_str()), "{}", cpu());
            // Its own, its init and now and then those of a health check.
            let count = limit_file(&shop, "web", "pids", "pids.current", "pids.current");
            assert!(count.parse::<u32>().is_ok_and(|count| (1..=5).contains(&count)), "{count} processes");
        }),
        ("pids_limit: 20", "pids_limit: 30", &|| assert_eq!(pids(), "30")),
        ("    labels: {tier: back}", "    labels: {tier: front}\n    restart: always", &|| {
            let told = shop.hoist(&["ps", "--format", "json", "web"]).ok();
            let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
            let labels = told["Labels"].as_str().expect("text");
            assert!(labels.contains("tier=front") && !labels.contains("tier=back"), "{labels}");
        }),
        ("test: 'true'", "test: 'false'", &|| health(Health::Unhealthy)),
        ("test: 'false'", "test: 'test -e /file'", &|| health(Health::Healthy)),
        ("retries: 1}", "retries: 2}", &|| assert_eq!(shop.status("web").health, Some(Health::Healthy))),
        ("healthcheck: {test: 'test -e /file', interval: 100ms, retries: 2}", "stop_grace_period: 30s", &|| {
            assert_eq!(shop.status("web").health, None);
            assert_eq!(shop.record("web").policy.stop_grace_ms, 30_000);
        }),
        ("stop_grace_period: 30s", "stop_signal: SIGINT", &|| assert_eq!(shop.record("web").policy.stop_signal, 2)),
        ("    volumes: [/scratch]", "    volumes: [/scratch]\n    pre_stop: [{command: touch /scratch/hook}]", &|| {
            assert_eq!(shop.record("web").hooks.pre_stop.len(), 1);
        }),
        ("stop_signal: SIGINT", "stop_signal: SIGINT\n    logging: {options: {max-size: 1k, max-file: '3'}}", &|| {
            shop.shell(
                "web",
                "for n in 1 2 3; do for m in 1 2 3 4 5 6 7 8; do echo line $n$m; done; done > /proc/1/fd/1",
            );
            shop.wait_log("web", "all lines", |line| line == "line 38");
            let log = shop.host().root().join("containers").join(shop.record("web").id.as_str()).join("log");
            assert!(log.join("json.log.1").exists() && log.join("json.log.2").exists(), "{}", log.display());
        }),
    ] {
        let edited = text.replacen(old, new, 1);
        assert_ne!(edited, text, "{old}");
        text = edited;
        let plan = edit(&shop, &text);
        assert!(plan.starts_with("~ update  container  shop-web-1 (updated in place)\n"), "{old} → {new}: {plan}");
        assert_eq!(is(&shop), before, "{old} → {new}");
        holds();
    }
    // The restart policy of now, which is another than that of its start.
    send(before.1, Signal::SIGKILL);
    shop.wait_status("web", "started again", |s| s.state == State::Running && s.restarts == 1);
    assert_eq!(limit_file(&shop, "web", "memory", "memory.limit_in_bytes", "memory.max"), "33554432", "also then");
    assert_eq!(shop.record("web").id, before.0);
    // Its new stop signal, hook and files of the log.
    let scratch = shop.record("web").volumes[0].clone();
    shop.hoist(&["stop", "web"]).ok();
    let hook = shop.host().root().join("volumes").join(scratch.as_str()).join("_data/hook");
    assert!(hook.exists(), "{}", hook.display());
    assert!(shop.log_text("web").ends_with("int\n"), "{}", shop.log_text("web"));
    // One that does not run takes it with its next start.
    let plan = edit(&shop, &text.replace("mem_limit: 32m", "mem_limit: 48m"));
    assert!(plan.starts_with("~ update  container  shop-web-1 (updated in place)\n"), "{plan}");
    assert_eq!((shop.record("web").id, memory()), (before.0.clone(), "50331648".to_owned()));
    // With something that it cannot take it is replaced, and has all of it.
    let plan = edit(&shop, &text.replace("mem_limit: 32m", "hostname: web\n    mem_limit: 64m"));
    assert!(plan.starts_with("~ replace  container  shop-web-1 (configuration changed)\n"), "{plan}");
    assert_ne!(shop.record("web").id, before.0);
    assert_eq!((memory(), shop.shell("web", "hostname")), ("67108864".to_owned(), "web".to_owned()));
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn no_recreate_leaves_it_and_force_recreate_replaces_it() {
    require_root!();
    let shop = TestProject::new("shop", TAKES);
    shop.up();
    let before = (shop.record("web"), shop.pid("web"));
    shop.write("compose.yaml", &TAKES.replace("64m", "128m"));
    let told = shop.hoist(&["plan", "--format", "json"]).ok();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let change = &told["changes"][0];
    assert_eq!(
        (&told["changed"], &change["action"], &change["name"]),
        (&true.into(), &"update".into(), &"shop-web-1".into())
    );
    assert_eq!(
        (&change["reason"], &change["differences"][0]["key"]),
        (&"updated in place".into(), &"mem_limit".into())
    );
    let told = shop.hoist(&["up", "--dry-run"]).ok();
    assert!(
        told.contains("update  shop-web-1           updated in place: mem_limit \"67108864\" → \"134217728\"\n"),
        "{told}"
    );
    shop.hoist(&["up", "-d", "--no-recreate"]).ok();
    assert_eq!((shop.record("web"), shop.pid("web")), before);
    let told = shop.hoist(&["up", "-d", "--force-recreate", "web"]).ok();
    assert!(!told.contains("Updat"), "{told}");
    assert_ne!(shop.record("web").id, before.0.id);
    let told = shop.hoist(&["up", "-d"]).code(0).stderr;
    assert!(told.contains("Container shop-web-1 Running"), "{told}");
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn a_limit_that_is_refused_leaves_all_as_it_was() {
    require_root!();
    // Its buffer is full when the first byte of it comes out, and stays so.
    let holder = "sh -c 'dd if=/dev/zero bs=20M count=2 | { head -c 1 > /dev/null; echo held; sleep 1000; }'";
    let holds_memory = TAKES.replace("sleep 1000", holder);
    let text = holds_memory.replace(
        "  db:\n    image: busybox\n",
        "  db:\n    image: busybox\n    mem_limit: 100m\n    memswap_limit: 100m\n",
    );
    let shop = TestProject::new("shop", &text);
    shop.up();
    shop.wait_log("db", "that it holds memory", |line| line == "held");
    let is = |shop: &TestProject| {
        let limits =
            ["db", "web"].map(|service| limit_file(shop, service, "memory", "memory.limit_in_bytes", "memory.max"));
        let mut records = shop.records();
        records.sort_by(|a, b| a.name.cmp(&b.name));
        (records, shop.pid("db"), shop.pid("web"), limits)
    };
    let before = is(&shop);
    let edited = text.replace("mem_limit: 100m\n    memswap_limit: 100m", "mem_limit: 8m\n    memswap_limit: 8m");
    shop.write("compose.yaml", &edited.replace("mem_limit: 64m", "mem_limit: 96m"));
    let told = shop.hoist(&["up", "-d"]).code(1).stderr;
    let error = &told[told.find("error:").expect("an error")..];
    assert!(error.starts_with("error: cannot update container `shop-db-1`: its processes hold "), "{told}");
    assert!(
        error.contains(" bytes of memory that cannot be taken from them, and the new limit is 8388608\n"),
        "{told}"
    );
    assert!(error.trim_end().ends_with("All is as it was."), "{told}");
    assert!(error.contains("help: to replace it instead: hoist up --force-recreate db\n"), "{told}");
    assert_eq!(is(&shop), before);
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn wherever_an_update_is_killed_the_next_command_finishes_it() {
    require_root!();
    let shop = TestProject::new("shop", TAKES);
    shop.up();
    let before = (shop.record("web").id, shop.pid("web"));
    let memory = || limit_file(&shop, "web", "memory", "memory.limit_in_bytes", "memory.max");
    let edited = TAKES.replace("64m", "128m").replace("test: 'true'", "test: 'false'");
    let edited = edited.replace("labels: {tier: back}", "labels: {tier: front}\n    pids_limit: 30");
    shop.write("edited.yaml", &edited);
    for fault in ["before.written@1", "update.recorded@1", "update.done@1", "before.forgotten@1"] {
        shop.write("compose.yaml", &edited);
        let (killed, met) = run(&shop, Some(fault), &["up", "-d"]);
        assert!(struck(fault, &met, &killed), "{fault}");
        let is_new = fault == "before.forgotten@1";
        // Any command has the old one back, whatever the file says, if it was not all done.
        shop.hoist(&["ps"]).ok();
        let record = shop.record("web");
        assert_eq!(memory(), if is_new { "134217728" } else { "67108864" }, "after {fault}");
        assert_eq!(record.labels["tier"], if is_new { "front" } else { "back" }, "after {fault}");
        let wanted = if is_new { Health::Unhealthy } else { Health::Healthy };
        shop.wait_status("web", "asked for its health", |s| s.health == Some(wanted));
        shop.up();
        assert_eq!(memory(), "134217728", "after {fault}");
        shop.wait_status("web", "asked for its health", |s| s.health == Some(Health::Unhealthy));
        assert_eq!((record.id, shop.pid("web")), before, "after {fault}");
        shop.write("compose.yaml", TAKES);
        shop.up();
        assert_eq!(memory(), "67108864", "after {fault}");
        shop.wait_status("web", "asked for its health", |s| s.health == Some(Health::Healthy));
        assert_eq!((shop.record("web").id, shop.pid("web")), before, "after {fault}");
    }
    shop.hoist(&["down", "-v"]).ok();
}

#[test]
fn a_worker_that_is_killed_in_an_update_is_asked_again() {
    require_root!();
    for fault in ["worker:update.limited@1", "worker:update.taken@1"] {
        let shop = TestProject::new("shop", TAKES);
        // The first worker of the supervisor that it starts is the one that is killed.
        let (up, _) = run(&shop, Some(fault), &["up", "-d"]);
        up.ok();
        let before = (shop.record("web").id, shop.pid("web"), shop.supervisor().worker_pid);
        shop.write("compose.yaml", &TAKES.replace("64m", "128m").replace("test: 'true'", "test: 'false'"));
        shop.up();
        eventually(10.secs(), "there is another worker", || holds(shop.supervisor().worker_pid != before.2));
        assert_eq!((shop.record("web").id, shop.pid("web")), (before.0.clone(), before.1), "after {fault}");
        assert_eq!(limit_file(&shop, "web", "memory", "memory.limit_in_bytes", "memory.max"), "134217728");
        shop.wait_status("web", "asked for its health", |s| s.health == Some(Health::Unhealthy));
        shop.hoist(&["down", "-v"]).ok();
    }
}

#[test]
fn a_limit_that_came_and_went_leaves_nothing_behind() {
    require_root!();
    let shop = TestProject::new("shop", TAKES);
    shop.hoist(&["version"]).ok();
    let before = shop.host().objects();
    shop.up();
    edit(&shop, &TAKES.replace("    labels", "    pids_limit: 30\n    cpu_shares: 512\n    labels"));
    edit(&shop, &TAKES.replace("    mem_limit: 64m\n", ""));
    assert_eq!(limit_file(&shop, "web", "pids", "pids.max", "pids.max"), "max");
    shop.hoist(&["restart", "-t", "0", "web"]).ok();
    edit(&shop, &TAKES.replace("mem_limit: 64m", "cpus: 0.5"));
    shop.hoist(&["down", "-v"]).ok();
    shop.host().is_again(&before);
}

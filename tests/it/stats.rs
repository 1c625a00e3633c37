//! `stats`: what containers take, whichever cgroups count it.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::support::project::TestProject;
use super::support::tmux::Tmux;
use super::support::{Secs as _, require_root};

/// One that takes a processor and memory, one that sleeps, one under limits, one that has ended.
const SHOP: &str = "
services:
  busy:
    image: busybox
    command: sh -c 'while :; do :; done'
  idle: {image: busybox, command: sleep 1000}
  bounded:
    image: busybox
    command: sh -c 'sleep 1000 & sleep 1000 & wait'
    mem_limit: 64m
    pids_limit: 20
  job: {image: busybox, command: 'true'}
";

fn shop() -> TestProject {
    let shop = TestProject::new("shop", SHOP);
    shop.up();
    shop.wait_exit("job");
    shop
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("an object a line")).collect()
}

#[track_caller]
fn percent(text: &Value) -> f64 {
    text.as_str().and_then(|t| t.strip_suffix('%')?.parse().ok()).unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn what_is_taken_is_shown() {
    require_root!();
    let shop = shop();
    shop.shell("idle", "ping -c 1 -s 1000 -W 5 busy >/dev/null || wget -q -T 1 -O /dev/null http://busy/ || true");
    let all = rows(&shop.hoist(&["stats", "--no-stream", "--format", "json", "-a"]).ok());
    let names: Vec<&str> = all.iter().filter_map(|row| row["Name"].as_str()).collect();
    assert_eq!(names, ["shop-bounded-1", "shop-busy-1", "shop-idle-1", "shop-job-1"]);
    let keys: Vec<&String> = all[0].as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["BlockIO", "CPUPerc", "Container", "ID", "MemPerc", "MemUsage", "Name", "NetIO", "PIDs"]);
    let [bounded, busy, idle, job] = &all[..] else { panic!("four") };
    assert!(percent(&busy["CPUPerc"]) > percent(&idle["CPUPerc"]) + 1.0, "{busy} {idle}");
    assert!(percent(&bounded["MemPerc"]) > 0.0, "{bounded}");
    assert!(bounded["MemUsage"].as_str().is_some_and(|m| m.ends_with(" / 64MiB") && !m.starts_with("0B")), "{bounded}");
    assert!(!idle["MemUsage"].as_str().is_some_and(|m| m.starts_with("0B") || m.ends_with(" 0B")), "{idle}");
    assert_eq!((bounded["PIDs"].as_str(), idle["PIDs"].as_str()), (Some("3"), Some("1")));
    assert!(!idle["NetIO"].as_str().is_some_and(|net| net.ends_with("/ 0B")), "it has sent something: {idle}");
    assert_eq!((job["CPUPerc"].as_str(), job["MemUsage"].as_str()), (Some("--"), Some("--")));
    assert_eq!(idle["ID"].as_str(), Some(shop.record("idle").id.short()));
    let table = shop.hoist(&["stats", "--no-stream", "--no-trunc", "idle"]).ok();
    assert!(table.starts_with("CONTAINER ID"), "{table}");
    assert!(table.contains(shop.record("idle").id.as_str()) && table.lines().count() == 2, "{table}");
    let nowhere = shop.beside("nowhere", "");
    let format = "{{.Name}} {{.PIDs}}";
    let by_name = nowhere.hoist(&["-p", "shop", "stats", "--no-stream", "--format", format, "idle"]).ok();
    assert_eq!(by_name, "shop-idle-1 1\n");
    assert!(shop.hoist(&["stats", "nobody"]).code(1).stderr.contains("no such service: nobody"));
    shop.hoist(&["down", "-t", "0"]).ok();
}

#[test]
fn results_follow_each_other_until_it_is_told_to_end() {
    require_root!();
    let shop = shop();
    let mut stats = shop.spawn(&["stats", "--format", "json", "idle"]);
    for what in ["a result", "another"] {
        stats.wait_for(what, |line| line.contains("\"Name\":\"shop-idle-1\""));
    }
    stats.signal(Signal::SIGINT);
    let out = stats.finish(20.secs()).code(130).stdout;
    assert!(!out.contains('\x1b'), "no escapes in a pipe: {out}");
    let terminal = Tmux::open(&shop);
    terminal.line("hoist stats");
    let screen = terminal.wait("the table", |screen| screen.contains("shop-idle-1"));
    assert!(screen.starts_with("NAME") && screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    shop.hoist(&["stop", "-t", "0", "idle"]).ok();
    let screen =
        terminal.wait("it is drawn again", |screen| screen.starts_with("NAME") && !screen.contains("shop-idle-1"));
    assert_eq!(screen.lines().filter(|line| line.starts_with("NAME")).count(), 1, "{screen}");
    terminal.key("C-c");
    terminal.wait("the prompt", |screen| screen.trim_end().ends_with('#'));
    drop(terminal);
    shop.hoist(&["down", "-t", "0"]).ok();
}

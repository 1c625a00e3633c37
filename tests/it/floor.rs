//! The reference program of the benchmarks makes what hoist makes: a floor that did less would flatter nobody, but mislead.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::support::host::command;
use super::support::net::{in_netns, netns_of};
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, require_root};

/// Compiles the program and its payload, as `benches/run` does.
fn compile(into: &Path) -> (PathBuf, PathBuf) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/floor");
    let (floor, payload) = (into.join("floor"), into.join("payload"));
    let cc = |to: &Path, files: &[&str], flags: &[&str]| {
        let files: Vec<_> = files.iter().map(|f| source.join(f).display().to_string()).collect();
        let to = to.display().to_string();
        let mut all = vec!["-O2", "-static", "-std=gnu11", "-D_GNU_SOURCE", "-o", &to];
        all.extend(flags);
        all.extend(files.iter().map(String::as_str));
        command("cc", &all);
    };
    cc(&floor, &["floor.c", "box.c", "links.c", "rules.c", "message.c"], &[]);
    cc(&payload, &["payload.c"], &["-nostdlib", "-ffreestanding", "-fno-stack-protector"]);
    (floor, payload)
}

/// Returns mount points with their options and kinds, but for what depends on the machine's processors.
fn mounts(pid: i32) -> BTreeSet<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mounts of a container");
    let of = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let fields: Vec<&str> = before.split(' ').collect();
        Some(format!("{} {} {}", fields.get(4)?, fields.get(5)?, after.split(' ').next()?))
    };
    text.lines().filter(|line| !line.contains("thermal_throttle")).filter_map(of).collect()
}

/// Returns what a process may do.
fn rights(pid: i32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("status of a container");
    let kept = ["Cap", "Seccomp", "NoNewPrivs", "Uid", "Gid", "Groups"];
    text.lines().filter(|line| kept.iter().any(|k| line.starts_with(k))).map(str::to_owned).collect()
}

/// Returns the rules of the calling thread's network namespace, with names and addresses of ours replaced.
fn rules(names: &[(&str, &str)]) -> String {
    let mut text = command("nft", &["list", "ruleset"]);
    for (from, to) in names {
        text = text.replace(from, to);
    }
    text
}

#[test]
fn a_container_of_the_floor_is_as_one_of_ours_and_nothing_of_it_is_left() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    init: true
    command: sleep 1000
    ports: [\"18080:80\"]
",
    );
    shop.up();
    let place = |name: &str| {
        shop.make_dir(name);
        shop.path(name)
    };
    let (floor, payload) = compile(&place("programs"));
    let (disk, run) = (place("disk"), shop.host().run().join("floor"));
    fs::create_dir(&run).expect("a directory on a tmpfs");
    let cgroup2 = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    let cgroup2 = cgroup2.lines().find(|l| l.contains(" - cgroup2 ")).and_then(|l| l.split(' ').nth(4));
    let cgroup = Path::new(cgroup2.expect("a cgroup2")).join(format!("floor-it-{}", std::process::id()));

    let mut started = Command::new(&floor);
    started.arg("exec").args([&payload, &disk, &run, &cgroup]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut started = started.spawn().expect("the floor");
    let mut said = BufReader::new(started.stdout.take().expect("piped")).lines();
    let mut next = || said.next().expect("a line: see what the floor says above").expect("text");
    assert_eq!(next(), "ready");
    let boxed: i32 = fs::read_to_string(cgroup.join("box-0/cgroup.procs"))
        .expect("its cgroup")
        .lines()
        .filter_map(|pid| pid.parse().ok())
        .min()
        .expect("a process");
    let ours = shop.pid("web");

    assert_eq!(mounts(boxed), mounts(ours));
    assert_eq!(rights(boxed), rights(ours));
    if std::env::var_os("HOIST_FIREWALL").is_none_or(|wanted| wanted == "nftables") {
        let spec = shop.network("shop_default").spec;
        let text = |key: &str| spec[key].as_str().expect("a text").to_owned();
        let engine = shop.host().engine_id().expect("an engine");
        let (table, bridge, subnet) = (text("table"), text("bridge"), text("subnet"));
        let (guard, address) = (format!("hoist-{engine}-guard"), shop.address("web").to_string());
        let theirs = [
            ("floor-network", "TABLE"),
            ("floor-guard", "GUARD"),
            ("fb-floor", "BRIDGE"),
            ("fb-*", "BRIDGES"),
            ("10.231.0.0/16", "SUBNET"),
            ("10.231.0.2", "ADDRESS"),
        ];
        let names = [
            (table.as_str(), "TABLE"),
            (guard.as_str(), "GUARD"),
            (bridge.as_str(), "BRIDGE"),
            ("hb-*", "BRIDGES"),
            (subnet.as_str(), "SUBNET"),
            (address.as_str(), "ADDRESS"),
        ];
        let pid = started.id().cast_signed();
        assert_eq!(in_netns(netns_of(pid), || rules(&theirs)), rules(&names));
    }

    let mut stdin = started.stdin.take().expect("piped");
    stdin.write_all(b"\n").expect("it listens");
    let microseconds: u64 = next().parse().expect("a number");
    assert!(microseconds > 0);
    drop(stdin);
    let ended = eventually(20.secs(), "the floor ends", || started.try_wait().expect("it is ours"));
    assert!(ended.success(), "{ended}");

    let all = [&payload, &disk, &run, &cgroup].map(|p| p.display().to_string());
    let all: Vec<&str> = ["cycle", "2"].into_iter().chain(all.iter().map(String::as_str)).collect();
    let times = command(&floor.display().to_string(), &all);
    let times: Vec<u64> = times.split_whitespace().map(|t| t.parse().expect("a number")).collect();
    assert!(times.len() == 2 && times.iter().all(|t| *t > 0), "{times:?}");
    assert!(!cgroup.exists());
    for directory in [&disk, &run] {
        assert_eq!(fs::read_dir(directory).expect("it is ours").count(), 0, "{}", directory.display());
    }
}

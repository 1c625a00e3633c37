//! Containers that come and go by the thousand, and one that never stops talking: nothing grows, nobody waits.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::time::{Duration, Instant};

use hoist::state::record::State;

use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, is_soak, require_root};

/// How many containers start and end.
fn cycles() -> usize {
    if is_soak() { 10_000 } else { 1_000 }
}

/// How many services come and go at once.
const WIDTH: usize = 10;

fn crowd() -> String {
    let mut text = "services:\n  stays:\n    image: busybox\n    command: sleep 100000\n    init: true\n".to_owned();
    for i in 0..WIDTH {
        text += &format!("  job{i}:\n    image: busybox\n    command: echo here\n    volumes: [data:/data]\n");
    }
    text + "volumes:\n  data:\n"
}

/// Returns what can grow, by name.
fn counts(shop: &TestProject) -> BTreeMap<String, usize> {
    let objects = shop.host().objects();
    let supervisor = shop.supervisor();
    let mut counts = BTreeMap::from([
        ("cgroups".to_owned(), cgroups(shop)),
        ("links".to_owned(), objects.links.len()),
        ("tables".to_owned(), objects.tables.len()),
        ("mounts".to_owned(), objects.mounts.len()),
        ("files".to_owned(), objects.files.len()),
        ("processes".to_owned(), objects.processes.len()),
        ("zombies".to_owned(), zombies(supervisor.holder_pid)),
        ("volatile files".to_owned(), files_below(shop.run_dir())),
    ]);
    for (name, pid) in [("holder", supervisor.holder_pid), ("worker", supervisor.worker_pid)] {
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        counts.insert(format!("descriptors of the {name}"), descriptors);
        let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        counts.insert(format!("threads of the {name}"), threads);
    }
    counts
}

fn files_below(directory: std::path::PathBuf) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|e| if e.path().is_dir() { 1 + files_below(e.path()) } else { 1 }).sum()
}

fn cgroups(shop: &TestProject) -> usize {
    shop.host().objects().cgroups.into_iter().map(|top| directories_below(top.into())).sum()
}

fn directories_below(directory: std::path::PathBuf) -> usize {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|e| e.path().is_dir()).map(|e| 1 + directories_below(e.path())).sum()
}

/// Returns how many children of a process have ended and are not reaped.
fn zombies(parent: i32) -> usize {
    let text = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let dead = |pid: &&str| {
        fs::read_to_string(format!("/proc/{pid}/stat"))
            .is_ok_and(|stat| stat[stat.rfind(')').unwrap_or(0)..].contains(" Z "))
    };
    text.split_whitespace().filter(dead).count()
}

/// Returns the memory that the supervisor's two processes have written to and share with nobody, in KiB.
fn private_kib(shop: &TestProject) -> usize {
    let supervisor = shop.supervisor();
    let of = |pid: i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(); // it may be replaced
        let line = text.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).unwrap_or("0 kB").trim();
        line.trim_end_matches(" kB").parse::<usize>().expect("a number")
    };
    of(supervisor.holder_pid) + of(supervisor.worker_pid)
}

/// Waits until every job has ended.
#[track_caller]
fn all_ended(shop: &TestProject) {
    for i in 0..WIDTH {
        shop.wait_status(&format!("job{i}"), "exited", |s| s.state == State::Exited && s.process.is_none());
    }
}

#[test]
fn a_thousand_containers_leave_no_trace() {
    require_root!();
    let shop = TestProject::new("shop", &crowd());
    shop.up();
    let supervisor = shop.supervisor();
    let round = |i: usize| {
        // Every fifth time with new networks, directories and records; else in those that are there.
        match i % 5 {
            0 => drop(shop.hoist(&["up", "-d", "--force-recreate"]).code(0)),
            _ => drop(shop.hoist(&["up", "-d"]).code(0)),
        }
        assert_eq!(shop.shell("stays", "echo here"), "here");
        all_ended(&shop);
    };
    let warm = 5;
    (0..warm).for_each(round);
    let before = eventually(10.secs(), "nothing changes any more", || {
        let first = counts(&shop);
        // A worker lets go of what has ended when it comes to it.
        let is_same = || {
            super::support::pause();
            first == counts(&shop)
        };
        holds((0..20).all(|_| is_same())).map(|()| first)
    });
    let memory = private_kib(&shop);
    (0..cycles() / WIDTH).for_each(round);
    let mut after = counts(&shop);
    let begun = Instant::now();
    // Namespaces and their links go a moment after their last process.
    while after != before && begun.elapsed() < 10.secs() {
        super::support::pause();
        after = counts(&shop);
    }
    assert_eq!(after, before, "after {} containers", cycles());
    let grown = private_kib(&shop);
    assert!(grown <= memory + 512, "the supervisor had {memory} KiB of its own and has {grown}");
    let now = shop.supervisor();
    assert_eq!(
        (now.holder_pid, now.worker_pid),
        (supervisor.holder_pid, supervisor.worker_pid),
        "none had to be replaced"
    );
    if is_soak() {
        // Figures for people: no test asserts a time.
        drop(writeln!(std::io::stderr(), "supervisor: {memory} KiB after {warm} rounds, {grown} KiB at the end"));
    }
}

const LOUD: &str = "
services:
  loud:
    image: busybox
    command: sh -c 'until [ -e /ctl/stop ]; do cat /ctl/much; done'
    volumes: [./ctl:/ctl]
  short:
    image: busybox
    command: sh -c 'until [ -e /ctl/stop ]; do cat /ctl/lines; done'
    volumes: [./ctl:/ctl]
  quiet:
    image: busybox
    command: sh -c 'until [ -e /ctl/stop ]; do read up rest < /proc/uptime; echo $$up; usleep 10000; done'
    volumes: [./ctl:/ctl]
";

/// Returns the seconds since the boot, and the time now in seconds since the epoch.
fn clocks() -> (f64, f64) {
    let uptime = fs::read_to_string("/proc/uptime").expect("there");
    let uptime = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("a number");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
    (uptime, now.as_secs_f64())
}

#[test]
fn one_that_writes_without_end_keeps_nobody_waiting() {
    require_root!();
    let shop = TestProject::new("shop", LOUD);
    // A kilobyte a line; and one byte a line, where each is a hundred in the log.
    shop.write("ctl/much", &format!("{}\n", "x".repeat(1000)).repeat(2000));
    shop.write("ctl/lines", &"\n".repeat(100_000));
    shop.up();
    let begun = Instant::now();
    let length = |service: &str| {
        let id = shop.record(service).id;
        let path = shop.host().root().join("containers").join(id.as_str()).join("log/json.log");
        fs::metadata(path).map_or(0, |m| m.len())
    };
    let wanted = if is_soak() { 200 } else { 50 };
    let mut most = 0;
    // While the others write on and on, each line of the quiet one comes to its log, and commands are obeyed.
    eventually(60.secs(), "the quiet one is heard", || {
        most = most.max(private_kib(&shop));
        let loud = length("loud") + length("short");
        assert!(loud < 4 << 30, "it was not heard while the others wrote {loud} bytes");
        holds(shop.log("quiet").len() >= wanted && loud > 30 << 20)
    });
    assert_eq!(shop.shell("quiet", "echo here"), "here");
    let written = length("loud") + length("short");
    let seconds = begun.elapsed().as_secs_f64();
    for service in ["loud", "short"] {
        assert_eq!(shop.status(service).state, State::Running, "{service}");
    }
    shop.write("ctl/stop", "");
    for service in ["loud", "short", "quiet"] {
        assert_eq!(shop.wait_exit(service), 0, "{service}");
    }
    assert!(most < 8 << 10, "the supervisor has {most} KiB of its own");
    // What it said is all there, in its order.
    let (uptime, now) = clocks();
    let boot = now - uptime;
    let mut longest = Duration::ZERO;
    let mut last = 0.0;
    for line in shop.log("quiet") {
        let said: f64 = line.log.trim().parse().unwrap_or_else(|e| panic!("{}: {e}", line.log));
        assert!(said >= last, "{said} after {last}");
        last = said;
        let time: jiff::Timestamp = line.time.parse().expect("RFC 3339");
        let logged =
            Duration::try_from(time.duration_since(jiff::Timestamp::UNIX_EPOCH)).expect("after 1970").as_secs_f64();
        longest = longest.max(Duration::from_secs_f64((logged - boot - said).max(0.0)));
    }
    if is_soak() {
        let rate = written as f64 / seconds / 1e6;
        drop(writeln!(
            std::io::stderr(),
            "beside {rate:.0} MB/s of logs a line came {longest:?} late at most (clock of 10 ms); supervisor {most} KiB"
        ));
    }
}

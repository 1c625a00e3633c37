//! What a service may use of the host: memory, CPU time, processes. Runs with cgroups of either version.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use super::support::host::leave_out;
use super::support::project::TestProject;
use super::support::{Secs as _, eventually, holds, pause, require_root};

/// Returns the text of a file of the controller of a service's container, by its names in the first and second version.
#[track_caller]
pub(super) fn limit_file(shop: &TestProject, service: &str, controller: &str, v1: &str, v2: &str) -> String {
    let spec = shop.record(service).spec;
    let cgroup = spec.get("cgroup").and_then(serde_json::Value::as_str).expect("a cgroup").to_owned();
    let mounts = fs::read_to_string("/proc/thread-self/mountinfo").expect("mounts");
    let places = mounts.lines().filter_map(|line| {
        let (fields, kind) = line.split_once(" - ")?;
        let point = PathBuf::from(fields.split(' ').nth(4)?);
        match kind.split(' ').collect::<Vec<_>>()[..] {
            ["cgroup", _, options] if options.split(',').any(|o| o == controller) => Some(point.join(&cgroup).join(v1)),
            ["cgroup2", ..] => Some(point.join(&cgroup).join(v2)),
            _ => None,
        }
    });
    let found = places.filter_map(|path| fs::read_to_string(path).ok()).next();
    found.unwrap_or_else(|| panic!("`{service}` has neither {v1} nor {v2}")).trim().to_owned()
}

/// Returns the number of processes and threads in a service's container, as the host sees it.
fn processes(shop: &TestProject, service: &str) -> usize {
    let id = shop.record(service).id;
    let all = fs::read_dir("/proc").expect("processes").flatten();
    let inside = all.filter(|entry| {
        let text = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default(); // it may end at any time
        text.lines().any(|line| line.ends_with(id.short()))
    });
    inside.count()
}

#[test]
fn an_allocator_is_killed_at_its_limit_and_ps_names_the_reason() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  eater:
    image: busybox
    command: dd if=/dev/zero of=/dev/null bs=200M count=1
    mem_limit: 32m
  parent:
    image: busybox
    command: sh -c 'dd if=/dev/zero of=/dev/null bs=200M count=1; echo child $$?; exec sleep 1000'
    mem_limit: 32m
    memswap_limit: 32m
  beside:
    image: busybox
    command: dd if=/dev/zero of=/dev/null bs=60M count=1
    mem_limit: 100m
",
    );
    shop.up();
    assert_eq!(shop.wait_exit("eater"), 137);
    assert_eq!(shop.wait_exit("beside"), 0);
    shop.wait_log("parent", "that its child was killed", |line| line == "child 137");
    let oom = shop.status("eater").out_of_memory.expect("it was killed for want of memory");
    assert!(oom.kills >= 1 && oom.limit == Some(32 << 20), "{oom:?}");
    assert_eq!(shop.status("beside").out_of_memory, None);
    let table = shop.hoist(&["ps", "-a"]).ok();
    let line =
        |service: &str| table.lines().find(|l| l.contains(&format!("shop-{service}-1"))).expect("a line").to_owned();
    assert!(line("eater").contains("Exited (137) ") && line("eater").contains("(out of memory)"), "{table}");
    assert!(!line("beside").contains("out of memory"), "{table}");
    let json = shop.hoist(&["ps", "-a", "--format", "json"]).ok();
    let killed = json.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("JSON"));
    let killed: Vec<String> =
        killed.filter(|o| o["OOMKilled"] == true).map(|o| o["Service"].as_str().expect("text").to_owned()).collect();
    assert_eq!(killed, ["eater"]);

    // The swap is what the sum leaves: as much again by default, nothing when both are equal.
    let memory = |service| limit_file(&shop, service, "memory", "memory.limit_in_bytes", "memory.max");
    let swap = |service| limit_file(&shop, service, "memory", "memory.memsw.limit_in_bytes", "memory.swap.max");
    assert_eq!(memory("parent"), (32 << 20).to_string());
    assert!([(32 << 20).to_string(), "0".to_owned()].contains(&swap("parent")), "{}", swap("parent"));

    // An exec is under the same limit.
    let eat = ["exec", "-T", "parent", "dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"];
    let _ = shop.hoist(&eat).code(137);
}

#[test]
fn up_says_that_a_dependency_ran_out_of_memory() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  job:
    image: busybox
    command: dd if=/dev/zero of=/dev/null bs=200M count=1
    mem_limit: 32m
  web:
    image: busybox
    command: sleep 1000
    depends_on: {job: {condition: service_completed_successfully}}
",
    );
    let said = shop.hoist(&["up", "-d"]).fails();
    let wanted = "container shop-job-1 ran out of memory at its limit of 32m and exited (137)";
    assert!(said.contains(wanted), "{said}");
    assert!(said.contains("help: raise `mem_limit` of service `job`, or see what it did: hoist logs job"), "{said}");
    // More is a change, and only of the one service: it takes it with its next start.
    let id = shop.record("job").id;
    shop.write("compose.yaml", &fs::read_to_string(shop.path("compose.yaml")).expect("it").replace("32m", "1g"));
    shop.up();
    assert_eq!(shop.record("job").id, id);
    assert_eq!((shop.wait_exit("job"), shop.status("job").out_of_memory), (0, None));
    let again = shop.record("web").id;
    shop.up();
    assert_eq!(shop.record("web").id, again);
}

#[test]
fn a_restarted_container_counts_its_kills_anew_and_a_new_worker_still_sees_them() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: >-
      sh -c 'trap \"exit 0\" TERM; test -e /twice && while :; do sleep 0.1; done; touch /twice;
      while ! test -e /go; do sleep 0.1; done; exec dd if=/dev/zero of=/dev/null bs=200M count=1'
    mem_limit: 32m
",
    );
    shop.up();
    let worker = shop.supervisor().worker_pid;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(worker), nix::sys::signal::Signal::SIGKILL).expect("killed");
    eventually(20.secs(), "another worker is there", || holds(shop.supervisor().worker_pid != worker));
    shop.shell("web", "touch /go");
    assert_eq!(shop.wait_exit("web"), 137);
    assert!(shop.status("web").out_of_memory.is_some());
    let _ = shop.hoist(&["restart", "web"]).code(0);
    shop.wait_status("web", "up again", |s| s.process.is_some());
    assert_eq!(shop.status("web").out_of_memory, None);
    let _ = shop.hoist(&["restart", "web"]).code(0);
    assert_eq!(shop.status("web").out_of_memory, None);
}

#[test]
fn a_fork_bomb_stops_at_its_limit_and_the_host_goes_on() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  bomb:
    image: busybox
    command: sh -c 'bomb() { bomb | bomb & }; (while :; do bomb; done); exec sleep 1000'
    init: true
    pids_limit: 20
  web:
    image: busybox
    command: sleep 1000
",
    );
    shop.up();
    let refused = || shop.log_text("bomb").contains("can't fork");
    let begun = Instant::now();
    while !refused() {
        let there = processes(&shop, "bomb");
        // One that is between its making and its joining is not counted yet with cgroups of version 1.
        assert!(there <= 21, "{there} processes");
        assert!(begun.elapsed() < 20.secs(), "it was never refused: {}", shop.log_text("bomb"));
        pause();
    }
    assert!(processes(&shop, "bomb") <= 21);
    assert_eq!(limit_file(&shop, "bomb", "pids", "pids.max", "pids.max"), "20");
    assert_eq!(shop.shell("web", "echo fine"), "fine");
    shop.down();
}

/// Returns the CPU time that a process has had, in seconds.
fn cpu_time(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it lives");
    let fields: Vec<&str> = text[text.rfind(')').expect("a name") + 2..].split(' ').collect();
    // utime and stime, fields 14 and 15, in hundredths (proc_pid_stat(5)).
    [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("a number") / 100.0).sum()
}

#[test]
fn half_a_cpu_is_half_a_cpu() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  busy:
    image: busybox
    command: sh -c 'while :; do :; done'
    cpus: 0.5
",
    );
    shop.up();
    let pid = shop.pid("busy");
    let share = || {
        let (begun, before) = (Instant::now(), cpu_time(pid));
        while begun.elapsed() < 2.secs() {
            pause();
        }
        (cpu_time(pid) - before) / begun.elapsed().as_secs_f64()
    };
    // On a host that is busy itself it may get less than it may have; never more.
    let begun = Instant::now();
    loop {
        let ratio = share();
        assert!(ratio <= 0.6, "{ratio} of a CPU");
        if ratio >= 0.4 {
            return;
        }
        if begun.elapsed() > 60.secs() {
            assert!(is_busy(), "{ratio} of a CPU on a host that has nothing else to do");
            return leave_out(module_path!(), "this host is too busy to give anybody half a CPU");
        }
    }
}

/// Returns whether more than its processors can do is asked of this machine (proc_loadavg(5)).
fn is_busy() -> bool {
    let load = fs::read_to_string("/proc/loadavg").expect("the load");
    let load: f64 = load.split(' ').next().and_then(|first| first.parse().ok()).expect("a number");
    std::thread::available_parallelism().is_ok_and(|processors| load > processors.get() as f64)
}

#[test]
fn shares_and_the_oom_score_are_kept() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    cpu_shares: 512
    oom_score_adj: 300
",
    );
    shop.up();
    let shares = limit_file(&shop, "web", "cpu", "cpu.shares", "cpu.weight");
    assert!(["512", "59"].contains(&shares.as_str()), "{shares}");
    assert_eq!(shop.shell("web", "cat /proc/1/oom_score_adj /proc/self/oom_score_adj"), "300\n300");
}

#[test]
fn the_named_cpus_are_kept() {
    require_root!();
    let controllers = fs::read_to_string("/proc/cgroups").expect("a list");
    if !controllers.lines().any(|line| line.starts_with("cpuset\t")) {
        drop(writeln!(std::io::stderr(), "left out: this kernel has no cpuset controller"));
        return;
    }
    let last = fs::read_to_string("/sys/devices/system/cpu/online").expect("a list");
    let last = last.trim().rsplit(['-', ',']).next().expect("a number").to_owned();
    let shop = TestProject::new(
        "shop",
        &format!(
            "
services:
  web:
    image: busybox
    command: sh -c 'nproc; exec sleep 1000'
    cpuset: '{last}'
"
        ),
    );
    shop.up();
    shop.wait_log("web", "its number of CPUs", |line| line == "1");
    let allowed = "sed -n 's/^Cpus_allowed_list:[[:space:]]*//p' /proc/self/status";
    assert_eq!(shop.shell("web", allowed), last, "an exec is where the container is");
}

#[test]
fn a_limit_that_cannot_be_had_is_refused_before_anything_is_made() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  web:
    image: busybox
    command: sleep 1000
    cpus: 1000
    memswap_limit: 64m
",
    );
    let said = shop.hoist(&["up", "-d"]).fails();
    assert!(said.contains("`cpus` of service `web` is 1000, and it goes from 0.01 to "), "{said}");
    assert!(said.contains("--> compose.yaml:6:11"), "{said}");
    assert!(said.contains("`memswap_limit` of service `web` needs `mem_limit`"), "{said}");
    assert!(said.contains("--> compose.yaml:7:20"), "{said}");
    assert_eq!(shop.records(), []);
}

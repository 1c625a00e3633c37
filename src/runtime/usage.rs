//! What a container takes of the host now: processor, memory, network, disks, tasks.
//!
//! Processor time is always counted by the container's cgroup of the second version (`cpu.stat`). The rest is read where a
//! controller counts it: `memory.current`, `io.stat` and `pids.current` of the second version, `memory.usage_in_bytes` and
//! `pids.current` of the first, where a container has a directory as soon as it has a limit there. Where none counts, facts of
//! the processes that live now are summed: proportional memory (`smaps_rollup`, else resident memory), bytes that they have
//! read from and written to disks (`io`), and their threads. What ended processes have read and written is not in that sum.
//!
//! Network counters are those of the namespace of the container's first process (`/proc/<pid>/net/dev`), without loopback.

use super::cgroup::{Cgroup, Error, Hierarchy};
use super::controllers::Controllers;
use super::processes::files;
use super::resources::Controller;

/// What a container takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Processor time that all its processes have had, in microseconds.
    pub cpu: u64,
    /// Bytes of memory, without what the kernel could take back at once.
    pub memory: u64,
    /// Bytes that came over its network.
    pub received: u64,
    /// Bytes that went.
    pub sent: u64,
    /// Bytes that were read from disks.
    pub read: u64,
    /// Bytes that were written.
    pub written: u64,
    /// Processes and threads.
    pub tasks: u64,
}

/// Returns what the container in a cgroup takes; `pid` is its first process.
///
/// # Errors
/// When its cgroup cannot be read.
pub fn usage(unified: &Hierarchy, relative: &str, pid: i32) -> Result<Usage, Error> {
    let cgroup = unified.open(relative)?;
    let controllers = Controllers::find(unified)?;
    let old = |controller| controllers.open_first(controller, relative);
    let cpu = value_of(&cgroup.get("cpu.stat")?, "usage_usec ").unwrap_or(0);
    let memory = memory(&cgroup, "memory.current", "inactive_file ")
        .or_else(|| memory(&old(Controller::Memory)?, "memory.usage_in_bytes", "total_inactive_file "));
    let tasks = number(&cgroup, "pids.current").or_else(|| number(&old(Controller::Pids)?, "pids.current"));
    let disks = cgroup.get("io.stat").ok().map(|text| (io_stat(&text, "rbytes="), io_stat(&text, "wbytes=")));
    let mut sum = Sum::default();
    if memory.is_none() || tasks.is_none() || disks.is_none() {
        for pid in cgroup.pids_below()? {
            sum.add(pid, relative);
        }
    }
    let (read, written) = disks.unwrap_or((sum.read, sum.written));
    let [net] = files(pid, relative, ["net/dev"]).unwrap_or_default();
    let (received, sent) = net_dev(&String::from_utf8_lossy(&net));
    let (memory, tasks) = (memory.unwrap_or(sum.memory), tasks.unwrap_or(sum.tasks));
    Ok(Usage { cpu, memory, received, sent, read, written, tasks })
}

/// Facts of processes.
#[derive(Debug, Default)]
struct Sum {
    memory: u64,
    read: u64,
    written: u64,
    tasks: u64,
}

impl Sum {
    /// Adds those of a process; one that is gone has none.
    fn add(&mut self, pid: i32, relative: &str) {
        let Ok([status]) = files(pid, relative, ["status"]) else { return };
        let status = String::from_utf8_lossy(&status).into_owned();
        self.tasks += value_of(&status, "Threads:").unwrap_or(1);
        let rollup = files(pid, relative, ["smaps_rollup"]).ok();
        let proportional = rollup.and_then(|[text]| value_of(&String::from_utf8_lossy(&text), "Pss:"));
        self.memory += proportional.or_else(|| value_of(&status, "VmRSS:")).unwrap_or(0) << 10;
        if let Ok([io]) = files(pid, relative, ["io"]) {
            let io = String::from_utf8_lossy(&io);
            self.read += value_of(&io, "read_bytes:").unwrap_or(0);
            self.written += value_of(&io, "write_bytes:").unwrap_or(0);
        }
    }
}

fn number(cgroup: &Cgroup, file: &str) -> Option<u64> {
    cgroup.get(file).ok()?.trim().parse().ok()
}

/// Returns used memory without the part of files that nobody has used for long, as Docker counts.
fn memory(cgroup: &Cgroup, file: &str, inactive: &str) -> Option<u64> {
    let used = number(cgroup, file)?;
    let inactive = cgroup.get("memory.stat").ok().and_then(|text| value_of(&text, inactive));
    Some(used.saturating_sub(inactive.unwrap_or(0)))
}

/// Returns the number in the line that begins so.
fn value_of(text: &str, begin: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(begin))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// Sums a key of `io.stat` over all devices: `8:0 rbytes=1459200 wbytes=314773504 rios=192 …`.
fn io_stat(text: &str, key: &str) -> u64 {
    let values = text.split_whitespace().filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok());
    values.fold(0, u64::saturating_add)
}

/// Sums bytes received and sent of all links but loopback (proc_pid_net(5)).
fn net_dev(text: &str) -> (u64, u64) {
    let mut all = (0_u64, 0_u64);
    for line in text.lines() {
        let Some((name, counts)) = line.split_once(':').filter(|(name, _)| name.trim() != "lo") else { continue };
        let counts: Vec<u64> = counts.split_whitespace().filter_map(|count| count.parse().ok()).collect();
        if let (false, Some(received), Some(sent)) = (name.contains('|'), counts.first(), counts.get(8)) {
            all = (all.0.saturating_add(*received), all.1.saturating_add(*sent));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::cgroup::tests::Scratch;

    #[test]
    fn the_kernels_files_are_understood() {
        let net = "Inter-|   Receive                |  Transmit\n face |bytes packets errs|bytes packets\n    lo: 100 1 0 0 0 0 0 0 100 1 0 0 0 0 0 0\n  eth0: 1500 9 0 0 0 0 0 0 700 8 0 0 0 0 0 0\n  eth1:   20 1 0 0 0 0 0 0   3 1 0 0 0 0 0 0\n";
        assert_eq!(net_dev(net), (1520, 703));
        assert_eq!(net_dev(""), (0, 0));
        let io = "8:16 rbytes=1459200 wbytes=314773504 rios=192 wios=353\n8:0 rbytes=90 wbytes=6 rios=8\n";
        assert_eq!((io_stat(io, "rbytes="), io_stat(io, "wbytes=")), (1_459_290, 314_773_510));
        assert_eq!(value_of("usage_usec 1234\nuser_usec 9\n", "usage_usec "), Some(1234));
        assert_eq!(value_of("Rss: 1 kB\nPss:    56 kB\nPss_Dirty: 7 kB\n", "Pss:"), Some(56));
        assert_eq!(value_of("", "Pss:"), None);
    }

    #[test]
    fn a_process_in_a_cgroup_is_counted() {
        let Some(scratch) = Scratch::new() else { return };
        let cgroup = scratch.cgroup("shop/web");
        let script = "read go; while :; do :; done";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("a shell");
        let pid = child.id().cast_signed();
        cgroup.join(pid).expect("joined");
        drop(child.stdin.take()); // `read` fails, and it spins
        let relative = format!("{}/shop/web", scratch.engine);
        let begun = std::time::Instant::now();
        let found = loop {
            let found = usage(&scratch.hierarchy, &relative, pid).expect("readable");
            if found.cpu > 10_000 || begun.elapsed().as_secs() > 20 {
                break found;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        cgroup.kill().expect("killed");
        child.wait().expect("ended");
        assert!(found.cpu > 10_000 && found.memory > 50_000 && found.tasks == 1, "{found:?}");
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        cgroup.wait_empty(end).expect("empty");
        assert_eq!(usage(&scratch.hierarchy, &relative, pid).expect("readable").tasks, 0);
    }
}

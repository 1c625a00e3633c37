//! Processes that cannot be mistaken: a number counts only together with its start time and the boot (proc_pid_stat(5)).

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::runtime::cgroup::Cgroup;
use crate::state::record::ProcessIdentity;

/// Returns the identity of a live process.
///
/// # Errors
/// When there is no such process.
pub(super) fn of(pid: i32) -> io::Result<ProcessIdentity> {
    let start_time = field(pid, 22).ok_or_else(|| io::Error::other("the new process is gone already"))?;
    Ok(ProcessIdentity { pid, start_time, boot_id: boot_id() })
}

/// Returns whether the process is there and has not ended.
pub fn is_alive(process: &ProcessIdentity) -> bool {
    process.boot_id == boot_id()
        && field(process.pid, 22) == Some(process.start_time)
        && !matches!(letter(process.pid), Some('Z' | 'X'))
}

/// Opens a handle of the process, if it is still the one that is meant.
pub(super) fn open(process: &ProcessIdentity) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
    // The handle was opened by number; if the number still means the same process now, so does the handle.
    (process.boot_id == boot_id() && field(process.pid, 22) == Some(process.start_time)).then_some(pidfd)
}

/// Returns the parent of a process.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    field(pid, 4).and_then(|n| i32::try_from(n).ok())
}

/// What a signal does to a container's first process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// It has a handler for it, or waits for it.
    Now,
    /// The kernel discards it now. There are other processes: it may be a script that runs the program in a moment.
    Later,
    /// The kernel discards it, and there is nobody who could change that.
    Never,
}

/// Returns what a signal does to a container's first process.
///
/// The kernel discards a signal to the first process of a pid namespace unless it has a handler for it or has blocked
/// it, to be taken by sigwait(2) or a signalfd (signal(7), pid_namespaces(7)). When that process is alone, nobody else
/// could pass the signal on either, and waiting for it is in vain.
pub(super) fn reach(pid: i32, signal: i32, cgroup: Option<&Cgroup>) -> Reach {
    if signal == libc::SIGKILL || signal == libc::SIGSTOP || is_taken(pid, signal).unwrap_or(true) {
        return Reach::Now;
    }
    let alone = cgroup.is_some_and(|c| c.pids().is_ok_and(|p| p == [pid]));
    // It may have run another program, with a handler, between the two looks.
    match (alone, is_taken(pid, signal)) {
        (_, None | Some(true)) => Reach::Now,
        (true, Some(false)) => Reach::Never,
        (false, Some(false)) => Reach::Later,
    }
}

/// Returns whether a thread of the process has a handler for the signal or has blocked it; `None` when nobody can tell.
fn is_taken(pid: i32, signal: i32) -> Option<bool> {
    let bit = 1_u64.checked_shl(u32::try_from(signal - 1).ok()?)?;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let mask = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        if (mask("SigCgt:")? | mask("SigBlk:")?) & bit != 0 {
            return Some(true);
        }
    }
    Some(false)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

/// Returns a numeric field of `/proc/<pid>/stat`, counted from 1 as in the manual. The name in field 2 may hold
/// anything, so counting begins after its last parenthesis.
fn field(pid: i32, number: usize) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_field(&text, number)?.parse().ok()
}

fn letter(pid: i32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_field(&text, 3)?.chars().next()
}

fn parse_field(stat: &str, number: usize) -> Option<&str> {
    stat[stat.rfind(')')? + 1..].split_whitespace().nth(number.checked_sub(3)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_move_the_fields() {
        let stat = "42 (a) S 1 (b) R 7 8) S 99 1 1 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(parse_field(stat, 3), Some("S"));
        assert_eq!(parse_field(stat, 4), Some("99"));
        assert_eq!(parse_field(stat, 22), Some("12345"));
    }

    #[test]
    fn we_are_alive_and_another_start_time_is_not() {
        let me = i32::try_from(std::process::id()).expect("fits");
        let mut process = of(me).expect("we are here");
        assert!(is_alive(&process));
        assert!(open(&process).is_some());
        process.start_time += 1;
        assert!(!is_alive(&process));
        assert!(open(&process).is_none());
    }
}

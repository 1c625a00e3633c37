//! Processes that cannot be mistaken: a number counts only together with its start time and the boot (proc_pid_stat(5)).

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::stop::{Look, Takes};
use crate::runtime::cgroup::Cgroup;
use crate::state::boot_id;
use crate::state::record::ProcessIdentity;

/// The process has not run another program since it was cloned (include/linux/sched.h).
const PF_FORKNOEXEC: u64 = 0x40;

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
    is_there(process) && !matches!(letter(process.pid), Some('Z' | 'X'))
}

/// Returns whether the process is there, also as one that has ended and that its parent has not reaped.
pub(super) fn is_there(process: &ProcessIdentity) -> bool {
    process.boot_id == boot_id() && field(process.pid, 22) == Some(process.start_time)
}

/// Returns whether a process runs a program of its own, and not that of the process that it was cloned from.
pub(super) fn has_exec(pid: i32) -> bool {
    field(pid, 9).is_some_and(|flags| flags & PF_FORKNOEXEC == 0)
}

/// Opens the root directory of a process that runs a program of its own: before that, a container's has the host's.
///
/// # Errors
/// `ESRCH` when it has ended, or does not run its program yet.
pub fn root_of(process: &ProcessIdentity) -> io::Result<OwnedFd> {
    let gone = || io::Error::from(Errno::SRCH);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // It stays with the process that it was opened for, and what is read through it is that process's.
    let dir = rustix::fs::open(format!("/proc/{}", process.pid), flags, Mode::empty())?;
    let stat = rustix::fs::openat(&dir, c"stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let stat = io::read_to_string(std::fs::File::from(stat))?;
    let field = |number| parse_field(&stat, number)?.parse::<u64>().ok();
    let is_it = process.boot_id == boot_id() && field(22) == Some(process.start_time);
    if !is_it || field(9).is_none_or(|flags| flags & PF_FORKNOEXEC != 0) {
        return Err(gone());
    }
    let root = rustix::fs::openat(&dir, c"root", flags, Mode::empty())?;
    let (theirs, ours) = (rustix::fs::fstat(&root)?, rustix::fs::stat(c"/")?);
    if (theirs.st_dev, theirs.st_ino) == (ours.st_dev, ours.st_ino) {
        return Err(gone());
    }
    Ok(root)
}

/// Opens a handle of the process, if it is still the one that is meant.
pub(super) fn open(process: &ProcessIdentity) -> Option<OwnedFd> {
    let pidfd = pidfd_open(Pid::from_raw(process.pid)?, PidfdFlags::empty()).ok()?;
    // The handle was opened by number; if the number still means the same process now, so does the handle.
    is_there(process).then_some(pidfd)
}

/// As [`open`], for a process of this boot.
pub(super) fn open_here(pid: i32, start_time: u64) -> Option<OwnedFd> {
    open(&ProcessIdentity { pid, start_time, boot_id: boot_id() })
}

/// Returns the parent of a process.
pub(super) fn parent_of(pid: i32) -> Option<i32> {
    field(pid, 4).and_then(|n| i32::try_from(n).ok())
}

/// Looks at what a container's first process does with a signal; `None` when it cannot be seen, such as after its end.
pub(super) fn look(pid: i32, signal: i32, cgroup: Option<&Cgroup>) -> Option<Look> {
    let program = std::fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    let bit = 1_u64.checked_shl(u32::try_from(signal - 1).ok()?)?;
    let (mut caught, mut blocked, mut pending) = (0, 0, 0);
    for thread in std::fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let mask = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), 16).ok()
        };
        caught |= mask("SigCgt:")?;
        blocked |= mask("SigBlk:")?;
        pending |= mask("SigPnd:")? | mask("ShdPnd:")?;
    }
    let takes = match (caught & bit != 0, blocked & bit != 0) {
        (true, _) => Takes::Handles,
        (false, true) => Takes::Blocks,
        (false, false) if matches!(signal, libc::SIGKILL | libc::SIGSTOP) => Takes::Handles, // nobody discards those
        (false, false) => Takes::Discards,
    };
    let alone = cgroup.is_some_and(|c| c.pids().is_ok_and(|p| p == [pid]));
    Some(Look { takes, pending: pending & bit != 0, alone, program: (program.dev(), program.ino()) })
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

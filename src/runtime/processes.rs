//! The processes in a container, seen from outside: by its cgroup and `/proc`. Nothing in the container is asked.
//!
//! A number in the cgroup may mean another process by the time it is looked at. Everything is read through one open
//! `/proc/<pid>`, which stays with the process that it was opened for, and that process counts if it is in the cgroup.
//!
//! Invariant: names and arguments are whatever the processes want them to be; nothing here gives them a meaning.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd as _, OwnedFd};

use rustix::fs::{Mode, OFlags, openat};

use super::cgroup::Cgroup;

/// Most bytes that are read of a file of `/proc`: a process chooses how long its arguments are.
const LONGEST: u64 = 64 * 1024;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Effective user.
    pub uid: u32,
    /// Its number in our pid namespace.
    pub pid: i32,
    /// Its parent's.
    pub parent: i32,
    /// Terminal: major and minor number of the device; zero is none.
    pub terminal: (u32, u32),
    /// Time that it has spent on processors, in clock ticks.
    pub ticks: u64,
    /// Its start, in clock ticks since boot.
    pub started: u64,
    /// Its arguments; empty for a process that has none, such as one that has ended.
    pub arguments: Vec<Vec<u8>>,
    /// Its short name (proc_pid_comm(5)).
    pub name: Vec<u8>,
}

/// Returns the processes in a cgroup and below it, sorted by number.
///
/// # Errors
/// When the cgroup cannot be read. Processes that end meanwhile are left out.
pub fn processes(cgroup: &Cgroup, relative: &str) -> Result<Vec<Process>, super::cgroup::Error> {
    let mut pids = cgroup.pids_below()?;
    pids.sort_unstable();
    pids.dedup();
    Ok(pids.into_iter().filter(|pid| *pid > 0).filter_map(|pid| process(pid, relative).ok().flatten()).collect())
}

/// Returns a process; `None` when it is not in the cgroup.
fn process(pid: i32, cgroup: &str) -> io::Result<Option<Process>> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
    if !is_in(&read(&dir, "cgroup")?, cgroup) {
        return Ok(None);
    }
    let (stat, status, arguments) = (read(&dir, "stat")?, read(&dir, "status")?, read(&dir, "cmdline")?);
    Ok(parse(pid, &stat, &status, &arguments))
}

/// Returns files of a process in a cgroup, all of the same process.
///
/// # Errors
/// When it is not there, or one of them cannot be read.
pub(super) fn files<const N: usize>(pid: i32, cgroup: &str, names: [&str; N]) -> io::Result<[Vec<u8>; N]> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let dir = rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty())?;
    if !is_in(&read(&dir, "cgroup")?, cgroup) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut all = [const { Vec::new() }; N];
    for (bytes, name) in all.iter_mut().zip(names) {
        *bytes = read(&dir, name)?;
    }
    Ok(all)
}

fn read(dir: &OwnedFd, name: &str) -> io::Result<Vec<u8>> {
    let file = openat(dir.as_fd(), name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    File::from(file).take(LONGEST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Returns whether a `/proc/<pid>/cgroup` says that the process is in this cgroup or below it (cgroups(7)). The path is
/// seen from our own cgroup namespace, whose root need not be the hierarchy's.
fn is_in(text: &[u8], relative: &str) -> bool {
    let text = String::from_utf8_lossy(text);
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else { return false };
    format!("{path}/").contains(&format!("/{relative}/"))
}

fn parse(pid: i32, stat: &[u8], status: &[u8], arguments: &[u8]) -> Option<Process> {
    // The name may hold anything, its own parentheses too.
    let (open, close) = (stat.iter().position(|b| *b == b'(')?, stat.iter().rposition(|b| *b == b')')?);
    let name = stat.get(open + 1..close)?.to_vec();
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).copied(); // counted from 1 as in proc_pid_stat(5)
    // A name with a newline is written as `\n` there, so that a line is a line.
    let status = String::from_utf8_lossy(status);
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().nth(1)?.parse().ok()?;
    let device = u32::from_ne_bytes(field(7)?.parse::<i32>().ok()?.to_ne_bytes());
    let arguments = arguments.strip_suffix(b"\0").unwrap_or(arguments);
    Some(Process {
        uid,
        pid,
        parent: field(4)?.parse().ok()?,
        terminal: ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00)),
        ticks: field(14)?.parse::<u64>().ok()? + field(15)?.parse::<u64>().ok()?,
        started: field(22)?.parse().ok()?,
        arguments: if arguments.is_empty() {
            Vec::new()
        } else {
            arguments.split(|b| *b == 0).map(<[u8]>::to_vec).collect()
        },
        name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_name_does_not_move_the_fields() {
        let stat = b"42 (a) S 1 (b) R 7\n8) S 99 1 1 34818 -1 4194560 0 0 0 0 250 30 0 0 20 0 1 0 12345 0 0";
        let status = b"Name:\ta\\nUid:\t7\nUid:\t0\t33\t0\t0\n";
        let process = parse(42, stat, status, b"sh\0-c\0\0x\0").expect("parsed");
        assert_eq!(process.name, b"a) S 1 (b) R 7\n8");
        assert_eq!((process.uid, process.pid, process.parent), (33, 42, 99));
        assert_eq!((process.terminal, process.ticks, process.started), ((136, 2), 280, 12345));
        assert_eq!(process.arguments, [&b"sh"[..], b"-c", b"", b"x"]);
        assert_eq!(parse(42, stat, status, b"").expect("parsed").arguments, Vec::<Vec<u8>>::new());
        assert_eq!(parse(42, b"42 no parentheses", status, b""), None);
    }

    #[test]
    fn membership_is_by_whole_names() {
        let text = b"13:pids:/other\n0::/hoist-ab12/shop/0123\n";
        for (cgroup, is) in [("hoist-ab12/shop/0123", true), ("hoist-ab12/shop/01", false), ("shop/0123/x", false)] {
            assert_eq!(is_in(text, cgroup), is, "{cgroup}");
        }
        assert!(is_in(b"0::/../hoist-ab12/shop/0123/made/inside\n", "hoist-ab12/shop/0123"));
        assert!(!is_in(b"1:cpu:/hoist-ab12/shop/0123\n", "hoist-ab12/shop/0123"));
    }
}

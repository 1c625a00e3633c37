//! Making, naming and ending processes: clone3(2), execve(2), pidfds, signal masks, capabilities.

use std::convert::Infallible;
use std::ffi::{CStr, c_char, c_int, c_long, c_ulong, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

/// Start the child in the cgroup that is given (clone3(2), Linux 5.7); libc's constant is too narrow.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// Reset the signal handlers of the child (clone3(2), Linux 5.5).
pub const CLONE_CLEAR_SIGHAND: u64 = 0x1_0000_0000;

/// A child that was just made.
#[derive(Debug)]
pub struct Child {
    /// Its number in our pid namespace.
    pub pid: i32,
    /// A handle that no other process can take over.
    pub pidfd: OwnedFd,
}

/// Returns what the last system call said, as an error.
fn check(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Makes a child by clone3(2) that runs `child` and never returns from it.
///
/// `flags` are `CLONE_*`; a pidfd is always made, the child's memory is a copy of ours. With `cgroup` the child starts
/// its life in that cgroup v2 directory (`CLONE_INTO_CGROUP`, Linux 5.7). The child must keep to async-signal-safe work
/// when this process has other threads.
///
/// # Errors
/// What clone3(2) says.
pub fn clone_child(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> Infallible,
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    let mut args = libc::clone_args {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: (&raw mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // With CLONE_PARENT the child's parent gets the signal that we would send to ours: it must be left 0.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs()); // a descriptor is never negative
    }
    // SAFETY: `args` is a whole clone_args of the size that is passed, and outlives the call. Without CLONE_VM and with
    // no stack given the call is a fork: the child goes on with a copy of this stack, so every reference in `child`
    // stays valid in its own address space. `pidfd` is written by the kernel before either side returns.
    let pid = check(unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) })?;
    if pid == 0 {
        child();
    }
    // SAFETY: the call succeeded with CLONE_PIDFD, so the kernel stored a new descriptor there that nobody else owns.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    Ok(Child { pid: i32::try_from(pid).unwrap_or(i32::MAX), pidfd })
}

/// Ends this process at once, without running anything of ours.
pub fn exit_now(code: c_int) -> ! {
    // SAFETY: _exit(2) takes any value and does not return; skipping destructors is the point, as this is the copy of a
    // process whose destructors run elsewhere.
    unsafe { libc::_exit(code) }
}

/// Strings for execve(2), with the pointer array that it wants.
#[derive(Debug, Default)]
pub struct CStrings {
    strings: Vec<std::ffi::CString>,
    pointers: Vec<*const c_char>,
}

impl CStrings {
    /// Keeps the strings and their pointers.
    #[must_use]
    pub fn new(strings: Vec<std::ffi::CString>) -> Self {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|s| s.as_ptr()).collect();
        pointers.push(std::ptr::null());
        Self { strings, pointers }
    }

    /// Returns the strings.
    #[must_use]
    pub fn strings(&self) -> &[std::ffi::CString] {
        &self.strings
    }
}

/// Runs another program in this process, by path; returns only on failure.
#[must_use]
pub fn execve(path: &CStr, argv: &CStrings, envp: &CStrings) -> io::Error {
    // SAFETY: `path` ends in NUL; both arrays end in a null pointer and their strings are owned by the same value, whose
    // heap buffers do not move while it is borrowed.
    unsafe { libc::execve(path.as_ptr(), argv.pointers.as_ptr(), envp.pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// Runs the program that `fd` is open on in this process; returns only on failure (`AT_EMPTY_PATH`, execveat(2)).
#[must_use]
pub fn execve_fd(fd: BorrowedFd<'_>, argv: &CStrings, envp: &CStrings) -> io::Error {
    // SAFETY: as for `execve`; the empty path ends in NUL and `fd` is open for the length of the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            argv.pointers.as_ptr(),
            envp.pointers.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// Marks every descriptor from `first` on as close-on-exec (close_range(2), Linux 5.11).
///
/// # Errors
/// What the kernel says.
pub fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: with CLOEXEC no descriptor is closed now, so no owner in this process loses one.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) }).map(drop)
}

/// Closes this process' copies of every descriptor from 3 on but `kept`. For a child between clone and exec, which runs
/// no destructors: what is only marked as close-on-exec can still be named by `/proc/self/fd` in a working directory or
/// in the path of the program, and would lead out of the container (CVE-2024-21626).
///
/// # Errors
/// What the kernel says.
pub fn close_copies_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    close_from(3, kept)
}

/// Closes every descriptor of this process but `kept`. For a child between clone and exit, which runs no destructors.
///
/// # Errors
/// What the kernel says.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    close_from(0, kept)
}

fn close_from(mut first: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    loop {
        let next = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs()).filter(|n| *n >= first).min();
        let end = next.unwrap_or(u32::MAX); // there is no such descriptor
        if first < end {
            let last = end - 1;
            // SAFETY: the owners of these descriptors live on in the parent; the child's copies are never used or
            // dropped, as the child leaves by exec or `exit_now`.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        match next {
            Some(next) => first = next + 1,
            None => return Ok(()),
        }
    }
}

/// Closes this process' copy of a descriptor that a clone brought along and that the child must not keep open, such as
/// the other end of its own pipe. For a child between clone and exec, which runs no destructors.
pub fn close_copy(fd: BorrowedFd<'_>) {
    // SAFETY: the owner of this descriptor lives on in the parent; the child's copy of it is never used or dropped, as
    // the child leaves by exec or `exit_now`.
    unsafe { libc::close(fd.as_raw_fd()) };
}

/// Duplicates `from` onto the number `to`, without close-on-exec, for the program that is run next (dup3(2)).
///
/// # Errors
/// What the kernel says.
pub fn duplicate_onto(from: BorrowedFd<'_>, to: RawFd) -> io::Result<()> {
    if from.as_raw_fd() == to {
        // SAFETY: F_SETFD with no flags only clears close-on-exec of a descriptor that is borrowed, hence open.
        return check(c_long::from(unsafe { libc::fcntl(to, libc::F_SETFD, 0) })).map(drop);
    }
    // SAFETY: this is called only in a child before its exec, where the number that is overwritten belongs to a copy of a
    // descriptor of the parent's whose file the child does not use any more.
    check(c_long::from(unsafe { libc::dup2(from.as_raw_fd(), to) })).map(drop)
}

/// Returns descriptor number `fd` as owned, or `None` if it is not open. For descriptors handed down over exec.
#[must_use]
pub fn inherited(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: F_GETFD only asks.
    if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return None;
    }
    // SAFETY: it is open, and callers take each number once, at the start of `main`, before anything else could have
    // opened a descriptor with that number.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    // SAFETY: sets a flag on a descriptor that is open.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    Some(owned)
}

/// Sets every signal to its default action and blocks none.
pub fn reset_signals() {
    for signal in 1..=64 {
        // SAFETY: SIG_DFL runs no code of ours; numbers that cannot be set (9, 19, the C library's own) are refused.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    set_blocked(0);
}

/// Sets one signal to be ignored.
pub fn ignore_signal(signal: c_int) {
    // SAFETY: SIG_IGN runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Sets one signal to its default action.
pub fn default_signal(signal: c_int) {
    // SAFETY: SIG_DFL runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
}

/// Blocks exactly the signals in `mask`; bit 0 is signal 1.
pub fn set_blocked(mask: u64) {
    // SAFETY: the kernel reads 8 bytes from a live u64 of that size and writes no old mask.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            &raw const mask,
            std::ptr::null::<c_void>(),
            size_of::<u64>(),
        )
    };
}

/// Makes a signalfd(2) for the signals in `mask`, which the caller has blocked.
///
/// # Errors
/// What the kernel says.
pub fn signal_fd(mask: u64) -> io::Result<OwnedFd> {
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads 8 bytes from a live u64; -1 asks for a new descriptor.
    let fd = check(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, size_of::<u64>(), flags) })?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).unwrap_or(-1)) })
}

/// A child that ended: its number and its wait status as wait(2) encodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// The process.
    pub pid: i32,
    /// Exit code shifted by 8, or the signal's number in the low 7 bits.
    pub status: i32,
}

impl Ended {
    /// Returns the exit code as a shell shows it: 128 and the signal's number for a process that was killed.
    #[must_use]
    pub fn code(self) -> i32 {
        exit_code(self.status)
    }
}

/// Returns the exit code for a wait status, as a shell shows it.
#[must_use]
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Reaps one child that has ended, also one that was cloned with `CLONE_PARENT` (`__WALL`, wait4(2)).
///
/// # Errors
/// What the kernel says; no children at all is `Ok(None)`.
pub fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call and no usage is asked for.
    let pid = unsafe { libc::wait4(-1, &raw mut status, libc::WNOHANG | libc::__WALL, std::ptr::null_mut()) };
    match pid {
        0 => Ok(None),
        pid if pid > 0 => Ok(Some(Ended { pid, status })),
        _ => match io::Error::last_os_error() {
            e if e.raw_os_error() == Some(libc::ECHILD) => Ok(None),
            e => Err(e),
        },
    }
}

/// Sends a signal to the process behind a pidfd (pidfd_send_signal(2)).
///
/// # Errors
/// `ESRCH` when it has ended, else what the kernel says.
pub fn send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // SAFETY: no siginfo is passed; the descriptor is open for the length of the call.
    check(unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, std::ptr::null::<c_void>(), 0)
    })
    .map(drop)
}

/// Sends a signal to the process group that the process behind a pidfd leads (`PIDFD_SIGNAL_PROCESS_GROUP`, Linux 6.9);
/// on an older kernel by number, which is checked just before. One that does not lead a group yet gets it alone.
///
/// # Errors
/// `ESRCH` when it has ended, else what the kernel says.
pub fn send_signal_to_group(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    const PROCESS_GROUP: c_int = 1 << 2;
    let no_info = std::ptr::null::<c_void>();
    // SAFETY: no siginfo is passed; the descriptor is open for the length of the call.
    let sent =
        check(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, PROCESS_GROUP) });
    let sent = match sent {
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => send_signal_to_group_by_number(pidfd, signal),
        result => result.map(drop),
    };
    match sent {
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => send_signal(pidfd, signal),
        result => result,
    }
}

/// As [`send_signal_to_group`]. A group's number is not given again while anybody is in it; that the leader is there, if only
/// as a zombie, is asked in the moment before.
fn send_signal_to_group_by_number(pidfd: BorrowedFd<'_>, signal: c_int) -> io::Result<()> {
    // proc_pid_fdinfo(5): the number in our own namespace, -1 once it was reaped.
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse::<i32>().ok());
    let Some(pid) = pid.filter(|pid| *pid > 1) else { return Err(io::Error::from_raw_os_error(libc::ESRCH)) };
    // SAFETY: kill(2) takes two numbers and touches no memory.
    check(c_long::from(unsafe { libc::kill(-pid, signal) })).map(drop)
}

/// Returns the wait status of a process that has been reaped by its parent, from its pidfd (`PIDFD_GET_INFO` with
/// `PIDFD_INFO_EXIT`, Linux 6.15). `None` when the kernel does not tell.
#[must_use]
pub fn exit_status_of(pidfd: BorrowedFd<'_>) -> Option<i32> {
    const PIDFD_INFO_EXIT: u64 = 1 << 3;
    /// `struct pidfd_info` of linux/pidfd.h, first published size with `exit_code` (64 bytes).
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        mask: u64,
        cgroup_id: u64,
        pid: u32,
        tgid: u32,
        ppid: u32,
        ids: [u32; 8],
        exit_code: i32,
    }
    const _: () = assert!(size_of::<Info>() == 64);
    // _IOWR(PIDFS_IOCTL_MAGIC = 0xFF, 11, struct pidfd_info)
    const PIDFD_GET_INFO: c_ulong = (3 << 30) | (64 << 16) | (0xFF << 8) | 11;
    let mut info = Info { mask: PIDFD_INFO_EXIT, ..Info::default() };
    // SAFETY: the request's encoded size is that of `Info`, which is plain data and outlives the call.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut info) };
    (result == 0 && info.mask & PIDFD_INFO_EXIT != 0).then_some(info.exit_code)
}

/// Removes capability number `capability` from the bounding set (prctl(2), `PR_CAPBSET_DROP`).
///
/// # Errors
/// `EINVAL` when the kernel has no such capability, `EPERM` without `CAP_SETPCAP`.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    // SAFETY: the request takes one number and touches no memory.
    check(c_long::from(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, c_ulong::from(capability), 0, 0, 0) })).map(drop)
}

/// Sets this thread's permitted and effective capabilities to `mask` and clears the inheritable ones (capset(2)).
///
/// # Errors
/// `EPERM` when `mask` has one that is not permitted now.
pub fn set_capabilities(mask: u64) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let half = |n: u64| Data { effective: low(n), permitted: low(n), inheritable: 0 };
    let mut header = Header { version: VERSION_3, pid: 0 };
    let data = [half(mask), half(mask >> 32)];
    // SAFETY: version 3 reads a header and two data elements, which is what is passed (capget(2)).
    check(unsafe { libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()) }).map(drop)
}

/// Returns the low 32 bits.
fn low(n: u64) -> u32 {
    u32::try_from(n & u64::from(u32::MAX)).unwrap_or(u32::MAX)
}

/// Joins a new session keyring with this name, so that the host's keys are not seen (keyctl(2)). Errors do not matter:
/// a kernel without keyrings has none to leak.
pub fn join_session_keyring(name: &CStr) {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: the request reads a NUL-terminated name.
    unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
}

/// Has a program that is to be started killed when the thread that starts it ends (prctl(2), `PR_SET_PDEATHSIG`).
pub fn end_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;
    let parent = std::process::id();
    let before_exec = move || {
        // SAFETY: the request takes one number, and getppid takes none; both may be called between fork and exec.
        let (set, above) = unsafe { (libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL), libc::getppid()) };
        // It may have ended just before.
        match set == 0 && u32::try_from(above) == Ok(parent) {
            true => Ok(()),
            false => Err(io::ErrorKind::BrokenPipe.into()),
        }
    };
    // SAFETY: the closure only makes system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}

/// Lets no unprivileged process read this one's memory or follow its `/proc` links (prctl(2), `PR_SET_DUMPABLE`).
pub fn set_not_dumpable() {
    // SAFETY: the request takes one number and cannot fail for 0.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Returns whether the working directory is inside this process' root (getcwd(2) starts with `(unreachable)` if not).
#[must_use]
pub fn cwd_is_reachable() -> bool {
    let mut buffer = [0 as c_char; 4096];
    // SAFETY: the kernel writes at most the length of the buffer that is passed.
    let result = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    // A path too long for the buffer was still found below the root.
    let too_long = result < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ERANGE);
    too_long || (result > 0 && u8::try_from(buffer[0]).is_ok_and(|b| b == b'/'))
}

/// Joins the namespaces of the process behind a pidfd, or the one behind a namespace descriptor (setns(2)).
///
/// # Errors
/// What the kernel says.
pub fn join_namespaces(fd: BorrowedFd<'_>, kinds: c_int) -> io::Result<()> {
    // SAFETY: moving the calling thread changes no memory; callers are single-threaded, so no other thread is surprised.
    check(c_long::from(unsafe { libc::setns(fd.as_raw_fd(), kinds) })).map(drop)
}

/// Leaves namespaces for new ones (unshare(2)).
///
/// # Errors
/// What the kernel says.
pub fn leave_namespaces(kinds: c_int) -> io::Result<()> {
    // SAFETY: as for `join_namespaces`; callers never pass CLONE_FILES, which could close descriptors under their owners.
    check(c_long::from(unsafe { libc::unshare(kinds) })).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd as _;

    /// Runs `child` in a copy of this process and returns its exit code.
    fn exit_code_of(child: impl FnOnce() -> Infallible) -> i32 {
        let child = clone_child(CLONE_CLEAR_SIGHAND, None, child).expect("a child");
        let id = rustix::process::WaitId::PidFd(child.pidfd.as_fd());
        let status = rustix::process::waitid(id, rustix::process::WaitIdOptions::EXITED);
        status.expect("it is ours").and_then(|s| s.exit_status()).expect("it exited")
    }

    #[test]
    fn only_what_is_kept_stays_open() {
        let fds: Vec<OwnedFd> = (0..5).map(|_| rustix::pipe::pipe().expect("a pipe").0).collect();
        // Neighbours, out of order and twice.
        let kept = [fds[3].as_fd(), fds[1].as_fd(), fds[2].as_fd(), fds[1].as_fd()];
        let code = exit_code_of(|| {
            if close_copies_but(&kept).is_err() {
                exit_now(100);
            }
            let mut open = 0;
            for (i, fd) in fds.iter().enumerate() {
                if rustix::io::fcntl_getfd(fd).is_ok() {
                    open |= 1 << i;
                }
            }
            exit_now(open)
        });
        assert_eq!(code, 0b01110);
        let code = exit_code_of(|| exit_now(i32::from(close_copies_but(&[]).is_err())));
        assert_eq!(code, 0);
    }
    #[test]
    fn a_signal_for_a_group_reaches_one_that_leads_none() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().expect("a program");
        let pid = rustix::process::Pid::from_child(&child);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it runs");
        send_signal_to_group(pidfd.as_fd(), libc::SIGKILL).expect("sent");
        child.wait().expect("it is ours");
        let gone = send_signal_to_group(pidfd.as_fd(), libc::SIGKILL).expect_err("it is gone");
        assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
    }

    #[test]
    fn a_signal_reaches_the_whole_group() {
        use std::io::Read as _;
        use std::os::unix::process::CommandExt as _;
        // As the kernel can, and as one can that is older.
        for send in [send_signal_to_group, send_signal_to_group_by_number] {
            let mut shell = std::process::Command::new("sh");
            let shell = shell.args(["-c", "sleep 1000 & wait"]).stdout(std::process::Stdio::piped()).process_group(0);
            let mut shell = shell.spawn().expect("a shell");
            let pid = rustix::process::Pid::from_child(&shell);
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).expect("it runs");
            let children = || std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", shell.id()));
            while children().is_ok_and(|c| c.is_empty()) {
                std::thread::yield_now();
            }
            send(pidfd.as_fd(), libc::SIGKILL).expect("sent");
            shell.wait().expect("it is ours");
            let mut rest = Vec::new();
            shell.stdout.take().expect("piped").read_to_end(&mut rest).expect("the end: nobody holds the pipe");
            let gone = send_signal_to_group_by_number(pidfd.as_fd(), libc::SIGKILL).expect_err("its number is free");
            assert_eq!(gone.raw_os_error(), Some(libc::ESRCH));
        }
    }
}

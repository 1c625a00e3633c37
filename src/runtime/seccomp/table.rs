//! Docker's default seccomp policy, as data: which system calls a container may make, and under which conditions.
//!
//! The facts are those of `seccomp/default.json` in the repository `moby/profiles` (Apache-2.0) at commit `cd3bed80`,
//! for the architectures that we run on; the grouping by purpose is ours. What no group names is answered with
//! `EPERM`, or with `ENOSYS` when its number is newer than every number known here (`super::resolve`).

use super::Host;
use super::compile::{Check, Op, Width};
use crate::runtime::caps::CapSet;

/// System calls that share a verdict and the conditions on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    /// Names as in the kernel's tables; one that an architecture lacks is skipped there.
    pub(super) names: &'static [&'static str],
    /// What the group's calls get while `when` holds.
    pub(super) verdict: Verdict,
    /// When the group counts at all.
    pub(super) when: When,
}

/// What a call gets.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verdict {
    /// It is made.
    Allow,
    /// It is made if any of these checks holds.
    AllowIf(&'static [Check]),
    /// It fails with this error number.
    Errno(u16),
}

/// When a group counts: all of it must hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct When {
    /// Only with all of these in the bounding set.
    pub(super) with: CapSet,
    /// Only with none of these in the bounding set.
    pub(super) without: CapSet,
    /// Only on this kernel or a newer one.
    pub(super) kernel: (u16, u16),
    /// Only on these hosts; it is the host that counts, not the ABI of the call.
    pub(super) hosts: &'static [Host],
}

const ANY: When =
    When { with: CapSet::EMPTY, without: CapSet::EMPTY, kernel: (0, 0), hosts: &[Host::X86_64, Host::Aarch64] };

/// Calls that every container may make.
const fn always(names: &'static [&'static str]) -> Group {
    Group { names, verdict: Verdict::Allow, when: ANY }
}

/// Calls for containers that have a capability.
const fn with(cap: CapSet, names: &'static [&'static str]) -> Group {
    Group { names, verdict: Verdict::Allow, when: When { with: cap, ..ANY } }
}

/// Calls that exist for one family of processors.
const fn on(hosts: &'static [Host], names: &'static [&'static str]) -> Group {
    Group { names, verdict: Verdict::Allow, when: When { hosts, ..ANY } }
}

/// A check of an argument that the kernel takes as a 32-bit integer, so that its upper half means nothing.
const fn int(arg: u8, op: Op, value: u32) -> Check {
    Check { arg, width: Width::Int, op, value: value as u64 }
}

/// The namespace flags of clone(2), from `CLONE_NEWNS` to `CLONE_NEWNET`, without `CLONE_NEWTIME`, which clone(2)
/// cannot carry (its bit is part of the exit signal).
const NAMESPACES: u64 = 0x7e02_0000;

/// The policy.
pub(super) const POLICY: &[Group] = &[
    // Files and directories by name.
    always(&[
        "access",
        "faccessat",
        "faccessat2",
        "chdir",
        "chmod",
        "fchmodat",
        "fchmodat2",
        "chown",
        "chown32",
        "lchown",
        "lchown32",
        "fchownat",
        "creat",
        "open",
        "openat",
        "openat2",
        "getcwd",
        "link",
        "linkat",
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "name_to_handle_at",
        "readlink",
        "readlinkat",
        "rename",
        "renameat",
        "renameat2",
        "rmdir",
        "symlink",
        "symlinkat",
        "truncate",
        "truncate64",
        "umask",
        "unlink",
        "unlinkat",
        "utime",
        "utimes",
        "futimesat",
        "utimensat",
        "utimensat_time64",
    ]),
    // Facts about files and file systems.
    always(&[
        "stat",
        "stat64",
        "lstat",
        "lstat64",
        "fstat",
        "fstat64",
        "fstatat64",
        "newfstatat",
        "statx",
        "statfs",
        "statfs64",
        "fstatfs",
        "fstatfs64",
        "listmount",
        "statmount",
    ]),
    // Extended attributes.
    always(&[
        "getxattr",
        "lgetxattr",
        "fgetxattr",
        "getxattrat",
        "setxattr",
        "lsetxattr",
        "fsetxattr",
        "setxattrat",
        "listxattr",
        "llistxattr",
        "flistxattr",
        "listxattrat",
        "removexattr",
        "lremovexattr",
        "fremovexattr",
        "removexattrat",
    ]),
    // Open files: descriptors and what is done by them.
    always(&[
        "close",
        "close_range",
        "dup",
        "dup2",
        "dup3",
        "fcntl",
        "fcntl64",
        "ioctl",
        "flock",
        "fchdir",
        "fchmod",
        "fchown",
        "fchown32",
        "ftruncate",
        "ftruncate64",
        "getdents",
        "getdents64",
        "lseek",
        "_llseek",
        "memfd_create",
        "memfd_secret",
        "pipe",
        "pipe2",
    ]),
    // Reading and writing.
    always(&[
        "read",
        "readv",
        "pread64",
        "preadv",
        "preadv2",
        "write",
        "writev",
        "pwrite64",
        "pwritev",
        "pwritev2",
        "copy_file_range",
        "sendfile",
        "sendfile64",
        "splice",
        "tee",
        "vmsplice",
        "fadvise64",
        "fadvise64_64",
        "fallocate",
        "readahead",
        "cachestat",
        "sync",
        "syncfs",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "io_setup",
        "io_destroy",
        "io_submit",
        "io_cancel",
        "io_getevents",
        "io_pgetevents",
        "io_pgetevents_time64",
    ]),
    // Waiting for readiness, and being told of changes.
    always(&[
        "poll",
        "ppoll",
        "ppoll_time64",
        "select",
        "_newselect",
        "pselect6",
        "pselect6_time64",
        "epoll_create",
        "epoll_create1",
        "epoll_ctl",
        "epoll_ctl_old",
        "epoll_wait",
        "epoll_wait_old",
        "epoll_pwait",
        "epoll_pwait2",
        "eventfd",
        "eventfd2",
        "signalfd",
        "signalfd4",
        "timerfd_create",
        "timerfd_gettime",
        "timerfd_gettime64",
        "timerfd_settime",
        "timerfd_settime64",
        "inotify_init",
        "inotify_init1",
        "inotify_add_watch",
        "inotify_rm_watch",
        "fanotify_mark",
    ]),
    // Memory.
    always(&[
        "brk",
        "mmap",
        "mmap2",
        "munmap",
        "mremap",
        "mprotect",
        "madvise",
        "mincore",
        "msync",
        "mseal",
        "mlock",
        "mlock2",
        "mlockall",
        "munlock",
        "munlockall",
        "membarrier",
        "remap_file_pages",
        "map_shadow_stack",
        "pkey_alloc",
        "pkey_free",
        "pkey_mprotect",
        "process_mrelease",
    ]),
    // Processes and threads.
    always(&[
        "fork",
        "vfork",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "wait4",
        "waitid",
        "waitpid",
        "getpid",
        "getppid",
        "gettid",
        "getpgid",
        "getpgrp",
        "setpgid",
        "getsid",
        "setsid",
        "pidfd_open",
        "pidfd_send_signal",
        "prctl",
        "set_tid_address",
        "set_thread_area",
        "get_thread_area",
        "set_robust_list",
        "get_robust_list",
        "rseq",
        "restart_syscall",
        "uretprobe",
    ]),
    // Locks between threads.
    always(&["futex", "futex_time64", "futex_wait", "futex_waitv", "futex_wake", "futex_requeue"]),
    // Signals.
    always(&[
        "kill",
        "tkill",
        "tgkill",
        "pause",
        "alarm",
        "sigaltstack",
        "sigprocmask",
        "sigreturn",
        "rt_sigaction",
        "rt_sigpending",
        "rt_sigprocmask",
        "rt_sigqueueinfo",
        "rt_sigreturn",
        "rt_sigsuspend",
        "rt_sigtimedwait",
        "rt_sigtimedwait_time64",
        "rt_tgsigqueueinfo",
    ]),
    // Users, groups, capabilities; the kernel checks each of these.
    always(&[
        "getuid",
        "getuid32",
        "geteuid",
        "geteuid32",
        "getgid",
        "getgid32",
        "getegid",
        "getegid32",
        "getresuid",
        "getresuid32",
        "getresgid",
        "getresgid32",
        "getgroups",
        "getgroups32",
        "setuid",
        "setuid32",
        "setgid",
        "setgid32",
        "setreuid",
        "setreuid32",
        "setregid",
        "setregid32",
        "setresuid",
        "setresuid32",
        "setresgid",
        "setresgid32",
        "setgroups",
        "setgroups32",
        "setfsuid",
        "setfsuid32",
        "setfsgid",
        "setfsgid32",
        "capget",
        "capset",
    ]),
    // Confining oneself further.
    always(&["seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"]),
    // Scheduling, limits and accounting.
    always(&[
        "sched_yield",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_getattr",
        "sched_setattr",
        "sched_getparam",
        "sched_setparam",
        "sched_getscheduler",
        "sched_setscheduler",
        "sched_get_priority_max",
        "sched_get_priority_min",
        "sched_rr_get_interval",
        "sched_rr_get_interval_time64",
        "getpriority",
        "setpriority",
        "ioprio_get",
        "ioprio_set",
        "getrlimit",
        "ugetrlimit",
        "setrlimit",
        "prlimit64",
        "getrusage",
        "times",
        "getcpu",
        "sysinfo",
        "uname",
        "getrandom",
    ]),
    // Clocks and timers; `adjtimex` and its kin check for CAP_SYS_TIME themselves when they would set.
    always(&[
        "time",
        "gettimeofday",
        "nanosleep",
        "clock_getres",
        "clock_getres_time64",
        "clock_gettime",
        "clock_gettime64",
        "clock_nanosleep",
        "clock_nanosleep_time64",
        "adjtimex",
        "clock_adjtime",
        "clock_adjtime64",
        "getitimer",
        "setitimer",
        "timer_create",
        "timer_delete",
        "timer_getoverrun",
        "timer_gettime",
        "timer_gettime64",
        "timer_settime",
        "timer_settime64",
    ]),
    // Sockets that exist. `socketcall`, i386's multiplexer, passes its arguments in memory where no filter sees them.
    always(&[
        "socketcall",
        "socketpair",
        "bind",
        "listen",
        "accept",
        "accept4",
        "connect",
        "shutdown",
        "getsockname",
        "getpeername",
        "getsockopt",
        "setsockopt",
        "send",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "recv",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "recvmmsg_time64",
    ]),
    // Message queues, semaphores and memory of System V and POSIX; `ipc` is the multiplexer of 32-bit systems.
    always(&[
        "ipc",
        "msgget",
        "msgsnd",
        "msgrcv",
        "msgctl",
        "semget",
        "semop",
        "semtimedop",
        "semtimedop_time64",
        "semctl",
        "shmget",
        "shmat",
        "shmdt",
        "shmctl",
        "mq_open",
        "mq_unlink",
        "mq_timedsend",
        "mq_timedsend_time64",
        "mq_timedreceive",
        "mq_timedreceive_time64",
        "mq_notify",
        "mq_getsetattr",
    ]),
    // In the policy for the sake of other processors; it has a number on none of ours.
    always(&["riscv_hwprobe"]),
    // New sockets of all families but AF_ALG (38: kernel crypto, a large attack surface) and AF_VSOCK (40: reaches
    // the hypervisor past every network namespace).
    Group {
        names: &["socket"],
        verdict: Verdict::AllowIf(&[int(0, Op::Lt, 38), int(0, Op::Eq, 39), int(0, Op::Gt, 40)]),
        when: ANY,
    },
    // Personalities: PER_LINUX, PER_LINUX32, both with UNAME26, and the question which it is.
    Group {
        names: &["personality"],
        verdict: Verdict::AllowIf(&[
            int(0, Op::Eq, 0),
            int(0, Op::Eq, 8),
            int(0, Op::Eq, 0x2_0000),
            int(0, Op::Eq, 0x2_0008),
            int(0, Op::Eq, 0xffff_ffff),
        ]),
        when: ANY,
    },
    // Tracing: before 4.8 a tracer could change a call after the filter had seen it.
    Group {
        names: &["ptrace", "process_vm_readv", "process_vm_writev"],
        verdict: Verdict::Allow,
        when: When { kernel: (4, 8), ..ANY },
    },
    with(
        CapSet::SYS_PTRACE,
        &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev", "ptrace"],
    ),
    // New processes: without CAP_SYS_ADMIN, no new namespaces. `clone3` keeps its flags in memory where no filter
    // sees them, so it is absent, and the C libraries fall back on `clone`.
    Group {
        names: &["clone"],
        verdict: Verdict::AllowIf(&[Check { arg: 0, width: Width::Long, op: Op::Masked(NAMESPACES), value: 0 }]),
        when: When { without: CapSet::SYS_ADMIN, ..ANY },
    },
    Group {
        names: &["clone3"],
        verdict: Verdict::Errno(super::ENOSYS),
        when: When { without: CapSet::SYS_ADMIN, ..ANY },
    },
    with(
        CapSet::SYS_ADMIN,
        &[
            "clone",
            "clone3",
            "unshare",
            "setns",
            "sethostname",
            "setdomainname",
            "mount",
            "umount",
            "umount2",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "quotactl",
            "quotactl_fd",
            "fanotify_init",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_set_self_attr",
            "lsm_list_modules",
            "bpf",
            "perf_event_open",
            "syslog",
        ],
    ),
    // What a single capability opens.
    with(CapSet::DAC_READ_SEARCH, &["open_by_handle_at"]),
    with(CapSet::SYS_BOOT, &["reboot"]),
    with(CapSet::SYS_CHROOT, &["chroot"]),
    with(CapSet::SYS_MODULE, &["init_module", "finit_module", "delete_module"]),
    with(CapSet::SYS_PACCT, &["acct"]),
    with(CapSet::SYS_RAWIO, &["iopl", "ioperm"]),
    with(CapSet::SYS_TIME, &["settimeofday", "stime", "clock_settime", "clock_settime64"]),
    with(CapSet::SYS_TTY_CONFIG, &["vhangup"]),
    with(CapSet::SYS_NICE, &["mbind", "get_mempolicy", "set_mempolicy", "set_mempolicy_home_node"]),
    with(CapSet::SYSLOG, &["syslog"]),
    with(CapSet::BPF, &["bpf"]),
    with(CapSet::PERFMON, &["perf_event_open"]),
    // Calls of one family of processors.
    on(&[Host::X86_64], &["arch_prctl", "modify_ldt"]),
    on(
        &[Host::Aarch64],
        &["arm_fadvise64_64", "arm_sync_file_range", "sync_file_range2", "breakpoint", "cacheflush", "set_tls"],
    ),
];

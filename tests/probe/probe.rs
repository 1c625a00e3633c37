//! Prints what a process sees of its container, as lines of `key value`.
//!
//! A test compiles this file (`rustc -C target-feature=+crt-static`, no crates), puts it in a container and compares.
//! It can be run on a host as well: everything it tries either reads, or is asked with arguments that the kernel
//! refuses after it has looked at the privilege. Where a step could do anything, its comment says why it does not.
//!
//! What a default container prints (Docker's defaults; `*` is any text):
//!
//! ```text
//! CapInh 0000000000000000          CapPrm 00000000a80425fb      less what the engine itself lacks
//! CapEff 00000000a80425fb          CapBnd 00000000a80425fb
//! CapAmb 0000000000000000          0, too, for CapPrm and CapEff when the user is not root
//! NoNewPrivs 0                     Seccomp 2                    Seccomp_filters 1
//! fd 0 *  fd 1 *  fd 2 *           and no other
//! pids 1                           with an init: 1 and our own
//! getpid 1  getppid 0  getsid 1    getpgid 1
//! hostname <first 12 digits of the id>
//! cwd /  uid 0 0 0  gid 0 0 0  groups *
//! cgroup 0::/                      in a cgroup namespace of its own
//! masked <path> device 1:3 | empty-dir | absent        never `open`
//! readonly <path> EROFS | absent
//! root writable                    `EROFS` with read_only
//! try mount EPERM                  try umount2 EPERM            try reboot EPERM
//! try keyctl EPERM                 try add_key EPERM            try clone3 ENOSYS
//! try unshare_user EPERM           try setns EPERM              try bpf EPERM
//! try ptrace ESRCH                 try open_by_handle_at EPERM  try io_uring_setup EPERM
//! try socket_alg EPERM             try socket_vsock EPERM       try socket_unix ok
//! try perf_event_open EPERM        try kexec_load EPERM         try init_module EPERM
//! try swapon EPERM                 try settimeofday EPERM       try userfaultfd EPERM
//! try future_syscall ENOSYS        try personality_odd EPERM    try getpid ok
//! write /proc/sys/kernel/core_pattern EROFS            write /proc/sysrq-trigger EROFS
//! device b 42:0 mknod ok open EPERM                    device c 1:11 mknod ok open EPERM
//! device c 10:229 mknod ok open EPERM                  device c 1:3 mknod ok open ok
//! dev null c 1:3 666  zero full random urandom tty likewise; fd stdin stdout stderr core ptmx links; pts shm mqueue
//! mount <target> <type> <options>  /proc nosuid,nodev,noexec; /dev nosuid; /sys ro,nosuid,nodev,noexec; ...
//! ```

use std::ffi::{CString, c_char, c_int, c_long};
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
    fn getgroups(size: c_int, list: *mut u32) -> c_int;
    fn getsid(pid: c_int) -> c_int;
    fn getpgid(pid: c_int) -> c_int;
    fn getresuid(real: *mut u32, effective: *mut u32, saved: *mut u32) -> c_int;
    fn getresgid(real: *mut u32, effective: *mut u32, saved: *mut u32) -> c_int;
    fn gethostname(name: *mut c_char, size: usize) -> c_int;
    fn mknod(path: *const c_char, mode: u32, device: u64) -> c_int;
}

const O_NONBLOCK: i32 = 0o4000;
const O_NOCTTY: i32 = 0o400;

/// Masked in a default container; moby, `daemon/pkg/oci/defaults.go`.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
];

/// Read-only in a default container.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn main() {
    status();
    identity();
    descriptors();
    processes();
    paths();
    calls();
    devices();
    mounts();
}

/// Fields of `/proc/self/status`.
fn status() {
    let text = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let wanted = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters"];
    for line in text.lines() {
        if let Some((key, value)) = line.split_once(':')
            && wanted.contains(&key)
        {
            println!("{key} {}", value.trim());
        }
    }
}

fn identity() {
    println!("getpid {}", std::process::id());
    println!("getppid {}", std::os::unix::process::parent_id());
    // SAFETY: these two take a number and return one.
    unsafe { println!("getsid {}\ngetpgid {}", getsid(0), getpgid(0)) };
    let (mut uid, mut gid) = ([u32::MAX; 3], [u32::MAX; 3]);
    let ([ur, ue, us], [gr, ge, gs]) = (&mut uid, &mut gid);
    // SAFETY: each call writes to three integers that live through it.
    unsafe {
        getresuid(ur, ue, us);
        getresgid(gr, ge, gs);
    }
    println!("uid {} {} {}", uid[0], uid[1], uid[2]);
    println!("gid {} {} {}", gid[0], gid[1], gid[2]);
    let mut groups = [0_u32; 256];
    // SAFETY: the call writes at most the 256 integers that it is told of.
    let count = unsafe { getgroups(256, groups.as_mut_ptr()) };
    let groups: Vec<String> = groups.iter().take(count.max(0) as usize).map(u32::to_string).collect();
    println!("groups {}", groups.join(" "));
    let mut name = [0_u8; 256];
    // SAFETY: the call writes at most 255 bytes, and the last one stays zero.
    unsafe { gethostname(name.as_mut_ptr().cast(), 255) };
    println!("hostname {}", String::from_utf8_lossy(name.split(|b| *b == 0).next().unwrap_or_default()));
    match std::env::current_dir() {
        Ok(cwd) => println!("cwd {}", cwd.display()),
        Err(error) => println!("cwd {}", name_of(&error)),
    }
    for line in fs::read_to_string("/proc/self/cgroup").unwrap_or_default().lines() {
        println!("cgroup {line}");
    }
    for (key, value) in std::env::vars_os() {
        println!("env {}={}", key.display(), value.display());
    }
    for name in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        if let Ok(link) = fs::read_link(format!("/proc/self/ns/{name}")) {
            println!("ns {}", link.display());
        }
    }
}

/// Open files, but for the one that lists them.
fn descriptors() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return println!("fd unreadable") };
    let numbers: Vec<String> = entries.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    let mut numbers: Vec<i32> = numbers.iter().filter_map(|n| n.parse().ok()).collect();
    numbers.sort_unstable();
    for number in numbers {
        // The directory itself is closed by now, and its link is gone.
        if let Ok(target) = fs::read_link(format!("/proc/self/fd/{number}")) {
            println!("fd {number} {}", target.display());
        }
    }
}

fn processes() {
    let mut pids: Vec<u32> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    pids.sort_unstable();
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    println!("pids {}", pids.join(" "));
}

fn paths() {
    for path in MASKED {
        println!("masked {path} {}", masked(Path::new(path)));
    }
    for path in READ_ONLY {
        println!("readonly {path} {}", read_only(Path::new(path)));
    }
    // Opened, never written, and closed again.
    for path in ["/proc/sys/kernel/core_pattern", "/proc/sysrq-trigger", "/proc/sys/net/ipv4/ip_forward"] {
        println!("write {path} {}", outcome(OpenOptions::new().write(true).open(path)));
    }
    for path in ["/", "/tmp", "/dev", "/dev/shm", "/sys", "/sys/fs/cgroup", "/proc", "/etc", "/run"] {
        let what = match writable(Path::new(path)) {
            Ok(()) => "writable".to_owned(),
            Err(error) => name_of(&error),
        };
        println!("{} {what}", if path == "/" { "root".to_owned() } else { format!("dir {path}") });
    }
}

/// Says what is at a path that should show nothing.
fn masked(path: &Path) -> String {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return "absent".into(),
        Err(error) => return name_of(&error),
    };
    if meta.file_type().is_char_device() {
        return format!("device {}", device(&meta));
    }
    if meta.is_dir() {
        return match fs::read_dir(path) {
            Ok(entries) => if entries.count() == 0 { "empty-dir" } else { "open" }.into(),
            Err(error) => name_of(&error),
        };
    }
    let mut byte = [0];
    match File::open(path).and_then(|mut file| file.read(&mut byte)) {
        Ok(0) => "empty-file".into(),
        Ok(_) => "open".into(),
        Err(error) => name_of(&error),
    }
}

/// Says why a path cannot be written: a directory is asked for a file that procfs would not make anyway.
fn read_only(path: &Path) -> String {
    if !path.exists() {
        return "absent".into();
    }
    // A device or file is only opened. In a directory of procfs no file can be made, so the answer is EROFS or ENOENT.
    if path.is_dir() {
        outcome(OpenOptions::new().write(true).create_new(true).open(path.join("hoist-probe")))
    } else {
        outcome(OpenOptions::new().write(true).open(path))
    }
}

/// Makes a directory of a name of its own and removes it.
fn writable(path: &Path) -> io::Result<()> {
    let own = path.join(format!(".hoist-probe-{}", std::process::id()));
    fs::create_dir(&own)?;
    fs::remove_dir(&own)
}

/// Numbers that differ between the architectures, then those that do not (from pidfd_send_signal on).
#[cfg(target_arch = "x86_64")]
mod nr {
    use std::ffi::c_long;
    pub const GETPID: c_long = 39;
    pub const SOCKET: c_long = 41;
    pub const PTRACE: c_long = 101;
    pub const PERSONALITY: c_long = 135;
    pub const SETTIMEOFDAY: c_long = 164;
    pub const MOUNT: c_long = 165;
    pub const UMOUNT2: c_long = 166;
    pub const SWAPON: c_long = 167;
    pub const REBOOT: c_long = 169;
    pub const INIT_MODULE: c_long = 175;
    pub const KEXEC_LOAD: c_long = 246;
    pub const ADD_KEY: c_long = 248;
    pub const KEYCTL: c_long = 250;
    pub const UNSHARE: c_long = 272;
    pub const PERF_EVENT_OPEN: c_long = 298;
    pub const OPEN_BY_HANDLE_AT: c_long = 304;
    pub const SETNS: c_long = 308;
    pub const BPF: c_long = 321;
    pub const USERFAULTFD: c_long = 323;
}

#[cfg(target_arch = "aarch64")]
mod nr {
    use std::ffi::c_long;
    pub const UMOUNT2: c_long = 39;
    pub const MOUNT: c_long = 40;
    pub const PERSONALITY: c_long = 92;
    pub const UNSHARE: c_long = 97;
    pub const KEXEC_LOAD: c_long = 104;
    pub const INIT_MODULE: c_long = 105;
    pub const PTRACE: c_long = 117;
    pub const REBOOT: c_long = 142;
    pub const SETTIMEOFDAY: c_long = 170;
    pub const GETPID: c_long = 172;
    pub const SOCKET: c_long = 198;
    pub const ADD_KEY: c_long = 217;
    pub const KEYCTL: c_long = 219;
    pub const SWAPON: c_long = 224;
    pub const PERF_EVENT_OPEN: c_long = 241;
    pub const OPEN_BY_HANDLE_AT: c_long = 265;
    pub const SETNS: c_long = 268;
    pub const BPF: c_long = 280;
    pub const USERFAULTFD: c_long = 282;
}

const IO_URING_SETUP: c_long = 425;
const CLONE3: c_long = 435;
/// Not given to any call yet, and the kernel answers ENOSYS.
const FUTURE: c_long = 1000;

/// Makes calls that fail on a host for their arguments, and in a container for want of privilege.
fn calls() {
    let none = 0_usize;
    let missing = c"/hoist-probe/does/not/exist".as_ptr() as usize;
    let tries: [(&str, c_long, [usize; 6]); 25] = [
        ("getpid", nr::GETPID, [none; 6]),
        // The target does not exist: ENOENT with the privilege.
        ("mount", nr::MOUNT, [missing, missing, missing, none, none, none]),
        ("umount2", nr::UMOUNT2, [missing, none, none, none, none, none]),
        // The first magic number is wrong, so this can only be EINVAL or EPERM (reboot(2)).
        ("reboot", nr::REBOOT, [1, 2, 0, none, none, none]),
        // KEYCTL_GET_KEYRING_ID of no keyring, without creating it.
        ("keyctl", nr::KEYCTL, [0, 0, 0, none, none, none]),
        // No type and no description: EFAULT.
        ("add_key", nr::ADD_KEY, [none; 6]),
        // An argument block of no size: EINVAL, and no process.
        ("clone3", CLONE3, [none; 6]),
        // Together with a flag that is none (0x1): EINVAL, after a filter has looked, and nothing is unshared.
        ("unshare_user", nr::UNSHARE, [0x1000_0001, none, none, none, none, none]),
        ("setns", nr::SETNS, [usize::MAX, none, none, none, none, none]),
        // A command that there is not.
        ("bpf", nr::BPF, [9999, none, none, none, none, none]),
        // PTRACE_PEEKDATA of a process that there cannot be.
        ("ptrace", nr::PTRACE, [2, 0x7fff_fff0, none, none, none, none]),
        // No handle: EFAULT with the privilege.
        ("open_by_handle_at", nr::OPEN_BY_HANDLE_AT, [usize::MAX, none, none, none, none, none]),
        // No parameters: EFAULT.
        ("io_uring_setup", IO_URING_SETUP, [1, none, none, none, none, none]),
        // The types are wrong for AF_ALG and AF_VSOCK: a host refuses these too, but not with EPERM.
        ("socket_alg", nr::SOCKET, [38, 9, 0, none, none, none]),
        ("socket_vsock", nr::SOCKET, [40, 9, 0, none, none, none]),
        ("socket_unix", nr::SOCKET, [1, 1, 0, none, none, none]),
        ("socket_alg_high", nr::SOCKET, [0x1_0000_0026, 9, 0, none, none, none]),
        ("perf_event_open", nr::PERF_EVENT_OPEN, [none; 6]),
        // Too many segments: EINVAL.
        ("kexec_load", nr::KEXEC_LOAD, [none, 9999, none, none, none, none]),
        // No image: EFAULT or ENOEXEC.
        ("init_module", nr::INIT_MODULE, [none; 6]),
        ("swapon", nr::SWAPON, [missing, none, none, none, none, none]),
        // Neither a time nor a zone: nothing to set. Some kernels look at the privilege first.
        ("settimeofday", nr::SETTIMEOFDAY, [none, none, none, none, none, none]),
        // Unknown flags: EINVAL.
        ("userfaultfd", nr::USERFAULTFD, [0xffff_ff00, none, none, none, none, none]),
        ("future_syscall", FUTURE, [none; 6]),
        // Our own personality, and nobody else's: ADDR_NO_RANDOMIZE, which only a later execve would notice.
        ("personality_odd", nr::PERSONALITY, [0x004_0000, none, none, none, none, none]),
    ];
    for (name, number, [a, b, c, d, e, f]) in tries {
        // SAFETY: each set of arguments is refused before the kernel follows a pointer, or points to a C string that
        // it only reads; the comments above say which.
        let result = unsafe { syscall(number, a, b, c, d, e, f) };
        println!("try {name} {}", if result < 0 { name_of(&io::Error::last_os_error()) } else { "ok".into() });
    }
}

/// Makes device nodes and opens them for reading: opening these has no effect whatever is behind them.
fn devices() {
    let dir = ["/tmp", "/run", "/"].into_iter().map(Path::new).find(|dir| writable(dir).is_ok());
    // 42 is set aside for demonstrations and never in use; 1:11 is the kernel's log, 10:229 is fuse.
    for (kind, mode, major, minor) in
        [("b", 0o060_600, 42, 0), ("c", 0o020_600, 1, 11), ("c", 0o020_600, 10, 229), ("c", 0o020_600, 1, 3)]
    {
        let Some(dir) = dir else {
            println!("device {kind} {major}:{minor} nowhere-to-make-it");
            continue;
        };
        let path = dir.join(format!(".hoist-probe-{}-{major}-{minor}", std::process::id()));
        let c_path = CString::new(path.as_os_str().as_bytes()).expect("no zero in it");
        // SAFETY: the path is a C string that lives through the call. Device numbers this small are encoded as in
        // makedev(3).
        let made = unsafe { mknod(c_path.as_ptr(), mode, major << 8 | minor) };
        let made = if made == 0 { "ok".into() } else { name_of(&io::Error::last_os_error()) };
        let opened = OpenOptions::new().read(true).custom_flags(O_NONBLOCK | O_NOCTTY).open(&path);
        println!("device {kind} {major}:{minor} mknod {made} open {}", outcome(opened));
        // It may not have been made.
        let _ = fs::remove_file(&path);
    }
    let mut names: Vec<_> = fs::read_dir("/dev").into_iter().flatten().flatten().map(|e| e.file_name()).collect();
    names.sort();
    for name in names {
        let path = Path::new("/dev").join(&name);
        let Ok(meta) = fs::symlink_metadata(&path) else { continue };
        let kind = meta.file_type();
        let what = if kind.is_symlink() {
            fs::read_link(&path).map_or_else(|e| name_of(&e), |to| format!("link {}", to.display()))
        } else if kind.is_dir() {
            format!("dir {:o}", meta.mode() & 0o7777)
        } else if kind.is_char_device() || kind.is_block_device() {
            let letter = if kind.is_char_device() { "c" } else { "b" };
            format!("{letter} {} {:o}", device(&meta), meta.mode() & 0o7777)
        } else {
            "file".into()
        };
        println!("dev {} {what}", name.display());
    }
}

/// Target, type, options of the mount and of its file system.
fn mounts() {
    for line in fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        if let Some(dash) = fields.iter().position(|field| *field == "-")
            && dash >= 6
            && fields.len() > dash + 3
        {
            let shared = fields[6..dash].join(",");
            println!("mount {} {} {} {} [{shared}]", fields[4], fields[dash + 1], fields[5], fields[dash + 3]);
        }
    }
}

/// Returns a node's device number as `major:minor` (makedev(3)).
fn device(meta: &Metadata) -> String {
    let number = meta.rdev();
    let major = (number >> 8 & 0xfff) | (number >> 32 & 0xffff_f000);
    let minor = (number & 0xff) | (number >> 12 & 0xffff_ff00);
    format!("{major}:{minor}")
}

fn outcome(result: io::Result<File>) -> String {
    result.map_or_else(|error| name_of(&error), |_| "ok".into())
}

/// Returns an error's symbolic name.
fn name_of(error: &io::Error) -> String {
    let number = error.raw_os_error().unwrap_or(0);
    match number {
        1 => "EPERM",
        2 => "ENOENT",
        3 => "ESRCH",
        5 => "EIO",
        6 => "ENXIO",
        8 => "ENOEXEC",
        9 => "EBADF",
        13 => "EACCES",
        14 => "EFAULT",
        16 => "EBUSY",
        17 => "EEXIST",
        19 => "ENODEV",
        20 => "ENOTDIR",
        22 => "EINVAL",
        30 => "EROFS",
        38 => "ENOSYS",
        93 => "EPROTONOSUPPORT",
        94 => "ESOCKTNOSUPPORT",
        95 => "EOPNOTSUPP",
        97 => "EAFNOSUPPORT",
        126 => "ENOKEY",
        _ => return format!("E{number}"),
    }
    .to_owned()
}

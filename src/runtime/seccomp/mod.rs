//! The seccomp filter of a container: Docker's default policy, resolved for a host, a capability set and a kernel.
//!
//! `table` says what is allowed, this file turns names into numbers for each ABI of the host, and [`mod@compile`] makes
//! the program. Beyond Docker's profile: a number newer than all that the policy knows gets `ENOSYS`, so that a newer
//! C library falls back as it would on an older kernel; calls of a foreign architecture kill the process.
//!
//! Known limit, the same as Docker's: i386's `socketcall` is allowed and hides its arguments from every filter.
//!
//! Invariant: nothing here but [`kernel_version`] reads the host, and nothing changes a process.

pub mod compile;
pub mod profile;
mod table;

use std::collections::{BTreeMap, HashMap, HashSet};

pub use compile::Program;
use compile::{Action, Arch, Decision, compile};
use table::{POLICY, Verdict, When};

use crate::runtime::caps::CapSet;

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("the seccomp policy knows the ABIs of x86_64 and aarch64 hosts only");

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// The bit that marks a number of the x32 ABI, which shares its architecture with x86_64.
const X32_BIT: u32 = 0x4000_0000;
/// Numbers that x32 took for itself before it was agreed that new calls have one number everywhere.
const X32_OWN: std::ops::Range<u32> = 512..548;

/// A kind of host, with all the ABIs that its kernel serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// x86_64, with i386 and x32.
    X86_64,
    /// aarch64, with 32-bit arm.
    Aarch64,
}

impl Host {
    /// The host that this program was built for.
    pub const CURRENT: Self = if cfg!(target_arch = "x86_64") { Self::X86_64 } else { Self::Aarch64 };
}

/// Returns the default filter for this host.
///
/// `caps` is the container's bounding set, `kernel` the running kernel's version ([`kernel_version`]).
#[must_use]
pub fn default_program(caps: CapSet, kernel: (u16, u16)) -> Program {
    program_for(Host::CURRENT, caps, kernel)
}

/// Returns the default filter for a host.
#[must_use]
pub fn program_for(host: Host, caps: CapSet, kernel: (u16, u16)) -> Program {
    compile(&resolve(host, caps, kernel))
}

/// Returns the version of the running kernel, such as `(6, 1)`; `(0, 0)` if it cannot be told, which allows least.
#[must_use]
pub fn kernel_version() -> (u16, u16) {
    parse_version(&rustix::system::uname().release().to_string_lossy()).unwrap_or((0, 0))
}

fn parse_version(release: &str) -> Option<(u16, u16)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// A way into the kernel with numbers of its own.
struct Abi {
    audit: u32,
    /// What its numbers are offset by.
    bit: u32,
    /// Name and number of every call, without the bit.
    calls: Vec<(&'static str, u32)>,
    /// Numbers outside the order in which calls were added; [`Abi::newest`] does not look at them.
    apart: std::ops::Range<u32>,
}

impl Abi {
    /// Returns the ABIs of a host, those of one architecture next to each other in ascending order.
    fn all(host: Host) -> Vec<Self> {
        let nowhere = 0..0;
        match host {
            Host::X86_64 => vec![
                Self { audit: 0xc000_003e, bit: 0, calls: calls(syscalls::x86_64::Sysno::iter()), apart: nowhere },
                Self { audit: 0xc000_003e, bit: X32_BIT, calls: x32(), apart: X32_OWN },
                Self { audit: 0x4000_0003, bit: 0, calls: calls(syscalls::x86::Sysno::iter()), apart: 0..0 },
            ],
            Host::Aarch64 => {
                let mut arm = calls(syscalls::arm::Sysno::iter());
                // The private calls of arm (`asm/unistd.h`).
                arm.extend([("breakpoint", 0xf_0001), ("cacheflush", 0xf_0002), ("set_tls", 0xf_0005)]);
                vec![
                    Self { audit: 0xc000_00b7, bit: 0, calls: aarch64(), apart: nowhere },
                    Self { audit: 0x4000_0028, bit: 0, calls: arm, apart: 0xf_0000..0xf_0010 },
                ]
            }
        }
    }

    /// Returns the highest number of those that a policy has a word on: what came later, it cannot judge.
    fn newest(&self, judged: &HashSet<&str>) -> u32 {
        let known = self.calls.iter().filter(|(name, nr)| judged.contains(name) && !self.apart.contains(nr));
        known.map(|(_, nr)| *nr).max().unwrap_or(0)
    }

    /// Returns libseccomp's word for it.
    fn name(&self) -> &'static str {
        match (self.audit, self.bit) {
            (0xc000_003e, 0) => "SCMP_ARCH_X86_64",
            (0xc000_003e, _) => "SCMP_ARCH_X32",
            (0x4000_0003, _) => "SCMP_ARCH_X86",
            (0xc000_00b7, _) => "SCMP_ARCH_AARCH64",
            _ => "SCMP_ARCH_ARM",
        }
    }
}

/// Lists an architecture's calls; the type of their names differs in each.
fn calls<S: Copy + Into<Call>>(table: impl Iterator<Item = S>) -> Vec<(&'static str, u32)> {
    table.map(|call| call.into()).map(|Call(name, nr)| (name, nr)).collect()
}

/// A call's name and number, whatever the architecture.
struct Call(&'static str, u32);

macro_rules! call_from {
    ($($arch:ident),*) => {
        $(impl From<syscalls::$arch::Sysno> for Call {
            fn from(call: syscalls::$arch::Sysno) -> Self {
                Self(call.name(), u32::try_from(call.id()).expect("call numbers are not negative"))
            }
        })*
    };
}
call_from!(x86_64, x86, aarch64, arm);

/// Returns aarch64's calls. The crate's table has the generic name of call 79, which the kernel and the policy call
/// `newfstatat` there (`asm-generic/unistd.h`), and the `*_time64` calls, which only 32-bit systems have.
fn aarch64() -> Vec<(&'static str, u32)> {
    let table = calls(syscalls::aarch64::Sysno::iter()).into_iter();
    table.filter(|(_, nr)| *nr != 79 && !(403..=423).contains(nr)).chain([("newfstatat", 79)]).collect()
}

/// Returns x32's calls: those of x86_64 except where `arch/x86/entry/syscalls/syscall_64.tbl` says `64` and not
/// `common`, and its own.
fn x32() -> Vec<(&'static str, u32)> {
    /// From 512 on, in order.
    const OWN: [&str; 36] = [
        "rt_sigaction",
        "rt_sigreturn",
        "ioctl",
        "readv",
        "writev",
        "recvfrom",
        "sendmsg",
        "recvmsg",
        "execve",
        "ptrace",
        "rt_sigpending",
        "rt_sigtimedwait",
        "rt_sigqueueinfo",
        "sigaltstack",
        "timer_create",
        "mq_notify",
        "kexec_load",
        "waitid",
        "set_robust_list",
        "get_robust_list",
        "vmsplice",
        "move_pages",
        "preadv",
        "pwritev",
        "rt_tgsigqueueinfo",
        "recvmmsg",
        "sendmmsg",
        "process_vm_readv",
        "process_vm_writev",
        "setsockopt",
        "getsockopt",
        "io_setup",
        "io_submit",
        "execveat",
        "preadv2",
        "pwritev2",
    ];
    const ABSENT: [&str; 14] = [
        "uselib",
        "_sysctl",
        "create_module",
        "get_kernel_syms",
        "query_module",
        "nfsservctl",
        "set_thread_area",
        "get_thread_area",
        "epoll_ctl_old",
        "epoll_wait_old",
        "vserver",
        "uretprobe",
        "uprobe",
        "map_shadow_stack",
    ];
    let common = calls(syscalls::x86_64::Sysno::iter());
    let common = common.into_iter().filter(|(name, _)| !OWN.contains(name) && !ABSENT.contains(name));
    common.chain(OWN.into_iter().zip(X32_OWN)).collect()
}

/// Resolves the policy to decisions by number.
fn resolve(host: Host, caps: CapSet, kernel: (u16, u16)) -> Vec<Arch> {
    let judged: HashSet<&str> = POLICY.iter().flat_map(|g| g.names).copied().collect();
    resolve_named(host, &decisions(host, caps, kernel), &judged, Action::Errno(EPERM), &|_| true)
}

/// Resolves decisions by name to decisions by number. `judged` are all the names that the policy has a word on, allowed or
/// not; `default` is for what is not decided, `served` says which ABIs there are, by libseccomp's names.
fn resolve_named(
    host: Host,
    named: &HashMap<&str, Decision>,
    judged: &HashSet<&str>,
    default: Action,
    served: &dyn Fn(&str) -> bool,
) -> Vec<Arch> {
    let mut arches: Vec<Arch> = Vec::new();
    for abi in Abi::all(host) {
        let ranges = if served(abi.name()) {
            ranges(&abi, named, judged, default)
        } else if abi.bit > 0 {
            vec![(abi.bit, Decision::Always(Action::KillProcess))] // it shares its architecture with one that is served
        } else {
            continue;
        };
        match arches.last_mut().filter(|arch| arch.audit == abi.audit) {
            Some(arch) => {
                // The numbers below this ABI's bit belong to the one before; drop what that one said about the rest.
                arch.ranges.retain(|(start, _)| *start < abi.bit);
                arch.ranges.extend(ranges);
                arch.ranges.dedup_by(|later, earlier| later.1 == earlier.1);
            }
            None => arches.push(Arch { audit: abi.audit, ranges }),
        }
    }
    arches
}

/// Returns what the policy says of each name, where it says anything but the default.
fn decisions(host: Host, caps: CapSet, kernel: (u16, u16)) -> HashMap<&'static str, Decision> {
    let mut named: HashMap<&'static str, Decision> = HashMap::new();
    for group in POLICY.iter().filter(|group| group.when.holds(host, caps, kernel)) {
        for name in group.names {
            let decision = match group.verdict {
                Verdict::Allow => Decision::Always(Action::Allow),
                Verdict::Errno(errno) => Decision::Always(Action::Errno(errno)),
                Verdict::AllowIf(checks) => Decision::When {
                    any: checks.iter().map(|check| vec![*check]).collect(),
                    then: Action::Allow,
                    otherwise: Action::Errno(EPERM),
                },
            };
            // Groups are alternatives: what one allows for all arguments is allowed.
            let known = named.entry(name).or_insert_with(|| decision.clone());
            if decision == Decision::Always(Action::Allow) {
                *known = decision;
            }
        }
    }
    named
}

impl When {
    fn holds(&self, host: Host, caps: CapSet, kernel: (u16, u16)) -> bool {
        caps.contains(self.with)
            && !caps.intersects(self.without)
            && kernel >= self.kernel
            && self.hosts.contains(&host)
    }
}

/// Returns the ranges of one ABI from its bit upwards.
fn ranges(abi: &Abi, named: &HashMap<&str, Decision>, judged: &HashSet<&str>, default: Action) -> Vec<(u32, Decision)> {
    let newest = abi.newest(judged);
    let default = |nr: u32| {
        let known = nr <= newest || abi.apart.contains(&nr);
        Decision::Always(match default {
            Action::Errno(_) if !known => Action::Errno(ENOSYS),
            other => other,
        })
    };
    let by_number: BTreeMap<u32, &Decision> =
        abi.calls.iter().filter_map(|(name, nr)| Some((*nr, named.get(name)?))).collect();
    // Every number where the decision may change.
    let mut starts: Vec<u32> = by_number.keys().flat_map(|nr| [*nr, nr + 1]).collect();
    starts.extend([0, newest + 1, abi.apart.start, abi.apart.end]);
    starts.sort_unstable();
    starts.dedup();
    let decide = |nr: u32| (nr + abi.bit, by_number.get(&nr).copied().cloned().unwrap_or_else(|| default(nr)));
    let mut ranges: Vec<(u32, Decision)> = starts.into_iter().map(decide).collect();
    ranges.dedup_by(|later, earlier| later.1 == earlier.1);
    ranges
}

#[cfg(test)]
mod tests;

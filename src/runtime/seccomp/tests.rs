//! The compiled filters against an interpreter, a plain evaluation of the policy, Docker's own file, and the kernel.

use proptest::prelude::*;

use super::compile::{Check, Op, Width};
use super::*;
use crate::sys::seccomp::Instruction;

const X86_64: u32 = 0xc000_003e;
const I386: u32 = 0x4000_0003;
const AARCH64: u32 = 0xc000_00b7;
const ARM: u32 = 0x4000_0028;
const RECENT: (u16, u16) = (6, 18);

/// A system call as a filter sees it.
#[derive(Debug, Clone, Copy)]
struct Call {
    audit: u32,
    nr: u32,
    args: [u64; 6],
}

/// Runs a program as the kernel would; returns the answer and how many instructions it took.
fn run(program: &[Instruction], call: Call) -> (u32, usize) {
    let word = |offset: u32| match offset {
        0 => call.nr,
        4 => call.audit,
        16..64 if offset.is_multiple_of(4) => {
            let arg = call.args[(offset as usize - 16) / 8];
            u32::try_from(if offset.is_multiple_of(8) { arg & 0xffff_ffff } else { arg >> 32 }).unwrap()
        }
        _ => panic!("load at {offset}"),
    };
    let (mut at, mut a) = (0, 0);
    for steps in 1.. {
        let i = program[at];
        at += 1;
        let branch = |holds: bool| usize::from(if holds { i.jt } else { i.jf });
        match i.code {
            0x20 => a = word(i.k),
            0x05 => at += i.k as usize,
            0x15 => at += branch(a == i.k),
            0x25 => at += branch(a > i.k),
            0x35 => at += branch(a >= i.k),
            0x54 => a &= i.k,
            0x06 => return (i.k, steps),
            code => panic!("code {code:#x}"),
        }
    }
    unreachable!("a program ends")
}

fn holds(check: &Check, args: &[u64; 6]) -> bool {
    let mut arg = args[usize::from(check.arg)];
    let mut value = check.value;
    if check.width == Width::Int {
        arg &= 0xffff_ffff;
        value &= 0xffff_ffff;
    }
    match check.op {
        Op::Eq => arg == value,
        Op::Ne => arg != value,
        Op::Lt => arg < value,
        Op::Le => arg <= value,
        Op::Gt => arg > value,
        Op::Ge => arg >= value,
        Op::Masked(mask) if check.width == Width::Int => arg & (mask & 0xffff_ffff) == value,
        Op::Masked(mask) => arg & mask == value,
    }
}

/// The name of a call, asked of the tables one number at a time.
fn name(call: Call) -> Option<&'static str> {
    let nr = call.nr as usize;
    match call.audit {
        X86_64 if call.nr & X32_BIT == 0 => syscalls::x86_64::Sysno::new(nr).map(|s| s.name()),
        X86_64 => x32().into_iter().find(|(_, n)| n | X32_BIT == call.nr).map(|(name, _)| name),
        I386 => syscalls::x86::Sysno::new(nr).map(|s| s.name()),
        AARCH64 if call.nr == 79 => Some("newfstatat"),
        AARCH64 if (403..=423).contains(&call.nr) => None,
        AARCH64 => syscalls::aarch64::Sysno::new(nr).map(|s| s.name()),
        ARM => match call.nr {
            0xf_0001 => Some("breakpoint"),
            0xf_0002 => Some("cacheflush"),
            0xf_0005 => Some("set_tls"),
            _ => syscalls::arm::Sysno::new(nr).map(|s| s.name()),
        },
        _ => None,
    }
}

/// The policy read aloud: what it says of one call.
fn expected(host: Host, caps: CapSet, kernel: (u16, u16), call: Call, name: Option<&str>) -> u32 {
    let served = match host {
        Host::X86_64 => [X86_64, I386],
        Host::Aarch64 => [AARCH64, ARM],
    };
    if !served.contains(&call.audit) {
        return 0x8000_0000;
    }
    let mut answer = None;
    for group in POLICY {
        let when = group.when;
        if name.is_none_or(|name| !group.names.contains(&name))
            || when.with.names().any(|cap| !caps.names().any(|c| c == cap))
            || when.without.names().any(|cap| caps.names().any(|c| c == cap))
            || kernel < when.kernel
            || !when.hosts.contains(&host)
        {
            continue;
        }
        match group.verdict {
            Verdict::Allow => return 0x7fff_0000,
            Verdict::AllowIf(checks) if checks.iter().any(|c| holds(c, &call.args)) => return 0x7fff_0000,
            Verdict::AllowIf(_) => {}
            Verdict::Errno(errno) => answer = Some(0x0005_0000 | u32::from(errno)),
        }
    }
    // 466, removexattrat, is the newest call of the policy; its number is the same everywhere.
    let bare = if call.audit == X86_64 { call.nr & !X32_BIT } else { call.nr };
    let apart = match call.audit {
        X86_64 => call.nr & X32_BIT != 0 && (512..548).contains(&bare),
        ARM => (0xf_0000..0xf_0010).contains(&call.nr),
        _ => false,
    };
    answer.unwrap_or(if bare <= 466 || apart { 0x0005_0001 } else { 0x0005_0026 })
}

fn numbers() -> impl Iterator<Item = u32> {
    let rare = [0xf_0000, 0xf_0001, 0xf_0002, 0xf_0003, 0xf_0005, 0xf_000f, 0xf_0010, 0x3fff_ffff, 0x7fff_ffff];
    let rarer = [0x8000_0000, 0x8000_0001, 0xbfff_ffff, 0xc000_0000, 0xffff_fffe, u32::MAX];
    (0..1024).chain(X32_BIT..X32_BIT + 1024).chain(rare).chain(rarer)
}

/// Values of a first argument that some condition could care about.
const SAMPLES: [u64; 24] = [
    0,
    1,
    8,
    9,
    37,
    38,
    39,
    40,
    41,
    0x2_0000,
    0x2_0008,
    0x1_0000_0026,
    0x1_0000_0028,
    0xffff_ffff_0000_0026,
    0x0200_0000,
    0x4000_0000,
    0x7e02_0000,
    0x8000_0000,
    0x003d_0f00,
    0x1_0000_0000,
    0xffff_fffe,
    0xffff_ffff,
    u64::MAX,
    u64::MAX << 32,
];

#[test]
fn every_call_gets_what_the_policy_says() {
    let singles = (0..41).map(|n| CapSet(1 << n));
    let sets = [CapSet::DOCKER_DEFAULT, CapSet::EMPTY, CapSet::ALL].into_iter().chain(singles);
    let worlds = sets.map(|caps| (caps, RECENT)).chain([(CapSet::DOCKER_DEFAULT, (4, 7)), (CapSet::ALL, (4, 8))]);
    let worlds: Vec<_> = worlds.collect();
    for audit in [X86_64, I386, AARCH64, ARM, 0x8000_0016, 0] {
        for nr in numbers() {
            let call = Call { audit, nr, args: [0; 6] };
            let name = name(call);
            for host in [Host::X86_64, Host::Aarch64] {
                for &(caps, kernel) in &worlds {
                    let program = cached(host, caps, kernel);
                    let conditional = matches!(name, Some("clone" | "personality" | "socket"));
                    for sample in &SAMPLES[..if conditional { SAMPLES.len() } else { 1 }] {
                        let call = Call { args: [*sample, 38, 0, 38, 0, 0], ..call };
                        let (got, _) = run(&program, call);
                        let want = expected(host, caps, kernel, call, name);
                        assert_eq!(got, want, "{host:?} {kernel:?} {caps} {call:x?} {name:?}: {got:#x} {want:#x}");
                    }
                }
            }
        }
    }
}

/// Programs are asked for millions of times; compiling is not what that test is about.
fn cached(host: Host, caps: CapSet, kernel: (u16, u16)) -> std::rc::Rc<Program> {
    type Known = HashMap<(bool, u64, (u16, u16)), std::rc::Rc<Program>>;
    thread_local!(static KNOWN: std::cell::RefCell<Known> = std::cell::RefCell::default());
    KNOWN.with_borrow_mut(|known| {
        let key = (host == Host::X86_64, caps.0, kernel);
        known.entry(key).or_insert_with(|| program_for(host, caps, kernel).into()).clone()
    })
}

#[test]
fn the_program_is_a_tree_and_not_a_list() {
    for host in [Host::X86_64, Host::Aarch64] {
        for caps in [CapSet::DOCKER_DEFAULT, CapSet::EMPTY, CapSet::ALL] {
            let program = program_for(host, caps, RECENT);
            let longest = [X86_64, I386, AARCH64, ARM]
                .into_iter()
                .flat_map(|audit| numbers().map(move |nr| Call { audit, nr, args: [41; 6] }))
                .map(|call| run(&program, call).1)
                .max();
            assert!(program.len() <= 250, "{host:?}: {} instructions", program.len());
            assert!(longest.is_some_and(|steps| steps <= 20), "{host:?}: {longest:?} steps");
        }
    }
}

#[test]
fn the_answers_that_matter_most() {
    let program = program_for(Host::X86_64, CapSet::DOCKER_DEFAULT, RECENT);
    let answer = |audit, nr, arg| run(&program, Call { audit, nr, args: [arg, 0, 0, 0, 0, 0] }).0;
    let (allow, eperm, enosys, kill) = (0x7fff_0000, 0x0005_0001, 0x0005_0026, 0x8000_0000);
    assert_eq!(answer(X86_64, 0, 0), allow, "read");
    assert_eq!(answer(X86_64, 165, 0), eperm, "mount");
    assert_eq!(answer(X86_64, 435, 0), enosys, "clone3");
    assert_eq!(answer(X86_64, 56, 0x003d_0f00), allow, "clone for a thread");
    assert_eq!(answer(X86_64, 56, 0x1000_0011), eperm, "clone with CLONE_NEWUSER");
    assert_eq!(answer(X86_64, 272, 0), eperm, "unshare");
    assert_eq!(answer(X86_64, 41, 38), eperm, "socket AF_ALG");
    assert_eq!(answer(X86_64, 41, 0x1_0000_0026), eperm, "AF_ALG with a bit that the kernel does not look at");
    assert_eq!(answer(X86_64, 425, 0), eperm, "io_uring_setup");
    assert_eq!(answer(X86_64, 467, 0), enosys, "open_tree_attr, which the policy does not know yet");
    assert_eq!(answer(X86_64, X32_BIT | 512, 0), allow, "x32 rt_sigaction");
    assert_eq!(answer(X86_64, X32_BIT | 13, 0), eperm, "a number that is x86_64's alone");
    assert_eq!(answer(I386, 3, 0), allow, "i386 read");
    assert_eq!(answer(I386, 21, 0), eperm, "i386 mount");
    assert_eq!(answer(AARCH64, 63, 0), kill, "a foreign architecture");
}

#[test]
fn what_every_program_on_aarch64_needs_is_allowed() {
    let program = program_for(Host::Aarch64, CapSet::DOCKER_DEFAULT, RECENT);
    let answer = |audit, nr| run(&program, Call { audit, nr, args: [0; 6] }).0;
    // openat, read, write, newfstatat, exit_group, futex, brk, clone, execve, mmap; the kernel's numbers.
    for nr in [56, 63, 64, 79, 94, 98, 214, 220, 221, 222] {
        assert_eq!(answer(AARCH64, nr), 0x7fff_0000, "{nr}");
    }
    assert_eq!(answer(AARCH64, 40), 0x0005_0001, "mount");
    assert_eq!(answer(AARCH64, 435), 0x0005_0026, "clone3");
    // set_tls, clock_gettime64, fstatat64, mount.
    for (nr, want) in [(0xf_0005, 0x7fff_0000), (403, 0x7fff_0000), (327, 0x7fff_0000), (21, 0x0005_0001)] {
        assert_eq!(answer(ARM, nr), want, "arm {nr:#x}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Any ranges with any checks: enough of them to need long jumps.
    #[test]
    fn any_policy_compiles_to_what_it_says(
        ranges in prop::collection::btree_map(0..4000_u32, decision(), 0..700),
        second in prop::collection::btree_map(0..60_u32, decision(), 0..20),
        calls in prop::collection::vec((0..2_usize, 0..4100_u32, prop::array::uniform6(argument())), 60),
    ) {
        let arch = |audit, mut ranges: BTreeMap<u32, Decision>| {
            ranges.entry(0).or_insert(Decision::Always(Action::Allow));
            Arch { audit, ranges: ranges.into_iter().collect() }
        };
        let arches = [arch(X86_64, ranges), arch(I386, second)];
        let program = compile(&arches);
        for (which, nr, args) in calls {
            let decision = arches[which].ranges.iter().rev().find(|(start, _)| *start <= nr).map(|(_, d)| d);
            let want = match decision.expect("the first range begins at 0") {
                Decision::Always(action) => *action,
                Decision::When { any, then, .. } if any.iter().any(|all| all.iter().all(|c| holds(c, &args))) => *then,
                Decision::When { otherwise, .. } => *otherwise,
            };
            let call = Call { audit: arches[which].audit, nr, args };
            prop_assert_eq!(run(&program, call).0, want.value(), "{:x?} {:?}", call, decision);
        }
    }
}

fn argument() -> impl Strategy<Value = u64> {
    prop_oneof![0..4_u64, (0..4_u64).prop_map(|v| v << 32), (0..4_u64, 0..4_u64).prop_map(|(h, l)| h << 32 | l)]
}

fn decision() -> impl Strategy<Value = Decision> {
    let action = || prop_oneof![Just(Action::Allow), Just(Action::KillProcess), (1..3_u16).prop_map(Action::Errno)];
    let op = prop_oneof![
        Just(Op::Eq),
        Just(Op::Ne),
        Just(Op::Lt),
        Just(Op::Le),
        Just(Op::Gt),
        Just(Op::Ge),
        argument().prop_map(Op::Masked),
    ];
    let width = prop_oneof![Just(Width::Int), Just(Width::Long)];
    let check = (0..6_u8, width, op, argument()).prop_map(|(arg, width, op, value)| Check { arg, width, op, value });
    let any = prop::collection::vec(prop::collection::vec(check, 1..4), 0..4);
    prop_oneof![
        4 => action().prop_map(Decision::Always),
        1 => (any, action(), action()).prop_map(|(any, then, otherwise)| Decision::When { any, then, otherwise }),
    ]
}

#[test]
fn a_kernel_release_is_read_as_a_version() {
    for (release, want) in [
        ("6.18.44-fc", Some((6, 18))),
        ("6.1.0-18-amd64", Some((6, 1))),
        ("4.8", Some((4, 8))),
        ("7.0-rc1", Some((7, 0))),
        ("weird", None),
        ("", None),
    ] {
        assert_eq!(parse_version(release), want, "{release}");
    }
    assert!(kernel_version() >= (5, 0));
}

/// One line for each name in each group: what it gets and when. Equal sets of lines are equal policies.
type Lines = std::collections::BTreeSet<String>;

/// Where Docker's profile may lie: `$HOIST_SHARED`, or `shared` beside the checkout.
fn docker_profile() -> Option<serde_json::Value> {
    let shared = std::env::var_os("HOIST_SHARED")
        .map_or_else(|| concat!(env!("CARGO_MANIFEST_DIR"), "/../shared").into(), std::path::PathBuf::from);
    let text = std::fs::read_to_string(shared.join("data/seccomp-default.json")).ok()?;
    Some(serde_json::from_str(&text).expect("the profile is JSON"))
}

#[test]
fn the_table_is_docker_s_profile() {
    let Some(profile) = docker_profile() else {
        crate::testing::skip("no data/seccomp-default.json in $HOIST_SHARED or ../shared");
        return;
    };
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    assert_eq!(profile["defaultErrnoRet"], EPERM);
    for (host, goarch, audit) in [(Host::X86_64, "amd64", "X86_64"), (Host::Aarch64, "arm64", "AARCH64")] {
        let entry = profile["archMap"]
            .as_array()
            .unwrap()
            .iter()
            .find(|e| e["architecture"].as_str().is_some_and(|a| a.strip_prefix("SCMP_ARCH_") == Some(audit)));
        let more = entry.unwrap()["subArchitectures"].as_array().unwrap().len();
        assert_eq!(Abi::all(host).len(), 1 + more, "{audit}");
        assert_eq!(our_lines(host), docker_lines(&profile, goarch), "{goarch}");
    }
}

fn our_lines(host: Host) -> Lines {
    let mut lines = Lines::new();
    for group in POLICY.iter().filter(|g| g.when.hosts.contains(&host)) {
        let when = format!("with [{}] without [{}] from {:?}", group.when.with, group.when.without, group.when.kernel);
        for name in group.names {
            match group.verdict {
                Verdict::Allow => drop(lines.insert(format!("{name}: allow {when}"))),
                Verdict::Errno(errno) => drop(lines.insert(format!("{name}: errno {errno} {when}"))),
                Verdict::AllowIf(checks) => lines.extend(checks.iter().map(|c| {
                    let (op, value) = match c.op {
                        Op::Masked(mask) => ("MASKED_EQ".to_owned(), format!("{mask}/{}", c.value)),
                        op => (format!("{op:?}").to_uppercase(), format!("{}/0", c.value)),
                    };
                    format!("{name}: allow if {} {op} {value} {when}", c.arg)
                })),
            }
        }
    }
    lines
}

fn docker_lines(profile: &serde_json::Value, goarch: &str) -> Lines {
    let list = |value: &serde_json::Value| -> Vec<String> {
        value.as_array().into_iter().flatten().map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let mut lines = Lines::new();
    for rule in profile["syscalls"].as_array().unwrap() {
        let (includes, excludes) = (&rule["includes"], &rule["excludes"]);
        let arches = list(&includes["arches"]);
        if !arches.is_empty() && !arches.iter().any(|a| a == goarch) {
            continue;
        }
        assert!(!list(&excludes["arches"]).iter().any(|a| a == goarch));
        assert!(excludes["minKernel"].is_null());
        let caps = |value| CapSet::from_names(&list(value)).unwrap();
        let (with, without) = (caps(&includes["caps"]), caps(&excludes["caps"]));
        let kernel = includes["minKernel"].as_str().map_or((0, 0), |v| parse_version(v).unwrap());
        let when = format!("with [{with}] without [{without}] from {kernel:?}");
        for name in list(&rule["names"]) {
            let args = rule["args"].as_array().map_or(&[][..], |args| args);
            lines.insert(match (rule["action"].as_str().unwrap(), args) {
                ("SCMP_ACT_ALLOW", []) => format!("{name}: allow {when}"),
                ("SCMP_ACT_ERRNO", []) => format!("{name}: errno {} {when}", rule["errnoRet"]),
                ("SCMP_ACT_ALLOW", [arg]) => {
                    let op = arg["op"].as_str().unwrap().trim_start_matches("SCMP_CMP_");
                    let second = arg["valueTwo"].as_u64().unwrap_or(0);
                    format!("{name}: allow if {} {op} {}/{second} {when}", arg["index"], arg["value"])
                }
                other => panic!("a kind of rule that we do not know: {other:?}"),
            });
        }
    }
    lines
}

#[test]
fn the_kernel_takes_the_program_and_answers_by_it() {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType};

    // A filter is a thread's own, so the other tests never notice.
    let thread = std::thread::spawn(|| {
        // What the kernel says without the filter, or the answers below would prove nothing.
        let mount = || rustix::mount::unmount("/nonexistent", rustix::mount::UnmountFlags::empty()).unwrap_err();
        let before = (mount(), crate::sys::seccomp::clone3_of_nothing().raw_os_error());
        rustix::thread::set_no_new_privs(true).unwrap();
        let program = default_program(CapSet::DOCKER_DEFAULT, kernel_version());
        crate::sys::seccomp::load(&program, crate::sys::seccomp::SPEC_ALLOW).unwrap();
        let socket = |family| rustix::net::socket(AddressFamily::from_raw(family), SocketType::SEQPACKET, None);
        let after = (mount(), crate::sys::seccomp::clone3_of_nothing().raw_os_error());
        (
            before,
            after,
            rustix::process::getpid(),
            socket(38).err(),
            socket(1).err(),
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER),
        )
    });
    let (before, after, pid, alg, unix, unshare) = thread.join().unwrap();
    assert_ne!(before.0, Errno::PERM, "umount2 of a path that does not exist, unfiltered");
    assert_eq!(before.1, Some(libc::EINVAL), "clone3 of nothing, unfiltered");
    assert_eq!(after, (Errno::PERM, Some(libc::ENOSYS)));
    assert_eq!(pid, rustix::process::getpid());
    assert_eq!(alg, Some(Errno::PERM));
    assert_eq!(unix, None);
    assert_eq!(unshare, Err(nix::errno::Errno::EPERM));
}

#[test]
fn dockers_file_compiles_to_what_dockers_policy_is() {
    let Some(profile) = docker_profile() else {
        crate::testing::skip("no data/seccomp-default.json in $HOIST_SHARED or ../shared");
        return;
    };
    let text = profile.to_string();
    for caps in [CapSet::DOCKER_DEFAULT, CapSet::ALL] {
        let ours = default_program(caps, RECENT);
        let theirs = profile::program(&text, caps, RECENT).expect("it is a profile");
        for audit in [X86_64, I386, AARCH64, ARM, 0] {
            for nr in numbers() {
                for first in [0, 9, 38, 40, 0x2_0000, 0x7e02_0000, 0xffff_ffff] {
                    let call = Call { audit, nr, args: [first, 0, 0, 0, 0, 0] };
                    assert_eq!(run(&ours, call).0, run(&theirs, call).0, "{call:?}");
                }
            }
        }
    }
}

#[test]
fn a_profile_of_ones_own_decides_by_name_and_argument() {
    let text = r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
        {"names": ["read", "no_such_call"], "action": "SCMP_ACT_ALLOW"},
        {"name": "write", "action": "SCMP_ACT_LOG"},
        {"names": ["close"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_GE"}, {"index": 1, "value": 240, "valueTwo": 16, "op": "SCMP_CMP_MASKED_EQ"}]},
        {"names": ["dup"], "action": "SCMP_ACT_KILL_PROCESS",
         "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}, {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]},
        {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["getuid"], "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "4.8"}},
        {"names": ["getgid"], "action": "SCMP_ACT_TRAP", "includes": {"arches": ["amd64", "arm64"], "minKernel": "4.8"}}]}"#;
    let program = profile::program(text, CapSet::DOCKER_DEFAULT, RECENT).expect("a profile");
    let audit = if cfg!(target_arch = "x86_64") { X86_64 } else { AARCH64 };
    let number = |name: &str| Abi::all(Host::CURRENT)[0].calls.iter().find(|(n, _)| *n == name).expect("known").1;
    let answer = |name: &str, a, b| run(&program, Call { audit, nr: number(name), args: [a, b, 0, 0, 0, 0] }).0;
    let (allow, log, enosys, kill, trap) = (0x7fff_0000, 0x7ffc_0000, 0x0005_0026, 0x8000_0000, 0x0003_0000);
    assert_eq!((answer("read", 0, 0), answer("write", 0, 0), answer("openat", 0, 0)), (allow, log, enosys));
    assert_eq!((answer("close", 3, 0x15), answer("close", 2, 0x15), answer("close", 3, 0x25)), (allow, enosys, enosys));
    assert_eq!((answer("dup", 1, 0), answer("dup", 2, 0), answer("dup", 3, 0)), (kill, kill, enosys));
    assert_eq!((answer("getpid", 0, 0), answer("getuid", 0, 0), answer("getgid", 0, 0)), (enosys, enosys, trap));
    assert_eq!(run(&program, Call { audit: I386, nr: 3, args: [0; 6] }).0, kill, "no other architecture is named");
    if cfg!(target_arch = "x86_64") {
        assert_eq!(run(&program, Call { audit, nr: X32_BIT, args: [0; 6] }).0, kill, "nor the one that shares ours");
    }
}

#[test]
fn a_profile_that_cannot_be_is_refused() {
    let refused = |text: &str| profile::program(text, CapSet::EMPTY, RECENT).expect_err(text).to_string();
    let with = |entry: &str| refused(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{entry}]}}"#));
    assert!(refused("[]").starts_with("it is not a seccomp profile"));
    assert!(refused(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#).contains("`SCMP_ACT_NOTIFY` is not supported"));
    let args = |arg: &str| with(&format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", "args": [{arg}]}}"#));
    assert!(args(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#).contains("no argument number 6"));
    assert!(args(r#"{"index": 0, "value": 0, "op": "EQ"}"#).contains("`EQ` is not a comparison"));
    let arg = r#""args": [{"index": 0, "value": 0, "op": "SCMP_CMP_EQ"}]"#;
    let mixed = format!(
        r#"{{"names": ["read"], "action": "SCMP_ACT_ERRNO", {arg}}}, {{"names": ["read"], "action": "SCMP_ACT_TRAP", {arg}}}"#
    );
    assert!(with(&mixed).contains("`read` has conditions that lead to different actions"));
    // A thousand conditions of one call are more than a program holds.
    let many: Vec<String> =
        (0..3000).map(|n| format!(r#"{{"index": 0, "value": {n}, "op": "SCMP_CMP_EQ"}}"#)).collect();
    assert!(args(&many.join(",")).contains("and the kernel takes 4096"));
}

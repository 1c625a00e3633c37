//! What a process sees of its container: `tests/probe/probe.rs`, run inside one, against Docker's defaults.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use super::support::project::TestProject;
use super::support::run::Run;
use super::support::{Secs as _, require_root};

/// Returns the probe, compiled without libraries to load; `HOIST_TEST_PROBE` is one where there is no compiler.
fn probe() -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probe/probe.rs");
    let program = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("probe-{}", std::process::id()));
    if let Some(made) = std::env::var_os("HOIST_TEST_PROBE") {
        std::fs::copy(made, &program).expect("copied");
        return program;
    }
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut compile = Command::new(rustc);
    compile.args(["--edition", "2024", "-C", "target-feature=+crt-static", "-C", "opt-level=s", "-o"]);
    compile.arg(&program).arg(source);
    Run::of(compile, 120.secs()).ok();
    program
}

#[test]
fn a_container_is_confined_as_docker_confines_it() {
    require_root!();
    let shop = TestProject::new(
        "shop",
        "
services:
  probe:
    image: busybox
    command: [/probe]
    volumes: ['./probe:/probe:ro']
  unprivileged:
    image: busybox
    command: [/probe]
    user: '1000:1000'
    read_only: true
    volumes: ['./probe:/probe:ro']
  asleep:
    image: busybox
    command: sleep 1000
    volumes: ['./probe:/probe:ro']
",
    );
    let program = probe();
    std::fs::copy(&program, shop.path("probe")).expect("copied");
    std::fs::remove_file(&program).expect("removed");
    shop.up();
    assert_eq!(shop.wait_exit("probe"), 0, "{}", shop.log_text("probe"));
    assert_eq!(shop.wait_exit("unprivileged"), 0, "{}", shop.log_text("unprivileged"));
    let text = shop.log_text("probe");
    let lines: BTreeSet<&str> = text.lines().collect();
    let hostname = format!("hostname {}", shop.record("probe").id.short());
    let expected = [
        "CapInh 0000000000000000",
        "CapPrm 00000000a80425fb",
        "CapEff 00000000a80425fb",
        "CapBnd 00000000a80425fb",
        "CapAmb 0000000000000000",
        "NoNewPrivs 0",
        "Seccomp 2",
        "Seccomp_filters 1",
        "pids 1",
        "getpid 1",
        "getppid 0",
        "getsid 1",
        "getpgid 1",
        &hostname,
        "cwd /",
        "uid 0 0 0",
        "gid 0 0 0",
        "cgroup 0::/",
        "root writable",
        "try mount EPERM",
        "try umount2 EPERM",
        "try reboot EPERM",
        "try keyctl EPERM",
        "try add_key EPERM",
        "try clone3 ENOSYS",
        "try unshare_user EPERM",
        "try setns EPERM",
        "try bpf EPERM",
        "try open_by_handle_at EPERM",
        "try io_uring_setup EPERM",
        "try perf_event_open EPERM",
        "try kexec_load EPERM",
        "try init_module EPERM",
        "try swapon EPERM",
        "try settimeofday EPERM",
        "try getpid ok",
        "write /proc/sys/kernel/core_pattern EROFS",
    ];
    let missing: Vec<_> = expected.iter().filter(|line| !lines.contains(**line)).collect();
    assert!(missing.is_empty(), "{missing:#?} are missing in:\n{text}");
    let masked: Vec<_> = text.lines().filter(|l| l.starts_with("masked ")).collect();
    if std::path::Path::new("/proc/kcore").exists() {
        assert!(masked.contains(&"masked /proc/kcore device 1:3"), "{masked:?}");
    }
    assert!(masked.contains(&"masked /proc/keys device 1:3"), "{masked:?}");
    for line in &masked {
        assert!(["device 1:3", "empty-dir", "absent"].iter().any(|end| line.ends_with(end)), "{line}");
    }
    // A name that procfs does not have cannot be made there anyway, so the mounts say it.
    for path in ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"] {
        assert!(text.contains(&format!("mount {path} proc ro,")), "{path} is not read-only:\n{text}");
    }
    for line in text.lines().filter(|l| l.starts_with("write ")) {
        assert!(line.ends_with(" EROFS") || line.ends_with(" ENOENT"), "{line}");
    }
    for line in text.lines().filter(|l| l.starts_with("device ")) {
        let own = line.starts_with("device c 1:3 ");
        assert!(line.ends_with(if own { "open ok" } else { "open EPERM" }), "{line}");
    }
    let descriptors: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("fd ")?.split(' ').next()).collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{text}");
    // Nothing of our environment gets in.
    for line in text.lines().filter(|l| l.starts_with("env ")) {
        assert!(!line.contains("hoist") && !line.contains("HOIST"), "{line}");
    }

    let text = shop.log_text("unprivileged");
    let lines: BTreeSet<&str> = text.lines().collect();
    for line in [
        "CapPrm 0000000000000000",
        "CapEff 0000000000000000",
        "CapBnd 00000000a80425fb",
        "Seccomp 2",
        "uid 1000 1000 1000",
        "gid 1000 1000 1000",
        "root EROFS",
    ] {
        assert!(lines.contains(line), "{line} is missing in:\n{text}");
    }

    // An exec is confined as the container is.
    let text = shop.hoist(&["exec", "-T", "asleep", "/probe"]).ok();
    let lines: BTreeSet<&str> = text.lines().collect();
    for line in [
        "CapEff 00000000a80425fb",
        "CapBnd 00000000a80425fb",
        "Seccomp 2",
        "Seccomp_filters 1",
        "masked /proc/keys device 1:3",
        "try mount EPERM",
        "try keyctl EPERM",
        "cgroup 0::/",
    ] {
        assert!(lines.contains(line), "{line} is missing in an exec:\n{text}");
    }
    let descriptors: Vec<_> = text.lines().filter_map(|l| l.strip_prefix("fd ")?.split(' ').next()).collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{text}");
}

//! A [`ContainerSpec`] as an OCI runtime specification: Docker's defaults, written down once.
//!
//! Mounts, their options and order, masked and read-only paths follow Docker's `daemon/pkg/oci/defaults.go`; the
//! meaning of each field is that of the OCI runtime specification 1.2. seccomp is not in it: our policy is compiled
//! straight to a program (see [`super::seccomp`]).
//!
//! Invariant: pure.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::user::User;
use super::{ContainerSpec, MountSource, MountSpec, ProcessSpec};

/// Version of the OCI runtime specification that the result follows.
pub const OCI_VERSION: &str = "1.2.0";

/// Paths that a container must not read: a file shows as `/dev/null`, a directory as an empty read-only tmpfs.
pub const MASKED: [&str; 12] = [
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
];

/// Paths that a container must not write.
pub const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A specification that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A mount's target is not an absolute path below the root.
    #[error("mount target `{0}` is not an absolute path below `/`")]
    Target(String),
    /// A mount's target is where the kernel's own views must be.
    #[error("mount target `{0}` is inside /proc, which belongs to the kernel")]
    KernelTarget(String),
    /// A capability's name is unknown.
    #[error("`{0}` is not a capability")]
    Capability(String),
    /// The builder refused.
    #[error("cannot build the OCI specification")]
    Build(#[source] oci_spec::OciSpecError),
}

/// Returns the OCI specification of a container that runs as `user`; `masked` are further paths of this machine.
///
/// # Errors
/// When a mount target or a capability's name is impossible.
pub fn oci(spec: &ContainerSpec, user: &User, masked: &[String]) -> Result<Spec, Error> {
    let namespaces = [
        (LinuxNamespaceType::Pid, None),
        (LinuxNamespaceType::Ipc, None),
        (LinuxNamespaceType::Uts, None),
        (LinuxNamespaceType::Mount, None),
        (LinuxNamespaceType::Cgroup, None),
    ];
    let network = (!spec.host_network).then(|| (LinuxNamespaceType::Network, spec.netns.clone()));
    let namespaces = namespaces
        .into_iter()
        .chain(network)
        .map(|(kind, path)| {
            let mut builder = LinuxNamespaceBuilder::default().typ(kind);
            if let Some(path) = path {
                builder = builder.path(path);
            }
            builder.build().map_err(Error::Build)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let open = spec.unmasked || spec.privileged;
    let all_masked = MASKED.iter().map(ToString::to_string).chain(masked.iter().cloned());
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(all_masked.filter(|_| !open).collect::<Vec<_>>())
        .readonly_paths(READ_ONLY.map(String::from).into_iter().filter(|_| !open).collect::<Vec<_>>())
        .sysctl(spec.sysctls.clone().into_iter().collect::<HashMap<_, _>>())
        .cgroups_path(PathBuf::from(&spec.cgroup))
        .build()
        .map_err(Error::Build)?;
    SpecBuilder::default()
        .version(OCI_VERSION)
        .hostname(spec.hostname.clone())
        .root(RootBuilder::default().path("rootfs").readonly(spec.rootfs.read_only).build().map_err(Error::Build)?)
        .mounts(mounts(spec)?)
        .process(process(&spec.process, user)?)
        .linux(linux)
        .build()
        .map_err(Error::Build)
}

/// Returns the OCI process of a container, or of an exec in one, that runs as `user`.
///
/// # Errors
/// When a capability's name is unknown.
pub fn process(spec: &ProcessSpec, user: &User) -> Result<oci_spec::runtime::Process, Error> {
    let set: Capabilities = spec
        .capabilities
        .iter()
        .map(|name| {
            name.strip_prefix("CAP_")
                .and_then(|n| n.parse::<Capability>().ok())
                .ok_or_else(|| Error::Capability(name.clone()))
        })
        .collect::<Result<HashSet<_>, _>>()?;
    let capabilities = LinuxCapabilitiesBuilder::default()
        .bounding(set.clone())
        .permitted(set.clone())
        .effective(set)
        .inheritable(HashSet::new())
        .ambient(HashSet::new())
        .build()
        .map_err(Error::Build)?;
    let mut env = spec.env.clone();
    if !env.iter().any(|e| e.starts_with("HOME=")) {
        env.push(format!("HOME={}", user.home));
    }
    if spec.terminal && !env.iter().any(|e| e.starts_with("TERM=")) {
        env.push("TERM=xterm".to_owned());
    }
    let user = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone())
        .build()
        .map_err(Error::Build)?;
    ProcessBuilder::default()
        .terminal(spec.terminal)
        .user(user)
        .args(spec.argv.clone())
        .env(env)
        .cwd(if spec.cwd.is_empty() { "/" } else { &spec.cwd })
        .capabilities(capabilities)
        .no_new_privileges(spec.no_new_privileges)
        .build()
        .map_err(Error::Build)
}

/// Returns Docker's mounts in its order, then the asked ones by depth.
fn mounts(spec: &ContainerSpec) -> Result<Vec<Mount>, Error> {
    let shm = format!("size={}", spec.shm_size);
    let own: [(&str, &str, &[&str]); 7] = [
        ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
        ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
        ("/sys/fs/cgroup", "cgroup2", &["nosuid", "noexec", "nodev", "ro"]),
        ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]),
    ];
    let mut mounts = Vec::with_capacity(own.len() + spec.mounts.len());
    for (target, kind, options) in own {
        let read_only = |option: &&str| spec.privileged && *option == "ro" && target.starts_with("/sys");
        let options = options.iter().filter(|o| !read_only(o)).map(ToString::to_string).collect();
        mounts.push(mount(target, kind, Path::new(kind), options)?);
    }
    for wanted in asked(spec) {
        let components: Vec<_> = wanted.target.split('/').filter(|c| !c.is_empty()).collect();
        if !wanted.target.starts_with('/') || components.is_empty() || components.contains(&"..") {
            return Err(Error::Target(wanted.target.clone()));
        }
        if components[0] == "proc" {
            return Err(Error::KernelTarget(wanted.target.clone()));
        }
        let access = if wanted.read_only { "ro" } else { "rw" };
        mounts.push(match &wanted.source {
            MountSource::Bind(path) => {
                mount(&wanted.target, "bind", path, vec!["rbind".into(), "rprivate".into(), access.into()])?
            }
            // What it is made of is for the launch: not every path is text.
            MountSource::Layers { .. } => mount(&wanted.target, "overlay", Path::new("overlay"), vec![access.into()])?,
            MountSource::Tmpfs { size, mode, options } => {
                mount(&wanted.target, "tmpfs", Path::new("tmpfs"), tmpfs(access, *size, *mode, options))?
            }
        });
    }
    Ok(mounts)
}

/// Returns the mounts that were asked for in the order in which they are made, which is after Docker's: by depth.
pub(super) fn asked(spec: &ContainerSpec) -> Vec<&MountSpec> {
    let mut asked: Vec<_> = spec.mounts.iter().collect();
    asked.sort_by_key(|m| m.target.split('/').filter(|c| !c.is_empty()).count());
    asked
}

/// Returns Docker's options of a tmpfs with those that were asked for in the place of the ones that they contradict.
fn tmpfs(access: &str, size: Option<u64>, mode: Option<u32>, asked: &[String]) -> Vec<String> {
    let size = size.map(|s| format!("size={s}"));
    let mode = format!("mode={:o}", mode.unwrap_or(0o1777));
    let defaults = ["nosuid", "nodev", "noexec", access].map(String::from).into_iter().chain(size).chain([mode]);
    // `exec` and `noexec` are one thing, as are all values of a key.
    let name = |option: &str| match option.split_once('=') {
        Some((key, _)) => key.to_owned(),
        None if matches!(option, "ro" | "rw") => "ro".to_owned(),
        None => option.strip_prefix("no").unwrap_or(option).to_owned(),
    };
    let mut options: Vec<String> = Vec::new();
    for option in defaults.chain(asked.iter().cloned()) {
        match options.iter_mut().find(|other| name(other) == name(&option)) {
            Some(other) => *other = option,
            None => options.push(option),
        }
    }
    options
}

fn mount(target: &str, kind: &str, source: &Path, options: Vec<String>) -> Result<Mount, Error> {
    MountBuilder::default().destination(target).typ(kind).source(source).options(options).build().map_err(Error::Build)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ContainerId;
    use crate::runtime::RootfsSpec;

    fn spec() -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::from_bytes([1; 32]),
            hostname: "web".into(),
            rootfs: RootfsSpec { layers: vec![], upper: "/u".into(), work: "/w".into(), read_only: true },
            process: ProcessSpec {
                argv: vec!["true".into()],
                env_file: None,
                env: vec!["A=b".into()],
                cwd: String::new(),
                user: String::new(),
                capabilities: vec!["CAP_CHOWN".into()],
                ..ProcessSpec::default()
            },
            init: false,
            mounts: vec![
                MountSpec { source: MountSource::Bind("/h/deep".into()), target: "/a/b/c".into(), read_only: true },
                MountSpec { source: MountSource::Bind("/h".into()), target: "/a".into(), read_only: false },
            ],
            shm_size: 64 << 20,
            netns: Some("/run/netns/x".into()),
            host_network: false,
            cgroup: "hoist-ab12/shop/x".into(),
            resources: crate::runtime::resources::Resources::default(),
            oom_score_adj: None,
            sysctls: std::collections::BTreeMap::new(),
            devices: Vec::new(),
            unmasked: false,
            privileged: false,
        }
    }

    fn root() -> User {
        User { uid: 0, gid: 0, groups: vec![0], home: "/root".into() }
    }

    #[test]
    fn the_defaults_are_dockers() {
        let oci = oci(&spec(), &root(), &[]).expect("valid");
        assert_eq!(oci.version(), OCI_VERSION);
        let targets: Vec<_> = oci.mounts().iter().flatten().map(|m| m.destination().display().to_string()).collect();
        assert_eq!(
            targets,
            ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm", "/a", "/a/b/c"]
        );
        let process = oci.process().as_ref().expect("there is one");
        assert_eq!(process.env().clone().expect("set"), ["A=b", "HOME=/root"]);
        assert_eq!(process.cwd(), Path::new("/"));
        let capabilities = process.capabilities().as_ref().expect("set");
        assert_eq!(capabilities.bounding().as_ref().map(HashSet::len), Some(1));
        assert_eq!(capabilities.inheritable().as_ref().map(HashSet::len), Some(0));
    }

    #[test]
    fn a_terminal_has_a_type_unless_one_is_set() {
        let env = |terminal: bool, env: &[&str]| {
            let env = env.iter().map(ToString::to_string).collect();
            let process = process(&ProcessSpec { terminal, env, ..spec().process }, &root()).expect("valid");
            assert_eq!(process.terminal(), Some(terminal));
            process.env().clone().expect("set").into_iter().find(|e| e.starts_with("TERM="))
        };
        assert_eq!(env(true, &[]).as_deref(), Some("TERM=xterm"));
        assert_eq!(env(true, &["TERM=dumb"]).as_deref(), Some("TERM=dumb"));
        assert_eq!(env(false, &[]), None);
    }

    #[test]
    fn a_privileged_container_has_the_kernels_files_as_they_are() {
        let privileged = oci(&ContainerSpec { privileged: true, ..spec() }, &root(), &["/x".into()]).expect("valid");
        let linux = privileged.linux().as_ref().expect("there is one");
        assert_eq!(linux.masked_paths().as_ref().map(Vec::len), Some(0));
        assert_eq!(linux.readonly_paths().as_ref().map(Vec::len), Some(0));
        for mount in privileged.mounts().iter().flatten().filter(|m| m.destination().starts_with("/sys")) {
            assert!(!mount.options().iter().flatten().any(|o| o == "ro"), "{mount:?}");
        }
        let unmasked = oci(&ContainerSpec { unmasked: true, ..spec() }, &root(), &[]).expect("valid");
        assert_eq!(unmasked.linux().as_ref().and_then(|l| l.masked_paths().as_ref()).map(Vec::len), Some(0));
        let sys = unmasked.mounts().iter().flatten().find(|m| m.destination() == Path::new("/sys")).expect("there");
        assert!(sys.options().iter().flatten().any(|o| o == "ro"));
    }

    #[test]
    fn the_hosts_network_is_no_namespace_of_the_containers() {
        let of = |spec: &ContainerSpec| {
            let oci = oci(spec, &root(), &[]).expect("valid");
            let linux = oci.linux().clone().expect("there is one");
            linux.namespaces().iter().flatten().any(|n| n.typ() == LinuxNamespaceType::Network)
        };
        assert!(of(&spec()) && of(&ContainerSpec { netns: None, ..spec() }));
        assert!(!of(&ContainerSpec { netns: None, host_network: true, ..spec() }));
        let json = serde_json::to_value(spec()).expect("it has a form");
        let mut older = json.clone();
        older.as_object_mut().expect("an object").remove("host_network").expect("it was there");
        assert_eq!(serde_json::from_value::<ContainerSpec>(older).expect("understood"), spec());
    }

    #[test]
    fn layers_are_mounted_by_their_place() {
        let source = MountSource::Layers { layers: vec!["/l".into()], path: b"not\xfftext".to_vec(), upper: None };
        let mounts = vec![MountSpec { source, target: "/x".into(), read_only: true }];
        let spec = ContainerSpec { mounts, ..spec() };
        let again: ContainerSpec =
            serde_json::from_value(serde_json::to_value(&spec).expect("it has a form")).expect("understood");
        assert_eq!(again, spec);
        let oci = oci(&spec, &root(), &[]).expect("valid");
        let last = oci.mounts().iter().flatten().last().expect("there are some");
        assert_eq!((last.typ().as_deref(), last.destination().as_path()), (Some("overlay"), Path::new("/x")));
    }

    #[test]
    fn asked_options_of_a_tmpfs_win_over_dockers() {
        let words = |text: &str| text.split_whitespace().map(String::from).collect::<Vec<_>>();
        for (asked, options) in [
            ("", "nosuid nodev noexec rw mode=1777"),
            ("exec size=1m", "nosuid nodev exec rw mode=1777 size=1m"),
            ("mode=700 uid=1000", "nosuid nodev noexec rw mode=700 uid=1000"),
            ("ro dev noatime", "nosuid dev noexec ro mode=1777 noatime"),
        ] {
            assert_eq!(tmpfs("rw", None, None, &words(asked)), words(options), "{asked}");
        }
        assert_eq!(tmpfs("rw", Some(64), Some(0o755), &[]), words("nosuid nodev noexec rw size=64 mode=755"));
    }

    #[test]
    fn impossible_targets_are_refused() {
        for target in ["a", "/", "//", "/a/../b", ""] {
            let mut spec = spec();
            spec.mounts[0].target = target.into();
            assert!(matches!(oci(&spec, &root(), &[]), Err(Error::Target(_))), "{target}");
        }
        for target in ["/proc", "/proc/self/attr", "//proc"] {
            let mut spec = spec();
            spec.mounts[0].target = target.into();
            assert!(matches!(oci(&spec, &root(), &[]), Err(Error::KernelTarget(_))), "{target}");
        }
    }
}

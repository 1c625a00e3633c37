//! A [`ContainerSpec`] as an OCI runtime specification: Docker's defaults, written down once.
//!
//! Mounts, their options and order, masked and read-only paths follow Docker's `daemon/pkg/oci/defaults.go`; the
//! meaning of each field is that of the OCI runtime specification 1.2. seccomp is not in it: our policy is compiled
//! straight to a program (see [`super::seccomp`]).
//!
//! Invariant: pure.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{
    Capabilities, Capability, LinuxBuilder, LinuxCapabilitiesBuilder, LinuxNamespaceBuilder, LinuxNamespaceType, Mount,
    MountBuilder, ProcessBuilder, RootBuilder, Spec, SpecBuilder, UserBuilder,
};

use super::user::User;
use super::{ContainerSpec, MountSource, ProcessSpec};

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
        (LinuxNamespaceType::Network, spec.netns.clone()),
        (LinuxNamespaceType::Ipc, None),
        (LinuxNamespaceType::Uts, None),
        (LinuxNamespaceType::Mount, None),
        (LinuxNamespaceType::Cgroup, None),
    ];
    let namespaces = namespaces
        .into_iter()
        .map(|(kind, path)| {
            let mut builder = LinuxNamespaceBuilder::default().typ(kind);
            if let Some(path) = path {
                builder = builder.path(path);
            }
            builder.build().map_err(Error::Build)
        })
        .collect::<Result<Vec<_>, _>>()?;
    let all_masked = MASKED.iter().map(ToString::to_string).chain(masked.iter().cloned()).collect::<Vec<_>>();
    let linux = LinuxBuilder::default()
        .namespaces(namespaces)
        .masked_paths(all_masked)
        .readonly_paths(READ_ONLY.map(String::from).to_vec())
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
    let user = UserBuilder::default()
        .uid(user.uid)
        .gid(user.gid)
        .additional_gids(user.groups.clone())
        .build()
        .map_err(Error::Build)?;
    ProcessBuilder::default()
        .terminal(false)
        .user(user)
        .args(spec.argv.clone())
        .env(env)
        .cwd(if spec.cwd.is_empty() { "/" } else { &spec.cwd })
        .capabilities(capabilities)
        .no_new_privileges(false)
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
        let options = options.iter().map(ToString::to_string).collect();
        mounts.push(mount(target, kind, Path::new(kind), options)?);
    }
    let mut asked: Vec<_> = spec.mounts.iter().collect();
    asked.sort_by_key(|m| m.target.split('/').filter(|c| !c.is_empty()).count());
    for wanted in asked {
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
            MountSource::Tmpfs { size, mode } => {
                let mut options = vec!["nosuid".into(), "nodev".into(), "noexec".into(), access.into()];
                options.extend(size.map(|s| format!("size={s}")));
                options.push(format!("mode={:o}", mode.unwrap_or(0o1777)));
                mount(&wanted.target, "tmpfs", Path::new("tmpfs"), options)?
            }
        });
    }
    Ok(mounts)
}

fn mount(target: &str, kind: &str, source: &Path, options: Vec<String>) -> Result<Mount, Error> {
    MountBuilder::default().destination(target).typ(kind).source(source).options(options).build().map_err(Error::Build)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::name::ContainerId;
    use crate::runtime::{MountSpec, RootfsSpec};

    fn spec() -> ContainerSpec {
        ContainerSpec {
            id: ContainerId::from_bytes([1; 32]),
            hostname: "web".into(),
            rootfs: RootfsSpec { layers: vec![], upper: "/u".into(), work: "/w".into(), read_only: true },
            process: ProcessSpec {
                argv: vec!["true".into()],
                env: vec!["A=b".into()],
                cwd: String::new(),
                user: String::new(),
                capabilities: vec!["CAP_CHOWN".into()],
            },
            init: false,
            mounts: vec![
                MountSpec { source: MountSource::Bind("/h/deep".into()), target: "/a/b/c".into(), read_only: true },
                MountSpec { source: MountSource::Bind("/h".into()), target: "/a".into(), read_only: false },
            ],
            shm_size: 64 << 20,
            netns: Some("/run/netns/x".into()),
            cgroup: "hoist-ab12/shop/x".into(),
            resources: crate::runtime::resources::Resources::default(),
            oom_score_adj: None,
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

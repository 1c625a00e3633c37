//! Device nodes that a container gets besides Docker's own: those that were asked for, and all of the host's for a
//! privileged one.
//!
//! A node of the container's own is made with the host's numbers; the host's `/dev` itself is never mounted. What the
//! processes may do with the device is decided by the rules of their cgroup ([`super::devices`]).

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::devices::{Access, Kind, Rule};

/// A device of the host that a container is to have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSpec {
    /// The host's node, or a directory of nodes.
    pub source: PathBuf,
    /// Path in the container.
    pub target: String,
    /// What may be done with it: letters of `rwm`.
    pub access: String,
}

/// Why a device cannot be given to a container.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is nothing, or it cannot be looked at.
    #[error("cannot find the device `{}`", path.display())]
    Find {
        /// Path on the host.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error("`{}` is not a device", .0.display())]
    NoDevice(PathBuf),
    /// The letters are wrong.
    #[error("`{0}` does not say what may be done with a device: it must be letters of `rwm`")]
    Access(String),
    /// The directory of devices goes too deep or has too many.
    #[error("`{}` holds more devices than a container can have", .0.display())]
    TooMany(PathBuf),
}

/// A node to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Path in the container.
    pub target: String,
    /// Its kind.
    pub kind: Kind,
    /// Its numbers.
    pub numbers: (u32, u32),
    /// Permissions, as the host's node has them.
    pub mode: u32,
    /// Owner and group, as the host's node has them.
    pub owner: (u32, u32),
    /// What may be done with it.
    pub access: Access,
}

impl Node {
    /// Returns the rule that lets processes use it.
    #[must_use]
    pub fn rule(&self) -> Rule {
        let (major, minor) = self.numbers;
        Rule { kind: Some(self.kind), major: Some(major), minor: Some(minor), access: self.access }
    }
}

/// What of a host's `/dev` is a file system of its own, or a container's own already (moby, `daemon/pkg/oci`; runc).
const NOT_COPIED: [&str; 9] = ["pts", "ptmx", "shm", "fd", "mqueue", "console", ".lxc", ".lxd-mounts", ".udev"];
const DEEPEST: usize = 8;
const MOST: usize = 4096;

/// Looks at the host's node of a device that was asked for; a directory gives all the nodes in it.
///
/// # Errors
/// When it is missing or no device.
pub fn find(device: &DeviceSpec) -> Result<Vec<Node>, Error> {
    let access = Access::parse(&device.access).ok_or_else(|| Error::Access(device.access.clone()))?;
    let error = |source| Error::Find { path: device.source.clone(), source };
    let metadata = std::fs::metadata(&device.source).map_err(error)?; // a link leads where the host's leads
    if !metadata.is_dir() {
        let node = node(&metadata, device.target.clone(), access);
        return Ok(vec![node.ok_or_else(|| Error::NoDevice(device.source.clone()))?]);
    }
    let mut found = Vec::new();
    walk(&device.source, &device.target, access, 0, &mut found).map_err(error)?;
    if found.len() > MOST {
        return Err(Error::TooMany(device.source.clone()));
    }
    if found.is_empty() { Err(Error::NoDevice(device.source.clone())) } else { Ok(found) }
}

/// Returns every device of the host, for a privileged container. One that vanishes while we look is none.
#[must_use]
pub fn all() -> Vec<Node> {
    let mut found = Vec::new();
    if let Err(e) = walk(Path::new("/dev"), "/dev", Access::ALL, 0, &mut found) {
        tracing::warn!("/dev: {e}");
    }
    found.truncate(MOST);
    found
}

fn walk(dir: &Path, target: &str, access: Access, depth: usize, found: &mut Vec<Node>) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let (Some(name), Ok(metadata)) = (name.to_str(), entry.metadata()) else { continue }; // links are not followed
        if found.len() > MOST || depth == 0 && NOT_COPIED.contains(&name) {
            continue;
        }
        let target = format!("{}/{name}", target.trim_end_matches('/'));
        if metadata.is_dir() && depth < DEEPEST {
            let _ = walk(&entry.path(), &target, access, depth + 1, found); // it may have gone
        } else {
            found.extend(node(&metadata, target, access));
        }
    }
    Ok(())
}

fn node(metadata: &std::fs::Metadata, target: String, access: Access) -> Option<Node> {
    let kind = match metadata.file_type() {
        t if t.is_char_device() => Kind::Char,
        t if t.is_block_device() => Kind::Block,
        _ => return None,
    };
    let numbers = (rustix::fs::major(metadata.rdev()), rustix::fs::minor(metadata.rdev()));
    let owner = (metadata.uid(), metadata.gid());
    Some(Node { target, kind, numbers, mode: metadata.mode() & 0o7777, owner, access })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(source: &str, access: &str) -> DeviceSpec {
        DeviceSpec { source: source.into(), target: "/dev/mine".into(), access: access.into() }
    }

    #[test]
    fn a_device_has_the_hosts_numbers_and_the_asked_access() {
        let found = find(&device("/dev/full", "rw")).expect("every host has it");
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].target.as_str(), found[0].kind, found[0].numbers), ("/dev/mine", Kind::Char, (1, 7)));
        let rule = found[0].rule();
        assert!(rule.allows(Kind::Char, 1, 7, Access::READ) && !rule.allows(Kind::Char, 1, 7, Access::MKNOD));
    }

    #[test]
    fn what_is_no_device_is_refused() {
        assert!(matches!(find(&device("/nowhere/at/all", "rwm")), Err(Error::Find { .. })));
        assert!(matches!(find(&device("/etc/passwd", "rwm")), Err(Error::NoDevice(_))));
        assert!(matches!(find(&device("/dev/null", "rx")), Err(Error::Access(_))));
        assert!(matches!(find(&device("/dev/null", "")), Err(Error::Access(_))));
        let empty = tempfile::tempdir().expect("a directory");
        assert!(matches!(find(&device(empty.path().to_str().expect("text"), "r")), Err(Error::NoDevice(_))));
    }

    #[test]
    fn all_devices_are_listed_but_those_of_other_file_systems() {
        let all = all();
        assert!(all.iter().any(|node| node.target == "/dev/null"));
        assert!(!all.iter().any(|node| node.target.starts_with("/dev/pts/") || node.target == "/dev/console"));
    }
}

//! Limits of a process (getrlimit(2)): their names in Docker's words, and how far we may go ourselves.

use rustix::process::{Resource, Rlimit, getrlimit};
use serde::{Deserialize, Serialize};

/// One limit of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Docker's name for it, such as `nofile`.
    pub name: String,
    /// What is enforced; `None` is no limit.
    pub soft: Option<u64>,
    /// How far the process itself may raise that; `None` is no limit.
    pub hard: Option<u64>,
}

const NAMES: [(&str, Resource); 15] = [
    ("core", Resource::Core),
    ("cpu", Resource::Cpu),
    ("data", Resource::Data),
    ("fsize", Resource::Fsize),
    ("locks", Resource::Locks),
    ("memlock", Resource::Memlock),
    ("msgqueue", Resource::Msgqueue),
    ("nice", Resource::Nice),
    ("nofile", Resource::Nofile),
    ("nproc", Resource::Nproc),
    ("rss", Resource::Rss),
    ("rtprio", Resource::Rtprio),
    ("rttime", Resource::Rttime),
    ("sigpending", Resource::Sigpending),
    ("stack", Resource::Stack),
];

/// Returns every name.
pub fn names() -> impl Iterator<Item = &'static str> {
    NAMES.iter().map(|(name, _)| *name)
}

/// Returns our own hard limit of that name, beyond which only `CAP_SYS_RESOURCE` leads: `None` when the name is unknown,
/// `Some(None)` when there is no limit.
#[must_use]
pub fn own(name: &str) -> Option<Option<u64>> {
    resource(name).map(|resource| getrlimit(resource).maximum)
}

pub(super) fn resource(name: &str) -> Option<Resource> {
    NAMES.iter().find(|(known, _)| *known == name).map(|(_, resource)| *resource)
}

/// Returns the limits as system calls want them; names that are unknown were refused before.
pub(super) fn prepared(limits: &[Ulimit]) -> Vec<(Resource, Rlimit)> {
    let known = |limit: &Ulimit| Some((resource(&limit.name)?, Rlimit { current: limit.soft, maximum: limit.hard }));
    limits.iter().filter_map(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dockers() {
        assert!(own("nofile").is_some_and(|limit| limit.is_none_or(|n| n > 0)));
        assert_eq!(own("NOFILE"), None);
        let all = prepared(&[Ulimit { name: "core".into(), soft: Some(0), hard: None }]);
        assert_eq!(all, [(Resource::Core, Rlimit { current: Some(0), maximum: None })]);
    }
}

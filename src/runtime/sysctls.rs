//! Kernel parameters of a container: which belong to its own namespaces, and so can be its own.
//!
//! Only those are taken that a namespace of the container owns (namespaces(7)); any other would be the host's. A key is a
//! path below `/proc/sys` in the end, so its words are checked before it becomes one (CVE-2022-0811: a key smuggled in
//! another one's value).
//!
//! Invariant: pure.

/// Why a kernel parameter cannot be a container's own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// It is no name of one.
    #[error("`{0}` is not the name of a kernel parameter")]
    Name(String),
    /// Its value has a line break or a NUL.
    #[error("the value of the kernel parameter `{0}` is more than one line")]
    Value(String),
    /// It is the whole host's.
    #[error("the kernel parameter `{0}` is the whole host's, not a container's")]
    Host(String),
    /// A key of its own says it.
    #[error("the kernel parameter `{0}` is set by a key of its own")]
    OwnKey(String),
}

impl Error {
    /// Returns what to do next.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match self {
            Self::Name(_) => "write it with dots, such as `net.core.somaxconn`",
            Self::Value(_) => "write the value on one line",
            Self::Host(_) => {
                "a container can have its own `net.*`, `fs.mqueue.*`, `kernel.msg*`, `kernel.shm*` and `kernel.sem`; set others on the host with sysctl(8)"
            }
            Self::OwnKey(_) => "use `hostname`",
        }
    }
}

/// Those of IPC namespaces that are not found by a prefix (ipc_namespaces(7)).
const IPC: [&str; 8] = ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];

/// Docker's for every container: every user may open ports below 1024 and send pings, both in its own network alone.
pub const DEFAULT: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// Returns the file below `/proc/sys` of a parameter that can be a container's own.
///
/// # Errors
/// When it cannot.
pub fn file(key: &str, value: &str) -> Result<String, Error> {
    // As sysctl(8): when a slash comes first, the dots belong to the names, such as that of a link with a VLAN.
    let slashes = key.find(['.', '/']).is_some_and(|at| key[at..].starts_with('/'));
    let swap = |c| match c {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    let path: String = if slashes { key.to_owned() } else { key.chars().map(swap).collect() };
    let plain = |word: &str| {
        !matches!(word, "" | "." | "..")
            && word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'@'))
    };
    if !path.contains('/') || !path.split('/').all(plain) {
        return Err(Error::Name(key.to_owned()));
    }
    if value.contains(['\n', '\0']) {
        return Err(Error::Value(key.to_owned()));
    }
    match path.split_once('/') {
        Some(("kernel", "hostname" | "domainname")) => Err(Error::OwnKey(key.to_owned())),
        Some(("kernel", rest)) if IPC.contains(&rest) => Ok(path),
        Some(("fs", rest)) if rest.starts_with("mqueue/") => Ok(path),
        Some(("net", _)) => Ok(path),
        _ => Err(Error::Host(key.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespaces_own_are_taken() {
        for (key, path) in [
            ("net.core.somaxconn", "net/core/somaxconn"),
            ("net.ipv4.conf.eth0/1.forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("net/ipv4/conf/eth0.1/forwarding", "net/ipv4/conf/eth0.1/forwarding"),
            ("kernel.shm_rmid_forced", "kernel/shm_rmid_forced"),
            ("kernel.msgmax", "kernel/msgmax"),
            ("fs.mqueue.msg_max", "fs/mqueue/msg_max"),
        ] {
            assert_eq!(file(key, "1").as_deref(), Ok(path), "{key}");
        }
        for key in ["kernel.core_pattern", "vm.swappiness", "fs.file-max", "kernel.sem.x", "kernel.shmall2", "user.x"] {
            assert_eq!(file(key, "1"), Err(Error::Host(key.into())), "{key}");
        }
        assert_eq!(file("kernel.hostname", "x"), Err(Error::OwnKey("kernel.hostname".into())));
        for key in [
            "",
            "a",
            "net..x",
            "net.",
            ".net.x",
            "/net/x",
            "net/../kernel/x",
            "net.core\n",
            "net.a b",
            "+net.x",
            "net.x=",
        ] {
            assert!(matches!(file(key, "1"), Err(Error::Name(_))), "{key:?}");
        }
        assert_eq!(file("net.core.x", "1\n+kernel.core_pattern=|/x"), Err(Error::Value("net.core.x".into())));
    }

    #[test]
    fn the_defaults_are_allowed() {
        for (key, value) in DEFAULT {
            assert!(file(key, value).is_ok());
        }
    }
}

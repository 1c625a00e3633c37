//! Sets of Linux capabilities: their names, Docker's defaults, and what `cap_add` and `cap_drop` make of them.
//!
//! Invariant: nothing here changes a process; [`available`] and [`last`] read two files of `/proc`.

use std::fmt;
use std::io;
use std::ops::{BitAnd, BitOr};

use crate::diag::{Explain, nearest};

/// Names by number (capabilities(7); `include/uapi/linux/capability.h`).
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// A set of capabilities; bit *n* is capability number *n*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct CapSet(pub u64);

/// Defines the capabilities that other modules name.
macro_rules! capabilities {
    ($($name:ident = $number:literal),* $(,)?) => {
        #[expect(missing_docs, reason = "each is described by capabilities(7) under its own name")]
        impl CapSet {
            $(pub const $name: Self = Self(1 << $number);)*
        }
    };
}

capabilities! {
    CHOWN = 0, DAC_OVERRIDE = 1, DAC_READ_SEARCH = 2, FOWNER = 3, FSETID = 4, KILL = 5, SETGID = 6, SETUID = 7,
    SETPCAP = 8, NET_BIND_SERVICE = 10, NET_ADMIN = 12, NET_RAW = 13, SYS_MODULE = 16, SYS_RAWIO = 17,
    SYS_CHROOT = 18, SYS_PTRACE = 19, SYS_PACCT = 20, SYS_ADMIN = 21, SYS_BOOT = 22, SYS_NICE = 23,
    SYS_RESOURCE = 24, SYS_TIME = 25, SYS_TTY_CONFIG = 26, MKNOD = 27, AUDIT_WRITE = 29, SETFCAP = 31, SYSLOG = 34,
    PERFMON = 38, BPF = 39,
}

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);
    /// Every capability that has a name here.
    pub const ALL: Self = Self((1 << NAMES.len()) - 1);
    /// What Docker gives a container that asks for nothing (moby, `daemon/pkg/oci/caps/defaults.go`).
    pub const DOCKER_DEFAULT: Self = Self(
        Self::CHOWN.0
            | Self::DAC_OVERRIDE.0
            | Self::FSETID.0
            | Self::FOWNER.0
            | Self::MKNOD.0
            | Self::NET_RAW.0
            | Self::SETGID.0
            | Self::SETUID.0
            | Self::SETFCAP.0
            | Self::SETPCAP.0
            | Self::NET_BIND_SERVICE.0
            | Self::SYS_CHROOT.0
            | Self::KILL.0
            | Self::AUDIT_WRITE.0,
    );

    /// Returns the capability named `name`, with or without `CAP_`, in any case.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let bare = strip_prefix(name);
        NAMES.iter().position(|n| n[4..].eq_ignore_ascii_case(bare)).map(|number| Self(1 << number))
    }

    /// Returns the set of the capabilities named, as [`CapSet::names`] gives them.
    ///
    /// # Errors
    /// When a name is not a capability's.
    pub fn from_names<S: AsRef<str>>(names: &[S]) -> Result<Self, Error> {
        names.iter().try_fold(Self::EMPTY, |set, name| Ok(set | named(name.as_ref())?))
    }

    /// Returns whether every capability of `other` is in this set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether any capability of `other` is in this set.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns this set without the capabilities of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the names as the OCI runtime specification wants them (`CAP_CHOWN`), by number.
    ///
    /// Bits without a name, of a kernel newer than this table, are left out.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().enumerate().filter(move |(number, _)| self.0 >> number & 1 == 1).map(|(_, name)| *name)
    }
}

impl BitOr for CapSet {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl BitAnd for CapSet {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl fmt::Display for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, name) in self.names().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            f.write_str(name)?;
        }
        Ok(())
    }
}

/// Why a wish for capabilities cannot be met.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No capability has this name.
    #[error("`{name}` is not a capability")]
    Unknown {
        /// The name as written.
        name: String,
        /// The capability that was probably meant.
        nearest: Option<&'static str>,
    },
    /// The capability was asked for by name, and this process has not got it to give.
    #[error("capability `{name}` cannot be given: it is not in the bounding set of this process")]
    Unavailable {
        /// The capability, with its prefix.
        name: &'static str,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::Unknown { nearest: Some(name), .. } => Some(format!("did you mean `{name}`?")),
            Self::Unknown { nearest: None, .. } => Some("capabilities(7) lists the names; `ALL` is every one".into()),
            Self::Unavailable { .. } => Some("run from a place that has this capability, or do without it".into()),
        }
    }
}

/// Returns the capabilities of a container: Docker's defaults after `cap_add` and `cap_drop`, as far as `available`.
///
/// Docker's rules: with `ALL` added, every capability but the dropped ones; with `ALL` dropped, exactly the added
/// ones; else the defaults without the dropped ones, and with the added ones (an added one wins over its drop).
/// What comes from a default or from `ALL` and is not available is left out; what is asked for by name is an error.
///
/// # Errors
/// [`Error::Unknown`] for a name that is no capability's, [`Error::Unavailable`] for one that we have not got.
pub fn resolve<S: AsRef<str>>(add: &[S], drop: &[S], available: CapSet) -> Result<CapSet, Error> {
    let (add_all, add) = parse(add)?;
    let (drop_all, drop) = parse(drop)?;
    // With ALL added, a capability that is also named in `drop` is dropped, so it need not be available.
    let wanted = if add_all { add.without(drop) } else { add };
    if let Some(name) = wanted.without(available).names().next() {
        return Err(Error::Unavailable { name });
    }
    let set = if add_all {
        // Not CapSet::ALL: a kernel newer than our table has more, and `available` knows them.
        available.without(drop)
    } else if drop_all {
        add
    } else {
        CapSet::DOCKER_DEFAULT.without(drop) | add
    };
    Ok(set & available)
}

/// Returns whether `ALL` is among the names, and the set of the others.
fn parse<S: AsRef<str>>(names: &[S]) -> Result<(bool, CapSet), Error> {
    names.iter().try_fold((false, CapSet::EMPTY), |(all, set), name| match name.as_ref() {
        name if name.eq_ignore_ascii_case("ALL") => Ok((true, set)),
        name => Ok((all, set | named(name)?)),
    })
}

fn named(name: &str) -> Result<CapSet, Error> {
    CapSet::named(name).ok_or_else(|| {
        let bare = strip_prefix(name).to_ascii_uppercase();
        let near = nearest(&bare, NAMES.iter().map(|n| &n[4..]));
        let nearest = near.and_then(|near| NAMES.iter().find(|n| &n[4..] == near).copied());
        Error::Unknown { name: name.to_owned(), nearest }
    })
}

fn strip_prefix(name: &str) -> &str {
    match name.get(..4) {
        Some(prefix) if prefix.eq_ignore_ascii_case("CAP_") => &name[4..],
        _ => name,
    }
}

/// Returns our own bounding set: no process that we start can ever have more.
///
/// # Errors
/// When `/proc/self/status` cannot be read or has no `CapBnd` line.
pub fn available() -> io::Result<CapSet> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    bounding_set(&status).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no `CapBnd` in /proc/self/status"))
}

fn bounding_set(status: &str) -> Option<CapSet> {
    let hex = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
    u64::from_str_radix(hex.trim(), 16).ok().map(CapSet)
}

/// Returns the highest capability number that the running kernel knows.
///
/// # Errors
/// When `/proc/sys/kernel/cap_last_cap` cannot be read or holds no number.
pub fn last() -> io::Result<u32> {
    let text = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
    text.trim().parse().map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: CapSet = CapSet::ALL;
    const NOTHING: &[&str] = &[];

    #[test]
    fn a_name_is_found_in_any_spelling() {
        for name in ["NET_ADMIN", "net_admin", "CAP_NET_ADMIN", "cap_Net_Admin"] {
            assert_eq!(CapSet::named(name), Some(CapSet::NET_ADMIN), "{name}");
        }
        for name in ["", "CAP_", "NET_ADMI", "CAP_CAP_CHOWN", "NET ADMIN", "é_x"] {
            assert_eq!(CapSet::named(name), None, "{name}");
        }
    }

    #[test]
    fn every_number_has_its_name() {
        for (number, name) in NAMES.iter().enumerate() {
            assert_eq!(CapSet::named(name), Some(CapSet(1 << number)));
        }
        assert_eq!(CapSet::ALL.names().count(), 41);
        assert_eq!(CapSet::from_names(&NAMES), Ok(CapSet::ALL));
        assert_eq!((CapSet::CHOWN | CapSet::BPF).to_string(), "CAP_CHOWN CAP_BPF");
        // Spot checks against the header.
        let by_number = [(CapSet::SYS_CHROOT, 18), (CapSet::SYS_ADMIN, 21), (CapSet::MKNOD, 27), (CapSet::SYSLOG, 34)];
        for (set, number) in by_number {
            assert_eq!(set.0, 1 << number);
        }
        assert_eq!(CapSet::SYSLOG.names().next(), Some("CAP_SYSLOG"));
        assert_eq!(CapSet::SETFCAP.names().next(), Some("CAP_SETFCAP"));
    }

    #[test]
    fn docker_s_rules_for_add_and_drop() {
        let default = CapSet::DOCKER_DEFAULT;
        assert_eq!(default.names().count(), 14);
        assert_eq!(default.0, 0xa804_25fb, "CapBnd of a container of Docker's");
        let cases: &[(&[&str], &[&str], CapSet)] = &[
            (&[], &[], default),
            (&["SYS_ADMIN"], &[], default | CapSet::SYS_ADMIN),
            (&[], &["chown", "CAP_KILL"], default.without(CapSet::CHOWN | CapSet::KILL)),
            (&["CHOWN"], &["CHOWN"], default),
            (&[], &["ALL"], CapSet::EMPTY),
            (&["NET_BIND_SERVICE"], &["all"], CapSet::NET_BIND_SERVICE),
            (&["NET_BIND_SERVICE"], &["ALL", "NET_BIND_SERVICE"], CapSet::NET_BIND_SERVICE),
            (&["ALL"], &[], CapSet::ALL),
            (&["All"], &["SYS_ADMIN"], CapSet::ALL.without(CapSet::SYS_ADMIN)),
            (&["ALL", "SYS_ADMIN"], &["SYS_ADMIN"], CapSet::ALL.without(CapSet::SYS_ADMIN)),
            (&["ALL"], &["ALL"], CapSet::ALL),
        ];
        for (add, drop, want) in cases {
            assert_eq!(resolve(add, drop, FULL), Ok(*want), "add {add:?} drop {drop:?}");
        }
    }

    #[test]
    fn what_we_lack_is_left_out_unless_it_is_asked_for_by_name() {
        let ours = CapSet::ALL.without(CapSet::SYS_RESOURCE | CapSet::MKNOD);
        assert_eq!(resolve(NOTHING, NOTHING, ours), Ok(CapSet::DOCKER_DEFAULT.without(CapSet::MKNOD)));
        assert_eq!(resolve(&["ALL"], &[], ours), Ok(ours));
        assert_eq!(resolve(&["SYS_RESOURCE"], &[], ours), Err(Error::Unavailable { name: "CAP_SYS_RESOURCE" }));
        assert_eq!(resolve(&["ALL", "SYS_RESOURCE"], &["SYS_RESOURCE"], ours), Ok(ours));
    }

    #[test]
    fn an_unknown_name_comes_with_the_nearest_one() {
        let error = resolve(&["CAP_SYS_AMDIN"], &[], FULL).expect_err("no such capability");
        assert_eq!(error.to_string(), "`CAP_SYS_AMDIN` is not a capability");
        assert_eq!(error.help().as_deref(), Some("did you mean `CAP_SYS_ADMIN`?"));
        let error = resolve(NOTHING, &["xyzzy"], FULL).expect_err("no such capability");
        assert_eq!(error, Error::Unknown { name: "xyzzy".into(), nearest: None });
        assert!(resolve(&["CAP_ALL"], &[], FULL).is_err(), "Docker knows ALL only without the prefix");
    }

    #[test]
    fn the_bounding_set_is_read_from_the_kernel() {
        assert_eq!(bounding_set("CapEff:\t0\nCapBnd:\t00000000a80425fb\n"), Some(CapSet::DOCKER_DEFAULT));
        assert_eq!(bounding_set("CapEff:\t0\n"), None);
        let (ours, last) = (available().unwrap(), last().unwrap());
        for number in 0..64_u32 {
            let capability = rustix::thread::CapabilitySet::from_bits_retain(1 << number);
            let kernel = rustix::thread::capability_is_in_bounding_set(capability);
            assert_eq!(kernel.is_ok(), number <= last, "capability {number}");
            assert_eq!(kernel.unwrap_or(false), ours.contains(CapSet(1 << number)), "capability {number}");
        }
    }
}

//! Cgroups of the second version, by directory descriptors: create, kill, freeze, watch, remove. The directories of the
//! first version are made, joined and removed in the same way; [`super::controllers`] says when.
//!
//! Works where cgroup2 is the whole hierarchy and on hybrid hosts, where it has no controllers: kill, freeze, events
//! and device rules need none (cgroups(7); `Documentation/admin-guide/cgroup-v2.rst`).
//!
//! Invariant: no path is resolved twice. The mount is found once; everything below it is reached by descriptor, one
//! component at a time, and without following links.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstatfs, mkdirat, openat, unlinkat};
use rustix::io::Errno;

use crate::diag::Explain;

/// `CGROUP2_SUPER_MAGIC` and `CGROUP_SUPER_MAGIC` (`linux/magic.h`).
const MAGIC: u64 = 0x6367_7270;
const MAGIC_V1: u64 = 0x0027_e0eb;

/// What could not be done with a cgroup.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No cgroup2 file system is mounted where we can see it.
    #[error("no cgroup2 file system is mounted")]
    NoHierarchy,
    /// The table of mounts cannot be read.
    #[error("cannot read `/proc/self/mountinfo`")]
    Mounts {
        /// Why.
        source: io::Error,
    },
    /// A cgroup's path is not a relative one of plain names.
    #[error("`{path}` is not the path of a cgroup: it must be names with single slashes between them")]
    Path {
        /// The path.
        path: String,
    },
    /// Something failed with the cgroup.
    #[error("cannot {action} cgroup `{}`", path.display())]
    Act {
        /// What we tried, a verb.
        action: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A value was not taken.
    #[error("cannot write `{value}` to `{file}` of cgroup `{}`", path.display())]
    Set {
        /// What was written.
        value: String,
        /// The file.
        file: &'static str,
        /// The cgroup's directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No mounted hierarchy has the controller.
    #[error("the {controller} controller of cgroups is not to be had here")]
    NoController {
        /// Its name.
        controller: &'static str,
    },
    /// The processes hold more memory than they may have from now on.
    #[error("its processes hold {used} bytes of memory that cannot be taken from them, and the new limit is {limit}")]
    Held {
        /// Bytes that they hold.
        used: u64,
        /// Bytes that they may have.
        limit: u64,
    },
    /// Processes were still there at the deadline.
    #[error("cgroup `{}` still has processes", path.display())]
    StillPopulated {
        /// The cgroup's directory.
        path: PathBuf,
    },
}

impl Explain for Error {
    fn help(&self) -> Option<String> {
        match self {
            Self::NoHierarchy => Some("mount one: `mount -t cgroup2 none /sys/fs/cgroup`".into()),
            Self::Mounts { .. }
            | Self::Path { .. }
            | Self::Act { .. }
            | Self::Set { .. }
            | Self::NoController { .. }
            | Self::Held { .. }
            | Self::StillPopulated { .. } => None,
        }
    }
}

/// The root of the cgroup2 file system as it is mounted.
#[derive(Debug)]
pub struct Hierarchy {
    dir: OwnedFd,
    path: PathBuf,
}

impl Hierarchy {
    /// Finds the mount: the two well-known places first, then the table of mounts.
    ///
    /// # Errors
    /// [`Error::NoHierarchy`] when there is none, [`Error::Mounts`] when that cannot be told.
    pub fn find() -> Result<Self, Error> {
        let known = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
        if let Some(found) = known.iter().find_map(|path| Self::at(Path::new(path))) {
            return Ok(found);
        }
        let mounts = std::fs::read("/proc/self/mountinfo").map_err(|source| Error::Mounts { source })?;
        mount_points(&mounts).iter().find_map(|path| Self::at(path)).ok_or(Error::NoHierarchy)
    }

    /// Returns the hierarchy mounted at `path`, if one is.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        Self::with_magic(path, MAGIC)
    }

    /// Returns the hierarchy of the first version mounted at `path`, if one is. It has directories to make, join and
    /// remove; killing, freezing and events are the second version's.
    #[must_use]
    pub(super) fn v1_at(path: &Path) -> Option<Self> {
        Self::with_magic(path, MAGIC_V1)
    }

    fn with_magic(path: &Path, wanted: u64) -> Option<Self> {
        let dir = rustix::fs::open(path, DIRECTORY, Mode::empty()).ok()?;
        let magic = u64::try_from(fstatfs(&dir).ok()?.f_type).ok()?;
        (magic == wanted).then(|| Self { dir, path: path.to_owned() })
    }

    /// Returns its root, then every cgroup on the way to `relative`, which is itself left out.
    ///
    /// # Errors
    /// As [`Hierarchy::open`].
    pub(super) fn ancestors(&self, relative: &str) -> Result<Vec<Cgroup>, Error> {
        let names = components(relative)?;
        let mut found = vec![self.root()?];
        for depth in 1..names.len() {
            found.push(self.open(&names[..depth].join("/"))?);
        }
        Ok(found)
    }

    /// Opens its root.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn root(&self) -> Result<Cgroup, Error> {
        let dir =
            self.dir.try_clone().map_err(|source| Error::Act { action: "open", path: self.path.clone(), source })?;
        Ok(Cgroup { dir, path: self.path.clone() })
    }

    /// Returns where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the cgroup `relative`, such as `hoist-ab12/shop/0123456789ab`, and its parents; one that exists is opened.
    ///
    /// # Errors
    /// [`Error::Path`] for a path that would leave the hierarchy, [`Error::Act`] when the kernel refuses.
    pub fn create(&self, relative: &str) -> Result<Cgroup, Error> {
        // A parent can vanish between two steps when another process removes its last cgroup: begin again.
        let mut attempts = 0;
        loop {
            match self.walk(relative, true) {
                Err(Error::Act { source, .. }) if source.kind() == io::ErrorKind::NotFound && attempts < 100 => {
                    attempts += 1;
                }
                result => return result,
            }
        }
    }

    /// Opens the cgroup `relative`.
    ///
    /// # Errors
    /// As [`Hierarchy::create`]; the source's kind is `NotFound` when there is no such cgroup.
    pub fn open(&self, relative: &str) -> Result<Cgroup, Error> {
        self.walk(relative, false)
    }

    fn walk(&self, relative: &str, create: bool) -> Result<Cgroup, Error> {
        let names = components(relative)?;
        let mut path = self.path.clone();
        let mut dir: Option<OwnedFd> = None;
        for name in names {
            path.push(name);
            let parent = dir.as_ref().map_or(self.dir.as_fd(), |dir| dir.as_fd());
            let act = |action, errno: Errno| Error::Act { action, path: path.clone(), source: errno.into() };
            if create {
                match mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(act("create", errno)),
                }
            }
            dir = Some(openat(parent, name, DIRECTORY, Mode::empty()).map_err(|errno| act("open", errno))?);
        }
        let dir = dir.ok_or_else(|| Error::Path { path: relative.to_owned() })?;
        Ok(Cgroup { dir, path })
    }

    /// Moves this process to the root of the hierarchy, so that the cgroup it was in can be removed. Takes the kernel
    /// some ten milliseconds.
    ///
    /// # Errors
    /// [`Error::Act`] when the kernel refuses.
    pub fn join_root(&self) -> Result<(), Error> {
        let act = |errno: Errno| Error::Act { action: "join", path: self.path.clone(), source: errno.into() };
        let procs = openat(&self.dir, c"cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).map_err(act)?;
        rustix::io::write(&procs, b"0").map(drop).map_err(act)
    }

    /// Removes the cgroup `relative` with all below it, and then its parents as far as they are empty.
    ///
    /// One that does not exist is removed already. Processes are not waited for: see [`Cgroup::wait_empty`].
    ///
    /// # Errors
    /// [`Error::Act`] when the kernel refuses, with `ResourceBusy` as the source's kind while there are processes.
    pub fn remove(&self, relative: &str) -> Result<(), Error> {
        let names = components(relative)?;
        for depth in (1..=names.len()).rev() {
            let (name, parents) = names[..depth].split_last().expect("depth is at least 1");
            let path = self.path.join(names[..depth].join("/"));
            let act = |errno: Errno| Error::Act { action: "remove", path: path.clone(), source: errno.into() };
            let mut parent: Option<OwnedFd> = None;
            let mut gone = false;
            for name in parents {
                match openat(parent.as_ref().map_or(self.dir.as_fd(), |d| d.as_fd()), *name, DIRECTORY, Mode::empty()) {
                    Ok(dir) => parent = Some(dir),
                    Err(Errno::NOENT) => {
                        gone = true;
                        break;
                    }
                    Err(errno) => return Err(act(errno)),
                }
            }
            if gone {
                continue;
            }
            let parent = parent.as_ref().map_or(self.dir.as_fd(), |dir| dir.as_fd());
            let result = if depth == names.len() {
                remove_tree(parent, &CString::new(*name).expect("checked by components"))
            } else {
                unlinkat(parent, *name, AtFlags::REMOVEDIR)
            };
            match result {
                Ok(()) | Err(Errno::NOENT) => {}
                // A parent with other children, or with processes of its own, is somebody's.
                Err(Errno::BUSY | Errno::NOTEMPTY) if depth < names.len() => return Ok(()),
                Err(errno) => return Err(act(errno)),
            }
        }
        Ok(())
    }
}

/// How every directory here is opened.
const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Splits a relative path into names that stay below the root.
fn components(relative: &str) -> Result<Vec<&str>, Error> {
    let names: Vec<&str> = relative.split('/').collect();
    let plain = |name: &&str| !matches!(*name, "" | "." | "..") && !name.contains(['\0', '\n']);
    if names.iter().all(plain) { Ok(names) } else { Err(Error::Path { path: relative.to_owned() }) }
}

/// Returns the mount points of all cgroup2 file systems whose root is mounted (proc(5), `/proc/pid/mountinfo`).
fn mount_points(mountinfo: &[u8]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            let dash = fields.iter().position(|field| *field == b"-")?;
            (fields.get(dash + 1) == Some(&&b"cgroup2"[..]) && fields.get(3) == Some(&&b"/"[..]))
                .then(|| fields.get(4).map(|path| unescape(path)))?
        })
        .collect()
}

/// Returns where each hierarchy of the first version is mounted whole, and the options of its file system, its
/// controllers among them.
pub(super) fn v1_mounts(mountinfo: &[u8]) -> Vec<(PathBuf, Vec<String>)> {
    let lines = mountinfo.split(|b| *b == b'\n');
    lines
        .filter_map(|line| {
            let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
            let dash = fields.iter().position(|field| *field == b"-")?;
            let v1 = fields.get(dash + 1) == Some(&&b"cgroup"[..]) && fields.get(3) == Some(&&b"/"[..]);
            let options = String::from_utf8_lossy(fields.get(dash + 3)?).split(',').map(str::to_owned).collect();
            v1.then(|| fields.get(4).map(|path| (unescape(path), options)))?
        })
        .collect()
}

/// Undoes the octal escapes of space, tab, newline and backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let code = octal.and_then(|o| u8::from_str_radix(std::str::from_utf8(o).ok()?, 8).ok());
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Removes a cgroup after all below it.
fn remove_tree(parent: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<(), Errno> {
    // Most have nothing below them, and then this is one call.
    match unlinkat(parent, name, AtFlags::REMOVEDIR) {
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        result => return result,
    }
    let dir = openat(parent, name, DIRECTORY, Mode::empty())?;
    for entry in Dir::read_from(&dir)? {
        let entry = entry?;
        let below = entry.file_name();
        if entry.file_type() == FileType::Directory && !matches!(below.to_bytes(), b"." | b"..") {
            match remove_tree(dir.as_fd(), below) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// An open cgroup.
#[derive(Debug)]
pub struct Cgroup {
    dir: OwnedFd,
    path: PathBuf,
}

impl Cgroup {
    /// Returns its directory, for `CLONE_INTO_CGROUP` and [`super::devices::Programs::confine`].
    #[must_use]
    pub fn dir(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }

    /// Opens it once more.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(super) fn again(&self) -> Result<Self, Error> {
        let dir =
            self.dir.try_clone().map_err(|source| Error::Act { action: "open", path: self.path.clone(), source })?;
        Ok(Self { dir, path: self.path.clone() })
    }

    /// Returns the path of its directory, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Kills every process in it and below, frozen ones too, at once: no fork escapes (Linux 5.14).
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn kill(&self) -> Result<(), Error> {
        self.write("cgroup.kill", b"1", "kill")
    }

    /// Stops every process in it and below. Returns when that is asked for; `frozen 1` among the events is when it is
    /// done.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn freeze(&self) -> Result<(), Error> {
        self.write("cgroup.freeze", b"1", "freeze")
    }

    /// Lets the processes go on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn thaw(&self) -> Result<(), Error> {
        self.write("cgroup.freeze", b"0", "thaw")
    }

    /// Returns whether a process, or a dead one that is not reaped, is in it or below.
    ///
    /// # Errors
    /// When its events cannot be read.
    pub fn is_populated(&self) -> Result<bool, Error> {
        Ok(event(&self.read("cgroup.events", "watch")?, "populated"))
    }

    /// Returns whether every process in it and below is stopped.
    ///
    /// # Errors
    /// When its events cannot be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        Ok(event(&self.read("cgroup.events", "watch")?, "frozen"))
    }

    /// Returns whether it has been asked to stop its processes, be it done or not.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn is_freezing(&self) -> Result<bool, Error> {
        Ok(self.read("cgroup.freeze", "watch")?.trim() == "1")
    }

    /// Opens `cgroup.events`, which polls `POLLPRI` after each change. Read it once before the first poll.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn events(&self) -> Result<OwnedFd, Error> {
        openat(&self.dir, "cgroup.events", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|errno| self.error("watch", errno))
    }

    /// Returns the ids of the processes in it, not of those below; 0 for one that our pid namespace does not see.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn pids(&self) -> Result<Vec<i32>, Error> {
        let text = self.read("cgroup.procs", "list the processes of")?;
        Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Returns the ids of the processes in it and below, in no order; 0 for one that our pid namespace does not see. What
    /// vanishes meanwhile is left out.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn pids_below(&self) -> Result<Vec<i32>, Error> {
        let mut all = self.pids()?;
        let entries = Dir::read_from(&self.dir).map_err(|errno| self.error("list the processes of", errno))?;
        for entry in entries {
            let entry = entry.map_err(|errno| self.error("list the processes of", errno))?;
            let name = entry.file_name();
            if entry.file_type() != FileType::Directory || matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let Ok(dir) = openat(&self.dir, name, DIRECTORY, Mode::empty()) else { continue };
            let below = Self { dir, path: self.path.join(name.to_string_lossy().as_ref()) };
            all.extend(below.pids_below().unwrap_or_default());
        }
        Ok(all)
    }

    /// Waits until no process is in it and below.
    ///
    /// # Errors
    /// [`Error::StillPopulated`] at the deadline, [`Error::Act`] when its events cannot be read.
    pub fn wait_empty(&self, deadline: Instant) -> Result<(), Error> {
        self.wait(deadline, |events| !event(events, "populated"))
            .and_then(|done| if done { Ok(()) } else { Err(Error::StillPopulated { path: self.path.clone() }) })
    }

    /// Waits until every process in it and below is stopped; returns whether that is so by the deadline.
    ///
    /// # Errors
    /// When its events cannot be read.
    pub fn wait_frozen(&self, deadline: Instant) -> Result<bool, Error> {
        self.wait(deadline, |events| event(events, "frozen"))
    }

    fn wait(&self, deadline: Instant, until: impl Fn(&str) -> bool) -> Result<bool, Error> {
        let file = self.events()?;
        let mut buffer = [0; 256];
        loop {
            let length = rustix::io::pread(&file, &mut buffer, 0).map_err(|errno| self.error("watch", errno))?;
            if until(&String::from_utf8_lossy(&buffer[..length])) {
                return Ok(true);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // A change since the read above is reported at once, so none is missed.
            match poll(&mut [PollFd::new(&file, PollFlags::PRI)], Some(&timespec(left))) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(self.error("watch", errno)),
            }
        }
    }

    /// Writes a value to one of its files.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub(super) fn set(&self, file: &'static str, value: &str) -> Result<(), Error> {
        let opened = openat(&self.dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let written = opened.and_then(|file| rustix::io::write(&file, value.as_bytes()));
        written.map(drop).map_err(|errno| {
            let (value, path) = (value.to_owned(), self.path.clone());
            Error::Set { value, file, path, source: errno.into() }
        })
    }

    /// Returns the text of one of its files.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn get(&self, file: &str) -> Result<String, Error> {
        self.read(file, "read")
    }

    /// Returns whether one of its files is there and can be written.
    pub(super) fn has_writable(&self, file: &str) -> bool {
        rustix::fs::accessat(&self.dir, file, rustix::fs::Access::WRITE_OK, AtFlags::empty()).is_ok()
    }

    /// Puts a process into it. Takes the kernel up to some ten milliseconds.
    ///
    /// # Errors
    /// When the kernel refuses, or the process is gone.
    pub(super) fn join(&self, pid: i32) -> Result<(), Error> {
        self.write("cgroup.procs", pid.to_string().as_bytes(), "join")
    }

    fn write(&self, file: &str, value: &[u8], action: &'static str) -> Result<(), Error> {
        let file = openat(&self.dir, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        let written = file.and_then(|file| rustix::io::write(&file, value));
        written.map(|_| ()).map_err(|errno| self.error(action, errno))
    }

    fn read(&self, file: &str, action: &'static str) -> Result<String, Error> {
        let file = openat(&self.dir, file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|errno| self.error(action, errno))?;
        io::read_to_string(std::fs::File::from(file)).map_err(|source| Error::Act {
            action,
            path: self.path.clone(),
            source,
        })
    }

    fn error(&self, action: &'static str, errno: Errno) -> Error {
        Error::Act { action, path: self.path.clone(), source: errno.into() }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

/// Returns whether every process is stopped, as an open [`Cgroup::events`] says it now; a poll waits for the next change.
///
/// # Errors
/// What pread(2) says.
pub fn is_frozen_in(events: BorrowedFd<'_>) -> io::Result<bool> {
    let mut buffer = [0; 256];
    let length = rustix::io::pread(events, &mut buffer, 0)?;
    Ok(event(&String::from_utf8_lossy(&buffer[..length]), "frozen"))
}

/// Returns whether a line `key 1` is among the events.
fn event(events: &str, key: &str) -> bool {
    events.lines().any(|line| line.strip_prefix(key) == Some(" 1"))
}

fn timespec(duration: Duration) -> Timespec {
    Timespec { tv_sec: duration.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: duration.subsec_nanos().into() }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::process::{Child, Command, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A cgroup of a test's own, removed at its end with all that runs in it.
    pub(in crate::runtime) struct Scratch {
        pub(in crate::runtime) hierarchy: Hierarchy,
        /// Its engine's directory.
        pub(in crate::runtime) engine: String,
    }

    impl Scratch {
        /// Returns `None`, and says so, where cgroups cannot be made; with `HOIST_REQUIRE_ROOT` set, that fails.
        pub(in crate::runtime) fn new() -> Option<Self> {
            static NEXT: AtomicU32 = AtomicU32::new(0);
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let engine = format!("hoist-test{}-{number}", std::process::id());
            let made = Hierarchy::find().and_then(|h| h.create(&engine).map(|_| h));
            match made {
                Ok(hierarchy) => Some(Self { hierarchy, engine }),
                Err(error) => {
                    crate::testing::skip_unprivileged(&format!("{error:?}"));
                    None
                }
            }
        }

        pub(in crate::runtime) fn cgroup(&self, below: &str) -> Cgroup {
            self.hierarchy.create(&format!("{}/{below}", self.engine)).unwrap()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            if let Ok(cgroup) = self.hierarchy.open(&self.engine) {
                cgroup.kill().unwrap();
                cgroup.wait_empty(soon()).unwrap();
                self.hierarchy.remove(&self.engine).unwrap();
            }
        }
    }

    pub(in crate::runtime) fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    /// Starts a shell with `script` that is in the cgroup before it runs the first line.
    pub(in crate::runtime) fn shell_in(cgroup: &Cgroup, script: &str) -> Child {
        let mut child = Command::new("sh")
            .args(["-c", &format!("read go; {script}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        std::fs::write(cgroup.path().join("cgroup.procs"), child.id().to_string()).unwrap();
        child.stdin.take().unwrap().write_all(b"go\n").unwrap();
        child
    }

    #[test]
    fn a_path_stays_below_the_root() {
        for path in ["", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "a/..", "a\0b", "a\nb"] {
            assert!(matches!(components(path), Err(Error::Path { .. })), "{path:?}");
        }
        assert_eq!(components("a/b.c/..d").unwrap(), ["a", "b.c", "..d"]);
    }

    #[test]
    fn mounts_are_read_from_mountinfo() {
        let text = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
            41 31 0:38 / /odd\\040place rw,relatime shared:1 master:2 - cgroup2 cgroup2 rw\n\
            42 31 0:38 /below /part rw - cgroup2 cgroup2 rw\n\
            43 31 0:39 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
            garbage\n\
            44 31 0:38 / /a\\134b rw - cgroup2 none rw\n";
        assert_eq!(mount_points(text), [Path::new("/odd place"), Path::new("/a\\b")]);
        let v1 = v1_mounts(text);
        assert_eq!(v1, [(PathBuf::from("/sys/fs/cgroup/pids"), vec!["rw".to_owned(), "pids".to_owned()])]);
    }

    #[test]
    fn events_are_read_by_their_whole_key() {
        assert!(event("populated 1\nfrozen 0\n", "populated"));
        assert!(!event("populated 0\nfrozen 1\n", "populated"));
        assert!(!event("unpopulated 1\n", "populated"));
        assert!(!event("", "populated"));
    }

    #[test]
    fn only_a_cgroup2_mount_is_taken_for_one() {
        assert!(Hierarchy::at(Path::new("/proc")).is_none());
        assert!(Hierarchy::at(Path::new("/nonexistent")).is_none());
    }

    #[test]
    fn a_cgroup_is_made_once_and_removed_with_its_empty_parents() {
        let Some(scratch) = Scratch::new() else { return };
        let (hierarchy, engine) = (&scratch.hierarchy, &scratch.engine);
        let (shop, web) = (format!("{engine}/shop"), format!("{engine}/shop/web"));
        let first = scratch.cgroup("shop/web");
        assert_eq!(first.path(), hierarchy.path().join(&web));
        assert!(!first.is_populated().unwrap());
        assert!(first.pids().unwrap().is_empty());
        scratch.cgroup("shop/web");
        scratch.cgroup("shop/web/made/inside/deep");
        let beside = scratch.cgroup("shop/web/made/beside");
        let mut child = shell_in(&beside, "exec sleep 1000");
        assert_eq!(first.pids_below().unwrap(), [child.id().cast_signed()]);
        assert!(first.pids().unwrap().is_empty());
        child.kill().unwrap();
        child.wait().unwrap();
        beside.wait_empty(soon()).unwrap();
        scratch.cgroup("shop/db");
        hierarchy.remove(&web).unwrap();
        assert!(hierarchy.open(&web).is_err());
        assert!(hierarchy.open(&shop).is_ok(), "it still has `db`");
        hierarchy.remove(&web).unwrap();
        hierarchy.remove(&format!("{engine}/shop/db")).unwrap();
        assert!(hierarchy.open(engine).is_err(), "nothing is left");
        hierarchy.remove(&web).unwrap();
    }

    #[test]
    fn what_is_busy_is_not_removed_until_it_is_killed() {
        let Some(scratch) = Scratch::new() else { return };
        let cgroup = scratch.cgroup("shop/web");
        let mut child = shell_in(&cgroup, "sleep 1000 & wait");
        let relative = format!("{}/shop/web", scratch.engine);
        assert!(cgroup.is_populated().unwrap());
        assert!(cgroup.pids().unwrap().contains(&child.id().cast_signed()));
        assert!(matches!(cgroup.wait_empty(Instant::now()), Err(Error::StillPopulated { .. })));
        let error = scratch.hierarchy.remove(&relative).unwrap_err();
        assert!(
            matches!(&error, Error::Act { source, .. } if source.kind() == io::ErrorKind::ResourceBusy),
            "{error:?}"
        );
        cgroup.freeze().unwrap();
        assert!(cgroup.wait_frozen(soon()).unwrap());
        assert!(cgroup.is_frozen().unwrap());
        cgroup.thaw().unwrap();
        cgroup.freeze().unwrap();
        cgroup.kill().unwrap();
        child.wait().unwrap();
        cgroup.wait_empty(soon()).unwrap();
        scratch.hierarchy.remove(&relative).unwrap();
        assert!(scratch.hierarchy.open(&scratch.engine).is_err());
    }

    #[test]
    fn creating_wins_against_removing() {
        let Some(scratch) = Scratch::new() else { return };
        let (hierarchy, engine) = (&scratch.hierarchy, &scratch.engine);
        std::thread::scope(|scope| {
            for name in ["a", "b"] {
                scope.spawn(move || {
                    let relative = format!("{engine}/shop/{name}");
                    for _ in 0..300 {
                        hierarchy.create(&relative).unwrap();
                        hierarchy.remove(&relative).unwrap();
                    }
                });
            }
        });
        assert!(hierarchy.open(engine).is_err(), "nothing is left");
    }
}

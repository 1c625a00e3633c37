//! The watched files in the kernel: inotify(7) tells where something happened, and comparing tells what.
//!
//! Every directory that matters has a watch of its own, and so has the one above each watched path, or the nearest that
//! exists, since only there it is told that the path came or went. A directory is watched before it is read, so that what
//! comes meanwhile is seen by one of the two. When the kernel's queue has overflowed, everything is read again.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::manifest::{Change, Hint, Kind, Manifest, Seen, What};
use super::rules::{Interest, Rules};
use crate::sys::tree;

/// Two changes within this time may leave the same times behind: file systems have ticks, some of seconds.
const TICK: Duration = Duration::from_secs(2);

/// What was found.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) changes: Vec<Change>,
    pub(super) error: Option<io::Error>,
}

/// What is watched, what was seen of it, and where something happened since.
pub(super) struct Tree {
    rules: Arc<Rules>,
    /// None for one that only looks.
    inotify: Option<OwnedFd>,
    paths: HashMap<i32, PathBuf>,
    watches: BTreeMap<PathBuf, i32>,
    /// The directories above what is watched.
    starts: Vec<PathBuf>,
    manifest: Manifest,
    hints: BTreeMap<PathBuf, Hint>,
    /// Events are missing: all has to be read again.
    lost: bool,
    /// There was no watch left for a directory.
    full: bool,
}

impl Tree {
    /// Watches and reads everything.
    ///
    /// # Errors
    /// The kernel's: `ENOSPC` when there are no more watches, `EMFILE` when there is no more inotify instance.
    pub(super) fn new(rules: Arc<Rules>) -> io::Result<Self> {
        let inotify = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        Self::with(rules, Some(inotify))
    }

    /// Reads everything, and watches nothing.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn seen(rules: Arc<Rules>) -> io::Result<Self> {
        Self::with(rules, None)
    }

    fn with(rules: Arc<Rules>, inotify: Option<OwnedFd>) -> io::Result<Self> {
        let mut tree = Self {
            rules,
            inotify,
            paths: HashMap::new(),
            watches: BTreeMap::new(),
            starts: Vec::new(),
            manifest: Manifest::default(),
            hints: BTreeMap::new(),
            lost: true,
            full: false,
        };
        match tree.settle() {
            Settled { error: Some(error), .. } => Err(error),
            Settled { error: None, .. } => Ok(tree),
        }
    }

    /// Returns what tells that there is something to hear.
    pub(super) fn ear(&self) -> Option<BorrowedFd<'_>> {
        self.inotify.as_ref().map(OwnedFd::as_fd)
    }

    /// Returns what was seen last.
    pub(super) fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Reads what the kernel has to tell; returns whether any of it matters.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn hear(&mut self) -> io::Result<bool> {
        let mut buffer = [MaybeUninit::uninit(); 16 << 10];
        let mut heard = Vec::new();
        let Some(inotify) = &self.inotify else { return Ok(false) };
        let mut reader = inotify::Reader::new(inotify, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => {
                    let name = event.file_name().map(|name| name.to_bytes().to_vec());
                    heard.push((event.wd(), event.events(), name));
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        let mut matters = false;
        for (watch, what, name) in heard {
            matters |= self.take(watch, what, name.as_deref());
        }
        Ok(matters)
    }

    /// Takes one event; returns whether it matters.
    fn take(&mut self, watch: i32, what: ReadFlags, name: Option<&[u8]>) -> bool {
        if what.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.lost = true;
            return true;
        }
        let Some(directory) = self.paths.get(&watch) else { return false };
        if what.intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF) {
            // Its directory has gone, and the watch with it, or was moved. The one above tells that, unless it is not watched.
            let above = self.starts.contains(directory);
            if what.contains(ReadFlags::IGNORED) {
                self.forget(watch);
            }
            self.lost |= above;
            return above;
        }
        if what.contains(ReadFlags::UNMOUNT) {
            self.hints.insert(directory.clone(), Hint::Moved);
            return true;
        }
        let Some(name) = name else { return false };
        let path = directory.join(OsStr::from_bytes(name));
        if !self.rules.matters(&path) {
            return false;
        }
        let moved = ReadFlags::CREATE | ReadFlags::DELETE | ReadFlags::MOVED_FROM | ReadFlags::MOVED_TO;
        let hint = match what {
            what if what.intersects(moved) => Hint::Moved,
            what if what.contains(ReadFlags::MODIFY) => Hint::Surely,
            _ => Hint::Perhaps,
        };
        let known = self.hints.entry(path).or_insert(hint);
        *known = hint.max(*known);
        true
    }

    /// Looks where something happened, and returns what. After an error everything is read again the next time; that there
    /// are no more watches is told once for a directory, and the rest goes on.
    pub(super) fn settle(&mut self) -> Settled {
        let mut changes = Vec::new();
        let result = self.look(&mut changes);
        self.lost = result.is_err();
        let full = std::mem::take(&mut self.full).then(|| Errno::NOSPC.into());
        Settled { changes, error: result.err().or(full) }
    }

    fn look(&mut self, changes: &mut Vec<Change>) -> io::Result<()> {
        let hints = std::mem::take(&mut self.hints);
        if self.lost {
            let found = self.everything()?;
            changes.extend(self.compare(Path::new("/"), found, &hints));
            return Ok(());
        }
        let mut covered: Option<PathBuf> = None;
        for (path, hint) in &hints {
            if covered.as_ref().is_some_and(|above| path.starts_with(above)) {
                continue;
            }
            if *hint == Hint::Moved {
                let mut found = BTreeMap::new();
                self.find(path, &mut found)?;
                changes.extend(self.compare(path, found, &hints));
                covered = Some(path.clone());
            } else {
                let now = stat(path)?.and_then(|(_, seen)| seen);
                changes.extend(self.manifest.note(path, now, *hint));
            }
        }
        Ok(())
    }

    fn compare(&mut self, path: &Path, found: BTreeMap<PathBuf, Seen>, hints: &BTreeMap<PathBuf, Hint>) -> Vec<Change> {
        let hint = |path: &Path| match hints.get(path) {
            Some(Hint::Surely) => Hint::Surely,
            Some(Hint::Perhaps | Hint::Moved) | None => Hint::Moved,
        };
        let changes = self.manifest.compare(path, found, hint);
        // A directory that was moved has its watch under its new name by now, or will get it again.
        for change in changes.iter().filter(|change| change.kind == Kind::Directory) {
            if change.what == What::Gone
                && let Some(inotify) = &self.inotify
                && let Some(watch) = self.watches.remove(&change.path)
                && self.paths.get(&watch) == Some(&change.path)
            {
                self.paths.remove(&watch);
                if let Err(error) = inotify::remove_watch(inotify, watch) {
                    tracing::debug!(%error, "a watch went with its directory");
                }
            }
        }
        changes
    }

    /// Reads all that is watched anew.
    fn everything(&mut self) -> io::Result<BTreeMap<PathBuf, Seen>> {
        let mut starts: Vec<PathBuf> = Vec::new();
        for root in self.rules.roots() {
            let above = root.ancestors().skip(1).find(|path| path.is_dir());
            let start = above.unwrap_or(Path::new("/")).to_owned();
            if !starts.contains(&start) {
                starts.push(start);
            }
        }
        self.starts.clone_from(&starts);
        let mut found = BTreeMap::new();
        for start in starts {
            match tree::open_plain(&start, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => self.enter(&directory, &start, &mut found)?,
                Err(e) => tracing::debug!(%e, path = %start.display(), "it went in this moment"),
            }
        }
        Ok(found)
    }

    /// Finds what is at and below a path.
    fn find(&mut self, path: &Path, found: &mut BTreeMap<PathBuf, Seen>) -> io::Result<()> {
        let Some((handle, seen)) = stat(path)? else { return Ok(()) };
        let Some(seen) = seen else { return Ok(()) };
        found.insert(path.to_owned(), seen);
        if seen.kind != Kind::Directory || self.rules.interest(path) == Interest::None {
            return Ok(());
        }
        match reopen(&handle) {
            Ok(directory) => self.enter(&directory, path, found),
            Err(e) => skip(path, e),
        }
    }

    /// Watches a directory, then reads it.
    fn enter(&mut self, directory: &OwnedFd, path: &Path, found: &mut BTreeMap<PathBuf, Seen>) -> io::Result<()> {
        let interest = self.rules.interest(path);
        let names = match interest {
            Interest::None => return Ok(()),
            Interest::Names(names) => {
                self.watch(directory, path)?;
                names
            }
            Interest::All => {
                self.watch(directory, path)?;
                match tree::names(directory.as_fd()) {
                    Ok(names) => names.into_iter().map(|name| name.to_bytes().to_vec()).collect(),
                    Err(e) => return skip(path, e),
                }
            }
        };
        for name in names {
            let path = path.join(OsStr::from_bytes(&name));
            if !self.rules.matters(&path) {
                continue;
            }
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let handle = match rustix::fs::openat(directory, &name, flags, Mode::empty()) {
                Ok(handle) => handle,
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(e) => return Err(e.into()),
            };
            let Some(seen) = seen(&handle)? else { continue };
            let is_directory = seen.kind == Kind::Directory;
            found.insert(path.clone(), seen);
            if is_directory {
                let opened = reopen(&handle);
                drop(handle); // one descriptor a level
                match opened {
                    Ok(directory) => self.enter(&directory, &path, found)?,
                    Err(e) => skip(&path, e)?,
                }
            }
        }
        Ok(())
    }

    fn watch(&mut self, directory: &OwnedFd, path: &Path) -> io::Result<()> {
        let flags = WatchFlags::MODIFY
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::ATTRIB
            | WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVE_SELF
            | WatchFlags::EXCL_UNLINK
            | WatchFlags::ONLYDIR;
        // By the descriptor: what has the name by now is another matter.
        let Some(inotify) = &self.inotify else { return Ok(()) };
        let watch = match inotify::add_watch(inotify, format!("/proc/self/fd/{}", directory.as_raw_fd()), flags) {
            Ok(watch) => watch,
            Err(Errno::NOSPC) => {
                self.full = true;
                return Ok(());
            }
            Err(e) => return Err(e.into()),
        };
        self.paths.insert(watch, path.to_owned());
        self.watches.insert(path.to_owned(), watch);
        Ok(())
    }

    fn forget(&mut self, watch: i32) {
        if let Some(path) = self.paths.remove(&watch)
            && self.watches.get(&path) == Some(&watch)
        {
            self.watches.remove(&path);
        }
    }
}

/// What cannot be read is left out; what has just gone is told by an event.
fn skip(path: &Path, error: io::Error) -> io::Result<()> {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOENT | Errno::NOTDIR | Errno::ACCESS | Errno::PERM) => {
            tracing::debug!(%error, path = %path.display(), "not read");
            Ok(())
        }
        _ => Err(error),
    }
}

fn reopen(handle: &OwnedFd) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(format!("/proc/self/fd/{}", handle.as_raw_fd()), flags, Mode::empty())?)
}

/// Looks at a path in which nothing is a link; `None` when it is not there.
fn stat(path: &Path) -> io::Result<Option<(OwnedFd, Option<Seen>)>> {
    match tree::open_plain(path, OFlags::PATH | OFlags::NOFOLLOW) {
        Ok(handle) => {
            let seen = seen(&handle)?;
            Ok(Some((handle, seen)))
        }
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

fn seen(handle: &OwnedFd) -> io::Result<Option<Seen>> {
    let stat = rustix::fs::fstat(handle)?;
    let kind = match tree::file_type(stat.st_mode) {
        FileType::RegularFile => Kind::File,
        FileType::Directory => Kind::Directory,
        FileType::Symlink => Kind::Symlink,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice | FileType::Unknown => {
            return Ok(None);
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let modified = (stat.st_mtime, i64::try_from(stat.st_mtime_nsec).unwrap_or_default());
    let age = i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(modified.0);
    Ok(Some(Seen {
        kind,
        mode: stat.st_mode & 0o7777,
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified,
        changed: (stat.st_ctime, i64::try_from(stat.st_ctime_nsec).unwrap_or_default()),
        inode: stat.st_ino,
        fresh: age <= i64::try_from(TICK.as_secs()).unwrap_or(0),
    }))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::engine::watch::rules::tests::watching;

    /// A directory that is watched, and the changes that were found in it.
    struct Watched {
        dir: tempfile::TempDir,
        base: PathBuf,
        tree: Tree,
    }

    impl Watched {
        fn new(paths: &[&str], ignore: &[&str], prepare: impl FnOnce(&Path)) -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let base = fs::canonicalize(dir.path()).expect("there");
            prepare(&base);
            let paths: Vec<PathBuf> = paths.iter().map(|path| base.join(path)).collect();
            let tree = Tree::new(Arc::new(watching(&paths, ignore))).expect("watched");
            Self { dir, base, tree }
        }

        /// Returns what has changed, by the events that have come: those of a finished system call are there.
        fn changes(&mut self) -> String {
            self.tree.hear().expect("heard");
            self.settled()
        }

        fn settled(&mut self) -> String {
            let Settled { changes, error } = self.tree.settle();
            assert!(error.is_none(), "{error:?}");
            let told = changes.iter().map(|change| {
                let what = match change.what {
                    What::Put => "",
                    What::Replaced => "!",
                    What::Gone => "-",
                };
                format!("{what}{}", change.path.strip_prefix(&self.base).expect("below").display())
            });
            told.collect::<Vec<_>>().join(" ")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path(name), text).expect("a file");
        }
    }

    #[test]
    fn what_happens_to_files_is_found() {
        let mut src = Watched::new(&["src"], &[], |base| fs::create_dir(base.join("src")).expect("a directory"));
        assert_eq!(src.changes(), "");
        src.write("src/a", "1");
        src.write("other", "1");
        assert_eq!(src.changes(), "src/a");
        src.write("src/a", "2");
        assert_eq!(src.changes(), "src/a", "as long as before, in the same tick");
        fs::read(src.path("src/a")).expect("readable");
        assert_eq!(src.changes(), "");
        // As editors do it.
        src.write("src/.a.new", "3");
        fs::rename(src.path("src/.a.new"), src.path("src/a")).expect("renamed");
        assert_eq!(src.changes(), "src/a");
        fs::set_permissions(src.path("src/a"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("a mode");
        assert_eq!(src.changes(), "src/a");
        fs::hard_link(src.path("src/a"), src.path("elsewhere")).expect("a link");
        assert_eq!(src.changes(), "", "one more name changes nothing");
        fs::rename(src.path("src/a"), src.path("src/b")).expect("renamed");
        assert_eq!(src.changes(), "-src/a src/b");
        fs::remove_file(src.path("src/b")).expect("removed");
        assert_eq!(src.changes(), "-src/b");
        src.write("src/c", "");
        fs::remove_file(src.path("src/c")).expect("removed");
        assert_eq!(src.changes(), "", "it came and went");
        src.write("src/d", "");
        assert_eq!(src.changes(), "src/d");
        fs::remove_file(src.path("src/d")).expect("removed");
        fs::create_dir(src.path("src/d")).expect("a directory");
        assert_eq!(src.changes(), "!src/d");
    }

    #[test]
    fn directories_are_followed_wherever_they_go() {
        let mut src = Watched::new(&["src"], &["skip"], |base| {
            fs::create_dir_all(base.join("src/old/deep")).expect("directories");
            fs::write(base.join("src/old/deep/f"), "").expect("a file");
            fs::create_dir(base.join("src/skip")).expect("a directory");
        });
        fs::create_dir_all(src.path("src/new/er")).expect("directories");
        src.write("src/new/er/a", "");
        assert_eq!(src.changes(), "src/new src/new/er src/new/er/a");
        src.write("src/new/er/b", "");
        src.write("src/skip/c", "");
        assert_eq!(src.changes(), "src/new/er/b");
        fs::rename(src.path("src/old"), src.path("src/young")).expect("renamed");
        src.write("src/young/deep/g", "");
        assert_eq!(
            src.changes(),
            "-src/old -src/old/deep -src/old/deep/f src/young src/young/deep src/young/deep/f src/young/deep/g"
        );
        src.write("src/young/deep/f", "x");
        fs::create_dir(src.path("src/old")).expect("a directory");
        assert_eq!(src.changes(), "src/old src/young/deep/f", "its watch has its new name");
        fs::rename(src.path("src/young"), src.path("away")).expect("renamed");
        assert_eq!(src.changes(), "-src/young -src/young/deep -src/young/deep/f -src/young/deep/g");
        src.write("away/deep/h", "");
        assert_eq!(src.changes(), "");
        fs::rename(src.path("away"), src.path("src/young")).expect("renamed");
        assert_eq!(src.changes(), "src/young src/young/deep src/young/deep/f src/young/deep/g src/young/deep/h");
        src.write("src/young/deep/h", "x");
        assert_eq!(src.changes(), "src/young/deep/h");
        fs::remove_dir_all(src.path("src/young")).expect("removed");
        fs::create_dir_all(src.path("src/young/deep")).expect("directories");
        src.write("src/young/deep/h", "new");
        assert_eq!(src.changes(), "-src/young/deep/f -src/young/deep/g src/young/deep/h");
        src.write("src/young/deep/i", "");
        assert_eq!(src.changes(), "src/young/deep/i");
    }

    #[test]
    fn links_are_not_followed() {
        let mut src = Watched::new(&["src"], &[], |base| {
            fs::create_dir_all(base.join("outside")).expect("a directory");
            fs::create_dir_all(base.join("src/d")).expect("a directory");
        });
        symlink("../outside", src.path("src/l")).expect("a link");
        assert_eq!(src.changes(), "src/l");
        src.write("outside/f", "");
        src.write("src/l/g", "");
        assert_eq!(src.changes(), "");
        fs::remove_file(src.path("src/l")).expect("removed");
        symlink("elsewhere", src.path("src/l")).expect("a link");
        assert_eq!(src.changes(), "src/l", "where it leads has changed");
        fs::remove_dir(src.path("src/d")).expect("removed");
        symlink("../outside", src.path("src/d")).expect("a link");
        assert_eq!(src.changes(), "!src/d");
        // The pipe is nothing that could be copied.
        let pipe = std::ffi::CString::new(src.path("src/p").as_os_str().as_bytes()).expect("no NUL");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RUSR, 0).expect("a pipe");
        assert_eq!(src.changes(), "");
    }

    #[test]
    fn what_is_watched_may_come_and_go_itself() {
        let mut all = Watched::new(&["a/b/src", "one.json"], &[], |_| {});
        assert_eq!(all.changes(), "");
        all.write("one.json", "1");
        all.write("two.json", "1");
        assert_eq!(all.changes(), "one.json");
        fs::create_dir_all(all.path("a/b/src/c")).expect("directories");
        all.write("a/b/src/c/f", "");
        all.write("a/b/g", "");
        // Those on the way are seen, and no rule is about them.
        assert_eq!(all.changes(), "a a/b a/b/src a/b/src/c a/b/src/c/f");
        all.write("a/b/src/c/f", "x");
        all.write("new.json", "2");
        fs::rename(all.path("new.json"), all.path("one.json")).expect("renamed");
        assert_eq!(all.changes(), "a/b/src/c/f one.json");
        fs::remove_dir_all(all.path("a")).expect("removed");
        assert_eq!(all.changes(), "-a -a/b -a/b/src -a/b/src/c -a/b/src/c/f");
        fs::create_dir_all(all.path("a/b/src")).expect("directories");
        assert_eq!(all.changes(), "a a/b a/b/src");
        all.write("a/b/src/h", "");
        assert_eq!(all.changes(), "a/b/src/h");
    }

    #[test]
    fn the_directory_above_may_go_and_come_again() {
        let mut src =
            Watched::new(&["a/src"], &[], |base| fs::create_dir_all(base.join("a/src")).expect("directories"));
        src.write("a/src/f", "");
        assert_eq!(src.changes(), "a/src/f");
        fs::remove_dir_all(src.path("a")).expect("removed");
        assert_eq!(src.changes(), "-a/src -a/src/f");
        fs::create_dir_all(src.path("a/src")).expect("directories");
        src.write("a/src/g", "");
        assert_eq!(src.changes(), "a a/src a/src/g");
        src.write("a/src/g", "x");
        assert_eq!(src.changes(), "a/src/g");
    }

    #[test]
    fn a_queue_that_overflows_loses_nothing() {
        let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").expect("a limit");
        let limit: usize = limit.trim().parse().expect("a number");
        let mut src = Watched::new(&["src"], &[], |base| {
            fs::create_dir(base.join("src")).expect("a directory");
            for name in ["same", "other", "gone"] {
                fs::write(base.join("src").join(name), "1").expect("a file");
            }
        });
        assert_eq!(src.changes(), "");
        let fill = |src: &Watched| {
            // Events that are told twice in a row are one; two files in turn are not.
            for turn in 0..=limit / 2 {
                fs::write(src.path(["src/x", "src/y"][turn % 2]), "1").expect("a file");
            }
        };
        fill(&src);
        // The queue is full by now: nobody is told of these.
        src.write("src/other", "2");
        fs::remove_file(src.path("src/gone")).expect("removed");
        fs::create_dir(src.path("src/d")).expect("a directory");
        src.write("src/d/f", "");
        let told = src.changes();
        for wanted in ["src/other", "-src/gone", "src/d", "src/d/f", "src/x", "src/y"] {
            assert!(told.split(' ').any(|one| one == wanted), "{wanted} is not in: {told}");
        }
        // And it goes on: the directory that nobody told of is watched.
        src.write("src/d/g", "");
        let told = src.changes();
        assert!(told.split(' ').any(|one| one == "src/d/g"), "{told}");
    }

    #[test]
    fn a_change_that_left_no_trace_is_found_when_events_were_lost() {
        let mut src = Watched::new(&["src"], &[], |base| {
            fs::create_dir(base.join("src")).expect("a directory");
            fs::write(base.join("src/f"), "1").expect("a file");
        });
        src.tree.lost = true;
        assert_eq!(src.settled(), "src/f", "looked at in the moment of its change, it is not trusted");
    }
}
